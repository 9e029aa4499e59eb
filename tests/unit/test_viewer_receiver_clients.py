"""Those who send to the viewer in earnest: OpenTelemetry's SDK for Python, and the agent's own exporter."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from otel_ebpf.otlp.exporter import Exporter
from otel_ebpf.otlp.settings import OtlpSettings, SignalSettings
from otel_ebpf.viewer.contract import Malformed, Outcome, Refused
from tests.unit.viewer_receivers import REQUESTS, MemoryIntake, Served, served

Answers: TypeAlias = Callable[[int], Outcome | Refused]


def refused_at_first(n: int) -> Outcome | Refused:
    """Full when the first comes."""
    return Refused("the queue is full", 0.1) if n == 0 else Outcome()


def spans_over_grpc(it: Served) -> SpanExporter:
    return GrpcSpans(endpoint=f"http://{it.grpc}", insecure=True)


def spans_over_http(it: Served) -> SpanExporter:
    return HttpSpans(endpoint=it.http(), compression=Compression.Gzip)


@pytest.mark.parametrize("exporter", [spans_over_grpc, spans_over_http])
@pytest.mark.parametrize("answers", [lambda _: Outcome(), refused_at_first])
def test_the_sdks_spans(exporter: Callable[[Served], SpanExporter], answers: Answers) -> None:
    """They arrive; and if the viewer is full at first, the SDK comes again with them."""
    with served(intake=MemoryIntake(answers)) as it:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter(it)))
        with provider.get_tracer("shop").start_as_current_span("GET /basket") as span:
            span.set_attribute("http.request.method", "GET")
        provider.shutdown()
        ((signal, request),) = it.intake.taken
        (resource,) = REQUESTS[signal].FromString(request).resource_spans  # type: ignore[attr-defined]
        assert resource.scope_spans[0].scope.name == "shop"
        assert [span.name for span in resource.scope_spans[0].spans] == ["GET /basket"]


@pytest.mark.parametrize("over", ["grpc", "http"])
def test_the_sdks_metrics_and_logs(over: str) -> None:
    with served() as it:
        metrics = GrpcMetrics(endpoint=it.grpc, insecure=True) if over == "grpc" else HttpMetrics(it.http("metrics"))
        meters = MeterProvider([PeriodicExportingMetricReader(metrics, 3_600_000)])
        meters.get_meter("shop").create_counter("orders").add(3)
        meters.shutdown()
        records = GrpcLogs(endpoint=it.grpc, insecure=True) if over == "grpc" else HttpLogs(endpoint=it.http("logs"))
        loggers = LoggerProvider()
        loggers.add_log_record_processor(SimpleLogRecordProcessor(records))
        loggers.get_logger("shop").emit(body="sold out", severity_number=SeverityNumber.WARN)
        loggers.shutdown()
        taken = dict(it.intake.taken)
        (metric,) = REQUESTS["metrics"].FromString(taken["metrics"]).resource_metrics  # type: ignore[attr-defined]
        assert metric.scope_metrics[0].metrics[0].sum.data_points[0].as_int == 3
        (log,) = REQUESTS["logs"].FromString(taken["logs"]).resource_logs  # type: ignore[attr-defined]
        assert log.scope_logs[0].log_records[0].body.string_value == "sold out"


def settings(it: Served, protocol: str, compression: str) -> OtlpSettings:
    endpoint = f"http://{it.grpc}" if protocol == "grpc" else it.http()
    signal = SignalSettings("traces", endpoint, protocol, compression=compression, schedule_delay=0.0, insecure=True)
    return OtlpSettings({"traces": signal})


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_agents_exporter_comes_again_when_the_viewer_is_full(protocol: str, compression: str) -> None:
    with served(intake=MemoryIntake(refused_at_first)) as it:
        exporter = Exporter(settings(it, protocol, compression))
        exporter.submit("traces", b"\x0a\x00" * 7, 7)
        assert exporter.flush(30)
        exporter.close()
        statistics = exporter.statistics["traces"]
        assert (statistics.delivered_items, statistics.retries) == (7, 1)
        assert it.intake.taken == [("traces", b"\x0a\x00" * 7)]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    ("said", "reason", "lost"), [(Outcome(2, "no time"), "partial_success", 2), (Malformed("no OTLP"), "refused", 7)]
)
def test_the_agents_exporter_counts_what_the_viewer_does_not_take(
    protocol: str, said: Outcome | Malformed, reason: str, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with served(intake=MemoryIntake(lambda _: said)) as it:
        exporter = Exporter(settings(it, protocol, "gzip"))
        exporter.submit("traces", b"\x0a\x00", 7)
        assert exporter.flush(30)
        exporter.close()
        assert exporter.statistics["traces"].dropped[reason] == lost
