"""Hand-made batches of spans, and the plain twin of the columnar encoders: one `opentelemetry-proto` message at a time.

The encoders are right when what they wrote parses to what the twin built.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_ebpf.model import (
    FROM_MESSAGE,
    SLOTS,
    Attributes,
    AttributeValue,
    Endpoint,
    Intern,
    Kind,
    Link,
    Resource,
    Spans,
)
from otel_ebpf.protocols.base import Fields, Side, Slot

OFFSET = 1_700_000_000_000_000_000


@dataclass
class Row:
    """One span as a test states it; ids 0 mean "as the tables say", -1 none."""

    shape: int = 0
    kind: Kind = Kind.SERVER
    resource: int = 0
    endpoint: int = 0
    texts: Sequence[str] = ()
    start: int = 1_000
    end: int = 2_000
    first_byte: int = 1_500
    port: int = 40_000
    link: Link = Link.NONE
    parent: int = 0
    remote_flags: int = 0
    span_id: int = 0x0102030405060708
    trace: tuple[int, int] = (1, 2)
    key: int = 0
    confidence: int = 100
    candidates: int = 1
    like_span: int = 0
    like_trace: tuple[int, int] = (0, 0)


@dataclass
class Tables:
    shapes: Intern[Fields] = field(default_factory=lambda: Intern(100_000))
    endpoints: Intern[Endpoint] = field(default_factory=lambda: Intern(100_000))
    resources: Intern[Resource] = field(default_factory=lambda: Intern(100_000))

    def all(self) -> tuple[Intern[Fields], Intern[Endpoint], Intern[Resource]]:
        return self.shapes, self.endpoints, self.resources


def spans_of(rows: Sequence[Row]) -> Spans:
    """The rows as columns."""
    spans = Spans.empty(len(rows))
    text = bytearray(b"text of somebody else")
    for i, row in enumerate(rows):
        for name in ("shape", "kind", "resource", "endpoint", "start", "end", "first_byte", "link", "parent", "key"):
            getattr(spans, name)[i] = getattr(row, name)
        for name in ("confidence", "candidates", "like_span", "like_trace"):
            getattr(spans, name)[i] = getattr(row, name)
        spans.peer_port[i] = row.port
        spans.remote_flags[i] = row.remote_flags
        spans.span_id[i] = row.span_id
        spans.trace[i] = row.trace
        for slot, value in enumerate(row.texts[:SLOTS]):
            data = value.encode()
            spans.slot_start[i, slot], spans.slot_length[i, slot] = len(text), len(data)
            text += data
    spans.text = np.frombuffer(bytes(text), np.uint8)
    return spans


def value_of(value: AttributeValue) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    out = AnyValue()
    out.array_value.SetInParent()
    for item in value:
        out.array_value.values.append(value_of(item))
    return out


def attributes_of(attributes: Iterable[tuple[str, AttributeValue]]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value_of(value)) for key, value in attributes]


def side_of(tables: Tables, row: Row) -> Side:
    shape = tables.shapes[row.shape]
    return shape.client if row.kind == Kind.CLIENT else shape.server


def row_attributes(tables: Tables, row: Row) -> dict[str, AttributeValue]:
    """All attributes of a row, as DESIGN lists them."""
    side = side_of(tables, row)
    out: list[tuple[str, AttributeValue]] = list(side.attributes)
    for slot in side.slots:
        if slot.index < len(row.texts) and row.texts[slot.index]:
            out.append((slot.attribute, slot.prefix + row.texts[slot.index]))
    if row.endpoint >= 0:
        endpoint = tables.endpoints[row.endpoint]
        out += endpoint.always
        if not side.addressed:
            out += endpoint.unless_addressed
    if row.port:
        out.append(("network.peer.port", row.port))
    if row.link not in (Link.NONE, Link.PENDING):
        out.append(("otel_ebpf.link.method", row.link.label))
        out += [("otel_ebpf.link.confidence", row.confidence / 100), ("otel_ebpf.link.candidates", row.candidates)]
    if row.first_byte:
        out.append(("otel_ebpf.first_byte_ns", max(row.first_byte - row.start, 0)))
    return dict(out)


def raw(value: int) -> bytes:
    return value.to_bytes(8, sys.byteorder)


def flags_of(row: Row) -> int:
    """W3C trace flags: sampled, and those that came with the request."""
    came = row.remote_flags if row.link in FROM_MESSAGE else 0
    return 1 | came


def span_of(tables: Tables, row: Row) -> Span:
    side = side_of(tables, row)
    attributes = row_attributes(tables, row)
    if row.key:
        attributes["otel_ebpf.link.key"] = f"{row.key:016x}"
    remote = row.parent and row.link in (*FROM_MESSAGE, Link.CONNECTION, Link.TCP_OPTION)
    return Span(
        trace_id=raw(row.trace[0]) + raw(row.trace[1]),
        span_id=raw(row.span_id),
        parent_span_id=raw(row.parent) if row.parent else b"",
        flags=flags_of(row) | (0x300 if remote else 0x100),
        name=side.name,
        kind=Span.SpanKind.ValueType(row.kind.value),
        start_time_unix_nano=row.start + OFFSET,
        end_time_unix_nano=max(row.start, row.end) + OFFSET,
        attributes=attributes_of(attributes.items()),
        status=Status(code=Status.STATUS_CODE_ERROR) if side.error else None,
        links=[Span.Link(trace_id=raw(row.like_trace[0]) + raw(row.like_trace[1]), span_id=raw(row.like_span))]
        if row.like_span
        else [],
    )


def by_resource(rows: Sequence[Row], make: Callable[[Row], object]) -> dict[int, list[object]]:
    out: dict[int, list[object]] = {}
    for row in rows:
        out.setdefault(row.resource, []).append(make(row))
    return out


def sort_attributes(message: Span) -> Span:
    """Attributes are a map; their order says nothing."""
    ordered = sorted(message.attributes, key=lambda a: a.key)
    del message.attributes[:]
    message.attributes.extend(ordered)
    return message


def resource_attributes(tables: Tables, number: int) -> list[KeyValue]:
    return attributes_of(tables.resources[number].attributes) if number >= 0 else []


def parse_traces(data: bytes) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(data)


def simple_tables(*, slots: tuple[Slot, ...] = (), attributes: Attributes = ()) -> Tables:
    """One shape with id 0, one endpoint, one resource."""
    tables = Tables()
    server = Side("GET /cart", (("http.request.method", "GET"), *attributes), (("http.request.method", "GET"),))
    server = Side(server.name, server.attributes, server.metric, slots=slots)
    client = Side("GET", server.attributes, server.metric, slots=slots, addressed=True, error=True)
    tables.shapes.id(Fields("http", server, client, "200"))
    tables.endpoints.id(Endpoint((("network.transport", "tcp"),), (("server.address", "10.0.0.1"),)))
    tables.resources.id(Resource("shop", (("service.name", "shop"),)))
    return tables
