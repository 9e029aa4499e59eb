"""Whether the workers of a process go on working after a response: how sure a hand-over to a busy worker is.

A request that waited in a queue while its worker wrote the response before leaves two explanations for the worker's
next call: the request, or what was left to do for the one before. A process shows which it is. Where a worker was idle
between two responses only what is left can make it call; so after n such gaps and k such calls, the next call is for
the request with a confidence of 1 - (k + 1) / (n + 2) (the rule of succession). Below `SURE` nothing is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import sparse

SURE = 0.995
"""200 gaps without a call."""
_PIDS = 1 << 22
_PID_MASK = np.uint32(_PIDS - 1)
_MOST = np.uint32(1 << 30)


class Leftovers:
    """By process id (PID_MAX_LIMIT is 2^22); only pages of processes with workers exist."""

    def __init__(self) -> None:
        self._gaps = sparse(_PIDS, np.uint32)
        self._seen = sparse(_PIDS, np.uint32)

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes ended, or became another program."""
        self._gaps[tgid & _PID_MASK] = 0
        self._seen[tgid & _PID_MASK] = 0

    def idle(self, tgid: NDArray[np.uint32]) -> None:
        """(n,) one for each gap between two responses of a worker in which it waited for a request."""
        _count(self._gaps, tgid)

    def called(self, tgid: NDArray[np.uint32]) -> None:
        """(n,) one for each call of a worker when no request can have been handed over to it."""
        _count(self._seen, tgid)

    def confidence(self, tgid: NDArray[np.uint32]) -> NDArray[np.float32]:
        """(n,) that a call of a worker is for the request whose response it writes next; 0: not known."""
        pids = tgid & _PID_MASK
        sure = 1 - (self._seen[pids] + 1.0) / (self._gaps[pids] + 2.0)
        return np.where(sure >= SURE, sure, 0).astype(np.float32)


def _count(of: NDArray[np.uint32], tgid: NDArray[np.uint32]) -> None:
    pids, counts = np.unique(tgid & _PID_MASK, return_counts=True)
    of[pids] = np.minimum(of[pids] + counts.astype(np.uint32), _MOST)
