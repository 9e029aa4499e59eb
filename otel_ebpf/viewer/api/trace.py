"""One trace, one span: everything that is stored of them."""

from __future__ import annotations

from collections.abc import Sequence

from otel_ebpf.viewer.api.answers import KINDS, STATUSES, Event, Gap, Span, SpanLink, Trace
from otel_ebpf.viewer.api.ask import Ask, NotFound
from otel_ebpf.viewer.api.gaps import gaps
from otel_ebpf.viewer.api.logs import logs_of_trace
from otel_ebpf.viewer.api.values import Row, attributes, listed, ms, span_id, text, trace_id, whole, within
from otel_ebpf.viewer.api.window import SECOND, Window
from otel_ebpf.viewer.contract import Reader

SPANS = 10_000
"""Of one trace, or of all that are asked for at once; what is more is counted as a gap."""
BYTES = 64 << 20
"""Of the attributes, events and links of these."""
TOLD_AFTER = 60 * SECOND
"""Losses of a moment are told afterwards: agents report every 5 s to 60 s, and spans are refused when they come in."""
_LOW = (1 << 64) - 1
_SHORT = 1 << 96
"""Ids below are hardly whole: leading zeros may be missing, but an id is random."""
_SIZE = "strlen(spans.attributes) + coalesce(strlen(events), 0) + coalesce(strlen(links), 0)"
# Only numbers are sorted: DuckDB could not hold as many texts as an answer can.
_WHICH = f"""
SELECT spans.rowid AS number, {_SIZE} + coalesce(strlen(resources.attributes), 0) AS size
FROM spans LEFT JOIN resources ON resources.id = spans.resource WHERE {{which}}
ORDER BY start, span_id LIMIT {{spans}}
"""
_SPANS = """
SELECT spans.*, resources.attributes AS resource_attributes
FROM spans LEFT JOIN resources ON resources.id = spans.resource
WHERE {which} AND list_contains(?::BIGINT[], spans.rowid)
"""
_OF_TRACE = "trace_low = ? AND trace_high = ?"
_OF_TRACES = "trace_low IN (SELECT unnest(?::UBIGINT[]))"


def trace(ask: Ask) -> Trace:
    """GET /traces/ID"""
    number = ask.given.sure("id")
    rows = spans_of(ask.reader, number)
    if not rows:
        short = "an id has 32 digits, is it whole?" if number < _SHORT else "it may be older than what is kept"
        raise NotFound(f"trace {number:032x}: not found; {short}")
    window = Window(whole(rows[0]["start"]), max(whole(row["start"]) + whole(row["duration"]) for row in rows) + 1)
    found = gaps(ask.reader, Window(window.start, window.end + TOLD_AFTER))
    rest = whole(rows[0]["total"]) - len(rows)
    if rest:
        found.append(_rest(rest, len(rows), window))
    return Trace(
        trace_id=f"{number:032x}",
        spans=[as_span(row) for row in rows],
        logs=logs_of_trace(ask.reader, number),
        gaps=found,
    )


def span(ask: Ask) -> Span:
    """GET /traces/ID/spans/ID"""
    number, wanted = ask.given.sure("id"), ask.given.sure("span")
    which = f"{_OF_TRACE} AND span_id = ?"
    rows = _rows(ask.reader, which, [number & _LOW, number >> 64, wanted])
    if not rows:
        raise NotFound(f"span {wanted:016x} of trace {number:032x}: not found")
    return as_span(rows[0])


def _rows(reader: Reader, which: str, parameters: list[object]) -> list[Row]:
    """The first spans that fit; their column `total` is how many do."""
    fitting = reader.rows(_WHICH.format(which=which, spans=SPANS + 1), parameters)
    chosen = within(fitting[:SPANS], BYTES)
    total = len(fitting)
    if total > SPANS:
        total = whole(reader.rows(f"SELECT count(*) AS total FROM spans WHERE {which}", parameters)[0]["total"])
    rows = reader.rows(_SPANS.format(which=which), [*parameters, chosen]) if chosen else []
    rows.sort(key=lambda row: (whole(row["start"]), whole(row["span_id"])))
    return [{**row, "total": total} for row in rows]


def spans_of(reader: Reader, number: int) -> list[Row]:
    """The trace's spans in order of time, as many as may be; their column `total` is how many there are."""
    return _rows(reader, _OF_TRACE, [number & _LOW, number >> 64])


def spans_of_several(reader: Reader, numbers: Sequence[int]) -> tuple[dict[int, list[Row]], int]:
    """The same of several traces, and how many spans were left out."""
    found: dict[int, list[Row]] = {number: [] for number in numbers}
    rows = _rows(reader, _OF_TRACES, [[number & _LOW for number in found]])
    for row in rows:
        of = found.get(whole(row["trace_high"]) << 64 | whole(row["trace_low"]))
        if of is not None:
            of.append(row)
    return found, whole(rows[0]["total"]) - len(rows) if rows else 0


def _rest(rest: int, shown: int, window: Window) -> Gap:
    return Gap(
        what="spans of this trace",
        reason=f"only the first {shown} are shown",
        says="",
        count=rest,
        since=ms(window.start),
        until=ms(window.end),
    )


def as_span(row: Row) -> Span:
    """A row of `spans`, with the resource's attributes, as the API tells it."""
    parent = whole(row["parent_id"])
    return Span(
        trace_id=trace_id(row),
        span_id=span_id(row["span_id"]),
        parent_id=span_id(parent) if parent else None,
        service=text(row["service"]),
        name=text(row["name"]),
        kind=KINDS[min(whole(row["kind"]), 5)],
        start=ms(row["start"]),
        duration=ms(row["duration"]),
        status=STATUSES[min(whole(row["status"]), 2)],
        message=text(row["message"]),
        scope=text(row["scope"]),
        attributes=attributes(row["attributes"]),
        resource=attributes(row["resource_attributes"]),
        events=[_event(one) for one in listed(row["events"])],
        links=[_link(one) for one in listed(row["links"])],
    )


def _event(one: dict[str, object]) -> Event:
    time = text(one.get("time"))
    return Event(
        time=ms(int(time)) if time.isdecimal() else 0.0,
        name=text(one.get("name")),
        attributes=attributes(one.get("attributes")),
    )


def _link(one: dict[str, object]) -> SpanLink:
    return SpanLink(
        trace_id=text(one.get("trace_id")),
        span_id=text(one.get("span_id")),
        attributes=attributes(one.get("attributes")),
    )
