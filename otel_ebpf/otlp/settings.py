"""How telemetry leaves: what the exporter needs to know of each signal."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ebpf.metrics.points import Temporality

SIGNALS = ("traces", "metrics", "logs")


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """How one signal is sent. Times are seconds.

    endpoint: http/protobuf: the whole URL; grpc: a URL or a gRPC target. certificate: file with the CAs to trust, else
    the system's; client_certificate and client_key: files, both or none (mTLS). insecure: gRPC without TLS, for targets
    that do not say it by their scheme.
    timeout: of one request. export_timeout: of one batch with all its retries. schedule_delay: longest time that a
    message waits for others to be sent with. queue_items, batch_items: spans, log records, data points.
    """

    signal: str
    endpoint: str
    protocol: str = "http/protobuf"
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = 10.0
    compression: str = "none"
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    insecure: bool = False
    schedule_delay: float = 0.2
    export_timeout: float = 60.0
    queue_items: int = 200_000
    batch_items: int = 8192


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """What is exported (`signals`: those that have an endpoint) and how metrics are collected."""

    signals: dict[str, SignalSettings] = field(default_factory=dict)
    metric_interval: float = 60.0
    temporality: Temporality = Temporality.CUMULATIVE
