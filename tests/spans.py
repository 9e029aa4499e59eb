"""A span as a test reads it, whether it came to our own sink (protobuf) or through a real Collector (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Value = str | bool | int | float | bytes | list[Any] | dict[str, Any] | None

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """One exported span. Ids are lower-case hex, `parent` is "" for a root; times are Unix ns.

    status: "unset", "ok" or "error". arrived: Unix ns at which the sink had it, 0 if not known.
    """

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    status: str
    attributes: dict[str, Value]
    resource: dict[str, Value]
    arrived: int = 0
    links: tuple[str, ...] = ()
    """Span ids that it is linked to."""

    @property
    def service(self) -> str:
        return str(self.resource.get("service.name", ""))

    @property
    def seconds(self) -> float:
        """Its duration."""
        return (self.end - self.start) / 1e9

    def __getitem__(self, attribute: str) -> Value:
        return self.attributes[attribute]

    def get(self, attribute: str) -> Value:
        return self.attributes.get(attribute)


_STATUS = {0: "unset", 1: "ok", 2: "error"}


def from_protobuf(request: ExportTraceServiceRequest, arrived: int = 0) -> Iterator[SeenSpan]:
    """The spans of one OTLP export request."""
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield SeenSpan(
                    name=span.name,
                    kind=KINDS.get(span.kind, "unspecified"),
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    status=_STATUS[span.status.code],
                    attributes=_attributes(span.attributes),
                    resource=resource,
                    arrived=arrived,
                    links=tuple(link.span_id.hex() for link in span.links),
                )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    plain: Value = getattr(value, which)
    return plain


def from_json_line(line: str) -> Iterator[SeenSpan]:
    """The spans of one line of the Collector's file exporter (OTLP/JSON); none for a line of metrics or logs."""
    for resource_spans in json.loads(line).get("resourceSpans", []):
        resource = _json_attributes(resource_spans.get("resource", {}))
        for scope_spans in resource_spans.get("scopeSpans", []):
            for span in scope_spans.get("spans", []):
                yield SeenSpan(
                    name=span["name"],
                    kind=KINDS.get(span.get("kind", 0), "unspecified"),
                    trace=span["traceId"],
                    id=span["spanId"],
                    parent=span.get("parentSpanId", ""),
                    start=int(span["startTimeUnixNano"]),
                    end=int(span["endTimeUnixNano"]),
                    status=_STATUS[span.get("status", {}).get("code", 0)],
                    attributes=_json_attributes(span),
                    resource=resource,
                    links=tuple(link["spanId"] for link in span.get("links", [])),
                )


def _json_attributes(holder: dict[str, Any]) -> dict[str, Value]:
    return {pair["key"]: _json_value(pair["value"]) for pair in holder.get("attributes", [])}


def _json_value(value: dict[str, Any]) -> Value:
    if not value:
        return None
    ((kind, plain),) = value.items()
    if kind == "arrayValue":
        return [_json_value(item) for item in plain.get("values", [])]
    if kind == "intValue":  # OTLP/JSON writes 64-bit integers as strings
        return int(plain)
    result: Value = plain
    return result
