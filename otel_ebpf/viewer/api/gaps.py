"""What the picture of a window lacks: what the viewer refused or dropped, and what agents say that they lost."""

from __future__ import annotations

from otel_ebpf.viewer.api.answers import Gap
from otel_ebpf.viewer.api.counters import BEFORE, growths
from otel_ebpf.viewer.api.loss_words import said
from otel_ebpf.viewer.api.values import attributes, ms, text, whole
from otel_ebpf.viewer.api.window import SECOND, Window
from otel_ebpf.viewer.contract import Reader

_MOST = 100
_DATED = 20
_STEPS = 100
"""Into which a window is divided, of each of which the last report counts: a long one has too many reports to sort."""
_LOSSES, _HEARTBEAT = "otel_ebpf.losses", "process.cpu.time"
# When each counter rose: between a point and the one before it. A counter's first point may be a rise from nothing:
# since the sender's report before that, which has the CPU time in it, or since the sender began.
_RISES = """
WITH p AS (
    SELECT *, lag(value) OVER series AS before, lag(time) OVER series AS earlier,
        max(time) OVER (PARTITION BY resource ORDER BY time RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
            AS reported
    FROM (
        SELECT name, resource, attributes, start, delta, max(points.time) AS time,
            CASE WHEN delta THEN sum(value) ELSE arg_max(value, points.time) END AS value
        FROM points WHERE time > $2 AND time <= $3 AND name IN ($4, $5) AND list_contains($7::UBIGINT[], resource)
        GROUP BY name, resource, attributes, start, delta, (points.time - $1) // $6, points.time > $1
    )
    WINDOW series AS (PARTITION BY name, resource, attributes, start ORDER BY time)
)
SELECT attributes, min(coalesce(earlier, reported, start)) AS since, max(time) AS until FROM p
WHERE name = $4 AND time > $1 AND CASE
    WHEN delta THEN value > 0
    WHEN before IS NOT NULL THEN value > before
    ELSE value > 0 AND (reported IS NOT NULL OR start >= $1)
END GROUP BY attributes
"""


def gaps(reader: Reader, window: Window) -> list[Gap]:
    """The greatest first."""
    found = [*_own(reader, window), *_of_agents(reader, window)]
    return sorted(found, key=lambda gap: -gap["count"])[:_MOST]


def _own(reader: Reader, window: Window) -> list[Gap]:
    rows = reader.rows(
        "SELECT what, reason, sum(count)::BIGINT AS count, min(time) AS since, max(time) AS until FROM losses"
        f" WHERE time >= ? AND time < ? GROUP BY what, reason ORDER BY count DESC LIMIT {_MOST}",
        [window.start, window.end],
    )
    return [
        Gap(
            what=text(row["what"]),
            reason=text(row["reason"]),
            says=said(text(row["reason"])),
            count=whole(row["count"]),
            since=ms(row["since"]),
            until=ms(row["until"]),
        )
        for row in rows
    ]


def _of_agents(reader: Reader, window: Window) -> list[Gap]:
    found: dict[tuple[str, str], Gap] = {}
    senders: set[int] = set()
    for growth in growths(reader, [_LOSSES], window):
        if growth.value <= 0:
            continue
        where, reason = _which(growth.attributes)
        senders.add(growth.resource)
        since, until = ms(max(growth.seen - round(growth.seconds * SECOND), window.start)), ms(growth.seen)
        gap = found.setdefault(
            (where, reason),
            Gap(
                what=f"agent: {where}",
                reason=reason,
                says=said(reason),
                count=0,
                since=since,
                until=until,
            ),
        )
        gap["count"] += round(growth.value)
        gap["since"], gap["until"] = min(gap["since"], since), max(gap["until"], until)
    # Of more agents than these the losses overlap anyway: the time that the counters were looked at must do.
    if 0 < len(senders) <= _DATED:
        _date(found, reader, window, senders)
    return list(found.values())


def _which(said_of_it: dict[str, object]) -> tuple[str, str]:
    return str(said_of_it.get("otel_ebpf.where", "")), str(said_of_it.get("otel_ebpf.reason", ""))


def _date(found: dict[tuple[str, str], Gap], reader: Reader, window: Window, senders: set[int]) -> None:
    """Set the time within which each was lost."""
    step = max((window.end - window.start) // _STEPS, 1)
    rows = reader.rows(
        _RISES, [window.start, window.start - BEFORE, window.end, _LOSSES, _HEARTBEAT, step, list(senders)]
    )
    times: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        key, since, until = _which(attributes(row["attributes"])), whole(row["since"]), whole(row["until"])
        known = times.get(key, (since, until))
        times[key] = max(min(known[0], since), window.start - BEFORE), max(known[1], until)
    for key, (since, until) in times.items():
        if key in found:
            found[key]["since"], found[key]["until"] = ms(since), ms(until)
