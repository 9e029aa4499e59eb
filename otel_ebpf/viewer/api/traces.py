"""Search for traces: the newest spans that fit are looked for first, slice by slice of time, until there are enough.

Narrow columns decide; what the answer says of the traces that were found comes from a second question by their ids,
which is not bounded in time, so that also a trace that is longer than the window is told whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from otel_ebpf.viewer.api.answers import Entry, Matched, ServiceSpans, Traces, TraceSummary
from otel_ebpf.viewer.api.ask import Ask
from otel_ebpf.viewer.api.conditions import Conditions, of_search
from otel_ebpf.viewer.api.gaps import gaps
from otel_ebpf.viewer.api.values import Row, ms, span_id, text, trace_id, whole
from otel_ebpf.viewer.api.window import SECOND, Window
from otel_ebpf.viewer.contract import Reader

_FIRST_SLICE = 10 * SECOND
_ENOUGH_S = 0.7
"""After this time a search that found something already is content with it."""
_LONGEST = 2**61
"""More than any start: added to those of spans that have a parent, it puts roots first."""
_NEWEST = """
SELECT trace_high, trace_low, arg_max(span_id, duration) AS span_id, arg_max(service, duration) AS service,
    arg_max(name, duration) AS name, arg_max(start, duration) AS start, max(duration) AS duration, max(start) AS newest
FROM spans WHERE start >= ? AND start < ? AND {conditions}
GROUP BY trace_high, trace_low ORDER BY newest DESC LIMIT ?
"""
_SLOWEST = """
SELECT trace_high, trace_low, span_id, service, name, start, duration
FROM spans WHERE start >= ? AND start < ? AND {conditions}
ORDER BY duration DESC LIMIT ?
"""
_CALLS = (3, 4)
"""Kinds of a root that only calls: what was asked for is known where it is served."""
_FEW = 20_000
_SIGNED = f"""
SELECT rowid AS row FROM spans WHERE start >= ? AND start < ? AND {{conditions}} LIMIT {_FEW}
"""
_SUMMARY = f"""
SELECT trace_high, trace_low, service, count(*) AS spans, count(*) FILTER (status = 2) AS errors,
    min(start) AS start, max(start + duration) AS until,
    min(start + CASE WHEN parent_id = 0 THEN 0 ELSE {_LONGEST} END) AS root,
    arg_min(name, start + CASE WHEN parent_id = 0 THEN 0 ELSE {_LONGEST} END) AS name,
    arg_min(status, start + CASE WHEN parent_id = 0 THEN 0 ELSE {_LONGEST} END) AS status,
    arg_min(kind, start + CASE WHEN parent_id = 0 THEN 0 ELSE {_LONGEST} END) AS kind,
    min(start) FILTER (kind IN (2, 5)) AS served, arg_min(name, start) FILTER (kind IN (2, 5)) AS served_name
