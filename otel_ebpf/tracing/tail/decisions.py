"""What was decided of which trace, for spans that come later: bounded in number, and in time as far as they fit.

A decision is one number, the trace's key with the verdict in its lowest bit. They are kept sorted in two generations;
when the younger one is full, or old enough, it becomes the older one, and that is forgotten.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPEN, DROPPED, KEPT = range(3)
"""What is known of a trace: nothing yet; it is not exported; it is."""

LIMIT = 1 << 17
KEEP_NS = 60 * 10**9
_VERDICT = np.uint64(1)
_NONE = np.zeros(0, np.uint64)


class Decisions:
    """At least the last `limit // 2` decisions, or those of the last `keep_ns`. Keys are even numbers (`trace_keys`).

    >>> decisions = Decisions()
    >>> decisions.note(np.array([8, 6], np.uint64), np.array([True, False]), now=0)
    >>> decisions.of(np.array([6, 8, 10], np.uint64)).tolist() == [DROPPED, KEPT, OPEN]
    True
    """

    def __init__(self, limit: int = LIMIT, keep_ns: int = KEEP_NS) -> None:
        self.forgotten = 0
        """Decisions that may have been younger than `keep_ns` when there was no more room for them."""
        self._limit, self._keep_ns = limit, keep_ns
        self._young, self._old = _NONE, _NONE
        self._since = 0
        """When the young ones began, and the old ones ended."""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def note(self, keys: NDArray[np.uint64], kept: NDArray[np.bool_], now: int) -> None:
        """These traces, none of which is known, are decided."""
        self._young = np.sort(np.concatenate([self._young, keys | kept.astype(np.uint64)]))
        aged = now - self._since >= self._keep_ns
        if aged or len(self._young) > self._limit // 2:
            self.forgotten += 0 if aged else len(self._old)
            self._young, self._old, self._since = _NONE, self._young, now

    def of(self, keys: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """(n,) OPEN, DROPPED or KEPT."""
        found = np.full(len(keys), OPEN, np.uint8)
        for known in (self._old, self._young):
            if len(known):
                at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
                entry = known[at]
                same = (entry & ~_VERDICT) == keys
                found[same] = np.where((entry[same] & _VERDICT) != 0, KEPT, DROPPED)
        return found
