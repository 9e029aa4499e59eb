"""What counters (sums and histograms in `points`) grew by in a window, whatever their temporality and restarts.

A cumulative series is cut where its start changes (metrics data model, "Resets and Gaps"); each piece grew by its last
value less the last one before the window. Where there is none before, the piece is new if it began in the window, or if
other series of the same sender are older; else its first value in the window is where counting begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from otel_ebpf.viewer.api.values import Row, attributes, listing, real, reals, text, whole
from otel_ebpf.viewer.api.window import SECOND, Window
from otel_ebpf.viewer.contract import Reader

BEFORE = 300 * SECOND
"""How far before the window the last value is looked for: senders report every 5 s to 60 s."""
_SERIES = 20_000
MOST = 1e18
"""Of anything that is counted, in one window."""
_PIECES = f"""
WITH p AS (
    SELECT *, time > $1 AS inside FROM points
    WHERE list_contains($4, name) AND time > $2 AND time <= $3 AND contains(attributes, $5)
)
SELECT
    name, resource, attributes, start, bounds,
    max(time) AS seen,
    max(time) FILTER (NOT inside) AS base_time,
    min(time) FILTER (inside) AS first_time,
    count(*) FILTER (inside) AS points,
    arg_max(value, time) FILTER (inside) AS last,
    arg_max(value, time) FILTER (NOT inside) AS base,
    arg_min(value, time) FILTER (inside) AS first,
    sum(value) FILTER (inside AND delta) AS total,
    arg_max(counts, time) FILTER (inside) AS last_counts,
    arg_max(counts, time) FILTER (NOT inside) AS base_counts,
    arg_min(counts, time) FILTER (inside) AS first_counts,
    list(counts) FILTER (inside AND delta AND counts IS NOT NULL) AS all_counts,
    delta
FROM p GROUP BY name, resource, attributes, start, delta, bounds
ORDER BY seen DESC LIMIT {_SERIES}
"""


@dataclass(frozen=True, slots=True)
class Growth:
    """What one piece of a series grew by.

    value: of a sum. counts: of a histogram, by its bounds (upper ones, one fewer). seen: its last point, Unix ns.
    seconds: in how long it grew so. began: the last point before the window, else the first in it, Unix ns; later: what
    the sum grew by since then. whole: what it grew by since it began to count.
    """

    name: str
    resource: int
    attributes: dict[str, object]
    value: float
    bounds: list[float]
    counts: list[float]
    seen: int
    seconds: float
    began: int
    later: float
    whole: float


def growths(reader: Reader, names: Sequence[str], window: Window, part: str = "") -> Iterator[Growth]:
    """All pieces of the named metrics that have points in the window. part: a text that their attributes contain."""
    rows = reader.rows(_PIECES, [window.start, window.start - BEFORE, window.end, list(names), part])
    older = {row["resource"] for row in rows if row["base_time"] is not None}
    for row in rows:
        if not row["points"]:
            continue
        new = whole(row["start"]) >= window.start or row["resource"] in older
        if row["delta"]:
            value = counted = bounded(real(row["total"]))
            later = counted if row["base_time"] is not None else bounded(counted - real(row["first"]))
            counts = _sum([reals(one) for one in listing(row["all_counts"])])
        else:
            value = grown(real(row["last"]), row["base"], None if new else row["first"])
            counted = bounded(real(row["last"]))
            later = grown(real(row["last"]), row["base"], row["first"])
            before = reals(row["base_counts"]) or ([] if new else reals(row["first_counts"]))
            counts = grown_counts(reals(row["last_counts"]), before)
        yield Growth(
            text(row["name"]),
            whole(row["resource"]),
            attributes(row["attributes"]),
            value,
            reals(row["bounds"]),
            counts,
            whole(row["seen"]),
            _seconds(row, window, new),
            whole(row["first_time"] if row["base_time"] is None else row["base_time"]),
            later,
            counted,
        )


def _seconds(row: Row, window: Window, new: bool) -> float:
    if row["base_time"] is not None:
        since = whole(row["base_time"])
    elif whole(row["start"]) >= window.start:
        since = whole(row["start"])
    else:
        since = window.start if new else whole(row["first_time"])
    return max((whole(row["seen"]) - since) / SECOND, 1.0)


def grown(last: float, base: object, first: object) -> float:
    """From the value before the window, else from the first in it, else from zero; a value that fell began anew.

    >>> grown(5.0, 3.0, None), grown(5.0, None, None), grown(2.0, 3.0, None)
    (2.0, 5.0, 2.0)
    """
    before = base if base is not None else first
    since = real(before)
    return bounded(last - since if since <= last else last)


def bounded(value: float) -> float:
    """A sender may say 1.8e308, twice; nothing that is counted is more than MOST.

    >>> bounded(float("inf")), bounded(-3.0), bounded(float("nan"))
    (1e+18, -3.0, 0.0)
    """
    return min(max(value, -MOST), MOST) if value == value else 0.0


def grown_counts(last: list[float], before: list[float]) -> list[float]:
    """The same for the counts of a histogram; before: empty for zeros.

    >>> grown_counts([5.0, 1.0], [3.0, 1.0])
    [2.0, 0.0]
    """
    if len(before) != len(last) or any(now < then for now, then in zip(last, before, strict=True)):
        return last
    return [now - then for now, then in zip(last, before, strict=True)]


def _sum(lists: list[list[float]]) -> list[float]:
    return [sum(column) for column in zip(*lists, strict=False)]
