"""What a benchmark hands back: rows of measured against target, printed as one table and kept as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing: median and quartiles.

    >>> Spread.of([3.0, 1.0, 2.0]).median
    2.0
    """

    median: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return Spread(values[0], values[0], values[0], len(values))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high, len(values))

    def text(self, unit: str, digits: int) -> str:
        """`1.43 µs [1.38, 1.51]`."""
        plain = f"{self.median:.{digits}f}{unit}"
        return plain if self.count < 2 else f"{plain} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. limit: the target as a number, `measured.median` must not be above it (below, if
    `at_least`); None: reported beside the others, no target. detail: raw figures for results.json."""

    what: str
    measured: Spread
    unit: str
    digits: int = 2
    limit: float | None = None
    at_least: bool = False
    detail: dict[str, object] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.measured.median >= self.limit if self.at_least else self.measured.median <= self.limit

    @property
    def target(self) -> str:
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "MISSED"}[self.met]


def markdown(rows: Sequence[Row]) -> str:
    """The table, aligned for a terminal and valid Markdown."""
    cells = [("what", "target", "measured: median [quartiles]", "verdict")]
    cells += [(row.what, row.target, row.measured.text(row.unit, row.digits), row.verdict) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
