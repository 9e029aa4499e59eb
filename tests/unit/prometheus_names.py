"""What of the agent's metrics arrives in Prometheus, by way of the Collector: names and labels.

Taken from the product itself: the metrics that are exported for the recorded conversations, the table of its own
instruments, and the service graph's. Translated as the OpenTelemetry specification says
(compatibility/prometheus_and_openmetrics.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from otel_ebpf.config import load
from otel_ebpf.control.exposition import prometheus_name
from otel_ebpf.control.statistics import INSTRUMENTS
from otel_ebpf.control.telemetry import own_resource
from otel_ebpf.metrics.graph_ends import Ends
from otel_ebpf.metrics.graph_series import FAILED, HISTOGRAMS, TOTAL
from otel_ebpf.resource.aliases import Aliases
from tests.unit.emitted import PROTOCOLS, emitted, values

EVERYWHERE = {"job", "instance"}
"""Of `service.name` and `service.instance.id`, by every exporter for Prometheus."""


@cache
def metrics() -> dict[str, frozenset[str]]:
    """Metric in Prometheus → its labels."""
    return {**_durations(), **_graph(), **own()}


def _durations() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for protocol in PROTOCOLS:
        for request in emitted(protocol).metrics:
            for of in request.resource_metrics:
                resource = values(of.resource.attributes).keys()
                for metric in (metric for scope in of.scope_metrics for metric in scope.metrics):
                    assert metric.unit == "s"
                    labels = found.setdefault(f"{metric.name}.seconds", set()) | resource
                    for point in metric.histogram.data_points:
                        labels |= values(point.attributes).keys()
                    found[f"{metric.name}.seconds"] = labels
    return {name: of for metric, labels in found.items() for name, of in _histogram(metric, labels).items()}


def _graph() -> dict[str, frozenset[str]]:
    """The labels that every edge has."""
    labels = {name for name, _ in Ends(Aliases(()), 0).both("a", "b", None, None)} | own_resource(load()).keys()
    found = {_name(counter.name): _labels(labels) for counter in (TOTAL, FAILED)}
    for histogram in HISTOGRAMS:
        found |= _histogram(histogram.name, labels)
    return found


def own() -> dict[str, frozenset[str]]:
    """The agent's metrics of itself."""
    resource = own_resource(load()).keys()
    return {prometheus_name(of): _labels({*of.labels, *resource}) for of in INSTRUMENTS.values()}


def _histogram(metric: str, labels: Iterable[str]) -> dict[str, frozenset[str]]:
    of = _labels(labels)
    name = _name(metric)
    return {f"{name}_bucket": of | {"le"}, f"{name}_sum": of, f"{name}_count": of}


def _labels(attributes: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_name, attributes)) | EVERYWHERE


def _name(text: str) -> str:
    return text.replace(".", "_")
