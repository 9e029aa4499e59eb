"""What the threads of a process never do: how sure a conclusion is that would be wrong if they did it.

Two explanations of a call can both fit what was seen, and a process shows which of them it is: where only one of the
two is possible, it is seen to do that or not. After n chances of which it took none, it does not take the next one with
a confidence of 1 - 1 / (n + 2) (the rule of succession). Once that it did counts `ONCE`-fold: then the program can.
Below `SURE` nothing is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.places import Places

SURE = 0.99
"""98 chances of which none was taken."""
ONCE = 10.0
_MOST = np.uint32(1 << 30)


class Habit:
    """One kind of behaviour, by process. places: those of others who forget at the same time.

    >>> habit = Habit()
    >>> habit.chance(np.full(500, 17, np.uint32))
    >>> habit.never(np.array([17, 18], np.uint32))
    array([0.998008, 0.      ], dtype=float32)
    """

    def __init__(self, places: Places | None = None) -> None:
        self._places = Places() if places is None else places
        self._chances = self._places.column(np.uint32)
        self._taken = self._places.column(np.uint32)

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes ended, or became another program."""
        self._places.forget(tgid)

    def chance(self, tgid: NDArray[np.uint32]) -> None:
        """(n,) one for each time that the process might have done it."""
        self._count(self._chances, tgid)

    def taken(self, tgid: NDArray[np.uint32]) -> None:
        """(n,) one for each time that it did."""
        self._count(self._taken, tgid)

    def seen(self, tgid: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """(n,) whether the process ever did it."""
        seen: NDArray[np.bool_] = self._taken[self._places.of(tgid)] > 0
        return seen

    def never(self, tgid: NDArray[np.uint32]) -> NDArray[np.float32]:
        """(n,) that the process did not do it this time; 0: not known."""
        pids = self._places.of(tgid)
        sure = 1 - (ONCE * self._taken[pids] + 1.0) / (self._chances[pids] + 2.0)
        return np.where(sure >= SURE, sure, 0).astype(np.float32)

    def _count(self, of: NDArray[np.uint32], tgid: NDArray[np.uint32]) -> None:
        if not len(tgid):
            return
        pids, counts = np.unique(self._places.take(tgid), return_counts=True)
        of[pids] = np.minimum(of[pids] + counts.astype(np.uint32), _MOST)
