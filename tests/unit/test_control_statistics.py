"""Own telemetry: one table of instruments, the same numbers at /metrics and over OTLP."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric, NumberDataPoint

from otel_ebpf.config import load
from otel_ebpf.control.exposition import exposition, prometheus_name
from otel_ebpf.control.report import report
from otel_ebpf.control.statistics import INSTRUMENTS, Instrument, Number, Statistics
from otel_ebpf.control.telemetry import Telemetry, own_resource
from otel_ebpf.otlp.framing import Message
from otel_ebpf.pipeline import Pipeline
from tests.unit.exchanges import CONNECTION

REGISTRY = Path(__file__).resolve().parents[2] / "docs" / "semconv" / "otel_ebpf_metrics.yaml"

# The grammar of text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats), strictly.
_NAME, _LABEL = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r"[a-zA-Z_][a-zA-Z0-9_]*"
_VALUE = r"(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]Inf)"
_PAIR = rf'{_LABEL}="(?:[^"\\\n]|\\["\\n])*"'
HELP = re.compile(rf"# HELP ({_NAME}) ((?:[^\\\n]|\\[\\n])*)")
TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram|summary|untyped)")
SAMPLE = re.compile(rf"({_NAME})(?:\{{({_PAIR}(?:,{_PAIR})*)\}})? ({_VALUE})")


def full() -> Statistics:
    """Every instrument has two values."""
    found = Statistics()
    for n, (name, instrument) in enumerate(INSTRUMENTS.items()):
        found.add(name, n, *[f"{label}-a" for label in instrument.labels])
        if instrument.labels:
            found.add(name, n + 0.5, *[f"{label}-b" for label in instrument.labels])
    return found


def parse(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """By metric: labels → value. Fails on whatever the format does not allow."""
    assert text == "" or text.endswith("\n")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    lines = iter(text.split("\n")[:-1])
    name = ""
    for line in lines:
        if line.startswith("# HELP"):
            described, typed = HELP.fullmatch(line), TYPE.fullmatch(next(lines))
            assert described, line
            assert typed, line
            name = described[1]
            assert typed[1] == name
            assert name not in found, f"{name}: two groups"
            assert (typed[2] == "counter") == name.endswith("_total")
            found[name] = {}
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        assert sample[1] == name, "samples follow the heading of their metric"
        pairs = re.findall(rf'({_LABEL})="((?:[^"\\]|\\.)*)"', sample[2] or "")
        labels = tuple((k, re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], v)) for k, v in pairs)
        assert labels not in found[name], f"{line}: twice"
        found[name][labels] = float(sample[3])
    return found


def labelled(instrument: Instrument, texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((k.replace(".", "_"), v) for k, v in zip(instrument.labels, texts, strict=True))


def test_every_instrument_is_exposed_with_the_values_that_it_has() -> None:
    found = full()
    parsed = parse(exposition(found))
    assert parsed == {
        prometheus_name(instrument): {labelled(instrument, texts): value for texts, value in values.items()}
        for instrument, values in found
    }
    assert len(parsed) == len(INSTRUMENTS)


@pytest.mark.parametrize(
    ("name", "prometheus"),
    [
        ("otel_ebpf.exchanges", "otel_ebpf_exchanges_total"),
        ("otel_ebpf.stage.time", "otel_ebpf_stage_time_seconds_total"),
        ("otel_ebpf.ring.fill", "otel_ebpf_ring_fill_ratio"),
        ("process.memory.usage", "process_memory_usage_bytes"),
        ("process.unix.file_descriptor.count", "process_unix_file_descriptor_count"),
    ],
)
def test_names_are_those_that_a_collector_would_expose(name: str, prometheus: str) -> None:
    assert prometheus_name(INSTRUMENTS[name]) == prometheus


@given(st.text(), st.text(), st.one_of(st.integers(-(2**63), 2**64), st.floats(allow_nan=False)))
def test_any_label_and_any_number_come_back(where: str, reason: str, value: Number) -> None:
    found = Statistics()
    found.add("otel_ebpf.losses", value, where, reason)
    labels = (("otel_ebpf_where", where), ("otel_ebpf_reason", reason))
    assert parse(exposition(found)) == {"otel_ebpf_losses_total": {labels: float(value)}}


def test_what_is_added_twice_is_summed_and_what_is_not_in_the_table_is_refused() -> None:
    found = Statistics()
    found.add("otel_ebpf.losses", 1, "kernel", "no_state")
    found.add("otel_ebpf.losses", 2, "kernel", "no_state")
    assert found.of("otel_ebpf.losses") == {("kernel", "no_state"): 3}
    with pytest.raises(KeyError):
        found.add("otel_ebpf.no_such", 1)
    with pytest.raises(AssertionError):
        found.add("otel_ebpf.losses", 1, "kernel")


def test_of_the_process_the_kernel_says_the_same() -> None:
    gc.collect()
    found = Statistics()
    found.add_process()
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    reported = found.of("process.memory.usage")[()]
    assert abs(reported / 1024 - int(resident.split()[1])) < 2048
    assert found.of("process.unix.file_descriptor.count")[()] == len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208
    assert set(found.of("process.cpu.time")) == {("user",), ("system",)}
    assert found.of("process.uptime")[()] > 0


def registry_groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(REGISTRY.read_text())["groups"]
    return groups


def test_the_documented_registry_is_the_table() -> None:
    documented = {
        group["metric_name"]: (
            group["instrument"],
            group["unit"],
            group["brief"],
            tuple(attribute["ref"] for attribute in group["attributes"]),
        )
        for group in registry_groups()
        if group["type"] == "metric"
    }
    own = {n: (i.kind, i.unit, i.help, i.labels) for n, i in INSTRUMENTS.items() if n.startswith("otel_ebpf.")}
    assert documented == own


def test_attributes_are_defined_or_are_the_conventions_own() -> None:
    defined = {
        a["id"] for group in registry_groups() if group["type"] == "attribute_group" for a in group["attributes"]
    }
    used = {label for instrument in INSTRUMENTS.values() for label in instrument.labels}
    assert used - defined == {"error.type", "cpu.mode", "otel_ebpf.link.method"}  # the last one is of spans as well
    assert defined <= used


def exported(*settings: str) -> ExportMetricsServiceRequest:
    """What `Telemetry` submits when it is closed."""
    config = load(flags={key: (text, "test") for key, text in (s.split("=", 1) for s in settings)})
    submitted: list[Message] = []
    telemetry = Telemetry(config, full, submitted.append)
    telemetry.close()
    assert len(submitted) == 1
    request = ExportMetricsServiceRequest.FromString(submitted[0].data)
    assert submitted[0].items == sum(len(points_of(metric)) for metric in metrics_of(request))
    return request


def metrics_of(request: ExportMetricsServiceRequest) -> list[Metric]:
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "otel_ebpf"
    return list(scope.metrics)


def points_of(metric: Metric) -> list[NumberDataPoint]:
    return list(metric.gauge.data_points if metric.HasField("gauge") else metric.sum.data_points)


def number(point: NumberDataPoint) -> Number:
    return point.as_int if point.HasField("as_int") else point.as_double


def texts_of(point: NumberDataPoint, instrument: Instrument) -> tuple[str, ...]:
    attributes = {a.key: a.value.string_value for a in point.attributes}
    assert set(attributes) == set(instrument.labels)
    return tuple(attributes[label] for label in instrument.labels)


def test_otlp_carries_the_same_numbers_as_the_snapshot() -> None:
    found = full()
    for metric in metrics_of(exported()):
        instrument = INSTRUMENTS[metric.name]
        assert (metric.unit, metric.description) == (instrument.unit, instrument.help)
        assert metric.HasField("gauge") == (instrument.kind == "gauge")
        if metric.HasField("sum"):
            assert metric.sum.is_monotonic == (instrument.kind == "counter")
            assert metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        values = {texts_of(point, instrument): number(point) for point in points_of(metric)}
        assert values == found.of(metric.name)


def test_with_delta_counters_are_deltas_and_levels_are_not() -> None:
    sums = {m.name: m.sum for m in metrics_of(exported("metrics.temporality=delta")) if m.HasField("sum")}
    delta, cumulative = (
        AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA,
        AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE,
    )
    assert sums["otel_ebpf.exchanges"].aggregation_temporality == delta
    assert sums["otel_ebpf.held"].aggregation_temporality == cumulative


def test_the_resource_is_the_agent_itself() -> None:
    request = exported("resource.attributes=team=sre,service.name=watcher")
    attributes = {a.key: a.value for a in request.resource_metrics[0].resource.attributes}
    assert attributes["service.name"].string_value == "watcher"
    assert attributes["team"].string_value == "sre"
    assert attributes["process.pid"].int_value == os.getpid()
    assert attributes["telemetry.sdk.language"].string_value == "python"


def test_otel_service_name_wins_over_the_resource_attributes() -> None:
    env = {"OTEL_SERVICE_NAME": "agent-7", "OTEL_RESOURCE_ATTRIBUTES": "service.name=watcher"}
    assert own_resource(load(env=env))["service.name"] == "agent-7"


def test_values_are_exported_every_interval_and_no_thread_is_left() -> None:
    submitted, enough = [], threading.Event()

    def submit(message: Message) -> None:
        submitted.append(message)
        if len(submitted) == 3:
            enough.set()

    before = threading.active_count()
    telemetry = Telemetry(load(flags={"metrics.interval": ("100ms", "test")}), full, submit)
    assert enough.wait(20)
    telemetry.close()
    assert threading.active_count() == before


def test_the_sdk_is_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys\n"
        "import otel_ebpf.control.telemetry, otel_ebpf.control.admin, otel_ebpf.control.console\n"
        "heavy = {m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'rich', 'http.', 'ssl', 'grpc'))}\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_the_loop_adds_while_another_thread_reads_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(load(), CONNECTION, lambda signal, message: None)
    pipeline.spans_by_protocol["http"] = 1
    pipeline.stages.seconds |= {"parse": 1.0, "trace": 1.0}  # the first run of "trace" is about to be counted
    pipeline.stages.runs["parse"] = 1
    source = Mock(
        failures={"on_exec": "no"}, received={}, frames={}, runtimes=None, propagation=None, **{"object.maps": {}}
    )
    for none in (source.losses, source.fills, source.object.run_statistics):
        none.return_value = {}
    add = Statistics.add

    def meanwhile(self: Statistics, name: str, value: Number, *labels: str) -> None:
        add(self, name, value, *labels)
        for growing in (pipeline.spans_by_protocol, source.failures, pipeline.stages.seconds, pipeline.stages.runs):
            growing[f"more {name} {labels}"] = 1

    monkeypatch.setattr(Statistics, "add", meanwhile)
    found = report(source, pipeline, Mock(statistics={}))
    assert found.of("otel_ebpf.attach.failures")["on_exec",] == 1
    assert found.of("otel_ebpf.stage.runs")["parse",] == 1
