"""How many lines a person can be shown: a bound on lines per second, and which rows are worth them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans

PER_SECOND = 200


class Pace:
    """A token bucket (RFC 3290 §5.1.3): `per_second` lines in the mean, and as many at once after a quiet second.

    skipped: rows that got no line since `told` was last called.
    """

    def __init__(self, per_second: float = PER_SECOND) -> None:
        self.per_second = per_second
        self.skipped = 0
        self._tokens = per_second
        self._at = 0.0

    def take(self, wanted: int, now: float) -> int:
        """How many of the wanted lines may be shown now. now: seconds on any steady clock."""
        self._tokens = min(self.per_second, self._tokens + max(now - self._at, 0.0) * self.per_second)
        self._at = now
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        self.skipped += wanted - granted
        return granted

    def told(self) -> int:
        """The number of skipped rows, which is then 0 again."""
        skipped, self.skipped = self.skipped, 0
        return skipped


def worth_showing(rows: NDArray[np.intp], error: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """`count` of the rows, in their order: errors before others, newer before older.

    rows: (n,) indexes in the order of time. error: (n,) which of them failed.
    """
    if count >= len(rows):
        return rows
    if count <= 0:
        return rows[:0]
    failed, fine = np.flatnonzero(error), np.flatnonzero(~error)
    failed = failed[-count:]
    rest = count - len(failed)
    chosen = np.concatenate([failed, fine[-rest:] if rest else fine[:0]])
    chosen.sort()
    picked: NDArray[np.intp] = rows[chosen]
    return picked


def in_time_order(spans: Spans, wanted: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The wanted rows in the order of their requests: within a batch, rows come in the order of their decision."""
    rows = np.flatnonzero(wanted)
    ordered: NDArray[np.intp] = rows[np.argsort(spans.start[rows], kind="stable")]
    return ordered
