"""What the picture of a window lacks: what the viewer refused or dropped, and what agents say that they lost."""

from __future__ import annotations

from otel_ebpf.viewer.api.answers import Gap
from otel_ebpf.viewer.api.counters import growths
from otel_ebpf.viewer.api.values import ms, text, whole
from otel_ebpf.viewer.api.window import Window
from otel_ebpf.viewer.contract import Reader

_MOST = 100


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
            count=whole(row["count"]),
            since=ms(row["since"]),
            until=ms(row["until"]),
        )
        for row in rows
    ]


def _of_agents(reader: Reader, window: Window) -> list[Gap]:
    counts: dict[tuple[str, str], tuple[float, int]] = {}
    for growth in growths(reader, ["otel_ebpf.losses"], window):
        if growth.value <= 0:
            continue
        where, reason = (str(growth.attributes.get(f"otel_ebpf.{name}", "")) for name in ("where", "reason"))
        count, seen = counts.get((where, reason), (0.0, 0))
        counts[where, reason] = count + growth.value, max(seen, growth.seen)
    return [
        Gap(what=f"agent: {where}", reason=reason, count=round(count), since=ms(window.start), until=ms(seen))
        for (where, reason), (count, seen) in counts.items()
    ]
