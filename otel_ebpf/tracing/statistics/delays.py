"""What a process does next and after how long: the distributions of the steps from one event of a request to the next.

Events of a request: it arrives (one kind for each kind of request), a call is sent, its answer is received (one kind
each for each kind of call), the response leaves. A step leads to the next event. If that is an answer, the process did
nothing, it was told: such a step has a probability, and no delay.

A step's cost is -log of its density: of what follows (in requests of this kind, leaning on those of all kinds), of the
gap (a kernel density on a logarithmic scale, with a share of "anything"), and of how gap, the callee's work before the
step and the callee's work after it go together (`dependence`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otel_ebpf.tracing.statistics.dependence import tables, told
from otel_ebpf.tracing.statistics.observed import CODES, NONE, Bools, Floats, Ints

_OFFSET = 1e3
"""Gaps below a microsecond are alike."""
_BINS = 512
_LOWEST, _HIGHEST = np.log(_OFFSET), np.log(1e12)
_WIDTH = (_HIGHEST - _LOWEST) / _BINS
_ANYTHING = -np.log(_HIGHEST - _LOWEST)
_ENOUGH = 3.0


@dataclass(slots=True)
class Steps:
    """Columns of l steps. kind: of the request. before, after: event kinds (`Delays`). gap: ns between the two.

    told, asked: rank of the work of the call that was answered before, of the one that is sent after; or NONE.
    """

    kind: Ints
    before: Ints
    after: Ints
    gap: Ints
    told: Ints
    asked: Ints


class Delays:
    """Of a service with so many kinds of requests and of calls.

    Kinds of `before`: arrival of a request of kind q: q; call k sent: requests + k; answered: requests + calls + k.
    Kinds of `after`: call k is sent: k; the response leaves: `leaves`; an answer comes: `comes`.
    """

    def __init__(self, requests: int, calls: int) -> None:
        self.requests, self.calls = requests, calls
        self.befores, self.afters = requests + 2 * calls, calls + 2
        self.leaves, self.comes = calls, calls + 1
        self.steps = self.befores * self.afters
        """How many kinds of steps there are: before * afters + after."""
        self.learned = 0.0
        """How many steps it was learned from."""

    def learn(self, steps: Steps, weight: Floats | None = None) -> None:
        """Forget what was, learn these. weight: (l,), 1 if not given."""
        weight = np.ones(len(steps.kind)) if weight is None else weight
        self.learned = float(weight.sum())
        self._learn_follows(steps, weight)
        step = steps.before * self.afters + steps.after
        active = steps.after != self.comes
        self._learn_gaps(step[active], bin_of(steps.gap[active]), weight[active])
        self._learn_dependence(steps, step, weight)

    def cost(self, steps: Steps) -> Floats:
        """(l,) of each step, in nats."""
        step = steps.before * self.afters + steps.after
        row, length = self._row[step], _length(steps.gap)
        at = _bin(length)
        cost: Floats = -self._follows[steps.kind, steps.before, steps.after]
        active = (steps.after != self.comes).nonzero()[0]
        cost[active] += length[active] - self._density[row[active], at[active]]
        if not self._dependent:
            return cost
        rank = self._rank[row, at]
        for table, rows, a, b in self._pairs(steps, rank):
            cost[rows] -= table[step[rows], a[rows], b[rows]]
        return cost

    def _learn_follows(self, steps: Steps, weight: Floats) -> None:
        shape = (self.requests, self.befores, self.afters)
        index = (steps.kind * self.befores + steps.before) * self.afters + steps.after
        seen = np.bincount(index, weight, minlength=self.requests * self.steps).reshape(shape)
        of_all = seen.sum(0)
        share = (of_all + 0.02) / (of_all.sum(1, keepdims=True) + 0.02 * self.afters)
        self._follows = np.log((seen + 2 * share) / (seen.sum(2, keepdims=True) + 2))

    def _learn_gaps(self, step: Ints, at: Ints, weight: Floats) -> None:
        known, row = np.unique(step, return_inverse=True)
        seen = np.bincount(row * _BINS + at, weight, minlength=len(known) * _BINS).reshape(-1, _BINS)
        enough = seen.sum(1) >= _ENOUGH
        densities = [np.full(_BINS, np.exp(_ANYTHING))] + [_smooth(one) for one in seen[enough]]
        density = np.array(densities)
        self._row = np.zeros(self.steps, np.int64)
        self._row[known[enough]] = np.arange(1, len(densities))
        self._density = np.log(density)
        below = np.cumsum(density, 1) - 0.5 * density
        self._rank = np.minimum(below / density.sum(1, keepdims=True) * CODES, CODES - 1).astype(np.int64)

    def _learn_dependence(self, steps: Steps, step: Ints, weight: Floats) -> None:
        """Gap on the work before; the work after on one of these two, whichever tells more of it."""
        rank = self._rank[self._row[step], bin_of(steps.gap)]
        n = self.steps
        self._dependent = True
        self._gap_told = self._asked_told = self._asked_gap = np.zeros((n, CODES, CODES))
        columns = self._pairs(steps, rank)
        learned = [tables(step[rows], a[rows], b[rows], weight[rows], n) for _, rows, a, b in columns]
        much = [
            told(table, step[rows], a[rows], b[rows], n)
            for table, (_, rows, a, b) in zip(learned, columns, strict=True)
        ]
        gap_told, asked_told, asked_gap = learned
        by_gap = much[2] > much[1]
        asked_told[by_gap] = 0
        asked_gap[~by_gap] = 0
        self._gap_told, self._asked_told, self._asked_gap = gap_told, asked_told, asked_gap
        self._dependent = any(bool(table.any()) for table in learned)

    def _pairs(self, steps: Steps, rank: Ints) -> list[tuple[Floats, Ints, Ints, Ints]]:
        """Table, the rows that it speaks of, and the two ranks of every row."""
        active: Bools = steps.after != self.comes
        after_answer = active & (steps.told != NONE)
        sends = steps.asked != NONE
        return [
            (self._gap_told, after_answer.nonzero()[0], steps.told, rank),
            (self._asked_told, (after_answer & sends).nonzero()[0], steps.told, steps.asked),
            (self._asked_gap, (active & sends).nonzero()[0], rank, steps.asked),
        ]


def bin_of(gap: Ints) -> Ints:
    """(l,) place of each gap on the logarithmic scale."""
    return _bin(_length(gap))


def _length(gap: Ints) -> Floats:
    """(l,) of each gap on the logarithmic scale."""
    length: Floats = np.log(np.maximum(gap, 0) + _OFFSET)
    return length


def _bin(length: Floats) -> Ints:
    at: Ints = ((length - _LOWEST) * (1 / _WIDTH)).astype(np.int64)
    return np.minimum(at, _BINS - 1)


def gap_of(at: Ints) -> Ints:
    """(l,) ns in the middle of a bin."""
    middle: Ints = (np.exp(_LOWEST + (at + 0.5) * _WIDTH) - _OFFSET).astype(np.int64)
    return middle


def edges() -> Floats:
    """(bins + 1,) ns"""
    edge: Floats = np.exp(_LOWEST + np.arange(_BINS + 1) * _WIDTH) - _OFFSET
    return edge


def _smooth(seen: Floats) -> Floats:
    """Density over the logarithm of the gap: Gaussian kernel (Silverman's rule on the narrower of deviation and
    quartiles), and one observation of "anything"."""
    n = seen.sum()
    share = np.cumsum(seen) / n
    centre = np.arange(_BINS)
    mean = (seen * centre).sum() / n
    deviation = np.sqrt((seen * (centre - mean) ** 2).sum() / n)
    quartiles = np.searchsorted(share, 0.75) - np.searchsorted(share, 0.25)
    width = max(0.9 * min(deviation, max(quartiles / 1.34, 0.5)) * n**-0.2, 0.7)
    reach = int(4 * width) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    smooth = np.convolve(seen, kernel / kernel.sum())[reach : reach + _BINS] / _WIDTH
    density: Floats = (smooth + np.exp(_ANYTHING)) / (n + 1)
    return density
