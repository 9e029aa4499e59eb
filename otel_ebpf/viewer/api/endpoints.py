"""The endpoints of the query API, all in one table: routes, the OpenAPI document and docs/query-api.md come from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otel_ebpf.viewer.api import agents, answers, attributes, logs, metrics, red, services, status, trace, traces
from otel_ebpf.viewer.api.ask import Ask
from otel_ebpf.viewer.api.parameters import (
    SPAN_ID,
    TRACE_ID,
    Choice,
    Milliseconds,
    Pair,
    Parameter,
    Text,
    Time,
    Whole,
)

_TEXT = Text()
_START = Parameter("start", Time(), "the time from which on; Unix ms, now, or -15m (s, m, h, d)", "-15m")
_END = Parameter("end", Time(), "the time before which", "now")
_WINDOW = (_START, _END)
_SERVICE = Parameter("service", _TEXT, "of this service only")
_OPERATION = Parameter("operation", _TEXT, "of this operation (span name) only")
_KIND = Parameter("kind", Choice(*answers.KINDS), "of this span kind only")
_EDGE = (
    Parameter("client", _TEXT, "calls by this service or peer"),
    Parameter("server", _TEXT, "calls to this service, database or peer"),
)
_STEPS = Parameter("steps", Whole(1, 500), "at most so many steps of time", "60")
_TRACE = Parameter("id", TRACE_ID, "the trace's id in hex", in_path=True)


def _named(name: str, what: str) -> Parameter:
    return Parameter(name, _TEXT, what, in_path=True)


def _limit(default: int, most: int) -> Parameter:
    return Parameter("limit", Whole(1, most), "at most so many", str(default))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint (GET). answer: None for the one that streams. type: the TypedDict that it answers."""

    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    type: type
    answer: Callable[[Ask], object] | None


LIVE = Endpoint(
    "/live",
    "Spans as they come in (text/event-stream): events `spans` (a list of these) and `missed` ({count})",
    (Parameter("q", _TEXT, "filter in the language of `otel-ebpf tap`, e.g. service=shop duration>100ms"),),
    answers.LiveSpan,
    None,
)
ENDPOINTS = (
    Endpoint("/status", "The viewer itself: addresses, store, problems", (), answers.Status, status.status),
    Endpoint(
        "/map",
        "Services, databases and peers, and who calls whom",
        (*_WINDOW, Parameter("group_by", _TEXT, "a resource attribute, e.g. host.name")),
        answers.ServiceMap,
        services.service_map,
    ),
    Endpoint("/services", "All services with rate, errors, durations", _WINDOW, answers.Services, services.services),
    Endpoint(
        "/services/{name:path}",
        "One service: what it serves and calls, its callers and callees",
        (_named("name", "the service's name"), *_WINDOW),
        answers.ServiceDetail,
        services.service,
    ),
    Endpoint(
        "/red",
        "Rate, errors, durations over time: of a service, an operation, or an edge",
        (*_WINDOW, _STEPS, _SERVICE, _OPERATION, _KIND, *_EDGE),
        answers.RedSeries,
        red.red,
    ),
    Endpoint(
        "/traces",
        "Search for traces",
        (
            *(*_WINDOW, _SERVICE, _OPERATION, _KIND),
            Parameter("status", Choice("ok", "error"), "of spans that failed, or did not"),
            Parameter("min_ms", Milliseconds(), "spans of at least this duration"),
            Parameter("max_ms", Milliseconds(), "spans of at most this duration"),
            Parameter("attr", Pair(), "an attribute of the span or its resource; may be repeated", repeated=True),
            *_EDGE,
            Parameter("order", Choice("recent", "slowest"), "which ones first", "recent"),
            _limit(50, 1000),
        ),
        answers.Traces,
        traces.search,
    ),
    Endpoint("/traces/{id}", "A trace with its logs", (_TRACE,), answers.Trace, trace.trace),
    Endpoint(
        "/traces/{id}/spans/{span}",
        "One span",
        (_TRACE, Parameter("span", SPAN_ID, "the span's id in hex", in_path=True)),
        answers.Span,
        trace.span,
    ),
    Endpoint(
        "/logs",
        "Log records, newest first",
        (
            *(*_WINDOW, _SERVICE),
            Parameter("trace_id", TRACE_ID, "of this trace only"),
            Parameter("span_id", SPAN_ID, "of this span only"),
            Parameter("severity", Whole(0, 24), "at least this OTLP severity number (9 INFO, 13 WARN, 17 ERROR)"),
            Parameter("text", _TEXT, "the body contains this, whatever the case"),
            _limit(100, 5000),
        ),
        answers.Logs,
        logs.logs,
    ),
    Endpoint(
        "/attributes",
        "Attribute keys of the newest spans",
        (*_WINDOW, _SERVICE),
        answers.AttributeKeys,
        attributes.keys,
    ),
    Endpoint(
        "/attributes/{key:path}",
        "Values of an attribute in the newest spans",
        (
            _named("key", "the attribute's key"),
            *(*_WINDOW, _SERVICE),
            Parameter("prefix", _TEXT, "values that begin so, whatever the case"),
        ),
        answers.AttributeValues,
        attributes.values,
    ),
    Endpoint("/metrics", "The metrics that there are", _WINDOW, answers.MetricNames, metrics.names),
    Endpoint(
        "/metrics/{name:path}",
        "A metric over time: of counters the rate, of histograms the mean, else the last value",
        (_named("name", "the metric's name"), *_WINDOW, _SERVICE, _STEPS),
        answers.MetricSeries,
        metrics.series,
    ),
    Endpoint("/agents", "The agents that report here: health, losses, cost", _WINDOW, answers.Agents, agents.agents),
    LIVE,
)
"""All of them; more specific paths before those that they fit too."""
