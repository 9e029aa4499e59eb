"""The time that a question is about, and its division into steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.viewer.api.values import ms, whole
from otel_ebpf.viewer.contract import Reader
from otel_ebpf.viewer.store.keep import COARSE_NS, FINE_FOR_NS, FINE_NS

SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end`, Unix nanoseconds.

    >>> Window(0, 60 * SECOND).steps(6, now=0).times
    [0.0, 10000.0, 20000.0, 30000.0, 40000.0, 50000.0]
    """

    start: int
    end: int

    @property
    def sums(self) -> tuple[int, int]:
        """The window in the sums: rows of `operations` and `edges` whose time is in it, or that reach into it."""
        return self.start - self.start % FINE_NS, self.end

    def seconds(self, reader: Reader) -> float:
        """How much of the window there are data for, that rates of a young store be not too low; at least 10 s."""
        oldest = reader.rows(
            "SELECT least((SELECT min(time) FROM operations), (SELECT min(time) FROM edges),"
            " (SELECT min(time) FROM points)) AS time"
        )[0]["time"]
        start = self.start if oldest is None else max(self.start, whole(oldest))
        return max(min(self.end, time.time_ns()) - start, FINE_NS) / SECOND

    def steps(self, wanted: int, now: int | None = None) -> Steps:
        """At most so many steps, and one more, since they begin on the full step.

        Their length is a multiple of that of the sums, which is a minute for what is older than some minutes: else some
        steps would get two rows and others none.
        """
        settled = (now if now is not None else time.time_ns()) - FINE_FOR_NS
        fine = self.sums[0] >= settled - settled % COARSE_NS
        unit = FINE_NS if fine else COARSE_NS
        step = max(-(-(self.end - self.start) // wanted), 1)
        step = -(-step // unit) * unit
        start = self.start - self.start % unit
        return Steps(start, step, max(-(-(self.end - start) // step), 1))


@dataclass(frozen=True)
class Steps:
    """`count` steps of `step` ns each, the first from `start` on."""

    start: int
    step: int
    count: int

    @property
    def end(self) -> int:
        """Where the last one ends."""
        return self.start + self.step * self.count

    @cached_property
    def times(self) -> list[float]:
        """When each begins, Unix milliseconds."""
        return [ms(self.start + i * self.step) for i in range(self.count)]

    def index(self, times: NDArray[np.generic]) -> NDArray[np.int64]:
        """(n,) which step each time (n,) is in."""
        found = (times.astype(np.int64) - self.start) // self.step
        return np.clip(found, 0, self.count - 1)
