"""How often a confidence was right, learned from links that were known and hidden for the purpose."""

from __future__ import annotations

import numpy as np

from otel_ebpf.tracing.statistics.observed import Bools, Floats

_KEPT = 4_000
_ENOUGH = 50


class Calibration:
    """Confidences that were claimed, and whether they were right: the last 4,000."""

    def __init__(self) -> None:
        self._claimed: Floats = np.zeros(0)
        self._right: Floats = np.zeros(0)

    def learn(self, claimed: Floats, right: Bools) -> None:
        """(k,) each."""
        self._claimed = np.concatenate([self._claimed, claimed])[-_KEPT:]
        self._right = np.concatenate([self._right, right.astype(np.float64)])[-_KEPT:]

    def of(self, claimed: Floats) -> Floats:
        """(n,) what such a claim is worth; 0 while too little is known, and for claims beyond what was tried.

        The share that was right among claims alike, rising with the claim (pool adjacent violators), and counted as if
        two more had been tried of which half of one was right: few successes do not make a certainty.
        """
        if len(self._claimed) < _ENOUGH:
            return np.zeros(len(claimed))
        order = np.argsort(self._claimed, kind="stable")
        begins, worth = _rising(self._claimed[order], self._right[order])
        at = np.searchsorted(begins, claimed, "right") - 1
        value: Floats = np.where(at >= 0, worth[np.maximum(at, 0)], 0.0)
        return value


def _rising(claimed: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Blocks: (b,) the claim that each begins with, (b,) what it is worth. claimed: ascending."""
    begins: list[float] = []
    rights: list[float] = []
    counts: list[int] = []
    for one, was_right in zip(claimed.tolist(), right.tolist(), strict=True):
        begins.append(one)
        rights.append(was_right)
        counts.append(1)
        while len(counts) > 1 and rights[-2] * counts[-1] >= rights[-1] * counts[-2]:
            last_right, last_count = rights.pop(), counts.pop()
            begins.pop()
            rights[-1] += last_right
            counts[-1] += last_count
    worth = [(r + 0.5) / (n + 2) for r, n in zip(rights, counts, strict=True)]
    return np.array(begins), np.array(worth)
