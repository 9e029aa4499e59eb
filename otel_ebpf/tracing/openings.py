"""Which requests may still come: a call is not given up while one is open that began before it.

The kernel's sweep tells, some times a second, since when each process has had a request open. When at some sweep after
a call none of its process's requests was older than the call, and all that had ended by then has been handed over, no
request can come any more that the call was made for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_MOST = 64
"""Sweeps that are remembered."""
_NEVER = np.uint64(2**64 - 1)


class Openings:
    """What the last sweeps saw. settle_ns: how long after its end a request is judged, at the latest."""

    def __init__(self, settle_ns: int) -> None:
        self._settle = settle_ns
        self._sweeps: deque[tuple[int, Mapping[int, int]]] = deque(maxlen=_MOST)

    def swept(self, now: int, since: Mapping[int, int]) -> None:
        """since: by process, when its oldest open request began. Monotonic ns."""
        if not self._sweeps or self._sweeps[-1][0] < now:
            self._sweeps.append((now, since))

    def waiting(self, tgid: NDArray[np.uint32], start: NDArray[np.uint64], now: int) -> NDArray[np.bool_]:
        """(n,) whether a request that began before `start` may still be handed over; all of them if nobody tells."""
        settled = [sweep for sweep in self._sweeps if sweep[0] + self._settle <= now]
        if not settled:
            return np.ones(len(start), np.bool_)
        at, since = settled[-1]
        waits: NDArray[np.bool_] = start >= np.uint64(at)
        if since:
            pids = np.fromiter(since, np.uint32, len(since))
            times = np.fromiter(since.values(), np.uint64, len(since))
            order = np.argsort(pids)
            pids, times = pids[order], times[order]
            place = np.minimum(np.searchsorted(pids, tgid), len(pids) - 1)
            waits |= np.where(pids[place] == tgid, times[place], _NEVER) <= start
        return waits
