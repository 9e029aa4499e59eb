"""What the agent exports for the recorded conversations of a protocol: from ring records to the bytes of OTLP.

All stages are the real ones, as `otel-ebpf run` puts them together; each conversation is told by its server's end and,
as another connection, by its client's end.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ebpf.capture.live import Drain
from otel_ebpf.config import load
from otel_ebpf.model import STREAM, Flag
from otel_ebpf.otlp import metrics as otlp_metrics
from otel_ebpf.otlp.framing import Message
from otel_ebpf.pipeline import ARRIVAL_NS, CONNECTION_SERVER, Pipeline
from otel_ebpf.protocols import registry
from tests.processes import program
from tests.unit.exchanges import BTF, CONNECTION, Said, announcements, batch
from tests.unit.recorded import talks

PROTOCOLS = tuple(protocol.name for protocol in registry())
PORTS = {"http": 8080, "redis": 6379, "postgresql": 5432, "mysql": 3306, "dns": 53, "fastcgi": 9000, "grpc": 50051}
IPPROTO_UDP = 17
_APART_NS = 10**7

Value: TypeAlias = str | bool | int | float | tuple[str, ...]


@dataclass
class Emitted:
    """All that was exported, parsed by the real messages."""

    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    logs: list[ExportLogsServiceRequest] = field(default_factory=list)
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)

    def resources(self) -> Iterator[dict[str, Value]]:
        """The attributes of every Resource, of all signals."""
        for traces in self.traces:
            yield from (values(of.resource.attributes) for of in traces.resource_spans)
        for logs in self.logs:
            yield from (values(of.resource.attributes) for of in logs.resource_logs)
        for metrics in self.metrics:
            yield from (values(of.resource.attributes) for of in metrics.resource_metrics)

    def spans(self) -> Iterator[Span]:
        for request in self.traces:
            for of in request.resource_spans:
                for scope in of.scope_spans:
                    yield from scope.spans

    def records(self) -> Iterator[LogRecord]:
        for request in self.logs:
            for of in request.resource_logs:
                for scope in of.scope_logs:
                    yield from scope.log_records

    def instruments(self) -> Iterator[Metric]:
        for request in self.metrics:
            for of in request.resource_metrics:
                for scope in of.scope_metrics:
                    yield from scope.metrics

    def attributes(self) -> Iterator[dict[str, Value]]:
        """Of everything: resources, spans, log records, points."""
        yield from self.resources()
        yield from (values(span.attributes) for span in self.spans())
        yield from (values(record.attributes) for record in self.records())
        for metric in self.instruments():
            yield from (values(point.attributes) for point in metric.histogram.data_points)


def values(attributes: Iterable[KeyValue]) -> dict[str, Value]:
    """As Python values; a key that comes twice is an error."""
    found = {attribute.key: _value(attribute.value) for attribute in attributes}
    assert len(found) == len(list(attributes)), [attribute.key for attribute in attributes]
    return found


def _value(value: AnyValue) -> Value:
    if value.HasField("array_value"):
        items = [_value(item) for item in value.array_value.values]
        assert all(isinstance(item, str) for item in items)
        return tuple(map(str, items))
    kind = value.WhichOneof("value")
    assert kind in ("string_value", "bool_value", "int_value", "double_value"), kind
    found: Value = getattr(value, kind)
    return found


@cache
def emitted(protocol: str) -> Emitted:
    """What is exported for all recordings of "http", "redis", "postgresql", "mysql", "dns", "fastcgi" or "grpc"."""
    found = Emitted()
    # An endpoint makes the stages encode; nothing is ever sent there. Some recorded clients bear contexts of their own.
    given = {"otlp.endpoint": "http://127.0.0.1:4318", "signals": "traces,metrics,logs"}
    given["traces.completion"] = "everything"
    flags = {key: (value, "test") for key, value in given.items()}

    def take(signal: str, message: Message) -> None:
        if signal == "traces":
            found.traces.append(ExportTraceServiceRequest.FromString(message.data))
        else:
            found.logs.append(ExportLogsServiceRequest.FromString(message.data))

    pipeline = Pipeline(load(flags=flags), CONNECTION, take)
    with subprocess.Popen([program("sleep", "coreutils"), "infinity"]) as bystander:
        try:
            drain = recorded_drain(protocol, bystander.pid)
            pipeline.process(drain, drain.swept)
            pipeline.finish()
        finally:
            bystander.kill()
    found.metrics += [
        ExportMetricsServiceRequest.FromString(message.data)
        for message in otlp_metrics.encode(pipeline.durations.collect(pipeline.clock.offset()))
    ]
    assert not pipeline.counts["excluded"] and not pipeline.engine.unknown_connections
    return found


def recorded_drain(protocol: str, pid: int) -> Drain:
    """All conversations, each followed by its first request once more, which nobody answers."""
    streamed = protocol == "grpc"
    nobody = b"HTTP/2.0\r\ngrpc-status: 14\r\n\r\n" if streamed else b""  # http2/streams.py says so
    said: list[Said] = []
    began = time.monotonic_ns()  # the process did not exist before
    conversations = talks(protocol)
    for number, exchanges in enumerate(conversations):
        requests = [request for request, _ in exchanges if request]
        for n, (request, response) in enumerate([*exchanges, (requests[-1], nobody)]):
            flags = Flag.UNANSWERED if response == nobody else Flag(0)
            start = began + len(said) * _APART_NS
            for conn, side in ((2 * number + 1, Flag.SERVER), (2 * number + 2, Flag(0))):
                said.append(Said(request, response, conn, flags | side, n, len(said) + 1, start))
    exchange = batch(said)
    if streamed:
        exchange.protocol = protocol
        exchange.head["flags"] |= np.uint32(STREAM)
        exchange.head["seq_rsp"] = 0
    exchange.head["tgid"] = pid
    columns = {"protocol": IPPROTO_UDP} if protocol == "dns" else {}
    served = announcements(*range(1, 2 * len(conversations), 2), port=PORTS[protocol], tgid=pid, **columns)
    sent = served.copy()
    sent["id"] += 1
    served["flags"] = CONNECTION_SERVER
    for name in ("local", "remote", "local_port", "remote_port"):
        sent[name] = served[name.replace("local", "?").replace("remote", "local").replace("?", "remote")]
    swept = began + len(said) * _APART_NS + ARRIVAL_NS
    return Drain([exchange], np.concatenate([served, sent]), np.zeros(0, BTF.dtype("process_event")), swept)
