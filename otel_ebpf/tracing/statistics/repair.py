"""Two requests at a time: where chains cost more than chains of their kind do, all ways to share their calls are tried.

Moving one run at a time ends where every single move makes it worse. Nearly always two requests have exchanged some of
their calls then, and at least one of their chains is odd. All 2^k ways to share k calls (those in the two chains, and
some that are in none) are priced, and the best is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otel_ebpf.tracing.statistics.chains import Chains, Events, chains_of
from otel_ebpf.tracing.statistics.observed import NONE, Bools, Floats, Ints, Observed, spread

_ROUNDS = 4
_CALLS = 8
_WAYS = 100_000
"""So many ways are priced in a round; pairs with the oddest chains come first."""
_ODD = 1.0
"""nats above the median of the chains of its kind with as many calls."""
_FEW = 20


@dataclass(slots=True)
class _Way:
    """The best way found for a pair."""

    gain: float
    pair: tuple[int, int]
    calls: Ints
    request: Ints


def oddness(seen: Observed, parent: Ints, cost: Floats, percentile: int) -> Floats:
    """(m,) by how much each chain costs more than this percentile of its like; inf where it has too few like it."""
    count = np.bincount(parent[parent != NONE], minlength=len(cost))
    like = seen.request_kind * (count.max(initial=0) + 1) + count
    odd = np.full(len(cost), np.inf)
    for one in np.unique(like):
        members = (like == one).nonzero()[0]
        if len(members) >= _FEW:
            odd[members] = cost[members] - np.percentile(cost[members], percentile)
    return odd


def repair(events: Events, parent: Ints, free: Bools, alone: Floats) -> None:
    """Betters `parent` in place. alone: (kinds,) cost of a call that belongs to no request."""
    seen = events.seen
    tried = np.zeros(0, np.int64)
    for _ in range(_ROUNDS):
        cost = chains_of(events, parent).costs()
        pairs = _pairs(seen, parent, oddness(seen, parent, cost, 50))
        pairs = pairs[np.isin(pairs, tried, invert=True)]
        touched: set[int] = set()
        for way in sorted(_best_ways(events, parent, free, alone, cost, pairs), key=lambda way: -way.gain):
            if touched.isdisjoint(way.pair) and (np.isin(parent[way.calls], (*way.pair, NONE))).all():
                parent[way.calls] = way.request
                touched.update(way.pair)
        if not touched:
            return
        tried = np.append(tried, pairs)
        same = np.isin(np.divmod(tried, len(cost)), list(touched), invert=True).all(0)
        tried = tried[same]


def _pairs(seen: Observed, parent: Ints, odd: Floats) -> Ints:
    """(p,) lower request * m + higher one; one is odd, and one could have a call of the other. The oddest first."""
    call, other = seen.pairs(np.arange(len(parent)))
    one = parent[call]
    fit = (one != NONE) & (one != other)
    one, other = one[fit], other[fit]
    fit = (odd[one] > _ODD) | (odd[other] > _ODD)
    pair = np.unique(np.minimum(one[fit], other[fit]) * len(odd) + np.maximum(one[fit], other[fit]))
    low, high = np.divmod(pair, max(len(odd), 1))
    bounded = np.clip(np.nan_to_num(odd, posinf=_ODD), 0, 50)
    return pair[np.argsort(-(bounded[low] + bounded[high]), kind="stable")[: _WAYS // 4]]


def _best_ways(events: Events, parent: Ints, free: Bools, alone: Floats, cost: Floats, pairs: Ints) -> list[_Way]:
    """For each pair that can be bettered, how."""
    seen, m = events.seen, len(cost)
    one, other = np.divmod(pairs, max(m, 1))
    placed = (parent != NONE).nonzero()[0]
    mine = _of_requests(parent[placed], placed, m)
    count = mine.count(one) + mine.count(other)
    few = (count <= _CALLS).nonzero()[0]
    few = few[np.cumsum(2 ** count[few]) <= _WAYS]
    one, other, count = one[few], other[few], count[few]
    lost = (parent == NONE).nonzero()[0]
    unit, request = seen.pairs(lost)
    loose = _of_requests(request, lost[unit], m)
    found = [mine.members(one), mine.members(other), _some(loose, one, other, _CALLS - count)]
    pair, call = (np.concatenate(column) for column in zip(*found, strict=True))
    call = call[np.argsort(pair, kind="stable")]
    count = np.bincount(pair, minlength=len(one))
    begin = np.cumsum(count) - count
    priced = np.cumsum(2**count) <= _WAYS
    ways: list[_Way] = []
    for size in np.unique(count[priced]):
        rows = (priced & (count == size)).nonzero()[0]
        calls = call[begin[rows][:, None] + np.arange(size)]
        ways += _share(events, parent, free, alone, cost, one[rows], other[rows], calls)
    return ways


@dataclass(slots=True)
class _Calls:
    """Calls by request: those of request i are call[begin[i]:begin[i + 1]]."""

    call: Ints
    begin: Ints

    def count(self, request: Ints) -> Ints:
        """(p,) how many calls each request has."""
        return self.begin[request + 1] - self.begin[request]

    def members(self, request: Ints) -> tuple[Ints, Ints]:
        """(k,) index into `request`, (k,) a call that it has: of each the first ones, at most _CALLS."""
        which, at = spread(np.minimum(self.count(request), _CALLS))
        return which, self.call[self.begin[request][which] + at]


def _of_requests(request: Ints, call: Ints, requests: int) -> _Calls:
    order = np.argsort(request, kind="stable")
    return _Calls(call[order], np.searchsorted(request[order], np.arange(requests + 1)))


def _some(loose: _Calls, one: Ints, other: Ints, most: Ints) -> tuple[Ints, Ints]:
    """(k,) index of a pair, (k,) a call that either could have; of each pair the first ones, at most so many."""
    found = [loose.members(one), loose.members(other)]
    pair, call = (np.concatenate(column) for column in zip(*found, strict=True))
    far = int(call.max(initial=0)) + 1
    pair, call = np.divmod(np.unique(pair * far + call), far)
    _, at = spread(np.bincount(pair, minlength=len(one)))
    keep = at < most[pair]
    return pair[keep], call[keep]


def _share(
    events: Events,
    parent: Ints,
    free: Bools,
    alone: Floats,
    cost: Floats,
    one: Ints,
    other: Ints,
    calls: Ints,
) -> list[_Way]:
    """All ways to share the calls (p, k) among one (p,) and other (p,)."""
    seen, k = events.seen, calls.shape[1]
    to_one = ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.bool_)
    allowed = [_may(seen, parent, free, request, calls)[:, None, :] for request in (one, other)]
    pair, way = np.where(to_one, allowed[0], allowed[1]).all(2).nonzero()
    n = len(pair)
    if not n:
        return []
    chain = np.where(to_one[way], np.arange(n)[:, None], np.arange(n, 2 * n)[:, None])
    requests = np.concatenate([one[pair], other[pair]])
    both = Chains(events, requests, chain.ravel(), calls[pair].ravel()).costs()
    total = both[:n] + both[n:]
    lost = parent[calls] == NONE
    now = cost[one] + cost[other] + np.where(lost, alone[seen.call_kind[calls]], 0).sum(1)
    best = np.full(len(one), np.inf)
    np.minimum.at(best, pair, total)
    found = np.full(len(one), NONE)
    is_best = total == best[pair]
    found[pair[is_best]] = way[is_best]
    better = (now - best > 1e-6).nonzero()[0]
    return [
        _Way(
            float(now[i] - best[i]),
            (int(one[i]), int(other[i])),
            calls[i],
            np.where(to_one[found[i]], one[i], other[i]),
        )
        for i in better
    ]


def _may(seen: Observed, parent: Ints, free: Bools, request: Ints, calls: Ints) -> Bools:
    """(p, k) whether each call may be in the request (p,): it lies within, and is not known to be elsewhere."""
    within = (seen.request_start[request][:, None] <= seen.call_start[calls]) & (
        seen.request_end[request][:, None] >= seen.call_end[calls]
    )
    may: Bools = within & (free[calls] | (parent[calls] == request[:, None]))
    return may
