"""Metric requests as rows of `points`. Source: opentelemetry/proto/metrics/v1/metrics.proto."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    DataPointFlags,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)

from otel_ebpf.viewer.contract import Malformed
from otel_ebpf.viewer.decode.batch import Batch
from otel_ebpf.viewer.decode.context import Context
from otel_ebpf.viewer.decode.resources import Resource
from otel_ebpf.viewer.decode.weight import weigh

COLUMNS = (
    *(("time", "BIGINT"), ("name", "VARCHAR"), ("unit", "VARCHAR"), ("type", "UTINYINT")),
    *(("monotonic", "BOOLEAN"), ("delta", "BOOLEAN"), ("service", "VARCHAR"), ("resource", "UBIGINT")),
    *(("attributes", "VARCHAR"), ("start", "BIGINT"), ("value", "DOUBLE"), ("count", "UBIGINT"), ("sum", "DOUBLE")),
    *(("bounds", "DOUBLE[]"), ("counts", "UBIGINT[]")),
)
BUCKETS = 512
"""Of one histogram."""
Point: TypeAlias = "NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint"


class Type(IntEnum):
    """Column `type` of `points`."""

    GAUGE = 1
    SUM = 2
    HISTOGRAM = 3
    EXPONENTIAL_HISTOGRAM = 4
    SUMMARY = 5


_TYPES = {kind.name.lower(): kind for kind in Type}
_NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


def decode_metrics(request: bytes, context: Context) -> Batch:
    """The points of one ExportMetricsServiceRequest; raises Malformed."""
    weigh(request, ExportMetricsServiceRequest.DESCRIPTOR)
    try:
        message = ExportMetricsServiceRequest.FromString(request)
    except (DecodeError, RecursionError) as error:
        raise Malformed("not an ExportMetricsServiceRequest") from error
    batch = Batch("metrics")
    for group in message.resource_metrics:
        resource = context.resources.of(group.resource)
        batch.resources[resource.id] = resource
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                _metric(metric, resource, context, batch)
    context.count_left_out(batch)
    return batch


def _metric(metric: Metric, resource: Resource, context: Context, batch: Batch) -> None:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    delta = getattr(data, "aggregation_temporality", 0) == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    head = (
        context.attributes.name(metric.name),
        metric.unit[:256],
        int(_TYPES[kind]),
        bool(getattr(data, "is_monotonic", False)),
        delta,
    )
    points: Sequence[Point] = data.data_points
    for point in batch.some(points):
        time = point.time_unix_nano or context.now
        if point.flags & _NO_VALUE:
            continue  # "no recorded value": the series ended, which is no item that could be kept
        wrong = context.wrong_time(time)
        values = None if wrong else _values(point)
        if values is None:
            batch.reject(wrong or f"counts and bounds of a histogram do not fit, or are more than {BUCKETS}")
            continue
        attributes = context.attributes.text(point.attributes)
        tail = (resource.service, resource.id, attributes, point.start_time_unix_nano & (2**63 - 1), *values)
        batch.rows.append((time, *head, *tail))


def _values(
    point: Point,
) -> tuple[float | None, int | None, float | None, list[float] | None, list[int] | None] | None:
    """value, count, sum, bounds, counts; None if they contradict each other."""
    if isinstance(point, NumberDataPoint):
        value = float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double
        return (value if math.isfinite(value) else None), None, None, None, None
    total = point.sum if math.isfinite(point.sum) else None
    if isinstance(point, SummaryDataPoint):
        return None, point.count, total, None, None
    if isinstance(point, ExponentialHistogramDataPoint):
        return _exponential(point, total)
    if len(point.bucket_counts) > BUCKETS or len(point.explicit_bounds) >= BUCKETS:
        return None
    bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
    fits = not counts or len(counts) == len(bounds) + 1
    if not fits or any(map(math.isnan, bounds)) or bounds != sorted(bounds):
        return None
    return None, point.count, total, bounds, counts


def _exponential(
    point: ExponentialHistogramDataPoint, total: float | None
) -> tuple[None, int, float | None, list[float], list[int]] | None:
    """Bucket i holds base^i < v <= base^(i+1), base = 2^(2^-scale) (metrics data model, "Exponential Buckets")."""
    if len(point.positive.bucket_counts) > BUCKETS or not -10 <= point.scale <= 20:
        return None
    counts = list(point.positive.bucket_counts)
    negative = sum(point.negative.bucket_counts)
    try:
        bounds = [2.0 ** ((point.positive.offset + i) * 2.0**-point.scale) for i in range(len(counts) + 1)]
    except OverflowError:
        return None
    least = min(negative + point.zero_count, 2**64 - 1)
    return None, point.count, total, bounds, [least, *counts, 0]
