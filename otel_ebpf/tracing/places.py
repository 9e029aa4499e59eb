"""What is kept by process, in columns that are as long as there are such processes, not as there are process ids.

Ids go up to 2^22 (PID_MAX_LIMIT), and a host on which processes come and go runs through all of them: of a column that
they index, every page would be touched in the end. So a process of which something is to be kept has a *place*, which
it leaves when it is gone. Ends may be missed: when all places are taken, those of processes that are not there any more
are given to others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct, sparse

PIDS = 1 << 22
PID_MASK = np.uint32(PIDS - 1)
MOST = (1 << 16) - 2
"""Processes of which something is known at the same time."""
NOBODY = 0
"""The place of all others: its items are never written."""

T = TypeVar("T", bound=np.generic)
Numbers = NDArray[np.uint16]


def _there(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")  # noqa: PTH110 (65,534 Paths would take twice as long)


class Places:
    """At most `most` processes: 8 MiB, and 64 KiB for each byte of an item in a column, of which only the touched pages
    exist. missed: processes of which nothing is kept, since all places were taken by living ones.

    >>> places = Places()
    >>> requests = places.column(np.uint32)
    >>> requests[places.take(np.array([4711], np.uint32))] += 1
    >>> requests[places.of(np.array([4711, 4712], np.uint32))].tolist()
    [1, 0]
    """

    def __init__(self, most: int = MOST, there: Callable[[int], bool] = _there) -> None:
        self.missed = 0
        self._most, self._there = most, there
        self._place = sparse(PIDS, np.uint16)
        self._pid = np.zeros(most + 2, np.uint32)
        self._free: list[int] = []
        self._next = 1
        self._look_again = 0
        self._columns: list[NDArray[np.generic]] = []

    def __len__(self) -> int:
        """Processes that have a place."""
        return self._next - 1 - len(self._free)

    def column(self, dtype: type[T]) -> NDArray[T]:
        """(most + 2,) one more item for each place, 0 until it is written, and again when the process is forgotten."""
        column = sparse(self._most + 2, dtype)
        self._columns.append(column)
        return column

    def of(self, tgid: NDArray[np.uint32]) -> Numbers:
        """(n,) the places of these processes, for reading; NOBODY of those that have none."""
        places: Numbers = self._place[tgid & PID_MASK]
        return places

    def take(self, tgid: NDArray[np.uint32]) -> Numbers:
        """(n,) the same for writing: who has none gets one. What is written for those that cannot have one is lost."""
        places = self.of(tgid)
        new = (places == NOBODY).nonzero()[0]
        if len(new):
            self._give(distinct(tgid[new] & PID_MASK))
            places = self.of(tgid)
            places[places == NOBODY] = self._most + 1
        return places

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes ended, or became another program."""
        places = distinct(self.of(tgid))
        self._leave(places[places != NOBODY])

    def _leave(self, places: Numbers) -> None:
        if not len(places):
            return
        for column in self._columns:
            column[places] = 0
        self._place[self._pid[places]] = NOBODY
        self._free += places.tolist()

    def _give(self, pids: NDArray[np.uint32]) -> None:
        room = len(self._free) + self._most + 1 - self._next
        if len(pids) > room and self.missed >= self._look_again:
            self._make_room()
            room = len(self._free) + self._most + 1 - self._next
            self._look_again = self.missed + self._most // 8  # looking for them takes its time
        self.missed += max(len(pids) - room, 0)
        pids = pids[:room]
        again = [self._free.pop() for _ in range(min(len(pids), len(self._free)))]
        fresh = range(self._next, self._next + len(pids) - len(again))
        self._next += len(fresh)
        places = np.array([*again, *fresh], np.uint16)
        self._place[pids], self._pid[places] = places, pids

    def _make_room(self) -> None:
        taken = np.arange(1, self._next, dtype=np.uint16)
        taken = taken[self._place[self._pid[taken]] == taken]
        gone = [not self._there(pid) for pid in self._pid[taken].tolist()]
        self._leave(taken[np.array(gone, np.bool_)])
