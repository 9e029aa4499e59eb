"""Which of Node's asynchronous ids were given after what: the kernel side tells with each receive from where on.

A loop gives its ids in ascending order (`struct segment` of bpf/include/records.h). The resources that a callback makes
get theirs while it runs: so an id leads to the exchange whose bytes the loop had received last when it was given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Unit
from otel_ebpf.tracing.keys import among, groups, unit_keys

LIMIT = 1 << 16
"""Segments that are remembered."""
_THREADS = 1 << 10
NODE_ID_BITS = np.uint64(28)
"""Those of the trigger id in a unit; the execution id is above (bpf/include/unit_node.h)."""
_RING = np.uint64(1) << NODE_ID_BITS
_HALF = _RING >> np.uint64(1)
_MASK = _RING - np.uint64(1)
_WIDTH = np.uint64(53)
_KIND = np.uint64(56)

Ids = NDArray[np.uint64]


class Segments:
    """The last 65,536 of them, of at most 1,024 threads."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._told = (np.zeros(0, np.uint64),) * 3
        self._index: _Index | None = None

    def __len__(self) -> int:
        return len(self._told[0])

    def tell(self, records: NDArray[np.void]) -> None:
        """Records of `struct segment`, in the order in which they were written."""
        if not len(records):
            return
        told = unit_keys(records["tgid"], records["tid"]), records["first_id"], records["after"]
        thread, first, after = (np.concatenate(pair)[-self._limit :] for pair in zip(self._told, told, strict=True))
        self._told = thread, first, after
        self._index = None

    def causes(self, thread: Ids, unit: Ids) -> tuple[Ids, Ids]:
        """(n,) span ids of the exchanges after which the execution id and the trigger id of a unit were given; 0: none.

        thread: (n,) key of the thread. unit: (n,) UNIT(UNIT_ASYNC, execution id << 28 | trigger id), or anything else.
        """
        execution, trigger = np.zeros(len(thread), np.uint64), np.zeros(len(thread), np.uint64)
        rows = (is_async(unit)).nonzero()[0]
        if len(rows) and len(self):
            index = self._index = self._index or _indexed(*self._told)
            at = np.minimum(np.searchsorted(index.threads, thread[rows]), len(index.threads) - 1)
            known = index.threads[at] == thread[rows]
            rows, at = rows[known], at[known]
            execution[rows] = index.cause(at, unit[rows] >> NODE_ID_BITS & _MASK)
            trigger[rows] = index.cause(at, unit[rows] & _MASK)
        return execution, trigger

    def used(self, thread: np.uint64, after: Ids) -> NDArray[np.int64]:
        """(n,) how many ids a thread gave after bytes of each of these exchanges had come, until others did; 0: that is
        not known."""
        used = np.zeros(len(after), np.int64)
        mine = (self._told[0] == thread).nonzero()[0]
        first, exchange = self._told[1][mine].astype(np.int64), self._told[2][mine]
        given = first[1:] - first[:-1]
        order = np.argsort(after)
        ordered = after[order]
        asked = among(ordered, exchange).nonzero()[0]
        at = order[np.searchsorted(ordered, exchange[asked])]
        over = asked < len(given)
        np.add.at(used, at[over], given[asked[over]])
        used[at[~over]] = 0
        return np.maximum(used, 0)


@dataclass(frozen=True, slots=True)
class _Index:
    """threads: (t,) ascending keys; latest: (t,) the last first id of each. keys: (m,) thread and first id, ascending;
    after: (m,) of the same segments."""

    threads: Ids
    latest: Ids
    keys: Ids
    after: Ids

    def cause(self, thread: NDArray[np.intp], low: Ids) -> Ids:
        """(k,) after what ids were given. thread: (k,) index. low: (k,) their lower bits; no id is asked for that is
        half a ring away from its thread's last one."""
        latest = self.latest[thread]
        behind = latest - low + _HALF & _MASK
        identity = np.where(latest + _HALF >= behind, latest + _HALF - behind, np.uint64(0))
        of_thread = thread.astype(np.uint64)
        place = np.searchsorted(self.keys, (of_thread << _WIDTH) | identity, "right") - 1
        found = np.maximum(place, 0)
        fits = (place >= 0) & (self.keys[found] >> _WIDTH == of_thread) & (low != 0)
        causes: Ids = np.where(fits, self.after[found], np.uint64(0))
        return causes


def _indexed(thread: Ids, first: Ids, after: Ids) -> _Index:
    threads, which = groups(thread)
    keys = (which.astype(np.uint64) << _WIDTH) | first
    few = (which < _THREADS).nonzero()[0]
    order = few[np.argsort(keys[few], kind="stable")]  # of several that begin with the same id the last one holds
    latest = np.zeros(len(threads), np.uint64)
    np.maximum.at(latest, which, first)
    return _Index(threads[:_THREADS], latest[:_THREADS], keys[order], after[order])


def is_async(unit: Ids) -> NDArray[np.bool_]:
    """(n,) whether a unit is one of Node's, with at least one id."""
    with_ids: NDArray[np.bool_] = (unit >> _KIND == np.uint64(Unit.ASYNC)) & (unit << np.uint64(8) != 0)
    return with_ids
