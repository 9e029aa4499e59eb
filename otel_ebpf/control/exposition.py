"""A snapshot as Prometheus text, format 0.0.4.

Names follow the OpenTelemetry specification, compatibility/prometheus_and_openmetrics.md: dots become underscores, the
unit is appended in words, counters end in `_total`; so what is scraped here and what comes through a Collector's
Prometheus exporter are the same series.
"""

from __future__ import annotations

from collections.abc import Iterator

from otel_ebpf.control.statistics import Instrument, Number, Statistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}


def prometheus_name(instrument: Instrument) -> str:
    """
    >>> prometheus_name(INSTRUMENTS["otel_ebpf.stage.time"])
    'otel_ebpf_stage_time_seconds_total'
    """
    unit = _UNITS.get(instrument.unit, "")
    parts = [instrument.name.replace(".", "_"), unit, "total" if instrument.kind == "counter" else ""]
    return "_".join(part for part in parts if part)


def exposition(statistics: Statistics) -> str:
    """The whole page."""
    return "".join(f"{line}\n" for line in _lines(statistics))


def _lines(statistics: Statistics) -> Iterator[str]:
    for instrument, values in statistics:
        name = prometheus_name(instrument)
        kind = "counter" if instrument.kind == "counter" else "gauge"
        yield f"# HELP {name} {_escape(instrument.help)}"
        yield f"# TYPE {name} {kind}"
        labels = [label.replace(".", "_") for label in instrument.labels]
        for texts, value in sorted(values.items()):
            pairs = ",".join(f'{k}="{_escape(v, quotes=True)}"' for k, v in zip(labels, texts, strict=True))
            yield f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: Number) -> str:
    """As Go's ParseFloat reads it: `NaN`, `+Inf` and `-Inf` are spelled so."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
