"""How many spans may leave: a token bucket that is asked for whole traces, the most wanted first.

A trace is let through while there are tokens, and is then paid for in full, if need be out of what comes next: so the
average holds whatever the sizes are, and none is cut in two. Who is less wanted leaves a part of the bucket to the
others (`reserve`): errors that come a moment later than a crowd of ordinary traces find something left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BURST_S = 5
"""The bucket holds what comes in so many seconds. A trace that has more spans than that is over the budget by itself:
it would silence all others for longer."""


class Budget:
    """rate: spans per second, 0: no limit. Times are monotonic ns.

    >>> budget = Budget(10)
    >>> budget.spend(np.array([30, 30, 30]), 0.0, now=0)
    array([ True,  True, False])
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._capacity = rate * BURST_S
        self._level = self._capacity
        self._at: int | None = None

    def spend(self, sizes: NDArray[np.intp], reserve: float, now: int) -> NDArray[np.bool_]:
        """(n,) which traces of these sizes are let through, earlier ones first; reserve: the part of the bucket that
        they must leave, 0 … 1."""
        if not self._rate:
            return np.ones(len(sizes), np.bool_)
        self._fill(now)
        possible = sizes <= self._capacity
        price = np.where(possible, sizes, 0)
        paid_before = np.cumsum(price) - price
        passes: NDArray[np.bool_] = possible & (paid_before < self._level - reserve * self._capacity)
        self._level -= float(price[passes].sum())
        return passes

    def _fill(self, now: int) -> None:
        elapsed = 0 if self._at is None else max(now - self._at, 0)
        self._at = now
        self._level = min(self._level + elapsed * self._rate / 1e9, self._capacity)
