"""Own telemetry over OTLP: the snapshot's values as observable instruments of `opentelemetry-sdk`.

    telemetry = Telemetry(config, lambda: agent.statistics, lambda message: exporter.submit("metrics", message))
    …
    telemetry.close()

The SDK keeps time, temporality and the metric data model; its encoder writes the request; the agent's own exporter
sends it, so that endpoint, TLS, headers, retry, queue and the account of drops are those of all other metrics, and no
second HTTP or gRPC client is loaded. The SDK is imported when a `Telemetry` is made.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from otel_ebpf import __version__
from otel_ebpf.control.statistics import INSTRUMENTS, Instrument, Statistics
from otel_ebpf.otlp.framing import Message

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter

    from otel_ebpf.config import Config

SCOPE = "otel_ebpf"
CLOSE_MS = 1000
_FRESH_S = 0.5
"""All instruments of one collection read the same snapshot."""


class Telemetry:
    """Exports every `config.metrics.interval` until `close`."""

    def __init__(
        self,
        config: Config,
        statistics: Callable[[], Statistics],
        submit: Callable[[Message], object],
        resource: Mapping[str, str | int] | None = None,
    ) -> None:
        """statistics: called from the SDK's thread. submit: takes one `ExportMetricsServiceRequest`, must not block.
        resource: what `own_resource` gave, if others shall have the same."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource

        self._statistics = statistics
        self._snapshot = Statistics()
        self._taken = float("-inf")
        exporter = _exporter(submit, temporalities(config.metrics.temporality))
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=config.metrics.interval * 1e3)
        self._provider = MeterProvider([reader], Resource(resource or own_resource(config)), shutdown_on_exit=False)
        meter = self._provider.get_meter(SCOPE, __version__)
        create = {
            "counter": meter.create_observable_counter,
            "updowncounter": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        for i in INSTRUMENTS.values():
            create[i.kind](i.name, [self._observer(i)], i.unit, i.help)

    def close(self) -> None:
        """Submit the last values."""
        self._provider.shutdown(CLOSE_MS)

    def _observer(self, instrument: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for labels, value in self._now().of(instrument.name).items():
                yield Observation(value, dict(zip(instrument.labels, labels, strict=True)))

        return observe

    def _now(self) -> Statistics:
        now = time.monotonic()
        if now - self._taken > _FRESH_S:
            self._snapshot, self._taken = self._statistics(), now
        return self._snapshot


def own_resource(config: Config) -> dict[str, str | int]:
    """Who the agent is. OTEL_SERVICE_NAME wins over `service.name` in the resource attributes (OpenTelemetry
    specification, configuration/sdk-environment-variables.md)."""
    from opentelemetry.sdk import version as sdk

    given = dict(config.resource.attributes)
    if config.origins.get("service.name", "default") != "default":
        given["service.name"] = config.service.name
    return {
        "service.name": config.service.name,
        "service.version": __version__,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sdk.__version__,
        **given,
    }


def temporalities(preference: str) -> dict[type, AggregationTemporality]:
    """By kind of instrument, as the OpenTelemetry specification says of the preference (metrics/sdk_exporters/otlp.md).

    Only kinds that there are here: with "lowmemory" observable counters stay cumulative.
    """
    from opentelemetry.sdk.metrics import ObservableCounter, ObservableGauge, ObservableUpDownCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    counters = AggregationTemporality.DELTA if preference == "delta" else AggregationTemporality.CUMULATIVE
    return {
        ObservableCounter: counters,
        ObservableUpDownCounter: AggregationTemporality.CUMULATIVE,
        ObservableGauge: AggregationTemporality.CUMULATIVE,
    }


def _exporter(submit: Callable[[Message], object], preferred: dict[type, AggregationTemporality]) -> MetricExporter:
    """The SDK's interface to `submit`."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

    class Exporter(MetricExporter):
        def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
            points = sum(
                len(metric.data.data_points)
                for resource in metrics_data.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            )
            if points:
                submit(Message(encode_metrics(metrics_data).SerializeToString(), points))
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            return True

        def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
            """Nothing is kept here."""

    return Exporter(preferred_temporality=preferred)
