"""Where threads of JVMs allocated, as the kernel side marked it: `struct heap_mark` of bpf/include/records.h.

Between two marks of a thread lies what it made meanwhile: in one buffer the addresses from one `top` to the other, else
the rest of the first buffer, and the second one up to its `top`. An address means the same until the next collection of
its process, so it is remembered together with the number of that (an *epoch*).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.keys import unit_keys

LIMIT = 1 << 14
"""Marks that are remembered."""
SENDS, CLIENT, JOB, TORN, SEEN = 1, 2, 4, 8, 16
"""`enum heap_mark_bits`."""
NOWHERE = -1
NOT_YET = ~np.uint64(0)
_CHANGES = 32
_HABIT = 64
"""Marks of a thread before a request that show how it works."""
_TIME_BITS = np.uint64(44)
_TIME_MASK = (np.uint64(1) << _TIME_BITS) - np.uint64(1)
PLACE, ADDRESS = np.uint64(48), np.uint64((1 << 48) - 1)
"""Of an object: its place on the stack is above these bits, its address in them."""

Times = NDArray[np.uint64]
Places = NDArray[np.intp]


@dataclass(slots=True)
class Stretches:
    """What threads made: k ranges of addresses. thread: (k,) who; owner: (k,) index that the caller gave."""

    epoch: Times
    low: Times
    high: Times
    thread: Times
    owner: Places


@dataclass(slots=True)
class _Changes:
    """By thread: where objects changed outermost, of its last 32 to 64 changes: frames get smaller when code is
    compiled. earlier, since: (n,) in words from the stack's base, NOT_YET if there was none. counted: those `since`."""

    earlier: Times
    since: Times
    counted: Places

    @staticmethod
    def none(n: int) -> _Changes:
        return _Changes(np.full(n, NOT_YET), np.full(n, NOT_YET), np.zeros(n, np.intp))

    def take(self, rows: NDArray[np.bool_]) -> _Changes:
        return _Changes(self.earlier[rows], self.since[rows], self.counted[rows])

    def put(self, rows: Places, others: _Changes) -> None:
        self.earlier[rows], self.since[rows], self.counted[rows] = others.earlier, others.since, others.counted

    def count(self, rows: Places, places: Times) -> None:
        """A change at this place, of each of these threads."""
        np.minimum.at(self.since, rows, places)
        np.add.at(self.counted, rows, 1)
        over = self.counted >= _CHANGES
        self.earlier[over], self.since[over], self.counted[over] = self.since[over], NOT_YET, 0

    def outermost(self) -> Times:
        """(n,) the place; 0: there was no change."""
        place = np.minimum(self.earlier, self.since)
        place[place == NOT_YET] = 0
        return place


