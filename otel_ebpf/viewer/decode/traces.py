"""Trace requests as rows of `spans`, with what the service graph needs to know of each.

Source: opentelemetry/proto/trace/v1/trace.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ebpf.viewer.contract import Malformed
from otel_ebpf.viewer.decode.attributes import TEXT, as_json
from otel_ebpf.viewer.decode.batch import Batch
from otel_ebpf.viewer.decode.context import Context
from otel_ebpf.viewer.decode.peers import peer, spoken
from otel_ebpf.viewer.decode.signature import words
from otel_ebpf.viewer.decode.weight import weigh

COLUMNS = (
    *(("start", "BIGINT"), ("duration", "BIGINT")),
    *(("trace_high", "UBIGINT"), ("trace_low", "UBIGINT"), ("span_id", "UBIGINT"), ("parent_id", "UBIGINT")),
    *(("service", "VARCHAR"), ("resource", "UBIGINT"), ("kind", "UTINYINT"), ("status", "UTINYINT")),
    *(("name", "VARCHAR"), ("message", "VARCHAR"), ("scope", "VARCHAR"), ("attributes", "VARCHAR")),
    *(("events", "VARCHAR"), ("links", "VARCHAR")),
    *(("sign_a", "UBIGINT"), ("sign_b", "UBIGINT"), ("sign_c", "UBIGINT")),
    *(("peer", "VARCHAR"), ("system", "VARCHAR"), ("family", "VARCHAR")),
)
"""Those of the table, then those that only the sums need."""
EVENTS = 256
"""Events, and links, of one span."""
T = TypeVar("T")
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_CLIENT, _PRODUCER = Span.SpanKind.SPAN_KIND_CLIENT, Span.SpanKind.SPAN_KIND_PRODUCER


def decode_traces(request: bytes, context: Context) -> Batch:
    """The spans of one ExportTraceServiceRequest; raises Malformed."""
    weigh(request, ExportTraceServiceRequest.DESCRIPTOR)
    try:
        message = ExportTraceServiceRequest.FromString(request)
    except (DecodeError, RecursionError) as error:
        raise Malformed("not an ExportTraceServiceRequest") from error
    batch = Batch("traces")
    for group in message.resource_spans:
        resource = context.resources.of(group.resource)
        batch.resources[resource.id] = resource
        for scoped in group.scope_spans:
            scope = context.attributes.name(scoped.scope.name)
            for span in batch.some(scoped.spans):
                wrong = _wrong(span, context)
                if wrong:
                    batch.reject(wrong)
                    continue
                batch.rows.append(_row(span, resource.service, resource.id, scope, context))
    context.count_left_out(batch)
    return batch


def _wrong(span: Span, context: Context) -> str:
    """Why the span cannot be kept; "" if it can."""
    if len(span.trace_id) != 16 or span.trace_id == _NO_TRACE:
        return "trace id is not 16 bytes, or zero"
    if len(span.span_id) != 8 or span.span_id == _NO_SPAN:
        return "span id is not 8 bytes, or zero"
    if len(span.parent_span_id) not in (0, 8):
        return "parent span id is not 8 bytes"
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if end < start:
        return "ends before it starts"
    return context.wrong_time(start) or context.wrong_time(end)


def _row(span: Span, service: str, resource: int, scope: str, context: Context) -> tuple[object, ...]:
    context.attributes.begin()
    attributes = context.attributes.pairs(span.attributes)
    text, signature = context.writing.of(attributes)
    kind = span.kind if 0 <= span.kind <= 5 else 0
    system, family = spoken(attributes)
    called = peer(attributes, kind in (_CLIENT, _PRODUCER), context.peers) if kind > 1 else ""
    trace = span.trace_id
    status = span.status
    return (
        span.start_time_unix_nano,
        span.end_time_unix_nano - span.start_time_unix_nano,
        int.from_bytes(trace[:8], "big"),
        int.from_bytes(trace[8:], "big"),
        int.from_bytes(span.span_id, "big"),
        int.from_bytes(span.parent_span_id, "big"),
        service,
        resource,
        kind,
        status.code if 0 <= status.code <= 2 else 0,
        context.attributes.name(span.name),
        status.message[:TEXT],
        scope,
        text,
        _events(span.events, context) if span.events else None,
        _links(span.links, context) if span.links else None,
        *words(signature),
        called,
        system,
        family,
    )


def _events(events: Sequence[Span.Event], context: Context) -> str:
    attributes = context.attributes
    return as_json(
        [
            {
                "time": str(event.time_unix_nano),
                "name": attributes.name(event.name),
                "attributes": attributes.pairs(event.attributes),
            }
            for event in _first(events, context)
        ]
    )


def _links(links: Sequence[Span.Link], context: Context) -> str:
    return as_json(
        [
            {
                "trace_id": link.trace_id[:16].hex(),
                "span_id": link.span_id[:8].hex(),
                "attributes": context.attributes.pairs(link.attributes),
            }
            for link in _first(links, context)
        ]
    )


def _first(items: Sequence[T], context: Context) -> Sequence[T]:
    """As many as are kept; together they are one column."""
    context.attributes.begin()
    context.attributes.left_out += max(len(items) - EVENTS, 0)
    return items[:EVENTS]
