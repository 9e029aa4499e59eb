"""Which requests may still come: a call is not given up while one is open that began before it.

The kernel's sweep tells, some times a second, since when each process has had a request open. When at some sweep after
a call none of its process's requests was older than the call, and all that had ended by then has been handed over, no
request can come any more that the call was made for.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

_MOST = 64
"""Sweeps that are remembered."""
_NEVER = np.uint64(2**64 - 1)

Sweep = tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint64]]
"""Processes with an open request, ascending; since when; since when one that is not slow."""
_NONE: Sweep = (np.zeros(0, np.uint32), np.zeros(0, np.uint64), np.zeros(0, np.uint64))


class Openings:
    """What the last sweeps saw. settle_ns: how long after its end a request is judged, at the latest."""

    def __init__(self, settle_ns: int) -> None:
        self._settle = settle_ns
        self._sweeps: deque[tuple[int, int, Sweep]] = deque(maxlen=_MOST)
        self._settled: tuple[int, Sweep] | None = None

    @property
    def informed(self) -> bool:
        """Whether anybody tells of open requests."""
        return bool(self._sweeps)

    def swept(self, now: int, pids: NDArray[np.uint32], open_since: NDArray[np.void] | None, until: int = 0) -> None:
        """What a sweep from `now` until `until` (0: at once) saw: processes, and for each a `struct open_since`; None:
        no process has any. What ended while it was under way, it may not have seen."""
        if self._sweeps and self._sweeps[-1][0] >= now:
            return
        sweep = _NONE
        if open_since is not None and len(pids):
            order = np.argsort(pids)
            sweep = (pids[order], open_since["t"][order].copy(), open_since["recent"][order].copy())
        self._sweeps.append((now, max(now, until), sweep))

    def settle(self, now: int) -> None:
        """Answer from now on by the last sweep of which all has been handed over that had ended by then."""
        while self._sweeps and self._sweeps[0][1] + self._settle <= now:
            at, _, sweep = self._sweeps.popleft()
            self._settled = at, sweep

    def conclude(self) -> None:
        """Answer by the last sweep: nothing more is handed over."""
        if self._sweeps:
            at, _, sweep = self._sweeps[-1]
            self._settled = at, sweep
            self._sweeps.clear()

    def waiting(self, tgid: NDArray[np.uint32], start: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) whether a request that began before `start` may still be handed over; all of them if nobody tells."""
        return self._waiting(tgid, start, 1)

    def waiting_recently(self, tgid: NDArray[np.uint32], start: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """The same, but for requests that are slow (SLOW_NS in bpf/include/pair.h): whoever waits for them may wait for
        a stream that never ends."""
        return self._waiting(tgid, start, 2)

    def _waiting(self, tgid: NDArray[np.uint32], start: NDArray[np.uint64], column: int) -> NDArray[np.bool_]:
        if self._settled is None:
            return np.ones(len(start), np.bool_)
        at, sweep = self._settled
        waits: NDArray[np.bool_] = start >= np.uint64(at)
        pids, times = sweep[0], sweep[column]
        if len(pids):
            place = np.minimum(np.searchsorted(pids, tgid), len(pids) - 1)
            waits |= np.where(pids[place] == tgid, times[place], _NEVER) <= start
        return waits
