"""Calls to requests: learn, assign, learn again; then ask of each call how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from otel_ebpf.tracing.statistics.bootstrap import first_guess, order_of_calls
from otel_ebpf.tracing.statistics.chains import Events, Placements, Runs, chains_of, fits
from otel_ebpf.tracing.statistics.delays import Delays
from otel_ebpf.tracing.statistics.exchanges import Alternatives, learn
from otel_ebpf.tracing.statistics.matching import match
from otel_ebpf.tracing.statistics.moves import CUTS, batch, groups, runs, singles
from otel_ebpf.tracing.statistics.observed import NONE, Bools, Floats, Ints, Observed
from otel_ebpf.tracing.statistics.repair import oddness, repair

_SWEEPS, _FEW_SWEEPS = 8, 3
_SETTLED = 0.0005
_ROUNDS = 8
_GAIN = 0.01
_STRAY = 0.02
"""Share of the calls whose request is sought that belong to none, where nothing is learned of that."""
_LOST = 60.0
"""Cost of a call in no request while the first guess is made: all are placed if they can be."""


@dataclass(slots=True)
class Assignment:
    """parent: (n,) request of each call, or NONE. confidence: (n,) 0 … 1. candidates: (n,) how many contained it."""

    parent: Ints
    confidence: Floats
    candidates: Ints
    delays: Delays


def assign(seen: Observed, delays: Delays | None = None, keep: bool = False) -> Assignment:
    """The most likely assignment. delays: what was learned before, of the same kinds; learned on from there, or kept as
    they are; then less is tried."""
    work = _Work(seen, delays, keep)
    if delays is None:
        work.guess()
    work.place_all()
    work.better(_FEW_SWEEPS if keep else _SWEEPS)
    other = work.parent if keep else work.once_more()
    work.line_up()
    return Assignment(work.parent, work.confidence(other), seen.candidates, work.delays)


class _Work:
    def __init__(self, seen: Observed, delays: Delays | None, keep: bool) -> None:
        self.seen = seen
        self._keep = keep
        self.delays = delays or Delays(seen.request_kinds, seen.call_kinds)
        self.parent: Ints = seen.known.copy()
        self.free: Bools = (seen.known == NONE) & (seen.candidates > 0)
        self.order = list(range(seen.call_kinds))
        self.order_kept = np.zeros(self.delays.steps)
        self._events = Events(seen, self.delays)
        self._batches: list[tuple[Alternatives, Ints, Ints]] = []
        self._price_of_none()

    def guess(self) -> None:
        """Delays from nothing but how often one event follows another."""
        guess, weight = first_guess(self.seen, self.delays)
        self.delays.learn(guess, weight)
        self.order = order_of_calls(guess, weight, self.delays)

    def place_all(self) -> None:
        """All calls that are in no request, each kind by itself, by what leads to it alone."""
        for kind in self.order:
            left = (self.free & (self.parent == NONE) & (self.seen.call_kind == kind)).nonzero()[0]
            for _ in range(_ROUNDS):
                self.parent[left] = self._place_ahead(Runs(left, left))
                still = left[self.parent[left] == NONE]
                if not len(still) or len(still) == len(left):
                    break
                left = still

    def better(self, sweeps: int) -> None:
        """Until nothing moves, or the sweeps are done."""
        for _ in range(sweeps):
            before = self.parent.copy()
            self._learn()
            self._sweep()
            repair(self._events, self.parent, self.free, self._none)
            if (self.parent != before).mean() < _SETTLED:
                break
        self._learn()

    def once_more(self) -> Ints:
        """(n,) what is found with what was learned, when all is placed from the beginning; the better one is kept, and
        the other returned. Where the two differ, one at least stands where single changes do not lead out of."""
        first: Ints = self.parent.copy()
        cost = self._cost()
        self.parent[self.free] = NONE
        self.place_all()
        self._sweep()
        repair(self._events, self.parent, self.free, self._none)
        if self._cost() < cost:
            return first
        second: Ints = self.parent.copy()
        self.parent[:] = first
        return second

    def line_up(self) -> None:
        """Exchanges two runs where delays hardly tell and the order of waiting does."""
        for _ in range(_ROUNDS):
            self._batches = batches = list(self._alternatives())
            self.order_kept = learn([one.exchanges for one, _, _ in batches], self.delays.steps)
            taken: set[int] = set()
            for one, run, member in batches:
                exchanges = one.exchanges
                worse = exchanges.in_all(self.order_kept)
                better = (worse < -_GAIN).nonzero()[0]
                for i in better[np.argsort(worse[better])].tolist():
                    mine, theirs = (member[run == side[i]] for side in (exchanges.one, exchanges.other))
                    requests = {int(self.parent[mine[0]]), int(self.parent[theirs[0]])}
                    if taken.isdisjoint(requests):
                        taken |= requests
                        self.parent[mine], self.parent[theirs] = self.parent[theirs[0]], self.parent[mine[0]]
            if not taken:
                return
        self._batches = list(self._alternatives())

    def confidence(self, other: Ints) -> Floats:
        """(n,) 1 / (1 + the odds of all single changes that move the call); less where `other` says otherwise (and a
        little where it often does for calls of this kind: the two may err alike), and in requests unlike all others."""
        final = self.parent
        odds = np.zeros(len(final))
        together = np.zeros(len(final))
        for one, run, member in self._batches:
            of_run = one.odds(self.order_kept)
            if len(run) == len(of_run):
                odds[member] += of_run[run]
            together[member] = np.maximum(together[member], of_run[run])
        differ = other != final
        kinds = self.seen.call_kind
        share = np.bincount(kinds, differ) / np.maximum(np.bincount(kinds), 1)
        confidence: Floats = 1 / (1 + np.maximum(odds, together) + differ + share[kinds] ** 2)
        odd = oddness(self.seen, final, chains_of(self._events, final).costs(), 75)
        placed = final != NONE
        confidence[placed] /= 1 + np.exp(np.clip(odd[final[placed]], 0, 50) - 8)
        confidence[~placed] = 0
        confidence[self.seen.known != NONE] = 1
        return confidence

    def _alternatives(self) -> Iterator[tuple[Alternatives, Ints, Ints]]:
        """Of each batch: what could be otherwise, and its members: (k,) index of a run, (k,) call."""
        final = self.parent.copy()
        done: set[bytes] = set()
        for kind, ordinal in singles(self.seen, final, self.free, self.order):
            calls = batch(self.seen, final, self.free, kind, ordinal)
            found = Runs(calls, calls)
            done.add(found.key())
            yield self._alternatives_of(found, calls, final, None), np.arange(len(calls)), calls
        together = groups(self.seen, final)
        for cut in CUTS:
            found, run, member = runs(together, self.free, cut)
            if len(found) and found.key() not in done:
                done.add(found.key())
                yield self._alternatives_of(found, member, final, np.bincount(run)), run, member

    def _alternatives_of(self, found: Runs, member: Ints, final: Ints, size: Ints | None) -> Alternatives:
        parent, self.parent = self.parent, final.copy()
        self.parent[member] = NONE
        ways = self._ways(found)
        self.parent = parent
        return Alternatives(self.seen, found, ways, self._alone(found, size), final[found.first])

    def _sweep(self) -> None:
        seen = self.seen
        done: set[bytes] = set()
        for kind, ordinal in singles(seen, self.parent, self.free, self.order + self.order[-2::-1]):
            calls = batch(seen, self.parent, self.free, kind, ordinal)
            if len(calls):
                done.add(Runs(calls, calls).key())
                self.parent[calls] = NONE
                self.parent[calls] = self._place(Runs(calls, calls))
        together = groups(seen, self.parent)
        for cut in CUTS:
            found, run, member = runs(together, self.free, cut)
            if len(found) and found.key() not in done:
                done.add(found.key())
                before = self.parent[member]
                self.parent[member] = NONE
                self.parent[member] = self._place(found, np.bincount(run))[run]
                if (self.parent[member] != before).any():
                    together = groups(seen, self.parent)

    def _learn(self) -> None:
        if self._keep:
            return
        self.delays.learn(chains_of(self._events, self.parent).steps())
        self._price_of_none()

    def _price_of_none(self) -> None:
        """-log of the rate at which calls of each kind happen that belong to no request."""
        rate = _STRAY if self._keep else 1.0
        lost = rate * np.bincount(self.seen.call_kind[self.parent == NONE], minlength=self.seen.call_kinds)
        self._none = -np.log((lost + 0.5) / self.seen.span)

    def _cost(self) -> float:
        lost = self.seen.call_kind[self.free & (self.parent == NONE)]
        return float(chains_of(self._events, self.parent).costs().sum() + self._none[lost].sum())

    def _place(self, found: Runs, size: Ints | None = None) -> Ints:
        ways = self._ways(found)
        return match(ways.run, ways.request, ways.cost, self._alone(found, size), len(self.seen.request_start))

    def _place_ahead(self, found: Runs) -> Ints:
        run, request = self._fitting(found)
        cost = chains_of(self._events, self.parent).ahead(found, run, request)
        return match(run, request, cost, np.full(len(found), _LOST), len(self.seen.request_start))

    def _ways(self, found: Runs) -> Placements:
        run, request = self._fitting(found)
        return chains_of(self._events, self.parent).place(found, run, request)

    def _fitting(self, found: Runs) -> tuple[Ints, Ints]:
        run, request = self.seen.pairs(found.first)
        fit = fits(self.seen, found, run, request)
        return run[fit], request[fit]

    def _alone(self, found: Runs, size: Ints | None) -> Floats:
        """(u,) cost of each run in no request. size: (u,) how many calls it has."""
        alone = self._none[self.seen.call_kind[found.first]]
        return alone if size is None else alone * size
