"""How many calls each request put into the line of a pool, and so whose they are.

Theory of operation. The calls that wait for a connection of a pool go out in the order in which they were asked for, so
those of one request are next to each other, and what is left to find is where the next request's begin.

1. The line is empty whenever a connection of the pool is set free and does not send at once. Between two such moments
   as many calls came out of it as the requests in between have put in: a *period*, which is judged by itself.
2. A request is answered upon the response of one of its calls, which so is known to be its own. If all calls of a
   process are answered before the requests for which they were made, as it has to show, what was answered later is not.
3. Requests of one *class* (of the same kind, during which the loop gave as many ids, sent as many calls and wrote as
   many answers) put the same number into the line: one id for each, where the library gives any. Which number that is,
   is learned from the periods in which it follows from the others; a class that has several stays unknown.

So of each period the requests with a known number have their place but for a shift, which the unknown ones before them
make; the shift is bounded by what the answers say, and by the period's two ends. What all possible shifts agree on is
so; if none is possible, nothing of the period is believed. A process in which that happens keeps no such line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.queues import Ids, Rows

_FAR = 1 << 30
_NEAR = 16
"""Calls before and behind the one upon whose response a request was answered that are asked when they were answered."""
_PROOFS = 2
"""Requests behind one whose calls went out first, and last, before which there is no doubt of it in an open period."""

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Line:
    """One line: n requests in the order in which they came, m calls in that in which they went out of it.

    start, answered: (n,) times of a request. share: (n,) calls that it put into the line; -1: not known. last: (n,)
    place of the call upon whose response it was answered; -1: not in the line. elsewhere: (n,) that is a call of its
    own which did not wait. freed: (m,) when its connection was set free for each call. response: (m,) when it was
    answered. empty: (e,) ascending times at which the line was empty. tight: it was empty before the first request and
    the first call, at `begin`; else something was in it then, nobody knows how much.
    """

    start: Ids
    answered: Ids
    share: Numbers
    last: Numbers
    elsewhere: Flags
    freed: Ids
    response: Ids
    empty: Ids
    begin: np.uint64
    tight: bool


@dataclass(slots=True)
class Counts:
    """What follows. begin, end: (n,) the places of a request's calls in the line; equal: none, or not known which.

    share: (n,) how many these are, if that is certain; -1: it is not. sure: (n,) its place is certain, whatever comes.
    proved: (n,) by those around it alone. period, of: (n,), (m,) the period of a request and of a call. since: (p,)
    when each begins. closed, fits: (p,) it is over; it is possible. guessed: (p,) it has requests of which the number
    was not known. several: (p,) the order matters.
    """

    begin: Numbers
    end: Numbers
    share: Numbers
    sure: Flags
    proved: Flags
    period: Numbers
    of: Numbers
    since: Ids
    closed: Flags
    fits: Flags
    guessed: Flags
    several: Flags


def count(line: Line, patient: bool) -> Counts:
    """Whose the calls of a line are. patient: all calls are answered before their requests."""
    n, m = len(line.start), len(line.freed)
    came = np.append(0, np.searchsorted(line.start, line.empty, "right"))
    went = np.append(0, np.searchsorted(line.freed, line.empty, "right"))
    since = np.append(line.begin, line.empty)
    tight = np.append(line.tight, np.ones(len(line.empty), np.bool_))
    # Of several moments between which nothing happened the last one holds.
    step = np.append((came[1:] != came[:-1]) | (went[1:] != went[:-1]), True)
    came, went, since, tight = came[step], went[step], since[step], tight[step]
    period = np.searchsorted(came, np.arange(n), "right") - 1
    of = np.searchsorted(went, np.arange(m), "right") - 1
    walk = _Walk(line, period, came, went, tight)
    walk.bound()
    if patient:
        walk.bound_by_answers()
    return walk.counts(of, since)


class _Walk:
    """The shifts of the stretches between requests of unknown number: low, high: (s,) bounds of each.

    k: (n,) how many calls the known requests before one in its period have put there. stretch: (n,) in which it is; an
    unknown one lies between two.
    """

    def __init__(self, line: Line, period: Numbers, came: Rows, went: Rows, tight: Flags) -> None:
        self._line, self._period, self._went, self._tight = line, period, went, tight
        self._size = np.append(went[1:], len(line.freed)) - went
        self._closed = np.arange(len(came)) < len(came) - 1
        self._unknown = line.share < 0
        known = np.where(self._unknown, 0, line.share)
        total = np.append(0, np.cumsum(known))
        unknowns = np.append(0, np.cumsum(self._unknown))
        self._k = total[:-1] - total[came[period]]
        self._stretch = unknowns[:-1] + period
        begins = unknowns[came] + np.arange(len(came))
        ends = np.append(begins[1:], unknowns[-1] + len(came)) - 1
        self._of = np.repeat(np.arange(len(came)), ends - begins + 1)
        left = self._size - (total[np.append(came[1:], len(known))] - total[came])
        self._low = np.where(tight, 0, -_FAR)[self._of]
        self._high = np.where(self._closed, left, _FAR)[self._of]
        self._low[ends] = np.where(self._closed, np.maximum(left, self._low[ends]), self._low[ends])
        self._high[begins] = np.where(tight, np.minimum(self._high[begins], 0), self._high[begins])
        self._in_line = line.last >= 0
        self._last = line.last - went[period]
        self._fits = np.ones(len(came), np.bool_)

    def bound(self) -> None:
        """By the calls upon whose responses the requests were answered."""
        at, last, k, stretch = self._in_line, self._last, self._k, self._stretch
        outside = at & ((last < 0) | (last >= self._size[self._period]))
        self._fits[self._period[outside]] = False
        known, unknown = at & ~self._unknown, at & self._unknown
        np.minimum.at(self._high, stretch[at], (last - k)[at])
        np.maximum.at(self._low, stretch[known], (last - k - self._line.share + 1)[known])
        np.maximum.at(self._low, stretch[unknown] + 1, (last - k + 1)[unknown])
        self._spread()

    def bound_by_answers(self) -> None:
        """What was answered after a request is not for it."""
        line = self._line
        at = (self._unknown & self._in_line & self._fits[self._period]).nonzero()[0]
        if not len(at) or not len(line.response):
            return
        begin = self._went[self._period[at]]
        place = begin + self._last[at]
        near = np.arange(1, _NEAR + 1)
        for side in (1, -1):
            places = place[:, None] + side * near
            inside = (places >= begin[:, None]) & (places < (begin + self._size[self._period[at]])[:, None])
            late = line.response[np.where(inside, places, 0)] > line.answered[at][:, None]
            late &= inside
            some = late.any(axis=1)
            first = place[some] + side * near[late[some].argmax(axis=1)] - begin[some] - self._k[at[some]]
            if side > 0:
                np.minimum.at(self._high, self._stretch[at[some]] + 1, first)
            else:
                np.maximum.at(self._low, self._stretch[at[some]], first + 1)
        self._spread()

    def _spread(self) -> None:
        """Shifts never become smaller within a period."""
        apart = self._of * (4 * _FAR)
        self._low = np.maximum.accumulate(self._low + apart) - apart
        self._high = np.minimum.accumulate((self._high + apart)[::-1])[::-1] - apart
        self._fits[self._of[self._low > self._high]] = False

    def counts(self, of: Numbers, since: Ids) -> Counts:
        line, period, stretch, low, high = self._line, self._period, self._stretch, self._low, self._high
        behind = stretch + self._unknown
        first = self._k + high[stretch]
        last = self._k + np.where(self._unknown, 0, line.share) + low[behind]
        some = (last > first) & (first >= 0) & (last <= self._size[period])
        begin, end = np.where(some, self._went[period] + first, 0), np.where(some, self._went[period] + last, 0)
        self._refute_late(begin, end)
        exact = (low[stretch] == high[stretch]) & (low[behind] == high[behind]) & self._fits[period]
        before, after = self._proved(False), self._proved(True)
        within = (self._tight[period] | before) & (self._closed[period] | after)
        verified = ((line.last >= begin) & (line.last < end)) | line.elsewhere
        begin[~(verified & within & self._fits[period])] = end[~(verified & within & self._fits[period])] = 0
        share = np.where(self._unknown, low[behind] - low[stretch], line.share)
        told = exact & (self._in_line | (self._closed & self._tight)[period])
        guessed, several = (
            np.bincount(period[which], minlength=len(self._size)) for which in (self._unknown, line.share != 0)
        )
        return Counts(
            begin=begin,
            end=end,
            share=np.where(told, share, -1),
            sure=exact & within & (end > begin),
            proved=before & after,
            period=period,
            of=of,
            since=since,
            closed=self._closed,
            fits=self._fits,
            guessed=guessed > 0,
            several=several > 1,
        )

    def _refute_late(self, begin: Numbers, end: Numbers) -> None:
        """A period in which a call was answered after its request is not as it seems."""
        size = end - begin
        owner = np.repeat(np.arange(len(begin)), size)
        place = np.arange(len(owner)) + np.repeat(begin - (np.cumsum(size) - size), size)
        late = self._line.response[place] > self._line.answered[owner]
        self._fits[self._period[owner[late]]] = False

    def _proved(self, behind: bool) -> Flags:
        """(n,) requests of a known number behind it (or before it), in its stretch, were answered upon their first
        call, and upon their last, more than once: a call more or less in the line would show."""
        low, high, stretch = self._low[self._stretch], self._high[self._stretch], self._stretch
        right = self._in_line & ~self._unknown & (low == high) & self._fits[self._period]
        proved: Flags = right.copy()
        begins, ends = np.searchsorted(stretch, stretch), np.searchsorted(stretch, stretch, "right")
        mine = np.arange(len(stretch))
        for tight in (self._last == self._k + high, self._last == self._k + self._line.share + low - 1):
            before = np.append(0, np.cumsum(right & tight))
            proofs = before[ends] - before[mine + 1] if behind else before[mine] - before[begins]
            proved &= proofs >= _PROOFS
        return proved
