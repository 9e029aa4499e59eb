"""The service graph: every exchange is one edge, whichever of its ends were seen, and whenever they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_ebpf.config.rules import PeerAlias
from otel_ebpf.metrics.graph import ServiceGraph
from otel_ebpf.metrics.graph_series import FAILED, HISTOGRAMS, TOTAL
from otel_ebpf.metrics.instruments import GRAPH_BOUNDS
from otel_ebpf.metrics.points import Collection, Temporality
from otel_ebpf.model import Attributes, Endpoint, Flag, Kind, Resource, Spans
from otel_ebpf.otlp.metrics import encode
from otel_ebpf.protocols.base import Fields, Side
from otel_ebpf.resource.aliases import Aliases
from otel_ebpf.tracing.assemble import Assembler
from tests.unit.otlp_twin import Row, Tables, spans_of
from tests.unit.tracing_world import MS, Host, spans
from tests.unit.tracing_world import Row as WorldRow

if TYPE_CHECKING:
    from typing_extensions import Unpack

AGENT = Resource("otel-ebpf", (("service.name", "otel-ebpf"),))
OK, REFUSED, BROKEN, REDIS, NAMED, PUBLISH = range(6)
"""Shapes."""
HERE, FAR, UNIX, V6, ALIASED = range(5)
"""Endpoints."""
SERVICES = ("shop", "cart", "billing")
ERROR: Attributes = (("error.type", "500"),)


def tables_of() -> Tables:
    tables = Tables()
    host: Attributes = (("server.address", "api.test"), ("server.port", 8443))
    redis: Attributes = (("db.system.name", "redis"), ("db.operation.name", "SET"))
    queue: Attributes = (("messaging.system", "kafka"),)
    plain = Side("GET", (), ())
    for shape in (
        Fields("http", plain, plain, "200"),
        Fields("http", plain, Side("GET", ERROR, (), error=True), "404"),
        Fields("http", Side("GET", ERROR, (), error=True), Side("GET", ERROR, (), error=True), "500"),
        Fields("redis", Side("SET", redis, ()), Side("SET", redis, ())),
        Fields("http", Side("GET", host, (), addressed=True), Side("GET", host, (), addressed=True), "200"),
        Fields("kafka", Side("send", queue, ()), Side("send", queue, ())),
    ):
        tables.shapes.id(shape)

    def peer(address: str, port: int, *more: tuple[str, str]) -> Endpoint:
        always: Attributes = (("network.peer.address", address), ("client.address", address), *more)
        return Endpoint(always, (("server.address", address), ("server.port", port)))

    for endpoint in (
        peer("127.0.0.1", 6379),
        peer("10.0.0.9", 80),
        Endpoint((("network.transport", "unix"),), ()),
        peer("fd00::1", 5432),
        peer("10.0.0.8", 80, ("service.peer.name", "ledger")),
    ):
        tables.endpoints.id(endpoint)
    for name in SERVICES:
        tables.resources.id(Resource(name, (("service.name", name),)))
    return tables


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * 10**9

    def __call__(self) -> int:
        return self.now

    def after(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


class Options(TypedDict, total=False):
    """What a test may ask of `ServiceGraph` beside tables and clock."""

    aliases: Aliases
    addresses: int
    temporality: Temporality
    max_series: int
    idle_ns: int


def graph_of(tables: Tables, clock: Callable[[], int] | None = None, **options: Unpack[Options]) -> ServiceGraph:
    return ServiceGraph(*tables.all(), now=clock or Clock(), **options)


def totals_of(collection: Collection) -> dict[Attributes, int]:
    return {point.attributes: point.value for point in collection.sums[AGENT].get(TOTAL, [])}


def failures_of(collection: Collection) -> dict[Attributes, int]:
    return {point.attributes: point.value for point in collection.sums[AGENT].get(FAILED, []) if point.value}


def sums_of(collection: Collection, end: int) -> dict[Attributes, float]:
    return {point.attributes: point.sum for point in collection.points[AGENT].get(HISTOGRAMS[end], [])}


def edge(client: str, server: str, kind: str = "", *more: tuple[str, str]) -> Attributes:
    return (("client", client), ("server", server), ("connection_type", kind), *more)


def alone(graph: ServiceGraph, row: Row) -> Attributes:
    """The edge that a row makes whose other end is on another host."""
    batch = spans_of([row])
    batch.pair[:] = batch.conn[:] = 7
    graph.record(batch, np.array([-1]), 0)
    graph.finish()
    (attributes,) = totals_of(graph.collect(AGENT))
    return attributes


# ---- every exchange once ----


@dataclass
class Truth:
    """What is to be counted."""

    requests: Counter[Attributes] = field(default_factory=Counter)
    failed: Counter[Attributes] = field(default_factory=Counter)
    client_ns: Counter[Attributes] = field(default_factory=Counter)
    server_ns: Counter[Attributes] = field(default_factory=Counter)

    def add(self, attributes: Attributes, *, failed: bool, client: WorldRow | None, server: WorldRow | None) -> None:
        self.requests[attributes] += 1
        if failed:
            self.failed[attributes] += 1
        for row, spent in ((client, self.client_ns), (server, self.server_ns)):
            if row is not None:
                spent[attributes] += row["end"] - row["start"]


WAYS = (
    *("joined", "bare", "unix", "first", "late", "too late"),
    *("call", "request", "near call", "near request", "unread call"),
)
"""What is seen of an exchange. Of both ends: joined: with payload; bare: the client's without; unix: without numbers;
first: before the kernel knew that the server is near; late: the server's when the client's has long been released. Or
of one end; near: the other one is on this host, but was lost."""

wires = st.lists(
    st.tuples(
        st.sampled_from(WAYS),
        st.sampled_from([OK, REFUSED, BROKEN]),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.integers(0, 3000),
        st.tuples(st.integers(0, 500), st.integers(0, 500)),
    ),
    max_size=25,
)


@settings(max_examples=80)
@given(wires)
def test_every_exchange_is_counted_once(drawn: list[tuple[str, int, tuple[int, int], int, tuple[int, int]]]) -> None:
    """Given exchanges of which any ends were seen, in whatever batches they come, then each is one edge."""
    host, truth, arrivals = Host(), Truth(), list[tuple[int, WorldRow]]()
    processes = [host.process() for _ in SERVICES]
    for way, shape, (caller, callee), start, (client_delay, server_delay) in drawn:
        client, server = processes[caller], processes[callee]
        joined = edge(SERVICES[caller], SERVICES[callee])
        to_peer = edge(SERVICES[caller], "10.0.0.9", "virtual_node")
        from_peer = edge("10.0.0.9", SERVICES[callee], "virtual_node")
        call, request = host.exchange(
            client, server, start, start + 40, unix=way == "unix", head=way in ("bare", "unread call"), shape=shape
        )
        refused, broken = shape in (REFUSED, BROKEN), shape == BROKEN
        if way == "first":
            call["flags"] &= ~int(Flag.PEER)
        if way in ("call", "request"):
            for row in (call, request):
                row["pair"], row["flags"] = row["conn"], row["flags"] & ~int(Flag.PEER)
        server_delay += {"first": 400, "late": 3000, "too late": 20_000}.get(way, 0)
        if way not in ("request", "near request"):
            arrivals.append((call["end"] + client_delay * MS, call))
        if way not in ("call", "near call", "unread call"):
            arrivals.append((request["end"] + server_delay * MS, request))
        if way in ("call", "near call", "too late"):
            truth.add(to_peer, failed=refused, client=call, server=None)
        elif way in ("request", "near request"):
            truth.add(from_peer, failed=broken, client=None, server=request)
        elif way != "unread call":
            truth.add(joined, failed=refused, client=call, server=request)

    tables = tables_of()
    graph = graph_of(tables)
    deliver(graph, arrivals, {process.pid: i for i, process in enumerate(processes)})

    collection = graph.collect(AGENT)
    assert totals_of(collection) == truth.requests
    assert failures_of(collection) == truth.failed
    for end, spent in enumerate((truth.client_ns, truth.server_ns)):
        assert sums_of(collection, end) == pytest.approx({key: ns / 1e9 for key, ns in spent.items()})
    assert graph.already_counted == sum(way == "too late" for way, *_ in drawn)
    assert graph.waiting == 0


def deliver(graph: ServiceGraph, arrivals: list[tuple[int, WorldRow]], resources: dict[int, int]) -> None:
    """Feed the rows as they come, ten times a second, and once a second when only the latest are still to come."""
    assembler = Assembler(random=np.random.default_rng(7).bytes)
    left = sorted(arrivals, key=lambda arrival: arrival[0])
    for now in (*range(0, 8000 * MS, 100 * MS), *range(8000 * MS, 30_000 * MS, 1000 * MS)):
        due = [row for at, row in left if at <= now]
        left = left[len(due) :]
        batch = spans(due)
        batch.resource[:] = [resources[row["tgid"]] for row in due]
        batch.endpoint[:] = FAR
        decided = assembler.feed(batch, now)
        graph.record(decided, assembler.mates, now)
    assert not left
    decided = assembler.flush()
    graph.record(decided, assembler.mates, 30_000 * MS)
    graph.finish()


def test_mates_are_told_for_the_rows_of_a_batch_in_both_directions() -> None:
    host = Host()
    client, server = host.process(), host.process()
    rows = [*host.exchange(client, server, 1, 9), host.call(client, 20, 30), *host.exchange(client, server, 40, 50)]
    assembler = Assembler(random=np.random.default_rng(7).bytes)
    decided = assembler.feed(spans(rows), 10_000 * MS)
    ids = decided.span_id.tolist()
    found = {ids[i]: ids[mate] for i, mate in enumerate(assembler.mates.tolist()) if mate >= 0}
    assert found == {1: 2, 2: 1, 4: 5, 5: 4}
    assert len(assembler.feed(Spans.empty(), 10_100 * MS)) == len(assembler.mates) == 0


def test_waiting_ends_are_bounded_and_those_that_make_room_are_counted() -> None:
    tables = tables_of()
    graph = graph_of(tables)
    graph._near._limit = 100
    for number in range(3):
        batch = spans_of([Row(kind=Kind.CLIENT, endpoint=FAR, span_id=100 * number + i + 1) for i in range(80)])
        batch.flags[:] = int(Flag.PEER)
        graph.record(batch, np.full(80, -1), number)
    assert graph.hurried == 160
    assert graph.waiting == 80
    assert totals_of(graph.collect(AGENT)) == {edge("shop", "10.0.0.9", "virtual_node"): 160}


# ---- names ----


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # the address, with the port unless that is the protocol's usual one
        (Row(shape=OK, endpoint=FAR, kind=Kind.CLIENT), edge("shop", "10.0.0.9", "virtual_node")),
        (Row(shape=OK, endpoint=HERE, kind=Kind.CLIENT), edge("shop", "127.0.0.1:6379", "virtual_node")),
        (Row(shape=OK, endpoint=V6, kind=Kind.CLIENT), edge("shop", "[fd00::1]:5432", "virtual_node")),
        # the name that the client sent
        (Row(shape=NAMED, endpoint=FAR, kind=Kind.CLIENT), edge("shop", "api.test:8443", "virtual_node")),
        # what the protocol says of the server
        (
            Row(shape=REDIS, endpoint=HERE, kind=Kind.CLIENT),
            edge("shop", "127.0.0.1:6379", "database", ("client_db.system.name", "redis")),
        ),
        (Row(shape=PUBLISH, endpoint=HERE, kind=Kind.CLIENT), edge("shop", "127.0.0.1:6379", "messaging_system")),
        # the user's word
        (Row(shape=OK, endpoint=ALIASED, kind=Kind.CLIENT), edge("shop", "ledger", "virtual_node")),
        (Row(shape=OK, endpoint=ALIASED), edge("ledger", "shop", "virtual_node")),
        # clients: the port says nothing
        (Row(shape=OK, endpoint=FAR), edge("10.0.0.9", "shop", "virtual_node")),
        (
            Row(shape=REDIS, endpoint=FAR),
            edge("10.0.0.9", "shop", "virtual_node", ("server_db.system.name", "redis")),
        ),
        # nothing is known, nothing is made up
        (Row(shape=OK, endpoint=UNIX, kind=Kind.CLIENT), edge("shop", "unknown", "virtual_node")),
        (Row(shape=OK, endpoint=-1, kind=Kind.CLIENT), edge("shop", "unknown", "virtual_node")),
        (Row(shape=OK, endpoint=UNIX), edge("user", "shop", "virtual_node")),
        (Row(shape=OK, endpoint=99), edge("user", "shop", "virtual_node")),
    ],
)
def test_an_end_that_was_not_seen_is_named_by_what_is_known_of_it(row: Row, expected: Attributes) -> None:
    assert alone(graph_of(tables_of()), row) == expected


def test_an_alias_fits_the_host_that_the_client_named() -> None:
    graph = graph_of(tables_of(), aliases=Aliases([PeerAlias("*.test:8443", "partner")]))
    assert alone(graph, Row(shape=NAMED, endpoint=FAR, kind=Kind.CLIENT)) == edge("shop", "partner", "virtual_node")


def test_clients_beyond_the_limit_of_addresses_are_users_and_counted() -> None:
    tables = tables_of()
    graph = graph_of(tables, addresses=1)
    assert alone(graph, Row(endpoint=FAR)) == edge("10.0.0.9", "shop", "virtual_node")
    batch = spans_of([Row(endpoint=HERE), Row(endpoint=FAR), Row(endpoint=ALIASED)])
    graph.record(batch, np.full(3, -1), 0)
    clients = {dict(attributes)["client"]: value for attributes, value in totals_of(graph.collect(AGENT)).items()}
    assert clients == {"10.0.0.9": 2, "user": 1, "ledger": 1}
    assert graph.ends.unnamed == 1


# ---- series ----


def test_of_a_database_whose_end_was_not_seen_the_clients_time_stands_for_the_servers() -> None:
    graph = graph_of(tables_of())
    rows = [Row(shape=s, kind=Kind.CLIENT, endpoint=FAR, start=0, end=3 * MS) for s in (REDIS, OK)]
    batch = spans_of(rows)
    batch.conn[:] = batch.pair[:] = 1
    graph.record(batch, np.full(2, -1), 0)
    graph.finish()
    collection = graph.collect(AGENT)
    assert sorted(sums_of(collection, 0).values()) == [0.003, 0.003]
    assert sums_of(collection, 1) == {
        edge("shop", "10.0.0.9:80", "database", ("client_db.system.name", "redis")): 0.003
    }


def test_edges_beyond_the_cap_are_counted_together() -> None:
    tables = tables_of()
    graph = graph_of(tables, max_series=3)
    endpoints = [tables.endpoints.id(Endpoint((("client.address", f"10.1.0.{i}"),), ())) for i in range(10)]
    for _ in range(2):
        graph.record(spans_of([Row(endpoint=endpoint) for endpoint in endpoints]), np.full(10, -1), 0)
    totals = totals_of(graph.collect(AGENT))
    assert totals.pop((("otel.metric.overflow", True),)) == graph.series.overflowed == 14
    assert list(totals.values()) == [2, 2, 2]


@pytest.mark.parametrize("temporality", list(Temporality))
def test_an_idle_edge_is_dropped_and_starts_anew(temporality: Temporality) -> None:
    clock = Clock()
    graph = graph_of(tables_of(), clock, temporality=temporality, idle_ns=100 * 10**9, max_series=1, addresses=1)
    began = clock.now
    graph.record(spans_of([Row(endpoint=FAR)]), np.array([-1]), 0)
    clock.after(60)
    (first,) = graph.collect(AGENT).sums[AGENT][TOTAL]
    clock.after(60)
    graph.collect(AGENT)
    assert len(graph.series) == 0
    clock.after(60)
    graph.record(spans_of([Row(endpoint=HERE)] * 2), np.full(2, -1), 0)
    clock.after(60)
    (second,) = graph.collect(AGENT).sums[AGENT][TOTAL]
    assert (first.start, first.time, first.value) == (began, began + 60 * 10**9, 1)
    assert (second.attributes, second.value) == (edge("127.0.0.1", "shop", "virtual_node"), 2)
    assert second.start >= first.time


def test_with_delta_temporality_each_collection_counts_by_itself() -> None:
    clock = Clock()
    graph = graph_of(tables_of(), clock, temporality=Temporality.DELTA)
    values = []
    for count in (3, 0, 2):
        clock.after(10)
        if count:
            graph.record(spans_of([Row(shape=BROKEN, endpoint=FAR)] * count), np.full(count, -1), 0)
        collection = graph.collect(AGENT)
        values.append((list(totals_of(collection).values()), list(failures_of(collection).values())))
    assert values == [([3], [3]), ([], []), ([2], [2])]


def test_what_is_exported_is_in_tempos_form() -> None:
    graph = graph_of(tables_of())
    batch = spans_of([Row(kind=Kind.SERVER, resource=1, start=MS, end=6 * MS), Row(kind=Kind.CLIENT, end=7 * MS)])
    batch.start[1] = 0
    graph.record(batch, np.array([1, 0]), 0)
    (message,) = encode(graph.collect(AGENT))
    request = ExportMetricsServiceRequest.FromString(message.data)
    (of,) = request.resource_metrics
    assert [a.value.string_value for a in of.resource.attributes] == ["otel-ebpf"]
    metrics = {metric.name: metric for metric in of.scope_metrics[0].metrics}
    labels = {"client": "shop", "server": "cart", "connection_type": ""}
    for name, value in (("traces_service_graph_request_total", 1), ("traces_service_graph_request_failed_total", 0)):
        (number,) = metrics[name].sum.data_points
        assert metrics[name].sum.is_monotonic
        assert number.as_int == value
        assert {a.key: a.value.string_value for a in number.attributes} == labels
    for end, seconds in (("client", 0.007), ("server", 0.005)):
        metric = metrics[f"traces_service_graph_request_{end}_seconds"]
        (point,) = metric.histogram.data_points
        assert (metric.unit, point.count) == ("s", 1)
        assert point.sum == pytest.approx(seconds)
        assert tuple(point.explicit_bounds) == GRAPH_BOUNDS
        assert not point.HasField("min")
        assert {a.key: a.value.string_value for a in point.attributes} == labels
    assert message.items == 4


def test_rows_that_nobody_understood_are_no_edges() -> None:
    graph = graph_of(tables_of())
    for shape in (-1, -2, 99):
        batch = spans_of([Row(shape=shape), Row(shape=shape, kind=Kind.CLIENT)])
        graph.record(batch, np.array([1, 0]), 0)
        graph.record(batch, np.array([-1, -1]), 0)
    graph.record(Spans.empty(), np.zeros(0, np.intp), 0)
    graph.finish()
    assert len(graph.collect(AGENT)) == 0


def test_of_a_pair_one_understood_end_is_enough() -> None:
    graph = graph_of(tables_of())
    batch = spans_of([Row(shape=-2, resource=1), Row(shape=REFUSED, kind=Kind.CLIENT)])
    graph.record(batch, np.array([1, 0]), 0)
    collection = graph.collect(AGENT)
    assert totals_of(collection) == failures_of(collection) == {edge("shop", "cart"): 1}
