"""What the configuration says of the way out."""

from __future__ import annotations

from collections.abc import Sequence

from otel_ebpf.config import Config
from otel_ebpf.config.otlp import SIGNALS
from otel_ebpf.otlp.settings import OtlpSettings, SignalSettings

POINTS, POINTS_AT_ONCE = 200_000, 8192
"""Data points that wait for export, and in one request. The bounds of spans are not theirs: those of an interval come
all at once, and would never pass a small one."""


def otlp_settings(config: Config, signals: Sequence[str] | None = None) -> OtlpSettings:
    """What the exporter needs to know, of the configuration. signals: other ones than it names."""
    settings = OtlpSettings(metric_interval=config.metrics.interval)
    for name in SIGNALS:
        target = config.otlp.of(name) if name in (signals or config.signals) else None
        if target is None:
            continue
        settings.signals[name] = SignalSettings(
            signal=name,
            endpoint=target.url,
            protocol=target.protocol,
            headers=target.headers,
            timeout=target.timeout,
            compression=target.compression,
            certificate=target.ca_file,
            client_certificate=target.cert_file,
            client_key=target.key_file,
            schedule_delay=0.0 if name == "metrics" else config.batch.delay,
            export_timeout=config.batch.timeout,
            queue_items=POINTS if name == "metrics" else config.batch.queue,
            batch_items=POINTS_AT_ONCE if name == "metrics" else config.batch.size,
        )
    return settings