class Marks:
    """The last 16,384 of them, by thread and time. A place is an index into the columns; it holds until `tell`."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._told: NDArray[np.void] | None = None
        self._job_threads = np.zeros(0, np.uint64)
        self._changes = _Changes.none(0)
        self.thread = self.t = self.epoch = np.zeros(0, np.uint64)
        self.before = np.zeros(0, np.intp)
        """(n,) of a mark with objects: the thread's last one before it, or NOWHERE"""
        self.job_at = np.zeros(0, np.uint64)
        """(n,) outermost place where the thread's objects ever change, in words from its stack's base; 0: not known"""
        self.noted = np.zeros(0, np.uint8)
        """(n,) bits of whoever reads them: what was done with them"""

    def __len__(self) -> int:
        return len(self.thread)

    def tell(self, records: NDArray[np.void]) -> None:
        """Records of `struct heap_mark`."""
        if not len(records):
            return
        told = records if self._told is None else np.concatenate([self._told, records])[-self._limit :]
        thread = unit_keys(told["tgid"], told["tid"])
        order = np.lexsort((told["t"], thread))
        fresh = order >= len(told) - len(records)
        self.noted = np.concatenate([self.noted, np.zeros(len(records), np.uint8)])[-self._limit :][order]
        self._told = told = told[order]
        self.thread, self.t = thread[order], told["t"].copy()
        self.epoch = splitmix64(told["tgid"].astype(np.uint64) << np.uint64(32) | told["collections"])
        self._index()
        self._place_jobs((fresh & (self.before != NOWHERE)).nonzero()[0])

    def forget(self, tgid: NDArray[np.uint32]) -> bool:
        """These processes ended, or became another program: returns whether there was anything of them."""
        if self._told is None:
            return False
        gone = np.isin(self._told["tgid"], tgid)
        if gone.any():
            left, self._told = self._told[~gone], None
            self.noted = np.zeros(0, np.uint8)
            self.thread = self.t = self.epoch = np.zeros(0, np.uint64)
            self.tell(left)
        return bool(gone.any())

    def _index(self) -> None:
        assert self._told is not None
        first = np.ones(len(self.thread), np.bool_)
        np.not_equal(self.thread[1:], self.thread[:-1], out=first[1:])
        self._threads = self.thread[first]
        self._group = np.cumsum(first) - 1
        self._origin = self.t.min()
        bits = self._told["bits"]
        self._own = ((bits & SEEN) == 0).nonzero()[0]
        self._keys = (self._group.astype(np.uint64) << _TIME_BITS | self._clock(self.t))[self._own]
        at_server = ((bits & CLIENT) == 0).nonzero()[0]
        self._requests = np.cumsum((bits & CLIENT) == 0)
        group, sends = self._group[at_server], bits[at_server] & SENDS
        self._answer_before = np.full(len(self.thread), NOWHERE, np.intp)
        follows = (group[1:] == group[:-1]) & (sends[:-1] != 0) & (sends[1:] != 0)
        self._answer_before[at_server[1:][follows]] = at_server[:-1][follows]
        # Two requests, or two responses, in a row; or a call without a request.
        odd = (bits & JOB) != 0
        odd[at_server[1:]] |= (group[1:] == group[:-1]) & (sends[1:] == sends[:-1])
        self._odd = np.cumsum(odd)
        self._first = first.nonzero()[0]
        looked = ((bits & JOB) != 0).nonzero()[0]
        self.before = np.full(len(self.thread), NOWHERE, np.intp)
        follows = self._group[looked[1:]] == self._group[looked[:-1]]
        self.before[looked[1:][follows]] = looked[:-1][follows]

    def _place_jobs(self, fresh: Places) -> None:
        """fresh: marks that follow another one of their thread, and were told just now."""
        new = self.new(fresh)
        rows = new.any(axis=1).nonzero()[0]
        places = self.objects(fresh[rows])[np.arange(len(rows)), new[rows].argmax(axis=1)] >> PLACE
        changes = _Changes.none(len(self._threads))
        kept = np.isin(self._job_threads, self._threads)
        changes.put(np.searchsorted(self._threads, self._job_threads[kept]), self._changes.take(kept))
        changes.count(self._group[fresh[rows]], places)
        self._job_threads, self._changes = self._threads, changes
        self.job_at = changes.outermost()[self._group]

    def new(self, places: Places) -> NDArray[np.bool_]:
        """(n, 16) which objects were not there at the thread's call before, in the same epoch."""
        objects, before = self.objects(places), self.before[places]
        known = (before != NOWHERE) & (self.epoch[before] == self.epoch[places])
        earlier = np.where(known[:, None], self.objects(before), np.uint64(0)) & ADDRESS
        new: NDArray[np.bool_] = (objects != 0) & known[:, None]
        new &= ~((objects & ADDRESS)[:, :, None] == earlier[:, None, :]).any(axis=2)
        return new

    def _clock(self, times: Times) -> Times:
        after: Times = np.where(times > self._origin, times - self._origin, np.uint64(0))
        np.minimum(after, _TIME_MASK, out=after)
        return after

    def at(self, thread: Times, moment: Times, conn: Times, bits: int) -> Places:
        """(n,) place of the mark that a thread made when it moved bytes of a connection then, or NOWHERE.

        moment: when the call that moved them began: the mark is the thread's first one since. bits: SENDS, CLIENT.
        """
        if not len(self) or not len(self._own) or not len(thread):
            return np.full(len(thread), NOWHERE, np.intp)
        assert self._told is not None
        group = np.minimum(np.searchsorted(self._threads, thread), len(self._threads) - 1)
        known = (self._threads[group] == thread) & (moment >= self._origin)
        place = np.searchsorted(self._keys, (group.astype(np.uint64) << _TIME_BITS) | self._clock(moment))
        place = self._own[np.minimum(place, len(self._own) - 1)]
        known &= (self.thread[place] == thread) & (self._told["conn"][place] == conn)
        known &= (self._told["bits"][place] & (SENDS | CLIENT)) == bits
        return np.where(known, place, NOWHERE)

    def alone(self, begin: Places, end: Places) -> NDArray[np.bool_]:
        """(k,) between these marks of a thread, of a request and its response, it touched no other request, and its
        marks before were of requests that it answered before it read the next one."""
        since = np.maximum(self._first[self._group[begin]], begin - _HABIT)
        alone: NDArray[np.bool_] = (begin < end) & (self._odd[end] == self._odd[since])
        alone &= self._requests[end] - self._requests[begin] == 1
        return alone

    def answer_before(self, places: Places) -> Places:
        """(k,) of marks of responses: the thread's response before, if it read no request in between; else NOWHERE."""
        return self._answer_before[places]

    def jobs(self, since: np.uint64, until: np.uint64) -> Places:
        """(j,) marks with objects, of that time."""
        places: Places = ((self.before != NOWHERE) & (since <= self.t) & (self.t <= until)).nonzero()[0]
        return places

    def made(self, begin: Places, end: Places) -> Stretches:
        """What threads made between pairs of marks; owner: (k,) which pair."""
        assert self._told is not None
        steps = end - begin
        owner = np.repeat(np.arange(len(begin)), steps)
        a = np.repeat(begin - np.concatenate([[0], np.cumsum(steps)[:-1]]), steps) + np.arange(steps.sum())
        b = a + 1
        told, fine = self._told, (self._told["bits"] & TORN) == 0
        same = (self.epoch[a] == self.epoch[b]) & (told["start"][a] == told["start"][b])
        parts = [
            (a, told["top"][a], np.where(same, told["top"][b], told["end"][a]), fine[a] & (fine[b] | ~same)),
            (b, told["start"][b], told["top"][b], fine[b] & ~same),
        ]
        found = []
        for at, low, high, good in parts:
            rows = (good & (low < high)).nonzero()[0]
            found.append((self.epoch[at[rows]], low[rows], high[rows], self.thread[at[rows]], owner[rows]))
        return Stretches(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

    def tgid(self, places: Places) -> NDArray[np.uint32]:
        """(n,) process ids."""
        assert self._told is not None
        tgid: NDArray[np.uint32] = self._told["tgid"][places]
        return tgid

    def objects(self, places: Places) -> NDArray[np.uint64]:
        """(n, 16) objects on the thread's stack, outermost first: address, in the upper bits where; 0: no more."""
        assert self._told is not None
        objects: NDArray[np.uint64] = self._told["objects"][places].copy()
        objects[np.arange(objects.shape[1]) >= self._told["count"][places][:, None]] = 0
        objects[(self._told["bits"][places] & TORN) != 0] = 0
        return objects
