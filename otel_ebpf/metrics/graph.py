"""The service graph of all exchanges, whatever the sampling: who calls whom, how often, how slowly, how often in vain.

Theory of operation. An exchange is one edge, however many of its ends were seen, and is counted once:

- Both ends in one batch (the assembler says which rows are mates): the edge has both services and both durations.
- A client's end whose server's is not in the batch: it waits (`Waiting`) for a server's end that is joined to it after
  it was released, and names it as its parent; for long if the kernel has said that the server is on this host, shortly
  else: at a connection's first request the kernel may not know that yet. What waits in vain is an edge to a server that
  was not seen. A server's end that was joined to a client which waits no longer has been counted by that already.
- Any other server's end: the client was not seen, and is named as `Ends` says.

Of which series an edge is depends on few ids (both resources, both shapes, the endpoint where an end is missing): each
combination is resolved once, in Python, and remembered; a batch is then counted by `bincount` over combination and
bucket. Series are bounded: what comes beyond is counted in one more, with `otel.metric.overflow=true`. A series that
nothing was counted in for `idle_ns` is dropped. An edge has failed if the status of either of its spans is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.combinations import distinct_rows
from otel_ebpf.metrics.durations import IDLE_NS, MAX_SERIES
from otel_ebpf.metrics.graph_ends import Ends
from otel_ebpf.metrics.graph_series import CLIENT, SERVER, EdgeSeries
from otel_ebpf.metrics.graph_waiting import Callers, Waiting
from otel_ebpf.metrics.points import Collection, Temporality
from otel_ebpf.model import Endpoint, Flag, Intern, Kind, Link, Resource, Spans
from otel_ebpf.protocols.base import Fields
from otel_ebpf.resource.aliases import Aliases

T = TypeVar("T", Fields, Endpoint, Resource)
Rows = NDArray[np.intp]
Ids = NDArray[np.int32]
Nanoseconds = NDArray[np.uint64]

WAIT_NS, WAIT_SHORTLY_NS = 7 * 10**9, 2 * 10**9
ADDRESSES = 200
_REMEMBERED = 1 << 14
"""Combinations of ids that are remembered; then all are resolved again."""
_SERVER, _CONNECTION, _PEER = np.uint8(Kind.SERVER), np.uint8(Link.CONNECTION), np.uint32(Flag.PEER)
_NOBODY = -1
_BOTH, _CLIENT_ALONE, _SERVER_ALONE = range(3)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a combination of ids stands for. series: _NOBODY = it says nothing."""

    series: int
    failed: bool
    database: bool


