"""Traces in Jaeger's JSON.

Source: jaegertracing/jaeger, model/json; open-telemetry/opentelemetry-collector-contrib, pkg/translator/jaeger (which
tags stand for fields of OTLP that Jaeger lacks).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from otel_ebpf.viewer.api.answers import Event, Span


def jaeger_trace(spans: list[Span]) -> dict[str, object]:
    """One trace; spans are all of it. Each distinct resource is a process."""
    processes: dict[str, dict[str, object]] = {}
    numbers: dict[str, str] = {}
    there = {span["span_id"] for span in spans}
    found = []
    for span in spans:
        key = json.dumps([span["service"], span["resource"]], sort_keys=True)
        process = numbers.get(key)
        if process is None:
            process = numbers[key] = f"p{len(numbers) + 1}"
            about = {name: value for name, value in span["resource"].items() if name != "service.name"}
            processes[process] = {"serviceName": span["service"], "tags": _tags(about.items())}
        found.append(_span(span, process, there))
    return {"traceID": spans[0]["trace_id"], "spans": found, "processes": processes, "warnings": None}


def _span(span: Span, process: str, there: set[str]) -> dict[str, object]:
    references = []
    if span["parent_id"]:
        references.append({"refType": "CHILD_OF", "traceID": span["trace_id"], "spanID": span["parent_id"]})
    for link in span["links"]:
        references.append({"refType": "FOLLOWS_FROM", "traceID": link["trace_id"], "spanID": link["span_id"]})
    missing = span["parent_id"] is not None and span["parent_id"] not in there
    return {
        "traceID": span["trace_id"],
        "spanID": span["span_id"],
        "operationName": span["name"],
        "references": references,
        "flags": 1,
        "startTime": round(span["start"] * 1e3),
        "duration": round(span["duration"] * 1e3),
        "tags": _tags([*span["attributes"].items(), *_fields(span)]),
        "logs": [_log(event) for event in span["events"]],
        "processID": process,
        "warnings": ["the parent span is not stored"] if missing else None,
    }


def _fields(span: Span) -> list[tuple[str, object]]:
    """What OTLP has fields for, as tags."""
    found: list[tuple[str, object]] = []
    if span["scope"]:
        found.append(("otel.scope.name", span["scope"]))
    if span["kind"] != "unspecified":
        found.append(("span.kind", span["kind"]))
    if span["status"] != "unset":
        found.append(("otel.status_code", span["status"].upper()))
    if span["status"] == "error":
        found.append(("error", True))
    if span["message"]:
        found.append(("otel.status_description", span["message"]))
    return found


def _log(event: Event) -> dict[str, object]:
    fields = [("event", event["name"]), *event["attributes"].items()]
    return {"timestamp": round(event["time"] * 1e3), "fields": _tags(fields)}


def _tags(pairs: Iterable[tuple[str, object]]) -> list[dict[str, object]]:
    return [_tag(key, value) for key, value in pairs]


def _tag(key: str, value: object) -> dict[str, object]:
    """With its type; lists and maps are JSON texts, as in the Collector's translation."""
    if isinstance(value, bool):
        return {"key": key, "type": "bool", "value": value}
    if isinstance(value, int):
        return {"key": key, "type": "int64", "value": value}
    if isinstance(value, float):
        return {"key": key, "type": "float64", "value": value}
    shown = value if isinstance(value, str) else "" if value is None else json.dumps(value, separators=(",", ":"))
    return {"key": key, "type": "string", "value": shown}