FROM spans WHERE trace_low IN (SELECT unnest(?::UBIGINT[])) GROUP BY trace_high, trace_low, service
"""


@dataclass(slots=True)
class Found:
    """What a search found: the slowest matching span of each trace, and whether these are all."""

    matches: dict[str, Row]
    complete: bool


def search(ask: Ask) -> Traces:
    """GET /traces"""
    window, given = ask.window, ask.given
    conditions = of_search(ask.reader, given)
    find = slowest if given.text("order") == "slowest" else newest
    found = find(ask.reader, conditions, window, given.sure("limit"))
    return Traces(
        start=ms(window.start),
        end=ms(window.end),
        traces=summaries(ask.reader, found.matches),
        complete=found.complete,
        gaps=gaps(ask.reader, window),
    )


def newest(reader: Reader, conditions: Conditions, window: Window, limit: int) -> Found:
    """The traces with the newest spans that fit, newest first."""
    began = time.monotonic()
    matches: dict[str, Row] = {}
    for start, end in slices(window):
        if conditions.nothing:
            break
        rows = _ask(reader, _NEWEST, conditions, Window(start, end), limit + 1)
        for row in rows:
            known = matches.setdefault(trace_id(row), row)
            if whole(known["duration"]) < whole(row["duration"]):
                matches[trace_id(row)] = row
        late = bool(matches) and time.monotonic() - began > _ENOUGH_S and start > window.start
        if len(matches) > limit or late:
            return Found(dict(list(matches.items())[:limit]), False)
    return Found(matches, True)


def _ask(reader: Reader, sql: str, conditions: Conditions, window: Window, limit: int) -> list[Row]:
    """The rows within a window; only those are looked at whose signatures fit, as long as they are few.

    A question of its own finds these: DuckDB would read the text of all attributes beside the signatures.
    """
    holds, values = conditions.sql, conditions.values(window.start, window.end)
    if conditions.signs:
        signed = _SIGNED.format(conditions=" AND ".join(conditions.signs))
        rows = reader.columns(signed, [window.start, window.end])["row"]
        if not len(rows):
            return []
        if len(rows) < _FEW:
            holds, values = f"rowid IN (SELECT unnest(?::BIGINT[])) AND {holds}", [rows.tolist(), *values]
    return reader.rows(sql.format(conditions=holds), [window.start, window.end, *values, limit])


def slices(window: Window) -> Iterator[tuple[int, int]]:
    """The window in parts, from its end on, each as long as all before it.

    >>> list(slices(Window(0, 35 * SECOND)))
    [(25000000000, 35000000000), (15000000000, 25000000000), (0, 15000000000)]
    """
    end, width = window.end, _FIRST_SLICE
    while end > window.start:
        start = max(end - width, window.start)
        yield start, end
        end, width = start, window.end - start


def slowest(reader: Reader, conditions: Conditions, window: Window, limit: int) -> Found:
    """The traces with the slowest spans that fit, slowest first."""
    matches: dict[str, Row] = {}
    most = limit * 4 + 1
    while not conditions.nothing:
        rows = _ask(reader, _SLOWEST, conditions, window, most)
        for row in rows:
            matches.setdefault(trace_id(row), row)
        all_of_them = len(rows) < most
        if len(matches) > limit or all_of_them or most > 10_000:
            kept = dict(list(matches.items())[:limit])
            return Found(kept, all_of_them and len(matches) <= limit)
        most *= 8
    return Found({}, True)


def summaries(reader: Reader, matches: dict[str, Row]) -> list[TraceSummary]:
    """What there is to say of each trace, in their order. matches: by id, the span that was found."""
    if not matches:
        return []
    parts: dict[str, list[Row]] = {}
    for row in reader.rows(_SUMMARY, [[whole(match["trace_low"]) for match in matches.values()]]):
        parts.setdefault(trace_id(row), []).append(row)
    return [_summary(number, parts[number], match) for number, match in matches.items() if number in parts]


def _summary(number: str, parts: list[Row], match: Row) -> TraceSummary:
    """parts: of each service."""
    root = min(parts, key=lambda part: whole(part["root"]))
    start = min(whole(part["start"]) for part in parts)
    entered = [part for part in parts if part["served"] is not None] if whole(root["kind"]) in _CALLS else []
    entry = min(entered, key=lambda part: whole(part["served"]), default=None)
    parts.sort(key=lambda part: -whole(part["spans"]))
    return TraceSummary(
        trace_id=number,
        start=ms(start),
        duration=ms(max(whole(part["until"]) for part in parts) - start),
        service=text(root["service"]),
        name=text(root["name"]),
        failed=whole(root["status"]) == 2,
        spans=sum(whole(part["spans"]) for part in parts),
        errors=sum(whole(part["errors"]) for part in parts),
        services=[ServiceSpans(name=text(part["service"]), spans=whole(part["spans"])) for part in parts[:100]],
        entry=Entry(service=text(entry["service"]), name=text(entry["served_name"])) if entry else None,
        matched=Matched(
            span_id=span_id(match["span_id"]),
            service=text(match["service"]),
            name=text(match["name"]),
            start=ms(match["start"]),
            duration=ms(match["duration"]),
        ),
    )
