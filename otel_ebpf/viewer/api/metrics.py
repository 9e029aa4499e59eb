"""Metrics: which there are, and one of them over time."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ebpf.viewer.api.answers import MetricName, MetricNames, MetricSeries, Series
from otel_ebpf.viewer.api.ask import Ask, NotFound
from otel_ebpf.viewer.api.values import Row, attributes, ms, real, text, whole
from otel_ebpf.viewer.api.window import SECOND, Steps

_NAMES, _SERIES, _ROWS = 1000, 50, 100_000
TYPES = ("", "gauge", "sum", "histogram", "exponential histogram", "summary")
_SUM, _HISTOGRAM = 2, 3
_LIST = f"""
SELECT name, any_value(unit) AS unit, max(type) AS type, approx_count_distinct((resource, attributes)) AS series
FROM points WHERE time >= ? AND time < ? GROUP BY name ORDER BY name LIMIT {_NAMES}
"""
_STEPPED = f"""
WITH p AS (
    SELECT * FROM points
    WHERE name = $1 AND time >= $2 AND time < $3 AND {{which}}
), chosen AS (
    SELECT resource, attributes FROM p GROUP BY ALL ORDER BY count(*) DESC, attributes LIMIT {_SERIES}
)
SELECT service, resource, attributes, start AS piece, (time - $4) // $5 AS step,
    any_value(unit) AS unit, max(type) AS type, bool_or(monotonic) AS monotonic, bool_or(delta) AS delta,
    arg_max(value, time) AS value, sum(value) AS total,
    arg_max(count, time)::DOUBLE AS count, sum(count)::DOUBLE AS total_count,
    arg_max(sum, time) AS sum, sum(sum) AS total_sum
FROM p SEMI JOIN chosen USING (resource, attributes)
GROUP BY service, resource, attributes, piece, step ORDER BY service, attributes, resource, step, piece
LIMIT {_ROWS}
"""


def names(ask: Ask) -> MetricNames:
    """GET /metrics"""
    window = ask.window
    return MetricNames(
        metrics=[
            MetricName(
                name=text(row["name"]),
                unit=text(row["unit"]),
                type=TYPES[min(whole(row["type"]), 5)],
                series=whole(row["series"]),
            )
            for row in ask.reader.rows(_LIST, [window.start, window.end])
        ]
    )


@dataclass(slots=True)
class _Line:
    """One series while it is put together. before: its cumulative values at the end of the step before."""

    service: str
    attributes: dict[str, object]
    values: list[float | None]
    before: dict[int, tuple[float, float]] = field(default_factory=dict)


def series(ask: Ask) -> MetricSeries:
    """GET /metrics/NAME"""
    window, name, service = ask.window, ask.given.text("name") or "", ask.given.text("service")
    length = -(-(window.end - window.start) // ask.given.sure("steps"))
    step = -(-length // SECOND) * SECOND
    steps = Steps(window.start, step, -(-(window.end - window.start) // step))
    # One step more before the first, from which that one's rate is counted.
    sql = _STEPPED.format(which="service = $6" if service else "true")
    begin = steps.start - steps.step
    parameters = [name, begin, window.end, begin, steps.step, *([service] if service else [])]
    rows = ask.reader.rows(sql, parameters)
    if not rows and not ask.reader.rows("SELECT 1 FROM points WHERE name = ? LIMIT 1", [name]):
        raise NotFound(f"metric {name!r}: there is none of this name")
    lines: dict[tuple[object, object], _Line] = {}
    for row in rows:
        line = lines.get((row["resource"], row["attributes"]))
        if line is None:
            line = _Line(text(row["service"]), attributes(row["attributes"]), [None] * steps.count)
            lines[row["resource"], row["attributes"]] = line
        _put(line, row, whole(row["step"]) - 1, steps)
    return MetricSeries(
        start=ms(window.start),
        end=ms(window.end),
        name=name,
        unit=text(rows[0]["unit"]) if rows else "",
        type=TYPES[min(whole(rows[0]["type"]), 5)] if rows else "",
        step=ms(steps.step),
        times=steps.times,
        series=[
            Series(service=line.service, attributes=line.attributes, values=line.values) for line in lines.values()
        ],
    )


def _put(line: _Line, row: Row, step: int, steps: Steps) -> None:
    """The row's value into its step; step -1 is the one before the window."""
    kind, seconds = whole(row["type"]), steps.step / 1e9
    inside = 0 <= step < steps.count
    if kind >= _HISTOGRAM:
        count, total = _increase(line, row, "count", "sum")
        if inside and count > 0:
            line.values[step] = total / count
    elif kind == _SUM and row["monotonic"]:
        known = row["delta"] or whole(row["piece"]) in line.before or whole(row["piece"]) >= steps.start
        value, _ = _increase(line, row, "value", "value")
        if inside and known:
            line.values[step] = (line.values[step] or 0.0) + value / seconds
    elif inside and row["value"] is not None:
        line.values[step] = real(row["value"])


def _increase(line: _Line, row: Row, first: str, second: str) -> tuple[float, float]:
    """What two cumulative values grew by since the step before; a value that fell began anew."""
    if row["delta"]:
        names = {"value": "total", "count": "total_count", "sum": "total_sum"}
        return real(row[names[first]]), real(row[names[second]])
    now = real(row[first]), real(row[second])
    before = line.before.get(whole(row["piece"]), (0.0, 0.0))
    line.before[whole(row["piece"])] = now
    if now[0] < before[0]:
        return now
    return now[0] - before[0], now[1] - before[1]
