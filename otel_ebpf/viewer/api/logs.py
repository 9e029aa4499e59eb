"""Log records: searched for, and those of a trace."""

from __future__ import annotations

from otel_ebpf.viewer.api.answers import Log, Logs
from otel_ebpf.viewer.api.ask import Ask
from otel_ebpf.viewer.api.conditions import Conditions
from otel_ebpf.viewer.api.values import Row, attributes, ms, span_id, text, trace_id, whole, within
from otel_ebpf.viewer.contract import Reader

_OF_TRACE = 2000
_BYTES = 32 << 20
_LOW = (1 << 64) - 1
_COLUMNS = "time, service, severity, body, event, trace_high, trace_low, span_id, attributes"


def logs(ask: Ask) -> Logs:
    """GET /logs"""
    window, given = ask.window, ask.given
    found = Conditions()
    found.add("time >= ? AND time < ?", window.start, window.end)
    number, span = given.number("trace_id"), given.number("span_id")
    if number is not None:
        found.add("trace_low = ? AND trace_high = ?", number & _LOW, number >> 64)
    if span is not None:
        found.add("span_id = ?", span)
    if given.text("service"):
        found.add("service = ?", given.text("service"))
    if given.number("severity") is not None:
        found.add("severity >= ?", given.number("severity"))
    if given.text("text"):
        found.add("contains(lower(body), lower(?))", given.text("text"))
    limit = given.sure("limit")
    rows = _bounded(ask.reader, found.sql, "DESC", limit + 1, found.parameters)
    return Logs(
        start=ms(window.start),
        end=ms(window.end),
        logs=[_log(row) for row in rows[:limit]],
        complete=len(rows) <= limit and (not rows or len(rows) == rows[0]["total"]),
    )


def logs_of_trace(reader: Reader, number: int) -> list[Log]:
    """In order of time."""
    which = "trace_low = ? AND trace_high = ?"
    return [_log(row) for row in _bounded(reader, which, "ASC", _OF_TRACE, [number & _LOW, number >> 64])]


def _bounded(reader: Reader, which: str, order: str, limit: int, parameters: list[object]) -> list[Row]:
    """The first rows that together are not too long; their column `total` is how many there were.

    Only numbers are sorted: DuckDB could not hold as many texts as an answer can.
    """
    fitting = reader.rows(
        f"SELECT rowid AS number, strlen(body) + strlen(attributes) AS size FROM logs WHERE {which}"
        f" ORDER BY time {order} LIMIT {limit}",
        parameters,
    )
    chosen = within(fitting, _BYTES)
    if not chosen:
        return []
    sql = f"SELECT rowid AS number, {_COLUMNS} FROM logs WHERE list_contains(?::BIGINT[], rowid)"
    found = {row["number"]: row for row in reader.rows(sql, [chosen])}
    return [{**found[number], "total": len(fitting)} for number in chosen if number in found]


def _log(row: Row) -> Log:
    return Log(
        time=ms(row["time"]),
        service=text(row["service"]),
        severity=whole(row["severity"]),
        body=text(row["body"]),
        event=text(row["event"]),
        trace_id=trace_id(row) if row["trace_low"] or row["trace_high"] else None,
        span_id=span_id(row["span_id"]) if row["span_id"] else None,
        attributes=attributes(row["attributes"]),
    )
