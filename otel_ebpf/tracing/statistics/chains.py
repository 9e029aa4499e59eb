"""Requests as chains of events, and what it costs to put calls into them.

All chains lie in one array, ordered by request and time. What a call (or a run of calls that stay together) changes
when it is put into a request are the steps at its two ends only: any number of placements is priced at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otel_ebpf.tracing.statistics.delays import Delays, Steps
from otel_ebpf.tracing.statistics.observed import NONE, Bools, Floats, Ints, Observed

_ARRIVES, _SENT, _ANSWERED, _LEAVES = range(4)
"""Order of events at the same time."""


@dataclass(slots=True)
class Runs:
    """Calls that stay together, u runs: (u,) the call that starts first, and the one that ends last."""

    first: Ints
    last: Ints

    def __len__(self) -> int:
        return len(self.first)

    def key(self) -> bytes:
        """The same for the same runs."""
        order = np.argsort(self.first)
        return self.first[order].tobytes() + self.last[order].tobytes()


@dataclass(slots=True)
class Placements:
    """p ways to put a run into a request.

    cost: what the request's chain costs more then; inf where a run of several calls would get other events into its
    middle. begin: the part of it that is due to what leads to the run. before, after: when that was, and when the next
    event comes. leads, follows: which steps these are (`Delays`: before * afters + after), NONE: the next is an answer.
    """

    run: Ints
    request: Ints
    cost: Floats
    begin: Floats
    before: Ints
    leads: Ints
    after: Ints
    follows: Ints


class Events:
    """All events of a service: request i arrives: i, leaves: m + i; call i is sent: 2m + i, answered: 2m + n + i.

    when: order in time. rank: of those at the same time. before, after: kinds (`Delays`). told, asked: see `Steps`.
    """

    def __init__(self, seen: Observed, delays: Delays) -> None:
        self.seen, self.delays = seen, delays
        m, n = len(seen.request_start), len(seen.call_start)
        none, nothing = np.full(2 * m, NONE), np.full(n, NONE)
        calls = seen.call_kind
        self.time = np.concatenate([seen.request_start, seen.request_end, seen.call_start, seen.call_end])
        self.rank = np.repeat([_ARRIVES, _LEAVES, _SENT, _ANSWERED], [m, m, n, n])
        when = np.concatenate([seen.request_began, seen.request_ended, seen.call_began, seen.call_ended])
        self.when = when * 4 + self.rank
        sent = delays.requests + calls
        self.before = np.concatenate([seen.request_kind, np.zeros(m, np.int64), sent, sent + delays.calls])
        self.after = np.concatenate([np.zeros(m, np.int64), np.full(m, delays.leaves), calls, np.full(n, delays.comes)])
        self.told = np.concatenate([none, nothing, seen.code])
        self.asked = np.concatenate([none, seen.code, nothing])


class Chains:
    """The events of `request` (v,), each with the calls `call` (l,) of which call i is in the `of[i]`-th of them.

    The same request may be there more than once, with other calls: as variants of it.
    """

    def __init__(self, events: Events, request: Ints, of: Ints, call: Ints) -> None:
        self._seen, self._delays = events.seen, events.delays
        seen = events.seen
        m, n, v = len(seen.request_start), len(seen.call_start), len(request)
        every = np.arange(v)
        member = np.concatenate([every, every, of, of])
        event = np.concatenate([request, m + request, 2 * m + call, 2 * m + n + call])
        key = member * (4 * seen.ranks) + events.when[event]
        order = np.argsort(key)
        event = event[order]
        self._key, self._member = key[order], member[order]
        self._time, self._rank = events.time[event], events.rank[event]
        self._before, self._after = events.before[event], events.after[event]
        self._told, self._asked = events.told[event], events.asked[event]
        self._kind = seen.request_kind[request]
        self._variants = v

    def steps(self) -> Steps:
        """All of them, in order."""
        i = (self._rank != _ARRIVES).nonzero()[0]
        return self._existing(i - 1, i)

    def costs(self) -> Floats:
        """(v,) of each chain."""
        of = self._member[self._rank != _ARRIVES]
        return np.bincount(of, self._delays.cost(self.steps()), minlength=self._variants).astype(np.float64)

    def place(self, runs: Runs, run: Ints, request: Ints) -> Placements:
        """run[i] in request[i], which is the request[i]-th of these chains. (p,)"""
        seen, delays = self._seen, self._delays
        first, last = runs.first[run], runs.last[run]
        start, end = seen.call_start[first], seen.call_end[last]
        begins = np.searchsorted(self._key, (request * seen.ranks + seen.call_began[first]) * 4 + _SENT, "right")
        ends = np.searchsorted(self._key, (request * seen.ranks + seen.call_ended[last]) * 4 + _ANSWERED, "right")
        before, kind = begins - 1, self._kind[request]
        none, comes = np.full(len(run), NONE), np.full(len(run), delays.comes)
        sent, answered = delays.requests + seen.call_kind[first], delays.requests + delays.calls + seen.call_kind[last]
        now = np.zeros(len(self._rank))
        leads = (self._rank != _ARRIVES).nonzero()[0]
        now[leads] = delays.cost(self._existing(leads - 1, leads))
        begin = self._ahead(runs, run, request, before) - now[begins]
        gap = self._time[ends] - end
        cost = begin + delays.cost(Steps(kind, answered, self._after[ends], gap, seen.code[last], self._asked[ends]))
        alone = begins == ends
        around = (~alone).nonzero()[0]
        a, b, k = begins[around], ends[around], kind[around]
        none_around = none[around]
        gap = self._time[a] - start[around]
        inner = Steps(k, sent[around], self._after[a], gap, none_around, self._asked[a])
        gap = end[around] - self._time[b - 1]
        outer = Steps(k, self._before[b - 1], comes[around], gap, self._told[b - 1], none_around)
        cost[around] += delays.cost(inner) - now[b] + delays.cost(outer)
        i = alone.nonzero()[0]
        cost[i] += delays.cost(Steps(kind[i], sent[i], comes[i], end[i] - start[i], none[i], none[i]))
        cost[around[(first != last)[around]]] = np.inf
        goes_on = self._after[ends] != delays.comes
        return Placements(
            run=run,
            request=request,
            cost=cost,
            begin=begin,
            before=self._time[before],
            leads=self._before[before] * delays.afters + seen.call_kind[first],
            after=self._time[ends],
            follows=np.where(goes_on, answered * delays.afters + self._after[ends], NONE),
        )

    def ahead(self, runs: Runs, run: Ints, request: Ints) -> Floats:
        """(p,) cost of the step that leads to the run alone."""
        at = (request * self._seen.ranks + self._seen.call_began[runs.first[run]]) * 4 + _SENT
        return self._ahead(runs, run, request, np.searchsorted(self._key, at, "right") - 1)

    def _ahead(self, runs: Runs, run: Ints, request: Ints, before: Ints) -> Floats:
        first = runs.first[run]
        gap = self._seen.call_start[first] - self._time[before]
        told, asked = self._told[before], self._seen.code[first]
        steps = Steps(self._kind[request], self._before[before], self._seen.call_kind[first], gap, told, asked)
        return self._delays.cost(steps)

    def _existing(self, i: Ints, j: Ints) -> Steps:
        gap = self._time[j] - self._time[i]
        return Steps(self._kind[self._member[j]], self._before[i], self._after[j], gap, self._told[i], self._asked[j])


def chains_of(events: Events, parent: Ints) -> Chains:
    """One chain for each request. parent: (n,) request of each call, or NONE."""
    call: Ints = (parent != NONE).nonzero()[0]
    return Chains(events, np.arange(len(events.seen.request_start)), parent[call], call)


def fits(seen: Observed, runs: Runs, run: Ints, request: Ints) -> Bools:
    """(p,) whether the whole run lies within the request."""
    inside: Bools = seen.request_end[request] >= seen.call_end[runs.last[run]]
    return inside
