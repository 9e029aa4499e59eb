"""What was seen of one service: its requests and its calls, as columns, and which could belong together."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NONE = -1
CODES = 10
"""Ranks of how much a call's answer took to make: tenths."""
_IDLE = 3600 * 10**9
_CANDIDATES = 96
"""So many requests are looked at for a call: those that began last, and one that is known."""
_LONG = 256
"""So many requests that last unusually long are looked at, the latest."""


@dataclass(slots=True)
class Columns:
    """Requests (m) and calls (n) of one service. Times in ns, of one clock for each place.

    request_kind, call_kind: 0 … kinds - 1, what is alike behaves alike: route, callee.
    request_place, call_place: 0 …, the process; a call belongs to a request of its own process only.
    work: (n,) ns that the callee took for it, if its end of the exchange was seen, else the call's own duration.
    known: (n,) the request that a call is known to belong to, or NONE.
    request_kinds, call_kinds: how many kinds there are, also those that do not occur here.
    """

    request_start: Ints
    request_end: Ints
    request_kind: Ints
    request_place: Ints
    call_start: Ints
    call_end: Ints
    call_kind: Ints
    call_place: Ints
    work: Ints
    known: Ints
    request_kinds: int
    call_kinds: int

    def part(self, requests: Ints, calls: Ints) -> Columns:
        """These requests and calls alone; what is known of a call whose request is not among them is forgotten."""
        number = np.full(len(self.request_start) + 1, NONE)  # the last entry: NONE stays NONE
        number[requests] = np.arange(len(requests))
        return Columns(
            *(self.request_start[requests], self.request_end[requests]),
            *(self.request_kind[requests], self.request_place[requests]),
            *(self.call_start[calls], self.call_end[calls], self.call_kind[calls], self.call_place[calls]),
            *(self.work[calls], number[self.known[calls]]),
            *(self.request_kinds, self.call_kinds),
        )


@dataclass(slots=True)
class Observed(Columns):
    """Columns, made ready: all times on one axis from 0, and which requests each call could belong to."""

    span: int = field(init=False)
    """All times are less than this: they begin at 0, places follow each other."""
    request_began: Ints = field(init=False)
    request_ended: Ints = field(init=False)
    call_began: Ints = field(init=False)
    call_ended: Ints = field(init=False)
    ranks: int = field(init=False)
    """(m,) or (n,) the same times as ranks: 0 … ranks - 1, equal where the times are"""
    code: Ints = field(init=False)
    """(n,) 0 … CODES - 1: rank of its work among the calls of its kind"""
    first: Ints = field(init=False)
    candidate: Ints = field(init=False)
    """(n + 1,), (p,) the requests that contain call i in time: candidate[first[i]:first[i + 1]], earliest first"""

    def __post_init__(self) -> None:
        self._one_clock()
        self.code = np.zeros(len(self.call_start), np.int64)
        for kind in range(self.call_kinds):
            of_kind = (self.call_kind == kind).nonzero()[0]
            rank = np.argsort(np.argsort(self.work[of_kind], kind="stable"), kind="stable")
            self.code[of_kind] = rank * CODES // max(len(of_kind), 1)
        self._find_candidates()

    @staticmethod
    def of(columns: Columns) -> Observed:
        """Made ready; the columns stay as they are."""
        return Observed(*(getattr(columns, one.name) for one in fields(Columns)))

    @property
    def candidates(self) -> Ints:
        """(n,) how many requests each call could belong to."""
        count: Ints = np.diff(self.first)
        return count

    def pairs(self, calls: Ints) -> tuple[Ints, Ints]:
        """(p,) index into `calls`, (p,) candidate request; in order of the calls."""
        first = self.first[calls]
        count = self.first[calls + 1] - first
        unit, at = spread(count)
        return unit, self.candidate[first[unit] + at]

    def _one_clock(self) -> None:
        """Every time becomes the time since the first event of its place, long idle gaps cut short, places one after
        the other; so no sum of times overflows, whatever they were."""
        m, n = len(self.request_start), len(self.call_start)
        time = np.concatenate([self.request_start, self.request_end, self.call_start, self.call_end])
        place = np.concatenate([self.request_place, self.request_place, self.call_place, self.call_place])
        order = np.lexsort((time, place))
        time, place = time[order], place[order]
        gap = np.minimum(np.diff(time, prepend=time[:1]), _IDLE)
        gap[1:][place[1:] != place[:-1]] = _IDLE
        axis, rank = np.empty(len(time), np.int64), np.empty(len(time), np.int64)
        axis[order], rank[order] = np.cumsum(gap), np.cumsum(gap != 0)
        cuts = [m, 2 * m, 2 * m + n]
        self.request_start, self.request_end, self.call_start, self.call_end = np.split(axis, cuts)
        self.request_began, self.request_ended, self.call_began, self.call_ended = np.split(rank, cuts)
        self.span = int(axis.max(initial=0)) + 1
        self.ranks = int(rank.max(initial=0)) + 1

    def _find_candidates(self) -> None:
        """Those that contain the call in time. Requests that last far longer than others are looked at by themselves,
        so that the work is bounded by what is in flight, not by the longest."""
        order = np.argsort(self.request_start, kind="stable")
        start, end = self.request_start[order], self.request_end[order]
        lasts = end - start
        usual = int(np.quantile(lasts, 0.99)) if len(lasts) else 0
        long = (lasts > usual).nonzero()[0]
        stop = np.searchsorted(start, self.call_start, "right")
        begin = np.maximum(np.searchsorted(start, self.call_start - usual), stop - 16 * _CANDIDATES)
        call, at = spread(stop - begin)
        request = begin[call] + at
        fits = (end[request] >= self.call_end[call]) & (lasts[request] <= usual)
        long = long[-_LONG:]
        within = [((self.call_start >= start[i]) & (self.call_end <= end[i])).nonzero()[0] for i in long]
        call = np.concatenate([call[fits], *within])
        request = np.concatenate([request[fits], np.repeat(long, [len(one) for one in within])])
        told = (self.known != NONE).nonzero()[0]
        place_of = np.empty(len(order), np.int64)
        place_of[order] = np.arange(len(order))
        pair = np.unique(
            np.concatenate([call, told]) * max(len(order), 1) + np.concatenate([request, place_of[self.known[told]]])
        )
        call, request = np.divmod(pair, max(len(order), 1))
        count = np.bincount(call, minlength=len(self.call_start))
        from_last = np.repeat(np.cumsum(count), count) - np.arange(len(call))
        keep = (from_last <= _CANDIDATES) | (order[request] == self.known[call])
        call, request = call[keep], request[keep]
        self.candidate = order[request]
        self.first = np.append(0, np.cumsum(np.bincount(call, minlength=len(self.call_start))))


def spread(count: Ints) -> tuple[Ints, Ints]:
    """For groups of these sizes: (sum,) group of each member, (sum,) its place in the group.

    >>> spread(np.array([2, 0, 1]))
    (array([0, 0, 2]), array([0, 1, 0]))
    """
    group = np.repeat(np.arange(len(count)), count)
    return group, np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
