"""Duration histograms: what is exported equals what a loop over the spans counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_ebpf.combinations import Combinations
from otel_ebpf.metrics import DurationMetrics, HistogramPoint, Temporality
from otel_ebpf.metrics.durations import OVERFLOWS
from otel_ebpf.metrics.instruments import ALL_BOUNDS, DB_BOUNDS, HTTP_BOUNDS, instrument
from otel_ebpf.model import Attributes, Endpoint, Kind, Resource
from otel_ebpf.otlp import metrics as otlp_metrics
from otel_ebpf.protocols.base import Fields, Side
from tests.unit.otlp_twin import OFFSET, Row, Tables, spans_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

NAMES = {
    "http": ("http.server.request.duration", "http.client.request.duration"),
    "redis": ("", "db.client.operation.duration"),
    "dns": ("dns.lookup.duration", "dns.lookup.duration"),
}
ADDRESS: Attributes = (("server.address", "10.0.0.1"), ("server.port", 8080))
GET: Attributes = (("http.request.method", "GET"),)
SET: Attributes = (("db.operation.name", "SET"),)


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = OFFSET

    def __call__(self) -> int:
        return self.now

    def after(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


def tables_of() -> Tables:
    tables = Tables()
    tables.shapes.id(Fields("http", Side("GET /", GET, GET), Side("GET", GET, GET)))
    tables.shapes.id(Fields("redis", Side("SET", SET, SET), Side("SET", SET, SET)))
    tables.shapes.id(Fields("http", Side("GET /", GET, GET), Side("GET", GET, (*GET, *ADDRESS), addressed=True)))
    tables.shapes.id(Fields("smtp", Side("MAIL", (), ()), Side("MAIL", (), ())))
    tables.endpoints.id(Endpoint((("network.transport", "tcp"),), ADDRESS))
    tables.endpoints.id(Endpoint((("network.transport", "unix"),), (("server.address", "/run/x.sock"),)))
    for name in ("shop", "cart"):
        tables.resources.id(Resource(name, (("service.name", name),)))
    return tables


class Options(TypedDict, total=False):
    """What a test may ask of `DurationMetrics` beside the tables and the clock."""

    temporality: Temporality
    max_series: int
    idle_ns: int


def metrics_of(tables: Tables, clock: Callable[[], int] | None = None, **options: Unpack[Options]) -> DurationMetrics:
    return DurationMetrics(*tables.all(), names=NAMES, now=clock or Clock(), **options)


def points_of(metrics: DurationMetrics) -> dict[tuple[str, str, Attributes], HistogramPoint]:
    return {
        (resource.service, of.name, point.attributes): point
        for resource, by_instrument in metrics.collect(OFFSET).points.items()
        for of, points in by_instrument.items()
        for point in points
    }


def series_of(tables: Tables, row: Row) -> tuple[str, str, Attributes] | None:
    """The series that a row belongs to, in plain Python."""
    shape = tables.shapes[row.shape]
    client = row.kind == Kind.CLIENT
    name = NAMES.get(shape.protocol, ("", ""))[client]
    if not name:
        return None
    side = shape.client if client else shape.server
    attributes = side.metric
    if ".client." in name and not side.addressed and row.endpoint >= 0:
        attributes += tables.endpoints[row.endpoint].unless_addressed
    return (tables.resources[row.resource].service if row.resource >= 0 else "", name, attributes)


edges = st.sampled_from([round(bound * 1e9) + step for bound in ALL_BOUNDS for step in (-1, 0, 1)])
rows = st.builds(
    lambda start, duration, **fields: Row(start=start, end=start + duration, **fields),
    start=st.integers(0, 2**50),
    duration=st.one_of(edges, st.integers(0, 2 * 10**10)),
    shape=st.integers(0, 3),
    kind=st.sampled_from(Kind),
    endpoint=st.integers(-1, 1),
    resource=st.integers(-1, 1),
    span_id=st.integers(1, 2**64 - 1),
)


@settings(max_examples=100)
@given(st.lists(st.lists(rows, max_size=20), max_size=4))
def test_counts_sums_and_extremes_are_those_of_a_loop(batches: list[list[Row]]) -> None:
    tables = tables_of()
    metrics = metrics_of(tables)
    expected: dict[tuple[str, str, Attributes], list[int]] = {}
    for batch in batches:
        metrics.record(spans_of(batch))
        for row in batch:
            series = series_of(tables, row)
            if series is not None:
                expected.setdefault(series, []).append(row.end - row.start)

    points = points_of(metrics)

    assert points.keys() == expected.keys()
    for series, durations in expected.items():
        point, bounds = points[series], instrument(series[1]).bounds
        buckets = Counter(sum(d > round(bound * 1e9) for bound in bounds) for d in durations)
        assert point.buckets == tuple(buckets[i] for i in range(len(bounds) + 1))
        assert point.count == len(durations)
        assert math.isclose(point.sum, sum(durations) / 1e9)
        assert (point.min, point.max) == (min(durations) / 1e9, max(durations) / 1e9)


def test_boundaries_are_those_of_the_conventions() -> None:
    assert instrument("http.server.request.duration").bounds == HTTP_BOUNDS
    assert instrument("http.client.request.duration").bounds == HTTP_BOUNDS
    assert instrument("dns.lookup.duration").bounds == HTTP_BOUNDS
    assert instrument("db.client.operation.duration").bounds == DB_BOUNDS
    assert HTTP_BOUNDS == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert DB_BOUNDS == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def test_rows_without_a_shape_are_not_counted() -> None:
    metrics = metrics_of(tables_of())
    metrics.record(spans_of([Row(shape=-1), Row(shape=-2), Row(shape=99), Row()]))
    metrics.record(spans_of([]))
    assert [point.count for point in points_of(metrics).values()] == [1]


def test_a_cumulative_series_counts_from_its_start_on() -> None:
    clock, tables = Clock(), tables_of()
    metrics = metrics_of(tables, clock)
    began = clock.now
    clock.after(60)
    metrics.record(spans_of([Row()]))
    (first,) = points_of(metrics).values()
    clock.after(60)
    metrics.record(spans_of([Row(), Row(shape=1, kind=Kind.CLIENT)]))
    points = points_of(metrics)
    second = points["shop", "http.server.request.duration", GET]
    later = points["shop", "db.client.operation.duration", (*SET, *ADDRESS)]
    assert (first.start, first.time, first.count) == (began, clock.now - 60 * 10**9, 1)
    assert (second.start, second.time, second.count) == (began, clock.now, 2)
    # what begins later has counted nothing before the last collection
    assert (later.start, later.count) == (first.time, 1)


def test_a_delta_series_counts_since_the_last_collection() -> None:
    clock = Clock()
    metrics = metrics_of(tables_of(), clock, temporality=Temporality.DELTA)
    clock.after(60)
    metrics.record(spans_of([Row(), Row(end=5_000)]))
    (first,) = points_of(metrics).values()
    clock.after(60)
    assert points_of(metrics) == {}
    clock.after(60)
    metrics.record(spans_of([Row(start=0, end=7_000)]))
    (third,) = points_of(metrics).values()
    assert (first.count, third.count) == (2, 1)
    assert (third.min, third.max) == (7e-6, 7e-6)
    assert third.start == first.time + 60 * 10**9
    assert third.time == clock.now


def test_points_are_never_of_no_time_even_when_the_clock_goes_back() -> None:
    clock = Clock()
    metrics = metrics_of(tables_of(), clock)
    metrics.record(spans_of([Row()]))
    (first,) = points_of(metrics).values()
    clock.after(-3600)
    (second,) = points_of(metrics).values()
    assert first.start < first.time < second.time


def test_series_beyond_the_cap_are_counted_together() -> None:
    tables = tables_of()
    metrics = metrics_of(tables, max_series=3)
    names = [(("dns.question.name", f"{i}.example"),) for i in range(10)]
    shapes = [tables.shapes.id(Fields("dns", Side("A", n, n), Side("A", n, n))) for n in names]
    for _ in range(2):
        metrics.record(spans_of([Row(shape=shape, resource=i % 2) for i, shape in enumerate(shapes)]))
    metrics.record(spans_of([Row()]))

    points = points_of(metrics)

    overflow = (("otel.metric.overflow", True),)
    assert points["shop", "dns.lookup.duration", overflow].count == 2 * 3
    assert points["cart", "dns.lookup.duration", overflow].count == 2 * 4
    assert sum(p.count for (_, name, _), p in points.items() if name == "dns.lookup.duration") == 20
    assert len([name for _, name, _ in points if name == "dns.lookup.duration"]) == 3 + 2
    assert points["shop", "http.server.request.duration", GET].count == 1
    assert metrics.overflowed == 14


def test_programs_that_run_for_a_moment_do_not_get_a_series_each_for_ever() -> None:
    tables = tables_of()
    tables.resources.limit = 10**6
    metrics = metrics_of(tables, max_series=100)
    programs = [tables.resources.id(Resource("curl", (("process.pid", i),))) for i in range(20_000)]
    for first in range(0, len(programs), 1000):
        metrics.record(spans_of([Row(resource=program) for program in programs[first : first + 1000]]))

    points = metrics.collect(0).points

    assert len(metrics) == 100 + OVERFLOWS + 1
    (nameless,) = points[Resource("", ())].values()
    assert [point.attributes for point in nameless] == [(("otel.metric.overflow", True),)]
    assert sum(point.count for named in points.values() for of in named.values() for point in of) == 20_000


@pytest.mark.parametrize("temporality", list(Temporality))
def test_an_idle_series_is_dropped_and_starts_anew(temporality: Temporality) -> None:
    clock = Clock()
    metrics = metrics_of(tables_of(), clock, temporality=temporality, idle_ns=100 * 10**9, max_series=1)
    metrics.record(spans_of([Row(), Row()]))
    clock.after(60)
    points_of(metrics)
    clock.after(60)
    points_of(metrics)
    assert len(metrics) == 0
    dropped = clock.now
    clock.after(60)
    assert points_of(metrics) == {}
    metrics.record(spans_of([Row()]))
    clock.after(60)
    ((series, point),) = points_of(metrics).items()
    assert series[2] == GET
    assert point.count == 1
    assert point.start >= dropped


def test_exemplars_are_sampled_spans_of_different_buckets_slowest_first() -> None:
    metrics = metrics_of(tables_of())
    batch = [Row(start=0, end=round(bound * 1e9), span_id=i + 1, trace=(i, 9)) for i, bound in enumerate(HTTP_BOUNDS)]
    sampled = np.array([i != len(batch) - 1 for i in range(len(batch))])
    metrics.record(spans_of(batch), sampled)

    (point,) = points_of(metrics).values()

    assert [e.value for e in point.exemplars] == [7.5, 5.0, 2.5, 1.0]
    assert [e.span_id for e in point.exemplars] == [np.uint64(i).tobytes() for i in (13, 12, 11, 10)]
    assert point.exemplars[0].trace_id == np.array([12, 9], np.uint64).tobytes()
    assert point.exemplars[0].time == 7_500_000_000 + OFFSET
    assert [p.exemplars for p in points_of(metrics).values()] == [()]


def test_exemplars_can_be_told_later_and_count_nothing() -> None:
    metrics = metrics_of(tables_of())
    batch = spans_of([Row(end=10**9, span_id=7, trace=(1, 1)), Row(end=2 * 10**9, span_id=8, trace=(1, 2))])
    metrics.record(batch, np.zeros(2, np.bool_))
    kept = batch.take(np.array([1]))
    metrics.exemplify(kept, Combinations.among(kept))
    (point,) = points_of(metrics).values()
    assert point.count == 2
    assert [e.span_id for e in point.exemplars] == [np.uint64(8).tobytes()]


def test_without_a_mask_exemplars_are_spans_that_have_a_trace() -> None:
    metrics = metrics_of(tables_of())
    metrics.record(spans_of([Row(trace=(0, 0)), Row(shape=3, trace=(1, 1)), Row(end=10**9, span_id=7, trace=(1, 1))]))
    (point,) = points_of(metrics).values()
    assert [e.span_id for e in point.exemplars] == [np.uint64(7).tobytes()]


@pytest.mark.parametrize("max_points", [1, 2, 2000])
@pytest.mark.parametrize("temporality", list(Temporality))
def test_points_are_exported_as_they_are(temporality: Temporality, max_points: int) -> None:
    metrics = metrics_of(tables_of(), temporality=temporality)
    metrics.record(
        spans_of([Row(kind=k, resource=r, end=10**9, trace=(1, 1)) for k in Kind for r in (0, 1) for _ in "ab"])
    )
    collection = metrics.collect(OFFSET)
    messages = list(otlp_metrics.encode(collection, max_points))

    seen = []
    for message in messages:
        request = ExportMetricsServiceRequest.FromString(message.data)
        count = 0
        for rm in request.resource_metrics:
            (scope,) = rm.scope_metrics
            assert scope.scope.name == "otel_ebpf"
            for metric in scope.metrics:
                assert metric.unit == "s"
                assert metric.histogram.aggregation_temporality == (1 if temporality is Temporality.DELTA else 2)
                for point in metric.histogram.data_points:
                    count += 1
                    seen.append((rm.resource.attributes[0].value.string_value, metric.name))
                    assert tuple(point.explicit_bounds) == HTTP_BOUNDS
                    assert len(point.bucket_counts) == len(HTTP_BOUNDS) + 1
                    assert point.count == sum(point.bucket_counts) == 2
                    assert point.exemplars[0].as_double == pytest.approx(1 - 1e-6)
                    assert len(point.exemplars[0].trace_id) == 16
        assert count == message.items <= max_points
    assert sorted(seen) == sorted(
        (r, f"http.{k}.request.duration") for r in ("cart", "shop") for k in ("client", "server")
    )


def test_an_empty_collection_is_not_sent() -> None:
    assert list(otlp_metrics.encode(metrics_of(tables_of()).collect(OFFSET))) == []
