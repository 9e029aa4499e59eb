"""Calls of which the request is found if the process has a habit (`habits`) that it has not shown often enough yet.

They wait for some passes: a process that has just begun, or is seen for the first time, shows what it does in a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.rungs.base import find

PASSES = 16


class Suspended:
    """At most as many as calls wait at all. request: (n,) span ids; leave, call_first: (n,) which habits it takes."""

    def __init__(self) -> None:
        self._call = np.zeros(0, np.uint64)
        self.request = np.zeros(0, np.uint64)
        self.leave = np.zeros(0, np.bool_)
        self.call_first = np.zeros(0, np.bool_)
        self._passes = np.zeros(0, np.uint8)

    def begin(self, calls: NDArray[np.uint64]) -> None:
        """A pass, in which these calls (span ids) are asked about: the others are decided."""
        if not len(self._call):
            return
        stays = np.isin(self._call, calls) & (self._passes > 0)
        self._call, self.request = self._call[stays], self.request[stays]
        self.leave, self.call_first = self.leave[stays], self.call_first[stays]
        self._passes = self._passes[stays] - np.uint8(1)

    def find(self, calls: NDArray[np.uint64]) -> NDArray[np.intp]:
        """(n,) which of them each call is, or NONE."""
        return find(self._call, calls)

    def add(
        self,
        calls: NDArray[np.uint64],
        request: NDArray[np.uint64],
        leave: NDArray[np.bool_],
        call_first: NDArray[np.bool_],
    ) -> None:
        """More of them; none twice."""
        self._call = np.concatenate([self._call, calls])
        self.request = np.concatenate([self.request, request])
        self.leave = np.concatenate([self.leave, leave])
        self.call_first = np.concatenate([self.call_first, call_first])
        self._passes = np.concatenate([self._passes, np.full(len(calls), PASSES, np.uint8)])
