"""Unix time of what the kernel stamped with CLOCK_MONOTONIC."""

from __future__ import annotations

import time

_TRIES = 16


class UnixClock:
    """Unix ns minus monotonic ns: the same number until somebody sets the clock.

    Both clocks are slewed alike, so their difference changes by steps only (settimeofday(2), a leap second, suspend);
    but each reading of it is off by what passes between reading the one and the other. Spans that leave in different
    batches are to be comparable to the ns, so a reading counts only if it differs by more than it can be off.

    >>> UnixClock().offset() + time.monotonic_ns()
    1795311085434871906
    """

    def __init__(self) -> None:
        self._offset, self._doubt = _best()

    def offset(self) -> int:
        """Now, in ns."""
        offset, doubt = _read()
        if abs(offset - self._offset) > doubt + self._doubt:
            self._offset, self._doubt = _best()
        return self._offset


def _read() -> tuple[int, int]:
    """The difference, and by how much it may be off."""
    before = time.monotonic_ns()
    unix = time.time_ns()
    after = time.monotonic_ns()
    return unix - (before + after) // 2, after - before


def _best() -> tuple[int, int]:
    return min((_read() for _ in range(_TRIES)), key=lambda reading: reading[1])
