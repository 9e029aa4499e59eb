"""What was released a moment ago, for those who come late: bounded in rows and in time.

Look-ups are the exception, so a batch is only filed when it is released and sorted when somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.keys import place


@dataclass(slots=True)
class Released:
    """What is remembered of n released rows; columns as in `Spans` and `Pool`."""

    span_id: NDArray[np.uint64]
    as_parent: NDArray[np.uint64]
    """what its children call it: a foreign span may stand for it"""
    pair: NDArray[np.uint64]
    seq: NDArray[np.uint32]
    ordinal: NDArray[np.int32]
    kind: NDArray[np.uint8]
    trace: NDArray[np.uint64]
    came_by: NDArray[np.uint8]
    came_with: NDArray[np.uint8]
    count: NDArray[np.int32]
    thread: NDArray[np.uint64]
    waiter: NDArray[np.uint64]
    start: NDArray[np.uint64]
    first_byte: NDArray[np.uint64]
    end: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.span_id)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Released:
        """The given rows (index array or mask)."""
        return Released(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @staticmethod
    def concat(parts: Sequence[Released]) -> Released:
        """All rows of all parts (at least one), in order."""
        return Released(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Released)})

    @staticmethod
    def empty() -> Released:
        """No rows."""
        wide = dict.fromkeys(
            ("span_id", "as_parent", "pair", "thread", "waiter", "start", "first_byte", "end"), np.uint64
        )
        narrow = dict.fromkeys(("kind", "came_by", "came_with"), np.uint8)
        dtypes: dict[str, type[np.generic]] = {
            **wide,
            **narrow,
            "seq": np.uint32,
            "ordinal": np.int32,
            "count": np.int32,
        }
        return Released(trace=np.zeros((0, 2), np.uint64), **{name: np.zeros(0, t) for name, t in dtypes.items()})


@dataclass(slots=True)
class _Run:
    """Rows filed up to the time `newest`; by name of a key its sorted values and where they stand."""

    rows: Released
    newest: int
    index: dict[str, tuple[NDArray[np.uint64], NDArray[np.intp]]]

    def sorted(self, key: str) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        if key not in self.index:
            rows = self.rows
            values = rows.span_id if key == "span_id" else place(rows.pair, rows.seq, rows.ordinal)
            order = np.argsort(values)
            self.index[key] = (values[order], order)
        return self.index[key]


class Memory:
    """The last `limit` released rows, at most `keep_ns` old."""

    def __init__(self, limit: int = 1 << 15, keep_ns: int = 60 * 10**9) -> None:
        self._limit = limit
        self._keep_ns = keep_ns
        self._runs: deque[_Run] = deque()
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def file(self, rows: Released, now: int) -> None:
        """Remember released rows; their columns are kept, not copied."""
        if len(rows):
            self._runs.append(_Run(rows, now, {}))
            self._rows += len(rows)
        self.expire(now)

    def expire(self, now: int) -> None:
        """Forget what is too old or too much."""
        while self._runs and (self._rows > self._limit or self._runs[0].newest + self._keep_ns < now):
            self._rows -= len(self._runs.popleft().rows)

    def find(self, key: str, wanted: NDArray[np.uint64]) -> tuple[NDArray[np.intp], Released]:
        """Which of the wanted values are remembered as the key ("span_id" or "place") of a row, and those rows."""
        if not len(wanted) or not self._runs:
            return np.zeros(0, np.intp), Released.empty()
        self._merge_young()
        which, rows = [], []
        for run in self._runs:
            values, order = run.sorted(key)
            at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
            hit = (values[at] == wanted).nonzero()[0]
            if len(hit):
                which.append(hit)
                rows.append(run.rows.take(order[at[hit]]))
        if not which:
            return np.zeros(0, np.intp), Released.empty()
        return np.concatenate(which), Released.concat(rows)

    def _merge_young(self) -> None:
        """Leave only a few runs, each at least twice as long as the next: few searches, little sorting.

        None grows beyond an eighth of the limit, since a run is forgotten as a whole.
        """
        tail: list[_Run] = []
        length = 0
        while self._runs:
            rows = len(self._runs[-1].rows)
            if tail and (rows >= 2 * length or rows + length > self._limit // 8):
                break
            tail.append(self._runs.pop())
            length += rows
        if len(tail) > 1:
            tail.reverse()
            tail = [_Run(Released.concat([run.rows for run in tail]), tail[-1].newest, {})]
        self._runs.append(tail[0])
