"""What the exporter sends is what a real OpenTelemetry Collector understands, by gRPC and HTTP, plain and compressed.

The Collector's decoder is another one than the one of the unit tests (Go's), and stricter about text.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.metrics import DurationMetrics
from otel_ebpf.model import Attributes, Endpoint, Kind, Link, Resource
from otel_ebpf.otlp import metrics as otlp_metrics
from otel_ebpf.otlp.encoder import SpanEncoder
from otel_ebpf.otlp.exporter import Exporter
from otel_ebpf.otlp.framing import Message
from otel_ebpf.otlp.logs import LogEncoder
from otel_ebpf.otlp.settings import SIGNALS, OtlpSettings, SignalSettings
from otel_ebpf.protocols.base import Fields, Side, Slot
from tests.collector import Collector, collector
from tests.unit.otlp_twin import OFFSET, Row, Tables, sort_attributes, span_of, spans_of

EVERYTHING: Attributes = (
    ("text", "é\U0001f600"),
    ("empty", ""),
    ("long", "x" * 16_384),
    ("yes", True),
    ("no", False),
    ("negative", -1),
    ("least", -(2**63)),
    ("greatest", 2**63 - 1),
    ("double", -0.5),
    ("texts", ("a", "", "b")),
    ("numbers", (127, 128, -128)),
)
ROWS = 300


@pytest.fixture(scope="module")
def receiver() -> Iterator[Collector]:
    with collector() as running:
        yield running


def tables_of(service: str) -> Tables:
    tables = Tables()
    slots = (Slot("url.path", 0), Slot("url.query", 1, "?"))
    metric = (("http.request.method", "GET"),)
    served = Side("GET /{id}", (("http.request.method", "GET"), *EVERYTHING), metric, slots=slots)
    called = Side("GET", (("http.request.method", "GET"),), metric, error=True, slots=slots, addressed=True)
    tables.shapes.id(Fields("http", served, called, "200"))
    tables.endpoints.id(Endpoint((("network.transport", "tcp"),), (("server.address", "::1"), ("server.port", 80))))
    tables.endpoints.id(Endpoint((), ()))
    for number in range(3):
        tables.resources.id(Resource(f"{service}-{number}", (("service.name", f"{service}-{number}"), *EVERYTHING)))
    return tables


def rows_of() -> list[Row]:
    sizes = (0, 1, 127, 128, 16_383, 16_384)
    return [
        Row(
            kind=Kind.CLIENT if i % 2 else Kind.SERVER,
            resource=i % 3,
            endpoint=i % 2,
            texts=("/" + "é" * (sizes[i % 6] // 2), "q" * (i % 50)),
            start=10**9 + i,
            end=2 * 10**9 + i,
            first_byte=0 if i % 7 == 0 else 10**9 + i + 300,
            port=0 if i % 5 == 0 else i,
            link=list(Link)[i % 7],
            parent=i % 3,
            span_id=i + 1,
            trace=(i + 1, i + 2),
        )
        for i in range(ROWS)
    ]


def settings_for(receiver: Collector, protocol: str, compression: str) -> OtlpSettings:
    def one(signal: str) -> SignalSettings:
        endpoint = receiver.grpc if protocol == "grpc" else f"{receiver.http}/v1/{signal}"
        return SignalSettings(signal, endpoint, protocol, compression=compression)

    return OtlpSettings({signal: one(signal) for signal in SIGNALS})


def send(settings: OtlpSettings, signal: str, messages: Iterator[Message]) -> int:
    """Send by the exporter; the number of items. Everything must be delivered."""
    exporter = Exporter(settings)
    items = 0
    for message in messages:
        assert exporter.submit(signal, message.data, message.items)
        items += message.items
    exporter.close()
    statistics = exporter.statistics[signal]
    assert statistics.delivered_items == items, statistics
    return items


def received(receiver: Collector, key: str, service: str, enough: int, items: str) -> list[dict[str, Any]]:
    """The resource entries ("resourceSpans" …) of a service in the Collector's file, once they hold `enough` items."""
    end = time.monotonic() + 15
    while True:
        text = receiver.output.read_text() if receiver.output.exists() else ""
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        entries = [entry for line in lines for entry in line.get(key, []) if f'"{service}-' in json.dumps(entry)]
        if json.dumps(entries).count(f'"{items}"') >= enough:
            return entries
        assert time.monotonic() < end, f"{service}: {len(entries)} entries only"
        time.sleep(0.05)


