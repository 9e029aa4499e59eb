"""Small OTLP requests, as a sender would make them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

CLIENT, SERVER = Span.SpanKind.SPAN_KIND_CLIENT, Span.SpanKind.SPAN_KIND_SERVER
INTERNAL, PRODUCER = Span.SpanKind.SPAN_KIND_INTERNAL, Span.SpanKind.SPAN_KIND_PRODUCER
Plain = str | bool | int | float


def pair(key: str, value: Plain) -> KeyValue:
    """One attribute."""
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(double_value=value))


def span(
    number: int,
    *,
    parent: int = 0,
    trace: int = 1,
    kind: int = SERVER,
    name: str = "GET /",
    at: int | None = None,
    milliseconds: float = 1.0,
    failed: bool = False,
    attributes: Mapping[str, Plain] | None = None,
) -> Span:
    """A span; ids are small numbers. at: Unix ns, None: now."""
    start = time.time_ns() if at is None else at
    return Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        kind=Span.SpanKind.Name(kind),  # type: ignore[arg-type]
        name=name,
        start_time_unix_nano=start,
        end_time_unix_nano=start + int(milliseconds * 1e6),
        status=Status(code=Status.StatusCode.STATUS_CODE_ERROR) if failed else None,
        attributes=[pair(key, value) for key, value in (attributes or {}).items()],
    )


def request(services: Mapping[str, list[Span]]) -> bytes:
    """The spans of some services."""
    message = ExportTraceServiceRequest()
    for service, spans in services.items():
        group = message.resource_spans.add()
        group.resource.attributes.append(pair("service.name", service))
        group.scope_spans.add().spans.extend(spans)
    return message.SerializeToString()
