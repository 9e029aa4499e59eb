"""How many calls the requests of a class put into a pool's line: what they have always done."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct
from otel_ebpf.tracing.keys import among, groups
from otel_ebpf.tracing.queues import Ids

LIMIT = 1 << 12
"""Classes that are remembered, of all processes."""
ENOUGH = 8
ALIKE = 0.97
_MOST = 1 << 10
UNKNOWN = -1


class Shares:
    """The number of each class, once that it was the same `ENOUGH` times, and has been in 97 of 100.

    Keys are distinct for the classes of different processes, which are named to forget them.

    >>> shares = Shares()
    >>> shares.seen(np.full(8, 17, np.uint32), np.full(8, 4711, np.uint64), np.full(8, 2))
    >>> shares.of(np.array([4711, 4712], np.uint64))
    array([ 2, -1])
    """

    def __init__(self) -> None:
        self._key = np.zeros(0, np.uint64)
        self._tgid = np.zeros(0, np.uint32)
        self._share, self._same, self._all, self._when = (np.zeros(0, np.int64) for _ in range(4))
        self._now = 0

    def __len__(self) -> int:
        return len(self._key)

    def of(self, keys: Ids) -> NDArray[np.int64]:
        """(n,) the number of each class, or UNKNOWN. Key 0 is none."""
        if not len(self._key):
            return np.full(len(keys), UNKNOWN, np.int64)
        at = np.minimum(np.searchsorted(self._key, keys), len(self._key) - 1)
        sure = (self._key[at] == keys) & (keys != 0) & (self._all[at] >= ENOUGH)
        sure &= self._same[at] >= ALIKE * self._all[at]
        return np.where(sure, self._share[at], UNKNOWN)

    def seen(self, tgid: NDArray[np.uint32], keys: Ids, share: NDArray[np.int64]) -> None:
        """(n,) one request more of each class, and its number."""
        there = (keys != 0).nonzero()[0]
        if not len(there):
            return
        tgid, keys, share = tgid[there], keys[there], share[there]
        self._now += 1
        self._meet(tgid, keys, share)
        at = np.searchsorted(self._key, keys)
        np.add.at(self._all, at, 1)
        np.add.at(self._same, at, (share == self._share[at]).astype(np.int64))
        self._when[at] = self._now
        at = distinct(at)
        # One that does something else by now, and one that has done it for long and may change.
        self._all[at[2 * self._same[at] < self._all[at]]] = 0
        self._same[at[self._all[at] == 0]] = 0
        full = at[self._all[at] > _MOST]
        self._all[full] //= 2
        self._same[full] //= 2

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes are gone."""
        if len(self._key):
            self._keep(~np.isin(self._tgid, tgid))

    def _meet(self, tgid: NDArray[np.uint32], keys: Ids, share: NDArray[np.int64]) -> None:
        known = among(self._key, keys)
        new, which = groups(keys[~known])
        if len(new):
            first = np.zeros(len(new), np.intp)
            first[which[::-1]] = (~known).nonzero()[0][::-1]
            at = np.searchsorted(self._key, new)
            self._key, self._tgid = np.insert(self._key, at, new), np.insert(self._tgid, at, tgid[first])
            self._share = np.insert(self._share, at, share[first])
            self._same, self._all, self._when = (np.insert(c, at, 0) for c in (self._same, self._all, self._when))
            self._when[np.searchsorted(self._key, new)] = self._now
        if len(self._key) > LIMIT:
            old = np.argsort(self._when)[: len(self._key) - LIMIT // 2]
            keep = np.ones(len(self._key), np.bool_)
            keep[old] = False
            self._keep(keep | among(keys, self._key))
        again = np.searchsorted(self._key, keys)
        begins = self._all[again] == 0
        self._share[again[begins]] = share[begins]

    def _keep(self, rows: NDArray[np.bool_]) -> None:
        self._key, self._tgid, self._share = self._key[rows], self._tgid[rows], self._share[rows]
        self._same, self._all, self._when = self._same[rows], self._all[rows], self._when[rows]