def with_base64_ids(value: Any) -> Any:  # noqa: ANN401 (JSON)
    """OTLP's JSON has ids in hex (OTLP specification, "JSON Protobuf Encoding"), protobuf's in base64."""
    if isinstance(value, list):
        return [with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    ids = {"traceId", "spanId", "parentSpanId"}
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode() if key in ids else with_base64_ids(item)
        for key, item in value.items()
    }


WAYS = [
    ("grpc", "none"),
    ("grpc", "gzip"),
    ("http/protobuf", "none"),
    ("http/protobuf", "gzip"),
    ("http/protobuf", "zstd"),
]


@pytest.mark.parametrize(("protocol", "compression"), WAYS)
def test_spans_arrive_as_they_were(receiver: Collector, protocol: str, compression: str) -> None:
    service = f"spans-{protocol}-{compression}"
    tables, rows = tables_of(service), rows_of()
    encoder = SpanEncoder(*tables.all(), max_bytes=1_000_000)
    sent = send(settings_for(receiver, protocol, compression), "traces", encoder.encode(spans_of(rows), OFFSET))
    assert sent == len(rows)

    entries = received(receiver, "resourceSpans", service, sent, "startTimeUnixNano")

    request = ParseDict({"resourceSpans": with_base64_ids(entries)}, ExportTraceServiceRequest())
    seen = {span.span_id: sort_attributes(span) for rs in request.resource_spans for span in rs.scope_spans[0].spans}
    wanted = [sort_attributes(span_of(tables, row)) for row in rows]
    for span in wanted:
        span.status.SetInParent()  # the Collector writes a status also where it is unset
    assert seen == {span.span_id: span for span in wanted}
    resources = {rs.resource.attributes[0].value.string_value for rs in request.resource_spans}
    assert resources == {f"{service}-{number}" for number in range(3)}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_logs_arrive_with_their_spans_ids(receiver: Collector, protocol: str) -> None:
    service = f"logs-{protocol}"
    tables, rows = tables_of(service), rows_of()
    messages = LogEncoder(*tables.all()).encode(spans_of(rows), OFFSET)
    sent = send(settings_for(receiver, protocol, "none"), "logs", messages)

    entries = received(receiver, "resourceLogs", service, sent, "timeUnixNano")

    request = ParseDict({"resourceLogs": with_base64_ids(entries)}, ExportLogsServiceRequest())
    records = {r.span_id: r for rl in request.resource_logs for r in rl.scope_logs[0].log_records}
    assert len(records) == len(rows)
    first = records[(1).to_bytes(8, "little")]
    assert first.body.string_value == "GET / 200 1000.00 ms"
    assert (first.severity_text, first.trace_id) == ("INFO", b"".join(n.to_bytes(8, "little") for n in (1, 2)))


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_metrics_arrive_with_buckets_and_exemplars(receiver: Collector, protocol: str) -> None:
    service = f"metrics-{protocol}"
    tables = tables_of(service)
    names = {"http": ("http.server.request.duration", "http.client.request.duration")}
    metrics = DurationMetrics(*tables.all(), names)
    metrics.record(spans_of(rows_of()))
    sent = send(settings_for(receiver, protocol, "none"), "metrics", otlp_metrics.encode(metrics.collect(OFFSET)))

    entries = received(receiver, "resourceMetrics", service, sent, "explicitBounds")

    request = ParseDict({"resourceMetrics": with_base64_ids(entries)}, ExportMetricsServiceRequest())
    points = [
        p for rm in request.resource_metrics for m in rm.scope_metrics[0].metrics for p in m.histogram.data_points
    ]
    assert sum(point.count for point in points) == ROWS
    assert all(point.exemplars[0].as_double == 1.0 for point in points)
    assert all(sum(point.bucket_counts) == point.count for point in points)


def test_the_collector_has_nothing_to_complain_of(receiver: Collector) -> None:
    assert receiver.complaints() == []
