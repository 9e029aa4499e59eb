"""Histogram points to OTLP metrics export requests. Once a minute and few: plain `opentelemetry-proto` messages do."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, HistogramDataPoint, Metric
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar as ExemplarMessage
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage

from otel_ebpf import __version__
from otel_ebpf.metrics.instruments import Instrument
from otel_ebpf.metrics.points import Collection, HistogramPoint, Temporality
from otel_ebpf.model import Attributes
from otel_ebpf.otlp import wire
from otel_ebpf.otlp.framing import Message

MAX_POINTS = 2000
"""Points per request: with four exemplars each well below the 4 MiB that receivers take."""

_TEMPORALITY = {
    Temporality.DELTA: AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA,
    Temporality.CUMULATIVE: AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE,
}


def encode(collection: Collection, max_points: int = MAX_POINTS) -> Iterator[Message]:
    """Export requests with all points of a collection, at most `max_points` in each; none for an empty collection."""
    request, items = ExportMetricsServiceRequest(), 0
    for resource, by_instrument in collection.points.items():
        for instrument, points in by_instrument.items():
            left = points
            while left:
                now, left = left[: max_points - items], left[max_points - items :]
                _add(request, resource.attributes, instrument, now, collection.temporality)
                items += len(now)
                if items == max_points:
                    yield Message(request.SerializeToString(), items)
                    request, items = ExportMetricsServiceRequest(), 0
    if items:
        yield Message(request.SerializeToString(), items)


def _add(
    request: ExportMetricsServiceRequest,
    resource: Attributes,
    instrument: Instrument,
    points: list[HistogramPoint],
    temporality: Temporality,
) -> None:
    of = ResourceMessage(attributes=_attributes(resource))
    last = request.resource_metrics[-1] if request.resource_metrics else None
    if last is None or last.resource != of:
        last = request.resource_metrics.add(resource=of)
        last.scope_metrics.add(scope=InstrumentationScope(name="otel_ebpf", version=__version__))
    metric = Metric(name=instrument.name, description=instrument.description, unit="s")
    metric.histogram.aggregation_temporality = _TEMPORALITY[temporality]
    metric.histogram.data_points.extend(_point(instrument, point) for point in points)
    last.scope_metrics[0].metrics.append(metric)


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
