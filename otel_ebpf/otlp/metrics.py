"""Points to OTLP metrics export requests. A few times a minute and few: plain `opentelemetry-proto` messages do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar as ExemplarMessage
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage

from otel_ebpf import __version__
from otel_ebpf.metrics.instruments import Counter, Instrument
from otel_ebpf.metrics.points import Collection, HistogramPoint, SumPoint, Temporality
from otel_ebpf.model import Attributes
from otel_ebpf.otlp import wire
from otel_ebpf.otlp.framing import Message

MAX_POINTS = 2000
"""Points per request: with four exemplars each well below the 4 MiB that receivers take."""

_TEMPORALITY = {
    Temporality.DELTA: AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA,
    Temporality.CUMULATIVE: AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE,
}


P = TypeVar("P")
_Part: TypeAlias = tuple[Attributes, int, Callable[[], Metric]]
"""Points of one metric of one resource: its attributes, how many they are, and what writes them."""


def encode(collection: Collection, max_points: int = MAX_POINTS) -> Iterator[Message]:
    """Export requests with all points of a collection, at most `max_points` in each; none for an empty collection."""
    request, items = ExportMetricsServiceRequest(), 0
    for resource, count, metric in _portions(collection, max_points):
        if items + count > max_points:
            yield Message(request.SerializeToString(), items)
            request, items = ExportMetricsServiceRequest(), 0
        _add(request, resource, metric())
        items += count
    if items:
        yield Message(request.SerializeToString(), items)


def _portions(collection: Collection, most: int) -> Iterator[_Part]:
    """All points, at most `most` of one metric together."""
    temporality = _TEMPORALITY[collection.temporality]
    for resource, by_instrument in collection.points.items():
        for instrument, points in by_instrument.items():
            for some in _parts(points, most):
                yield resource.attributes, len(some), partial(_histogram, instrument, some, temporality)
    for resource, by_counter in collection.sums.items():
        for counter, values in by_counter.items():
            for few in _parts(values, most):
                yield resource.attributes, len(few), partial(_sum, counter, few, temporality)


def _parts(points: Sequence[P], most: int) -> Iterator[Sequence[P]]:
    return (points[at : at + most] for at in range(0, len(points), most))


def _add(request: ExportMetricsServiceRequest, resource: Attributes, metric: Metric) -> None:
    of = ResourceMessage(attributes=_attributes(resource))
    last = request.resource_metrics[-1] if request.resource_metrics else None
    if last is None or last.resource != of:
        last = request.resource_metrics.add(resource=of)
        last.scope_metrics.add(scope=InstrumentationScope(name="otel_ebpf", version=__version__))
    last.scope_metrics[0].metrics.append(metric)


def _histogram(
    of: Instrument, points: Sequence[HistogramPoint], temporality: AggregationTemporality.ValueType
) -> Metric:
    metric = Metric(name=of.name, description=of.description, unit="s")
    metric.histogram.aggregation_temporality = temporality
    metric.histogram.data_points.extend(_point(of, point) for point in points)
    return metric


def _sum(of: Counter, points: Sequence[SumPoint], temporality: AggregationTemporality.ValueType) -> Metric:
    metric = Metric(name=of.name, description=of.description, unit=of.unit)
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = temporality, True
    metric.sum.data_points.extend(
        NumberDataPoint(
            attributes=_attributes(point.attributes),
            start_time_unix_nano=point.start,
            time_unix_nano=point.time,
            as_int=point.value,
        )
        for point in points
    )
    return metric


def _point(instrument: Instrument, point: HistogramPoint) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=_attributes(point.attributes),
        start_time_unix_nano=point.start,
        time_unix_nano=point.time,
        count=point.count,
        sum=point.sum,
        min=point.min,
        max=point.max,
        bucket_counts=point.buckets,
        explicit_bounds=instrument.bounds,
        exemplars=[
            ExemplarMessage(time_unix_nano=e.time, as_double=e.value, span_id=e.span_id, trace_id=e.trace_id)
            for e in point.exemplars
        ],
    )


def _attributes(attributes: Attributes) -> list[KeyValue]:
    # wire and messages agree on what a value is: the columnar encoder's tests hold that
    return [KeyValue.FromString(wire.key(name) + wire.delimited(2, wire.any_value(v))) for name, v in attributes]
