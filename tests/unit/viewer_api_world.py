"""A small shop in a store: frontend → cart → redis, frontend → postgresql, an outside client, a failure, logs, metrics.

Everything goes in as OTLP, through the viewer's own decoding and writing.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.routing import Mount

from otel_ebpf.viewer.api import jaeger
from otel_ebpf.viewer.api.feed import Feed
from otel_ebpf.viewer.api.routing import routes
from otel_ebpf.viewer.api.sources import ProcessStatus
from otel_ebpf.viewer.decode.context import Context
from otel_ebpf.viewer.decode.logs import decode_logs
from otel_ebpf.viewer.decode.metrics import decode_metrics
from otel_ebpf.viewer.decode.traces import decode_traces
from otel_ebpf.viewer.store.database import Database
from otel_ebpf.viewer.store.write import Writer

SECOND = 10**9
SERVER, CLIENT = Span.SpanKind.SPAN_KIND_SERVER, Span.SpanKind.SPAN_KIND_CLIENT
Value = str | bool | int | float


def pairs(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def any_value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)


@dataclass(frozen=True, slots=True)
class Status:
    """A `StatusSource` of a process that does not listen anywhere."""

    def status(self) -> ProcessStatus:
        return ProcessStatus(
            "1.2.3", 1000.0, "127.0.0.1:8890", "127.0.0.1:4317", "", "/store", 1, 2, 0.5, 6, 7, ("Full.",)
        )


@dataclass
class World:
    """A store in a folder, and what is put into it. now: Unix ns."""

    folder: Path
    now: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        self.database = Database(self.folder)
        self.writer = Writer(self.database)
        self.context = Context(now=self.now + 60 * SECOND, oldest=0)
        self.feed = Feed()
        self._span = 0
        self._request = ExportTraceServiceRequest()

    @contextmanager
    def served(self) -> Iterator[httpx.Client]:
        """A client of the API on a real server, on loopback."""
        ours, theirs = routes(self.database, Status(), self.feed), jaeger.routes(self.database)
        app = Starlette(routes=[Mount("/api/v1", routes=ours), Mount("/api", routes=theirs)])
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()

    def span(
        self,
        service: str,
        name: str,
        kind: int,
        *,
        trace: int = 1,
        parent: int = 0,
        ago: float = 60.0,
        took: float = 0.001,
        failed: bool = False,
        resource: Mapping[str, Value] | None = None,
        **attributes: Value,
    ) -> int:
        """Have one span sent with the next `flush`; returns its id. ago, took: seconds; __ in attributes is a dot."""
        self._span += 1
        start = self.now - round(ago * SECOND)
        group = self._request.resource_spans.add()
        group.resource.attributes.extend(pairs({"service.name": service, **(resource or {})}))
        scoped = group.scope_spans.add()
        scoped.scope.name = "test"
        span = scoped.spans.add(
            trace_id=trace.to_bytes(16, "big"),
            span_id=self._span.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            name=name,
            kind=kind,
            start_time_unix_nano=start,
            end_time_unix_nano=start + round(took * SECOND),
            attributes=pairs({key.replace("__", "."): value for key, value in attributes.items()}),
        )
        span.status.code = 2 if failed else 0  # type: ignore[assignment]
        event = span.events.add(time_unix_nano=start + 1, name="seen")
        event.attributes.extend(pairs({"n": 1}))
        return self._span

    def flush(self) -> None:
        """Store the spans, as if a receiver had handed them in."""
        batch = decode_traces(self._request.SerializeToString(), self.context)
        self._request = ExportTraceServiceRequest()
        assert not batch.rejected, batch.rejected
        self.writer.write([batch], [], self.now)
        self.feed.publish(batch.rows)

    def ago_ms(self, seconds: float) -> float:
        """Unix milliseconds, as in answers."""
        return (self.now - round(seconds * SECOND)) / 1e6

    def log(self, service: str, body: str, *, trace: int = 0, severity: int = 9, ago: float = 60.0) -> None:
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add()
        group.resource.attributes.extend(pairs({"service.name": service}))
        record = group.scope_logs.add().log_records.add(
            time_unix_nano=self.now - round(ago * SECOND),
            severity_number=severity,
            body=any_value(body),
        )
        if trace:
            record.trace_id = trace.to_bytes(16, "big")
            record.span_id = (1).to_bytes(8, "big")
        self.writer.write([decode_logs(request.SerializeToString(), self.context)], [], self.now)

    def metrics(self, request: ExportMetricsServiceRequest) -> None:
        self.writer.write([decode_metrics(request.SerializeToString(), self.context)], [], self.now)

    def counter(
        self,
        name: str,
        attributes: Mapping[str, Value],
        values: Mapping[float, float],
        *,
        started: float = 3600.0,
        unit: str = "1",
        monotonic: bool = True,
        delta: bool = False,
        resource: Mapping[str, Value] | None = None,
    ) -> None:
        """Store points of a sum. values: by seconds ago."""
        request = ExportMetricsServiceRequest()
        group = request.resource_metrics.add()
        group.resource.attributes.extend(pairs({"service.name": "otel-ebpf", **(resource or {})}))
        metric = group.scope_metrics.add().metrics.add(name=name, unit=unit)
        metric.sum.is_monotonic = monotonic
        metric.sum.aggregation_temporality = 1 if delta else 2  # type: ignore[assignment]
        for ago, value in values.items():
            metric.sum.data_points.add(
                attributes=pairs(attributes),
                start_time_unix_nano=self.now - round(started * SECOND),
                time_unix_nano=self.now - round(ago * SECOND),
                as_double=value,
            )
        self.metrics(request)

    def histogram(
        self,
        name: str,
        attributes: Mapping[str, Value],
        bounds: list[float],
        counts: Mapping[float, list[int]],
        started: float = 3600.0,
    ) -> None:
        """Store points of a cumulative histogram. counts: by seconds ago."""
        request = ExportMetricsServiceRequest()
        group = request.resource_metrics.add()
        group.resource.attributes.extend(pairs({"service.name": "otel-ebpf"}))
        metric = group.scope_metrics.add().metrics.add(name=name, unit="s")
        metric.histogram.aggregation_temporality = 2  # type: ignore[assignment]
        for ago, one in counts.items():
            metric.histogram.data_points.add(
                attributes=pairs(attributes),
                start_time_unix_nano=self.now - round(started * SECOND),
                time_unix_nano=self.now - round(ago * SECOND),
                explicit_bounds=bounds,
                bucket_counts=one,
                count=sum(one),
                sum=sum(one) * 0.1,
            )
        self.metrics(request)

    def join(self) -> None:
        """As if all spans had waited for long enough for the other ends of their calls."""
        self.flush()
        self.writer.join(self.now + 3600 * SECOND)

    def checkout(self, trace: int, *, ago: float = 60.0, took: float = 0.1, failed: bool = False) -> None:
        """One trace of five spans over three processes and a database."""
        here: dict[str, Value] = {"host.name": "alpha", "service.namespace": "shop"}
        root = self.span(
            "frontend", "POST /checkout", SERVER, trace=trace, ago=ago, took=took, failed=failed, resource=here,
            client__address="203.0.113.7", http__request__method="POST",
            http__response__status_code=500 if failed else 200,
            http__route="/checkout", url__path="/checkout", otel_ebpf__link__method="traceparent",
        )  # fmt: skip
        call = self.span(
            "frontend", "GET", CLIENT, trace=trace, parent=root, ago=ago - 0.01, took=took / 2, resource=here,
            server__address="cart.local", server__port=8080, http__request__method="GET",
        )  # fmt: skip
        served = self.span(
            "cart", "GET /cart/{id}", SERVER, trace=trace, parent=call, ago=ago - 0.02, took=took / 4,
            resource={"host.name": "beta"}, http__request__method="GET", url__path="/cart/7",
        )  # fmt: skip
        self.span(
            "cart", "GET", CLIENT, trace=trace, parent=served, ago=ago - 0.025, took=took / 8,
            resource={"host.name": "beta"}, db__system__name="redis", server__address="10.0.0.5", server__port=6379,
            network__peer__address="10.0.0.5", network__peer__port=6379, db__query__text="GET cart:7",
        )  # fmt: skip
        self.span(
            "frontend", "SELECT orders", CLIENT, trace=trace, parent=root, ago=ago - 0.03, took=took / 8, resource=here,
            db__system__name="postgresql", server__address="orders-db", server__port=5432, failed=failed,
        )  # fmt: skip