class ServiceGraph:
    """Counts edges. now: Unix ns, for start times; all other times are CLOCK_MONOTONIC ns.

    already_counted: server's ends that came so late that their client's had been counted as one without.

    >>> graph = ServiceGraph(shapes, endpoints, resources)
    >>> graph.record(spans, mates, now)
    >>> graph.collect(agent)
    """

    def __init__(
        self,
        shapes: Intern[Fields],
        endpoints: Intern[Endpoint],
        resources: Intern[Resource],
        *,
        aliases: Aliases | None = None,
        addresses: int = ADDRESSES,
        temporality: Temporality = Temporality.CUMULATIVE,
        max_series: int = MAX_SERIES,
        idle_ns: int = IDLE_NS,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.already_counted = 0
        self.ends = Ends(aliases or Aliases(), addresses)
        self._near, self._far = Waiting(WAIT_NS), Waiting(WAIT_SHORTLY_NS)
        self.series = EdgeSeries(temporality, max_series, idle_ns, now)
        self._shapes, self._endpoints, self._resources = shapes, endpoints, resources
        self._remembered: dict[tuple[int, ...], _Known] = {}

    @property
    def waiting(self) -> int:
        """Client's ends that wait."""
        return len(self._near) + len(self._far)

    @property
    def hurried(self) -> int:
        """Those that had to make room for others."""
        return self._near.hurried + self._far.hurried

    def record(self, spans: Spans, mates: Rows, now: int) -> None:
        """Count a batch of decided rows. mates: (n,) row of the other end of each exchange, -1: it is not there."""
        if len(spans):
            server = spans.kind == _SERVER
            joined = mates >= 0
            self._record_pairs(spans, (server & joined).nonzero()[0], mates)
            if not joined.all():
                self._record_servers(spans, (server & ~joined).nonzero()[0])
                self._record_clients(spans, (~server & ~joined).nonzero()[0], now)
        self.expire(now)

    def expire(self, now: int) -> None:
        """Count the client's ends that have waited in vain."""
        for waiting in (self._near, self._far):
            if len(waiting):
                self._record_callers(waiting.give_up(now))

    def finish(self) -> None:
        """Nothing more will come."""
        for waiting in (self._near, self._far):
            self._record_callers(waiting.flush())

    def collect(self, observer: Resource) -> Collection:
        """All edges as points of the resource of who saw them; with delta temporality they begin anew."""
        collection, dropped = self.series.collect(observer)
        if dropped:
            self._remembered.clear()
            self.ends.forget()
        return collection

    # ---- which ends make an edge ----

    def _record_pairs(self, spans: Spans, servers: Rows, mates: Rows) -> None:
        if not len(servers):
            return
        clients = mates[servers]
        called, served = spans.shape[clients], spans.shape[servers]
        understood = np.maximum(called, served) >= 0
        if not understood.all():
            servers, clients = servers[understood], clients[understood]
            called, served = called[understood], served[understood]
        ids = [spans.resource[clients], spans.resource[servers], called, served - called]
        self._count(_BOTH, ids, _duration(spans, clients), _duration(spans, servers))

    def _record_servers(self, spans: Spans, rows: Rows) -> None:
        late = spans.link[rows] == _CONNECTION
        if late.any():
            self._complete(spans, rows[late])
            rows = rows[~late]
        rows = rows[spans.shape[rows] >= 0]
        ids = [spans.resource[rows], spans.shape[rows], spans.endpoint[rows]]
        self._count(_SERVER_ALONE, ids, None, _duration(spans, rows))

    def _complete(self, spans: Spans, rows: Rows) -> None:
        """Server's ends that were joined to a client's end of an earlier batch: their parent."""
        for waiting in (self._near, self._far):
            which, callers = waiting.take(spans.parent[rows])
            if callers is not None:
                self._record_completed(spans, rows[which], callers)
                rows = np.delete(rows, which)
        self.already_counted += len(rows)

    def _record_completed(self, spans: Spans, rows: Rows, callers: Callers) -> None:
        called, served = callers.shape, spans.shape[rows]
        understood = np.maximum(called, served) >= 0
        ids = [callers.resource, spans.resource[rows], called, served - called]
        durations = callers.nanoseconds, _duration(spans, rows)
        self._count(_BOTH, [column[understood] for column in ids], *(column[understood] for column in durations))

    def _record_clients(self, spans: Spans, rows: Rows, now: int) -> None:
        near = ((spans.flags[rows] & _PEER) != 0) | (spans.pair[rows] != spans.conn[rows])
        self._near.put(_callers(spans, rows[near]), now)
        self._far.put(_callers(spans, rows[~near]), now)

    def _record_callers(self, callers: Callers | None) -> None:
        if callers is None:
            return
        callers = callers.take(callers.shape >= 0)
        ids = [callers.resource, callers.shape, callers.endpoint]
        self._count(_CLIENT_ALONE, ids, callers.nanoseconds, None)

    # ---- which series an edge belongs to ----

    def _count(self, kind: int, ids: list[Ids], client: Nanoseconds | None, server: Nanoseconds | None) -> None:
        """Count n edges of one kind. ids: what tells them apart, (n,) each. client, server: durations, None: unseen."""
        if not len(ids[0]):
            return
        of, first = distinct_rows(ids)
        combinations = zip(*(column[first].tolist() for column in ids), strict=True)
        known = [self._find(kind, combination) for combination in combinations]
        series = np.array([one.series for one in known], np.intp)
        failed = np.array([one.failed for one in known], np.bool_)
        self.series.add(series, failed, of, np.bincount(of, minlength=len(known)))
        if client is not None:
            self.series.observe(CLIENT, series, of, client)
            if kind == _CLIENT_ALONE:
                # A database is taken not to report spans of its own: the client's time stands for it (as in Tempo).
                series = np.where([one.database for one in known], series, _NOBODY)
                server = client if (series != _NOBODY).any() else None
        if server is not None:
            self.series.observe(SERVER, series, of, server)

    def _find(self, kind: int, ids: tuple[int, ...]) -> _Known:
        key = (kind, *ids)
        known = self._remembered.get(key)
        if known is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            known = self._remembered[key] = self._resolve(kind, ids)
        return known

    def _resolve(self, kind: int, ids: tuple[int, ...]) -> _Known:
        if kind == _BOTH:
            callers, servers, calls, apart = ids  # mostly both ends have the same shape: their difference costs nothing
            called, served = _item(self._shapes, calls), _item(self._shapes, calls + apart)
            if called is None and served is None:
                return _Known(_NOBODY, False, False)
            attributes = self.ends.both(self._service(callers), self._service(servers), called, served)
            failed = (called is not None and called.client.error) or (served is not None and served.server.error)
            return _Known(self.series.row(attributes), failed, False)
        shape, endpoint = _item(self._shapes, ids[1]), _item(self._endpoints, ids[2])
        if shape is None:  # forgotten while its rows were held
            return _Known(_NOBODY, False, False)
        if kind == _CLIENT_ALONE:
            attributes = self.ends.of_client(self._service(ids[0]), shape, endpoint)
            database = dict(attributes)["connection_type"] == "database"
            return _Known(self.series.row(attributes), shape.client.error, database)
        attributes = self.ends.of_server(self._service(ids[0]), shape, endpoint)
        return _Known(self.series.row(attributes), shape.server.error, False)

    def _service(self, resource: int) -> str:
        found = _item(self._resources, resource)
        return found.service if found is not None else ""


def _item(table: Intern[T], number: int) -> T | None:
    """The item; None for a negative id, and for one that the table has forgotten."""
    try:
        return table[number]
    except KeyError:
        return None


def _duration(spans: Spans, rows: Rows) -> Nanoseconds:
    start = spans.start[rows]
    duration: Nanoseconds = np.maximum(spans.end[rows], start)
    duration -= start
    return duration


def _callers(spans: Spans, rows: Rows) -> Callers:
    ids = spans.resource[rows], spans.shape[rows], spans.endpoint[rows]
    return Callers(spans.span_id[rows], *ids, _duration(spans, rows))
