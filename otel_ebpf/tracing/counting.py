"""Which calls of Node's loops wait in a pool's line, and what `counted` says of them.

Of a pool that gives its calls no ids, the class of a request (`shares`) is what can be told of the time in which the
loop handled it: the ids that it gave, the calls that it sent, and the answers that it wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.counted import Counts, Line, count
from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.loops import AGREES, MANY, NOBODY, VERY_MANY, Agreement, Loops, Unknown
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.queues import Ids, Rows
from otel_ebpf.tracing.rungs.base import NONE
from otel_ebpf.tracing.rungs.habits import Habit
from otel_ebpf.tracing.segments import Segments
from otel_ebpf.tracing.shares import UNKNOWN, Shares
from otel_ebpf.tracing.tables import CallTable

LINE = 3
"""The rule of `async_ids` by which they are known."""
APART = 3
"""Kinds of calls (`async_ids`) from which on they did not go out on a connection whose response had come."""
_FITS = 0.9
"""Share of the calls of periods in which the order mattered, that are possible, from which it is known to be a line."""
_LONG_NS = np.uint64(5 * 10**9)
"""So long a line may be without being empty."""
_TURN_NS = np.uint64(10**8)
"""A loop sends after a response what waits for its connection, in less."""
_PATIENCE_NS = np.uint64(3 * 10**9)
"""So long its calls may wait for what is not known yet."""
_SLIP = 8
"""Samples that a period which is not possible counts for, at most."""
_PORT = np.uint64(48)
_LINES = 1 << 8
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class _Since:
    """From where on a line is looked at: requests that came later, and calls for which connections were set free later.
    tight: all calls for the requests before had gone."""

    came: np.uint64 = NOBODY
    freed: np.uint64 = NOBODY
    tight: bool = False


@dataclass(slots=True)
class _Seen:
    """A line, and what belongs to it.

    came, start: (n,) rows of requests in their order, and when they came. sent: (k,) rows of its thread's calls.
    waited, freed: (m,) of those that waited in the line in their order, and when their connections were set free for
    them. empty: (e,) times at which nothing waited. opened: since when until when a connection was opened and used.
    """

    since: _Since
    tgid: NDArray[np.uint32]
    thread: np.uint64
    port: np.uint16
    latest: np.uint64
    patient: bool
    came: Rows
    start: Ids
    sent: Rows
    waited: Rows
    freed: Ids
    empty: Ids
    opened: tuple[Ids, Ids]

    def grows(self, counts: Counts) -> NDArray[np.bool_]:
        """(p,) the pool opened connections in the period: calls may have waited for these, out of line."""
        first, last = (np.searchsorted(counts.since, times, "right") - 1 for times in self.opened)
        change = np.zeros(len(counts.since) + 1, np.int64)
        np.add.at(change, np.maximum(first[last >= 0], 0), 1)
        np.add.at(change, last[last >= 0] + 1, -1)
        grows: NDArray[np.bool_] = np.cumsum(change)[:-1] > 0
        return grows


class Counting:
    """State: what the requests of each class do; how well the lines of whom fit; since when each is not yet judged."""

    def __init__(self, segments: Segments, places: Places) -> None:
        self._segments = segments
        self._shares = Shares()
        self._patient = Habit(places)
        self._ordered = Agreement(places, MANY)
        self._exact = Agreement(places, 2 * MANY)
        self._since: dict[tuple[int, int], _Since] = {}

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes are gone; who has the places forgets them as well."""
        self._shares.forget(tgid)

    def speaks(self, tgid: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """(n,) these processes have such a line, if any."""
        ordered: NDArray[np.bool_] = self._ordered.share(tgid) >= _FITS
        return ordered

    def note(self, loops: Loops, rows: Rows) -> None:
        """Calls whose requests are certain without this: were they answered first?"""
        calls, requests = loops.calls, loops.requests
        at = loops.find_requests(calls.owner[rows])
        rows, at = rows[at != NONE], at[at != NONE]
        calls.noted[rows] = True
        late = calls.first_byte[rows] > requests.first_byte[at]
        self._patient.chance(calls.tgid[rows])
        self._patient.taken(calls.tgid[rows[late]])

    def learn(self, loops: Loops, left: Rows, unknown: Unknown) -> None:
        """Find out of calls (`left`) that went out on connections whose response had come for whom they were."""
        calls = loops.calls
        _, first = np.unique(calls.thread[left] ^ (calls.port[left].astype(np.uint64) << _PORT), return_index=True)
        if len(self._since) > _LINES:
            self._since.clear()
        for row in left[first].tolist():
            self._learn(loops, row, unknown)

    def _learn(self, loops: Loops, row: int, unknown: Unknown) -> None:
        requests = loops.requests
        seen = self._look(loops, row, unknown)
        if not len(seen.waited) or not len(seen.came):
            return
        keys = self._classes(loops, seen)
        line = _line(loops, seen)
        for _ in range(_ROUNDS):  # what a class does tells what others do
            line.share = self._shares.of(keys)
            counts = count(line, seen.patient)
            grows = seen.grows(counts)
            new = (counts.share >= 0) & ~requests.counted[seen.came] & ~grows[counts.period]
            if not new.any():
                break
            requests.counted[seen.came[new]] = True
            self._shares.seen(np.repeat(seen.tgid, int(new.sum())), keys[new], counts.share[new])
        says = self._believed(seen.tgid, counts) & ~grows[counts.period] & (counts.end > counts.begin)
        _name(loops, seen, counts, says.nonzero()[0])
        self._judge(loops, seen, line, counts, grows)
        self._wait(loops.calls, seen, counts)

    def _look(self, loops: Loops, row: int, unknown: Unknown) -> _Seen:
        """What there is to see of the line in which a call was."""
        calls, requests = loops.calls, loops.requests
        tgid, thread, port = calls.tgid[[row]], calls.thread[row], calls.port[row]
        latest = calls.start.max()
        since = self._since.get((int(thread), int(port)), _Since())
        if since.freed + _LONG_NS < latest:
            since = _Since(latest - min(latest, _LONG_NS), latest - min(latest, _LONG_NS))
        sent = ((calls.thread == thread) & calls.numbered & (calls.start + _LONG_NS > since.freed)).nonzero()[0]
        sent = sent[calls.asked_ids[sent] & ~unknown(calls.tgid[sent], calls.start[sent])]
        came = ((requests.thread == thread) & (requests.start > since.came)).nonzero()[0]
        came = came[~unknown(requests.tgid[came], requests.start[came])]
        here = sent[calls.port[sent] == port]
        patient = bool(self._patient.never(tgid)[0] > 0)
        waited, freed, empty, last = _freed(calls, here)
        # Nothing more went out there, or it is not known yet: what is for a request that has ended is.
        last = last[~unknown(np.repeat(tgid, len(last)), last + _TURN_NS)] if patient else last[:0]
        empty = np.sort(np.concatenate([empty, last]))
        late, opened = freed > since.freed, here[calls.wanted[here] < calls.start[here]]
        came = came[np.argsort(requests.start[came])]
        return _Seen(
            since=since,
            tgid=tgid,
            thread=thread,
            port=port,
            latest=latest,
            patient=patient,
            came=came,
            start=requests.start[came],
            sent=sent,
            waited=waited[late],
            freed=freed[late],
            empty=empty[empty >= since.freed],
            opened=(calls.wanted[opened], calls.end[opened]),
        )

    def _classes(self, loops: Loops, seen: _Seen) -> Ids:
        """(n,) the class of each request that came; 0: it cannot be told."""
        calls, requests = loops.calls, loops.requests
        ids = requests.span_id[seen.came]
        used = self._segments.used(seen.thread, ids)
        in_line = np.zeros(len(calls), np.bool_)
        in_line[seen.waited] = True
        at_once = seen.sent[~in_line[seen.sent]]
        here = calls.port[at_once] == seen.port
        key = splitmix64(requests.kind[seen.came] ^ seen.thread ^ (np.uint64(seen.port) << _PORT))
        key = splitmix64(key ^ used.astype(np.uint64))
        for after in (
            calls.after[seen.waited],
            calls.after[at_once[here]],
            calls.after[at_once[~here]],
            requests.after[requests.thread == seen.thread],
        ):
            key = splitmix64(key ^ _times(ids, after))
        return np.where(used > 0, key, NOBODY)

    def _judge(self, loops: Loops, seen: _Seen, line: Line, counts: Counts, grows: NDArray[np.bool_]) -> None:
        """Is this a line at all? Each call is a sample, once that nothing more is to be known of it; but one that went
        elsewhere puts all behind it out of place, and is not worse for that. Those for requests of which the number was
        found out just now prove nothing: whoever else puts a call there would be taken for them."""
        calls = loops.calls
        reach = np.zeros(len(counts.closed), np.int64)
        np.maximum.at(reach, counts.period[counts.sure], counts.end[counts.sure])
        over = (counts.closed | ~counts.fits)[counts.of] | (np.arange(len(counts.of)) < reach[counts.of])
        fresh = over & ~calls.judged_line[seen.waited] & ~grows[counts.of]
        calls.judged_line[seen.waited[over]] = True
        fresh &= counts.fits[counts.of] | (_rank(np.where(fresh, counts.of, -1)) < _SLIP)
        known = np.zeros(len(fresh), np.bool_)
        known[_places(counts, ((line.share > 0) & (counts.end > counts.begin)).nonzero()[0])] = True
        ordered, exact = counts.several[counts.of], known | ~counts.fits[counts.of]
        for rule, which in ((self._ordered, fresh & ordered), (self._exact, fresh & exact)):
            of = counts.of[which]
            rule.note(np.repeat(seen.tgid, len(of)), counts.fits[of])
        if self._exact.share(seen.tgid)[0] >= AGREES:  # else it may be that they were answered after their requests
            certain = fresh & calls.counted[seen.waited]
            self._patient.chance(np.repeat(seen.tgid, int(certain.sum())))

    def _believed(self, tgid: NDArray[np.uint32], counts: Counts) -> NDArray[np.bool_]:
        """(n,) what is said of these requests' calls. Where a period has requests that may have put any number into the
        line, only if nothing else does so in this process; or if those around it leave no doubt."""
        speaks, exact = self.speaks(tgid)[0], self._exact.share(tgid)[0] >= AGREES
        of_period = counts.fits & (speaks | (exact & ~counts.several)) & (~counts.guessed | exact)
        believed: NDArray[np.bool_] = of_period[counts.period] | (counts.fits[counts.period] & counts.proved & speaks)
        return believed

    def _wait(self, calls: CallTable, seen: _Seen, counts: Counts) -> None:
        """Which calls may still become known, and from where on the line is looked at next time."""
        young = ~self._ordered.known(seen.tgid, VERY_MANY)[0]
        hope = ~calls.counted[seen.waited] & (~counts.closed[counts.of] | young) & counts.fits[counts.of]
        hope &= seen.freed + _PATIENCE_NS > seen.latest
        calls.awaits[seen.waited] = hope
        first = int(hope.argmax()) if hope.any() else len(hope)
        until = seen.freed[first] if first < len(hope) else seen.latest
        since, before = seen.since, int(np.searchsorted(seen.empty, until, "left")) - 1
        if before >= 0:
            since = _Since(seen.empty[before], seen.empty[before], tight=True)
        sure = (counts.sure & (counts.end <= first)).nonzero()[0]
        if len(sure) and (freed := seen.freed[counts.end[sure[-1]] - 1]) > since.freed:
            since = _Since(seen.start[sure[-1]], freed, tight=True)
        if not counts.fits[-1]:  # of what comes, it is not known how much is in the line before
            since = _Since(seen.start[-1], seen.freed[-1])
        self._since[int(seen.thread), int(seen.port)] = since


def _line(loops: Loops, seen: _Seen) -> Line:
    calls, requests, came = loops.calls, loops.requests, seen.came
    upon = loops.find_calls(requests.after[came])
    place = np.full(len(calls) + 1, -1, np.int64)
    place[seen.waited] = np.arange(len(seen.waited))
    own = (upon != NONE) & (calls.owner[upon] == requests.span_id[came])
    own &= ~calls.doubtful[upon] & ~calls.counted[upon]
    last = np.where(upon != NONE, place[upon], -1)
    return Line(
        start=seen.start,
        answered=requests.first_byte[came],
        share=np.full(len(came), UNKNOWN, np.int64),
        last=last,
        elsewhere=own & (last < 0),
        freed=seen.freed,
        response=calls.first_byte[seen.waited],
        empty=seen.empty,
        begin=seen.since.freed,
        tight=seen.since.tight,
    )


def _name(loops: Loops, seen: _Seen, counts: Counts, which: Rows) -> None:
    calls = loops.calls
    owner = np.repeat(loops.requests.span_id[seen.came[which]], (counts.end - counts.begin)[which])
    at = seen.waited[_places(counts, which)]
    known = (calls.owner[at] != NOBODY) & ~calls.doubtful[at]
    known |= (calls.retro[at] != NOBODY) & ~calls.followed[at] & (calls.retro[at] != owner)
    at, owner = at[~known], owner[~known]
    calls.owner[at] = calls.step[at] = calls.awaited[at] = owner
    calls.rule[at] = LINE
    calls.in_line[at] = calls.counted[at] = True
    calls.shaky[at] = calls.doubtful[at] = calls.refuted[at] = False


def _places(counts: Counts, which: Rows) -> Rows:
    """In the line, of the calls of these requests."""
    begin, size = counts.begin[which], (counts.end - counts.begin)[which]
    places: Rows = np.arange(int(size.sum())) + np.repeat(begin - (np.cumsum(size) - size), size)
    return places


def _freed(calls: CallTable, rows: Rows) -> tuple[Rows, Ids, Ids, Ids]:
    """Calls that waited in the line, in the order of when their connections were set free; when; when a connection was
    set free for which no call waited; and when each was the last time."""
    rows = rows[np.lexsort((calls.start[rows], calls.conn[rows]))]
    conn, end = calls.conn[rows], calls.end[rows]
    again = np.append(False, conn[1:] == conn[:-1])[: len(rows)]
    drawn = calls.kind[rows] < APART
    before = np.append(np.uint64(0), end[:-1])[: len(rows)]
    freed = np.where(again, before, calls.start[rows])[drawn]
    order = np.argsort(freed, kind="stable")
    last = ~np.append(again[1:], False)[: len(rows)]
    return rows[drawn][order], freed[order], before[again & ~drawn], end[last]


def _times(asked: Ids, values: Ids) -> Ids:
    """(n,) how often each of `asked` is among the values."""
    values = np.sort(values)
    return (np.searchsorted(values, asked, "right") - np.searchsorted(values, asked)).astype(np.uint64)


def _rank(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """(m,) how many of the same group are before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    begins = np.searchsorted(ordered, ordered)
    rank = np.empty(len(groups), np.intp)
    rank[order] = np.arange(len(groups)) - begins
    return rank
