"""Jaeger's query API over HTTP and JSON, as its UI, Grafana's Jaeger data source and other tools read it.

Source: jaegertracing/jaeger, the query service's HTTP handler, its parser of parameters and its JSON model;
jaegertracing.io, "APIs". Times are microseconds (of dependencies: milliseconds), durations texts like "1.2ms".
Like Jaeger it ignores parameters that it does not know.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_ebpf.viewer.api.answers import KINDS
from otel_ebpf.viewer.api.ask import NotFound
from otel_ebpf.viewer.api.conditions import Conditions, add_attribute
from otel_ebpf.viewer.api.graph import graph
from otel_ebpf.viewer.api.jaeger_json import jaeger_trace
from otel_ebpf.viewer.api.parameters import REPEATED, TEXT, TRACE_ID, BadParameter
from otel_ebpf.viewer.api.routing import QUESTIONS, answer, code_and_line, in_thread
from otel_ebpf.viewer.api.trace import as_span, spans_of, spans_of_several
from otel_ebpf.viewer.api.traces import newest
from otel_ebpf.viewer.api.values import text, whole
from otel_ebpf.viewer.api.window import SECOND, Window
from otel_ebpf.viewer.contract import Reader

_LOOKBACK = 2 * 86400 * SECOND
_DEPENDENCIES = 86400 * SECOND
_LIMIT, _MOST = 100, 1500
_IDS = 100
_NAMES = 10_000
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of one request, by name."""

    reader: Reader
    values: dict[str, list[str]]

    def text(self, name: str) -> str:
        """The first value; "" if there is none."""
        return self.values.get(name, [""])[0]

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        found = self.text(name)
        if not found:
            return default
        if not re.fullmatch(r"[0-9]{1,18}", found):
            raise BadParameter(f"unable to parse param '{name}': {found[:80]!r} is not a whole number")
        return int(found)

    def duration(self, name: str) -> int | None:
        """Like Go's time.ParseDuration: "1.2ms", "1h30m"; in ns."""
        found = self.text(name)
        if not found:
            return None
        parts = _DURATION.findall(found)
        if "".join(number + unit for number, unit in parts) != found or len(found) > 40:
            raise BadParameter(f"unable to parse param '{name}': {found[:80]!r} is not a duration like 1.2ms")
        return min(round(sum(float(number) * _UNITS[unit] for number, unit in parts)), 2**62)

    def window(self) -> Window:
        """start and end, in microseconds."""
        now = time.time_ns()
        end = min(self.number("end", now // 1000 + 1) * 1000, 2**62)
        start = min(self.number("start", (now - _LOOKBACK) // 1000) * 1000, 2**62)
        if start >= end:
            raise BadParameter("'start' should be before 'end'")
        return Window(start, end)


def routes(reader: Reader) -> list[Route]:
    """For /api: `Mount("/api", routes=jaeger.routes(reader))`."""
    limiter = anyio.CapacityLimiter(QUESTIONS)

    def handler(work: Callable[[Query], object]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            values: dict[str, list[str]] = {name: [value] for name, value in request.path_params.items()}
            for name, value in request.query_params.multi_items():
                values.setdefault(name, []).append(value)
            query = Query(reader, values)
            return await in_thread(lambda: answer(work(query)), limiter, _problem)

        return handle

    return [
        Route("/services", handler(_services)),
        Route("/services/{service:path}/operations", handler(_operations_of_service)),
        Route("/operations", handler(_operations)),
        Route("/traces", handler(_traces)),
        Route("/traces/{id}", handler(_trace)),
        Route("/dependencies", handler(_dependencies)),
    ]


def _structured(data: object, total: int = 0, errors: object = None) -> dict[str, object]:
    return {"data": data, "total": total, "limit": 0, "offset": 0, "errors": errors}


def _problem(error: Exception) -> Response:
    code, line = code_and_line(error)
    return answer(_structured(None, errors=[{"code": code, "msg": line}]), code)


def _services(query: Query) -> object:
    rows = query.reader.rows(f"SELECT DISTINCT service FROM operations ORDER BY service LIMIT {_NAMES}")
    return _structured([text(row["service"]) for row in rows], len(rows))


def _operations_of_service(query: Query) -> object:
    names = sorted({name for name, _ in _named(query.reader, query.text("service"), "")})
    return _structured(names, len(names))


def _operations(query: Query) -> object:
    service, kind = query.text("service"), query.text("spanKind")
    if not service:
        raise BadParameter("parameter 'service' is required")
    found = [{"name": name, "spanKind": kind} for name, kind in _named(query.reader, service, kind)]
    return _structured(found, len(found))


def _named(reader: Reader, service: str, kind: str) -> list[tuple[str, str]]:
    rows = reader.rows(
        "SELECT DISTINCT name, kind FROM operations WHERE service = ? ORDER BY name, kind LIMIT ?", [service, _NAMES]
    )
    found = [(text(row["name"]), KINDS[min(whole(row["kind"]), 5)]) for row in rows]
    return [(name, "" if of == "unspecified" else of) for name, of in found if kind in ("", of)]


def _traces(query: Query) -> object:
    ids = [number for value in query.values.get("traceID", [])[:_IDS] for number in (_trace_id(value),)]
    if ids:
        return _by_ids(query.reader, ids)
    service = query.text("service")
    if not service:
        raise BadParameter("parameter 'service' is required")
    low, high = query.duration("minDuration"), query.duration("maxDuration")
    if low and high and high < low:
        raise BadParameter("'maxDuration' should be greater than 'minDuration'")
    found = Conditions()
    if low:
        found.add("duration >= ?", low)
    if high:
        found.add("duration <= ?", high)
    found.add("service = ?", service)
    if query.text("operation"):
        found.add("name = ?", query.text("operation"))
    for key, value in _tags(query).items():
        _add_tag(found, query.reader, key, value)
    limit = min(max(query.number("limit", _LIMIT), 1), _MOST)
    matches = newest(query.reader, found, query.window(), limit).matches
    return _by_ids(query.reader, [int(number, 16) for number in matches])


def _by_ids(reader: Reader, ids: list[int]) -> object:
    found, left_out = spans_of_several(reader, ids)
    traces = [jaeger_trace([as_span(row) for row in rows]) for rows in found.values() if rows]
    errors: list[dict[str, object]] = [
        {"msg": "trace not found", "traceID": f"{number:032x}"} for number, rows in found.items() if not rows
    ]
    if left_out:
        errors = [{"msg": f"{left_out} spans are left out, since these are too many: ask for fewer traces"}]
    return _structured(traces, errors=errors or None)


def _tags(query: Query) -> dict[str, str]:
    found: dict[str, str] = {}
    for tag in query.values.get("tag", [])[:REPEATED]:
        key, colon, value = tag.partition(":")
        if not colon:
            raise BadParameter(f"malformed 'tag' parameter, expecting key:value, received: {tag[:80]}")
        found[key] = value
    for tags in query.values.get("tags", [])[:REPEATED]:
        try:
            several = json.loads(tags) if len(tags) <= 20 * TEXT else None
        except (ValueError, RecursionError):
            several = None
        if not isinstance(several, dict) or not all(isinstance(value, str) for value in several.values()):
            raise BadParameter("malformed 'tags' parameter, expecting a JSON object of texts")
        found |= several
    return dict(list(found.items())[:REPEATED])


def _add_tag(found: Conditions, reader: Reader, key: str, value: str) -> None:
    """Some tags are no attributes but stand for what OTLP has fields for."""
    if key == "error":
        found.add("status = 2" if value == "true" else "status <> 2")
    elif key == "otel.status_code":
        found.add("status = ?", {"OK": 1, "ERROR": 2}.get(value.upper(), 0))
    elif key == "span.kind":
        found.add("kind = ?", list[str](KINDS).index(value) if value in KINDS else 255)
    elif key in ("otel.scope.name", "otel.library.name"):
        found.add("scope = ?", value)
    else:
        add_attribute(found, reader, key, value)


def _trace_id(value: str) -> int:
    try:
        return TRACE_ID.read(value)
    except ValueError:
        raise BadParameter(f"cannot parse traceID param: {value[:80]!r} is not {TRACE_ID.expected}") from None


def _trace(query: Query) -> object:
    rows = spans_of(query.reader, _trace_id(query.text("id")))
    if not rows:
        raise NotFound("trace not found")
    return _structured([jaeger_trace([as_span(row) for row in rows])])


def _dependencies(query: Query) -> object:
    end = min(query.number("endTs", time.time_ns() // 10**6 + 1) * 10**6, 2**62)
    lookback = min(query.number("lookback", _DEPENDENCIES // 10**6) * 10**6, 2**62)
    found = graph(query.reader, Window(max(end - max(lookback, SECOND), 0), end))
    service = query.text("service")
    return _structured(
        [
            {"parent": edge.client, "child": edge.server, "callCount": edge.calls}
            for edge in found.edges.values()
            if service in ("", edge.client, edge.server)
        ]
    )
