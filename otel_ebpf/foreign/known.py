"""The memory of foreign spans, and which exchange each of them tells of: bounded in rows and in time.

What makes a match. Of a request: the context that it carried is the span's parent (exact); or the span names the
client's port, and began while the exchange went on (a connection carries one request at a time); or, where neither is
told, it is the only span of its process that began then, and the exchange the only one. Of a call without a context:
the span is a client's of the same trace and port (or system) that encloses it in time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.foreign.spans import CLIENT, PRODUCER, SERVER, ForeignSpans
from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.keys import groups
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.queues import how_many

NONE = -1
LIMIT = 1 << 16
KEEP_NS = 60 * 10**9
TOLERANCES_NS = (100_000, 2_500_000)
"""By how much a span may begin before its exchange: clocks agree to some µs; those of JavaScript tick in ms."""
_EXACT_NS = (*TOLERANCES_NS, 10**9)
"""Where the context tells, clocks need not."""
SETTLED_NS = 2 * 10**9
"""After so long all exchanges of a time have come."""
_TIME_BITS = np.uint64(44)
_TIME_MASK = (np.uint64(1) << _TIME_BITS) - np.uint64(1)
_SECRET = np.frombuffer(os.urandom(8), np.uint64)
"""So that no process can make its spans' keys those of another's."""


@dataclass(slots=True)
class Found:
    """For each of n exchanges the span that tells of it; index into `Known.spans`, or NONE.

    covered: (n,) it is told of, though it may not be known by which of several spans.
    """

    span: NDArray[np.intp]
    covered: NDArray[np.bool_]


class Known:
    """Spans as they were heard of, at most 65,536. places: of their processes; who has them forgets."""

    def __init__(self, places: Places | None = None) -> None:
        self.spans = ForeignSpans.of(())
        self.forgotten = 0
        """spans that made room for others before their time"""
        self._heard: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._places = Places() if places is None else places
        self._told = self._places.column(np.uint64)

    def hear(self, spans: ForeignSpans, now: int) -> None:
        """More of them, at CLOCK_MONOTONIC `now`. What was heard already (a retry, a second exporter) counts once."""
        if len(spans):
            spans = spans.take(self._new(spans))
            np.maximum.at(self._told, self._places.take(spans.tgid), spans.end)
        kept = (self._heard + np.uint64(KEEP_NS)) > np.uint64(now)
        surplus = int(np.count_nonzero(kept)) + len(spans) - LIMIT
        if surplus > 0:
            rows = kept.nonzero()[0]
            kept[rows[_first_to_go(self.spans.tgid[rows], surplus)]] = False
            self.forgotten += surplus
            spans = spans.take(np.arange(max(len(spans) - LIMIT, 0), len(spans)))
        self.spans = ForeignSpans.concat([self.spans.take(kept), spans])
        self._heard = np.append(self._heard[kept], np.full(len(spans), now, np.uint64))

    def _new(self, spans: ForeignSpans) -> NDArray[np.intp]:
        """(m,) which of them, each once, were not heard of."""
        _, first = np.unique(_identity(spans), return_index=True)
        first.sort()
        before = self.spans.take(np.isin(self.spans.tgid, np.unique(spans.tgid)))
        found: NDArray[np.intp] = first[~np.isin(_identity(spans)[first], _identity(before))]
        return found

    def told(self, tgid: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """(n,) latest end of a span that each process exported; 0: it exports nothing that can be read."""
        ends: NDArray[np.uint64] = self._told[self._places.of(tgid)]
        return ends

    def disown(self, tgid: NDArray[np.uint32]) -> None:
        """What these processes told is not about themselves."""
        kept = ~np.isin(self.spans.tgid, tgid)
        self.spans, self._heard = self.spans.take(kept), self._heard[kept]
        self._told[self._places.of(tgid)] = 0

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes ended, or execute another program."""
        self._places.forget(tgid)

    def requests(
        self,
        tgid: NDArray[np.uint32],
        start: NDArray[np.uint64],
        end: NDArray[np.uint64],
        port: NDArray[np.uint16],
        trace: NDArray[np.uint64],
        parent: NDArray[np.uint64],
        now: int,
    ) -> NDArray[np.intp]:
        """(n,) the server span that tells of each request. port: of its client. trace, parent: the context it had."""
        found = np.full(len(tgid), NONE, np.intp)
        servers = self._of(tgid, start, self.spans.kind == SERVER)
        carries = parent != 0
        spans = self.spans
        if len(servers) and carries.any():
            rows = carries.nonzero()[0]
            keys = _context(spans.tgid[servers], spans.trace[servers], spans.parent[servers])
            self._fill(
                found, rows, _context(tgid[rows], trace[rows], parent[rows]), servers, keys, start, end, _EXACT_NS
            )
        rows = ((found == NONE) & (port != 0)).nonzero()[0]
        free = np.setdiff1d(servers[spans.port[servers] != 0], found)
        if len(rows) and len(free):
            keys = _key(spans.tgid[free], spans.port[free])
            self._fill(found, rows, _key(tgid[rows], port[rows]), free, keys, start, end)
        # Neither is told: only if there is nobody else, and nobody can come any more.
        rows = ((found == NONE) & ~carries).nonzero()[0]
        settled = (spans.port[servers] == 0) & (spans.parent[servers] == 0)
        settled &= spans.end[servers] + np.uint64(SETTLED_NS) < np.uint64(now)
        free = np.setdiff1d(servers[settled], found)
        if len(rows) and len(free):
            everybody = found.copy()
            self._fill(
                everybody, rows, tgid[rows].astype(np.uint64), free, spans.tgid[free].astype(np.uint64), start, end
            )
            alone = _once_within(tgid, start, end, spans.tgid, spans.start, everybody, rows)
            found[rows[alone]] = everybody[rows[alone]]
        return found

    def calls(
        self,
        tgid: NDArray[np.uint32],
        start: NDArray[np.uint64],
        end: NDArray[np.uint64],
        port: NDArray[np.uint16],
        protocol: NDArray[np.uint8],
        trace: NDArray[np.uint64],
    ) -> Found:
        """The client span that encloses each call. port: of its server. trace: (n, 2) the call's; zero: not known."""
        n = len(tgid)
        found = Found(np.full(n, NONE, np.intp), np.zeros(n, np.bool_))
        spans = self.spans
        clients = self._of(tgid, start, (spans.kind == CLIENT) | (spans.kind == PRODUCER))
        if not len(clients) or not n:
            return found
        in_trace = (trace != 0).any(axis=1)
        for by_port in (True, False):
            told = clients[(spans.port[clients] != 0) == by_port]
            towards = port if by_port else protocol
            said = spans.port if by_port else spans.protocol
            for rows, with_trace in ((in_trace.nonzero()[0], True), ((~in_trace).nonzero()[0], False)):
                rows = rows[(found.span[rows] == NONE) & (towards[rows] != 0)]
                if len(rows) and len(told):
                    halves = (0, 1) if with_trace else ()
                    mine = _key(tgid[rows], towards[rows], *(trace[rows, half] for half in halves))
                    theirs = _key(spans.tgid[told], said[told], *(spans.trace[told, half] for half in halves))
                    self._enclose(found, rows, mine, told, theirs, start, end)
        return found

    def _of(self, tgid: NDArray[np.uint32], start: NDArray[np.uint64], kind: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Spans of these processes that did not end before the first of the exchanges began."""
        if not len(tgid) or not len(self.spans):
            return np.zeros(0, np.intp)
        lead = np.uint64(_EXACT_NS[-1])
        possible = (kind & (self.spans.end + lead >= start.min())).nonzero()[0]
        own: NDArray[np.intp] = possible[np.isin(self.spans.tgid[possible], tgid)]
        return own

    def _fill(
        self,
        found: NDArray[np.intp],
        rows: NDArray[np.intp],
        wanted: NDArray[np.uint64],
        spans: NDArray[np.intp],
        keys: NDArray[np.uint64],
        start: NDArray[np.uint64],
        end: NDArray[np.uint64],
        tolerances: Sequence[int] = TOLERANCES_NS,
    ) -> None:
        """Write the only span with the wanted key that began while the row's exchange went on."""
        began = self.spans.start[spans]
        order, combined, distinct, origin = _sorted(keys, began, end[rows])
        group = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
        known = distinct[group] == wanted
        high = group.astype(np.uint64) << _TIME_BITS
        last = np.searchsorted(combined, high | _clock(end[rows], origin), "right")
        for tolerance in tolerances:
            begin = _clock(np.maximum(start[rows], np.uint64(tolerance)) - np.uint64(tolerance), origin)
            first = np.searchsorted(combined, high | begin)
            # What began before all that is known is clipped to the first of them: its own time must tell.
            only = known & (last - first == 1) & (found[rows] == NONE)
            span = spans[order[np.minimum(first, len(order) - 1)]]
            only &= self.spans.start[span] <= end[rows]
            only &= self.spans.start[span] + np.uint64(tolerance) >= start[rows]
            # Two exchanges that would have the same span have none.
            span, several = span[only], np.bincount(span[only], minlength=1)
            found[rows[only]] = np.where(several[span] == 1, span, NONE) if len(span) else span

    def _enclose(
        self,
        found: Found,
        rows: NDArray[np.intp],
        wanted: NDArray[np.uint64],
        spans: NDArray[np.intp],
        keys: NDArray[np.uint64],
        start: NDArray[np.uint64],
        end: NDArray[np.uint64],
    ) -> None:
        """Write the span with the wanted key that began last before the row, if it ended after it."""
        tolerance = np.uint64(TOLERANCES_NS[1])
        order, combined, distinct, origin = _sorted(keys, self.spans.start[spans], end[rows])
        group = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
        known = distinct[group] == wanted
        high = group.astype(np.uint64) << _TIME_BITS
        lead = np.where(start[rows] > tolerance, np.uint64(TOLERANCES_NS[0]), np.uint64(0))
        at = np.searchsorted(combined, high | _clock(start[rows] + lead, origin), "right") - 1

        def encloses(place: NDArray[np.intp]) -> NDArray[np.bool_]:
            span = spans[order[np.maximum(place, 0)]]
            inside: NDArray[np.bool_] = (place >= 0) & (combined[np.maximum(place, 0)] >> _TIME_BITS == group)
            inside &= known
            inside &= self.spans.start[span] <= start[rows] + tolerance
            inside &= self.spans.end[span] + tolerance >= end[rows]
            return inside

        holds, another = encloses(at), encloses(at - 1)
        found.covered[rows[holds | another]] = True
        last, before = (spans[order[np.maximum(place, 0)]] for place in (at, at - 1))
        exact = holds & (~another | (self.spans.parent[last] == self.spans.span[before]))  # one within the other
        found.span[rows[exact]] = spans[order[at[exact]]]


def _first_to_go(tgid: NDArray[np.uint32], surplus: int) -> NDArray[np.intp]:
    """(at most surplus,) rows, the oldest of the processes that have most of them: nobody makes others lose theirs.

    tgid: (n,) of rows, the oldest first.

    >>> _first_to_go(np.array([7, 9, 9, 9, 9, 7], np.uint32), 2)
    array([1, 2])
    """
    order = np.argsort(tgid, kind="stable")
    own = tgid[order]
    ends = np.searchsorted(own, own, "right")
    newer = np.empty(len(tgid), np.intp)
    newer[order] = ends - np.arange(len(own))
    return np.sort(np.argsort(-newer, kind="stable")[:surplus])


def _context(tgid: NDArray[np.uint32], trace: NDArray[np.uint64], parent: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _key(tgid, parent, trace[:, 0], trace[:, 1])


def _identity(spans: ForeignSpans) -> NDArray[np.uint64]:
    return _key(spans.tgid, spans.span, spans.trace[:, 0], spans.trace[:, 1])


def _key(tgid: NDArray[np.uint32], *columns: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """(n,) one number for what these columns say."""
    key = splitmix64(tgid ^ _SECRET)
    for column in columns:
        key = splitmix64(key ^ column)
    return key


def _sorted(
    keys: NDArray[np.uint64], times: NDArray[np.uint64], ends: NDArray[np.uint64]
) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64], np.uint64]:
    """Order by key and time; group number and time in one number, in that order; the distinct keys; origin of times.

    ends: (m,) of the exchanges: their times can be told apart, whatever spans say of when they began."""
    distinct, group = groups(keys)
    latest = ends.max()
    origin = np.maximum(times.min(), latest - np.minimum(latest, _TIME_MASK))
    combined = group.astype(np.uint64) << _TIME_BITS | _clock(times, origin)
    order = np.argsort(combined)
    return order, combined[order], distinct, origin


def _clock(time: NDArray[np.uint64], origin: np.uint64) -> NDArray[np.uint64]:
    """(n,) time since `origin` in 44 bits (4.9 hours of ns), clipped at both ends."""
    since: NDArray[np.uint64] = np.minimum(np.maximum(time, origin) - origin, _TIME_MASK)
    return since


def _once_within(
    tgid: NDArray[np.uint32],
    start: NDArray[np.uint64],
    end: NDArray[np.uint64],
    span_tgid: NDArray[np.uint32],
    span_start: NDArray[np.uint64],
    found: NDArray[np.intp],
    rows: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """(len(rows),) whether the span found for a row began within no other exchange of its process."""
    alone = found[rows] != NONE
    spans = found[rows[alone]]
    early = start - np.minimum(start, np.uint64(TOLERANCES_NS[1]))
    alone[alone] = how_many(tgid.astype(np.uint64), early, end, span_tgid[spans], span_start[spans]) == 1
    result: NDArray[np.bool_] = alone
    return result
