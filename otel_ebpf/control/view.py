"""What the live view shows, as lines of coloured parts; nothing here knows a terminal but its size.

SERVICE            IN/s   ERR    P50    P99   OUT/s   ERR    P50    P99
shop               1204  0.1% 1.23ms 8.41ms    2408    0%  211µs 1.02ms
── 1,234 more since the start ──────────────────────────────────────────────────
14:03:21.123 shop → 10.0.0.5:6379 redis GET cart:7 OK 1.23ms
LOST 12: kernel ring_full_exchange 12
3612 spans/s, 4 services
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from otel_ebpf.control.lines import Line, clip, latency_colour
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.control.text import clean, duration, fit, rate, width
from otel_ebpf.control.window import Direction, ServiceRow

_CELL = 8
_FULL = ("IN/s", "ERR", "P50", "P99", "OUT/s", "ERR", "P50", "P99")
_NARROW = ("IN/s", "ERR", "P99", "OUT/s")
_FULL_COLUMNS = 12 + _CELL * len(_FULL)
_MAX_SERVICE = 32
_MAX_FOOTER = 4
WAITING = "waiting: the next HTTP, Redis, PostgreSQL, MySQL or DNS exchange on this host appears here"


@dataclass(slots=True)
class View:
    """One moment. exchanges: lines, the newest last. more: exchanges that got no line. title: the first line, or ""."""

    services: Sequence[ServiceRow] = ()
    exchanges: Sequence[Line] = ()
    more: int = 0
    statistics: Statistics = field(default_factory=Statistics)
    unicode: bool = True
    title: str = ""


def frame(view: View, columns: int, rows: int) -> list[Line]:
    """At most `rows` lines of at most `columns` columns: services above, exchanges below, the state at the bottom.

    Where there is too little room the exchanges go first, then the services; losses are always shown.
    """
    bottom = footer(view, columns)[:rows]
    room = rows - len(bottom)
    top: list[Line] = [((fit(view.title, columns), "bold"),)] if view.title and room > 1 else []
    top += table(view.services, columns, min(max(room // 3, 4), room - len(top)))
    room -= len(top) + 1
    if room < 1:
        return top + bottom
    shown = [clip(line, columns) for line in view.exchanges[-room:]] or [((fit(WAITING, columns), "dim"),)]
    shown += [()] * (room - len(shown))
    return [*top, rule(view, columns), *shown, *bottom]


def table(services: Sequence[ServiceRow], columns: int, rows: int) -> list[Line]:
    """A line for each service, under a heading; the last one counts those that had no room."""
    if rows < 2:
        return []
    heads = _FULL if columns >= _FULL_COLUMNS else _NARROW
    first = max(min(columns - _CELL * len(heads), _MAX_SERVICE), 1)
    lines: list[Line] = [((fit("SERVICE", first), "bold"), *((f"{head:>{_CELL - 1}}", "bold") for head in heads))]
    fits = services if len(services) < rows else services[: rows - 2]
    lines += [_service(row, heads, first) for row in fits]
    if len(fits) < len(services):
        lines.append(((fit(f"{len(services) - len(fits)} more services", first + _CELL * len(heads)), "dim"),))
    return [clip(line, columns) for line in lines]


def _service(row: ServiceRow, heads: tuple[str, ...], first: int) -> Line:
    full = heads is _FULL
    name = (fit(clean(row.service), first), "cyan")
    if full:
        return (name, *_direction(row.inward), *_direction(row.outward))
    inward, outward = _direction(row.inward), _direction(row.outward)
    return (
        name,
        inward[0],
        inward[1] if row.inward else outward[1],
        inward[3] if row.inward else outward[3],
        outward[0],
    )


def _direction(direction: Direction | None) -> tuple[tuple[str, str], ...]:
    if direction is None:
        return (("-".rjust(_CELL - 1), "dim"), *(((" " * (_CELL - 1)), "") for _ in range(3)))
    errors = f"{direction.errors:.1%}" if 0 < direction.errors < 0.0995 else f"{direction.errors:.0%}"
    return (
        (rate(direction.rate).rjust(_CELL - 1), ""),
        (errors.rjust(_CELL - 1), "red" if direction.errors else "dim"),
        (duration(direction.p50).rjust(_CELL - 1), latency_colour(int(direction.p50))),
        (duration(direction.p99).rjust(_CELL - 1), latency_colour(int(direction.p99))),
    )


def rule(view: View, columns: int) -> Line:
    """The line between services and exchanges; it says how many exchanges have no line."""
    dash = "─" if view.unicode else "-"
    more = f"{dash * 2} {view.more:,} more since the start " if view.more else ""
    return ((fit(more, len(more)) + dash * (columns - len(more)), "dim"),) if len(more) < columns else ()


def footer(view: View, columns: int) -> list[Line]:
    """Losses, what does not work, and the rate of it all."""
    lines: list[Line] = []
    lost = losses(view.statistics)
    if lost:
        named = ", ".join(f"{where} {reason} {count:,}" for where, reason, count in lost)
        lines += _wrapped(f"LOST {sum(count for _, _, count in lost):,}: {named}", columns, "red", 2)
    for note in view.statistics.notes[: _MAX_FOOTER - 1 - len(lines)]:
        lines += _wrapped(clean(note), columns, "yellow", 1)
    total = sum(row.rate for row in view.services)
    count = len(view.services)
    lines.append(((fit(f"{rate(total)} spans/s, {count} service{'s' * (count != 1)}. Ctrl-C ends", columns), "dim"),))
    return lines


def losses(statistics: Statistics) -> list[tuple[str, str, int]]:
    """(where, reason, how many) of everything that was lost, the most first."""
    found = [(where, reason, int(n)) for (where, reason), n in statistics.of("otel_ebpf.losses").items() if n]
    return sorted(found, key=lambda loss: -loss[2])


def _wrapped(text: str, columns: int, colour: str, most: int) -> list[Line]:
    lines: list[Line] = []
    while text and len(lines) < most:
        last = len(lines) == most - 1
        cut = len(text) if last or width(text) <= columns else (text.rfind(" ", 0, columns) + 1 or columns)
        lines.append(((fit(text[:cut].rstrip(), columns), colour),))
        text = text[cut:]
    return lines
