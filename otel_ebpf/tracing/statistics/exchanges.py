"""What could be otherwise: one run elsewhere, or two runs in each other's requests; and whether waiting is in line.

Delays alone take requests for independent. But what waits for the same thing (a busy processor, a lock, a queue) goes
on in the order in which it began to wait. How much so is learned for each kind of step from exchanges that are clear
for another reason: by the step at the other end of the run. It is the log of the odds that the order is kept, beyond
what the delays say; 0 where waiting is not in line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otel_ebpf.tracing.statistics.chains import Placements, Runs
from otel_ebpf.tracing.statistics.observed import NONE, Bools, Floats, Ints, Observed

_IMPOSSIBLE = 700.0
_CLEAR = 4.0
_OPEN = 6.0
_PRIOR = 1.5
"""Deviation of the log odds from 0 before anything is seen."""
_MOST = 8.0


@dataclass(slots=True)
class Exchanges:
    """x exchanges of run `one` with run `other`, in each other's requests.

    worse: what both cost more then, by delays; begin: the part of it that is due to what leads to them. leads,
    follows: the kinds of these steps, NONE where the two are not alike. ahead, behind: +1 if the exchange puts what
    leads to them, what follows them in line, -1 if it puts them out of line, 0 if neither.
    """

    one: Ints
    other: Ints
    worse: Floats
    begin: Floats
    leads: Ints
    follows: Ints
    ahead: Ints
    behind: Ints

    def __len__(self) -> int:
        return len(self.one)

    def in_all(self, order: Floats) -> Floats:
        """(x,) what they cost more, order included. order: for each kind of step (`learn`)."""
        value: Floats = self.worse - np.where(self.leads == NONE, 0, order[self.leads] * self.ahead)
        value -= np.where(self.follows == NONE, 0, order[self.follows] * self.behind)
        return value


class Alternatives:
    """Of runs that were placed: chosen (u,) request of each, or NONE; alone: (u,) cost of a run in none."""

    def __init__(self, seen: Observed, runs: Runs, ways: Placements, alone: Floats, chosen: Ints) -> None:
        self._ways, self._alone, self._chosen = ways, alone, chosen
        requests = len(seen.request_start)
        key = ways.run * requests + ways.request
        order = np.argsort(key)
        key = key[order]
        units = np.arange(len(runs))
        self._now = self._at(key, order, units, chosen, requests)
        holder = np.full(requests, NONE)
        placed = (self._now != NONE).nonzero()[0]
        holder[chosen[placed]] = placed
        self._other = holder[ways.request]
        self._moves = ways.request != chosen[ways.run]
        back = self._at(key, order, self._other, chosen[ways.run], requests)
        now = self._now[ways.run]
        whole = (self._moves & (self._other != NONE) & (back != NONE) & (now != NONE)).nonzero()[0]
        self._exchanges = whole
        self.exchanges = self._compare(seen, runs, whole, back[whole])

    def odds(self, order: Floats) -> Floats:
        """(u,) that a run is elsewhere: the sum of exp(-d) over all single changes that move it, each making the whole
        more expensive by d. (Marginals of all at once, by belief propagation, were tried: they call an exchange of two
        certain in one direction.)"""
        ways, alone = self._ways, self._alone
        current = np.where(self._now == NONE, alone, ways.cost[self._now])
        worse = ways.cost - current[ways.run]
        pushed = self._other != NONE
        worse[pushed] += (alone - current)[self._other[pushed]]
        worse[self._exchanges] = np.minimum(worse[self._exchanges], self.exchanges.in_all(order))
        moved = self._moves
        odds = np.bincount(ways.run[moved], np.exp(-_bounded(worse[moved])), minlength=len(alone)).astype(np.float64)
        placed = self._now != NONE
        odds[placed] += np.exp(-_bounded((alone - current)[placed]))
        return odds

    @staticmethod
    def _at(key: Ints, order: Ints, run: Ints, request: Ints, requests: int) -> Ints:
        """(k,) which of the ways puts the run there, or NONE."""
        if not len(key):
            return np.full(len(run), NONE)
        wanted = run * requests + request
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where((key[at] == wanted) & (run != NONE) & (request != NONE), order[at], NONE)

    def _compare(self, seen: Observed, runs: Runs, there: Ints, back: Ints) -> Exchanges:
        ways = self._ways
        one, other = ways.run[there], self._other[there]
        here, theirs = self._now[one], self._now[other]
        start, end = seen.call_start[runs.first], seen.call_end[runs.last]

        def change(column: Floats) -> Floats:
            difference: Floats = column[there] + column[back] - column[here] - column[theirs]
            return difference

        def alike(column: Ints) -> Ints:
            same = (column[there] == column[back]) & (column[there] == column[here]) & (column[there] == column[theirs])
            return np.where(same, column[there], NONE)

        def lined_up(waits: Ints, moment: Ints) -> Ints:
            first = _sign(moment[one] - moment[other])
            return (_sign(waits[there] - waits[back]) - _sign(waits[here] - waits[theirs])) * first // 2

        with np.errstate(invalid="ignore"):
            worse, begin = change(ways.cost), change(ways.begin)
        return Exchanges(
            one,
            other,
            _bounded(worse),
            _bounded(begin),
            alike(ways.leads),
            alike(ways.follows),
            lined_up(ways.before, start),
            lined_up(ways.after, end),
        )


def learn(seen: list[Exchanges], steps: int) -> Floats:
    """(steps,) how much each kind of step keeps the order of what waits for it, from exchanges of all batches."""
    kinds, fors, kept = [], [], []
    for x in seen:
        rest = x.worse - x.begin
        for step, turn, by_delay, clear in (
            (x.leads, x.ahead, x.begin, rest),
            (x.follows, x.behind, rest, x.begin),
        ):
            use = (x.one < x.other) & (step != NONE) & (turn != 0) & (np.abs(clear) >= _CLEAR)
            use &= (np.abs(by_delay) <= _OPEN) & (np.abs(clear) < _IMPOSSIBLE)
            in_line = turn[use] < 0  # now; the exchange would end it
            kinds.append(step[use])
            fors.append(np.where(in_line, by_delay[use], -by_delay[use]))
            kept.append(in_line == (clear[use] > 0))
    order = np.zeros(steps)
    if kinds:
        kind, by_delay, in_line = np.concatenate(kinds), np.concatenate(fors), np.concatenate(kept)
        for one in np.unique(kind):
            order[one] = _fit(by_delay[kind == one], in_line[kind == one])
    return order


def _fit(by_delay: Floats, in_line: Bools) -> float:
    """The most likely k where in_line has the odds exp(by_delay + k). Bisection: its derivative falls."""
    low, high = -_MOST, _MOST
    for _ in range(30):
        k = (low + high) / 2
        slope = (in_line - 1 / (1 + np.exp(-(by_delay + k)))).sum() - k / _PRIOR**2
        low, high = (k, high) if slope > 0 else (low, k)
    return (low + high) / 2


def _sign(difference: Ints) -> Ints:
    sign: Ints = np.where(difference < 0, -1, 1)
    return sign


def _bounded(worse: Floats) -> Floats:
    return np.clip(np.nan_to_num(worse, nan=_IMPOSSIBLE, posinf=_IMPOSSIBLE, neginf=-_IMPOSSIBLE), -20.0, _IMPOSSIBLE)
