"""Two requests at a time: where chains cost more than chains of their kind do, all ways to share their calls are tried.

Moving one run at a time ends where every single move makes it worse. Nearly always two requests have exchanged some of
their calls then, and at least one of their chains is odd. All 2^k ways to share k calls (those in the two chains, and
some that are in none) are priced, and the best is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otel_ebpf.tracing.statistics.chains import Chains, chains_of
from otel_ebpf.tracing.statistics.delays import Delays
from otel_ebpf.tracing.statistics.observed import NONE, Bools, Floats, Ints, Observed

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


def repair(seen: Observed, delays: Delays, parent: Ints, free: Bools, alone: Floats) -> None:
    """Betters `parent` in place. alone: (kinds,) cost of a call that belongs to no request."""
    tried: dict[tuple[int, int], tuple[int, int]] = {}
    version = np.zeros(len(seen.request_start), np.int64)
    for _ in range(_ROUNDS):
        cost = chains_of(seen, delays, parent).costs()
        odd = oddness(seen, parent, cost, 50)
        ways = _best_ways(seen, delays, parent, free, alone, cost, _pairs(seen, parent, odd, tried, version))
        touched: set[int] = set()
        for way in sorted(ways, key=lambda way: -way.gain):
            if touched.isdisjoint(way.pair) and (np.isin(parent[way.calls], (*way.pair, NONE))).all():
                parent[way.calls] = way.request
                version[list(way.pair)] += 1
                touched.update(way.pair)
        if not touched:
            return


def _pairs(
    seen: Observed,
    parent: Ints,
    odd: Floats,
    tried: dict[tuple[int, int], tuple[int, int]],
    version: Ints,
) -> list[tuple[int, int]]:
    """Requests of which one is odd and one could have a call of the other, the oddest first; each state only once."""
    calls = np.arange(len(parent))
    call, other = seen.pairs(calls)
    one = parent[call]
    fit = (one != NONE) & (one != other)
    one, other = one[fit], other[fit]
    fit = (odd[one] > _ODD) | (odd[other] > _ODD)
    key = np.unique(np.minimum(one[fit], other[fit]) * len(odd) + np.maximum(one[fit], other[fit]))
    low, high = np.divmod(key, max(len(odd), 1))
    bounded = np.clip(np.nan_to_num(odd, posinf=_ODD), 0, 50)
    order = np.argsort(-(bounded[low] + bounded[high]), kind="stable")[: _WAYS // 4]
    pairs = []
    for i, j in zip(low[order].tolist(), high[order].tolist(), strict=True):
        state = (int(version[i]), int(version[j]))
        if tried.get((i, j)) != state:
            tried[i, j] = state
            pairs.append((i, j))
    return pairs


def _best_ways(
    seen: Observed,
    delays: Delays,
    parent: Ints,
    free: Bools,
    alone: Floats,
    cost: Floats,
    pairs: list[tuple[int, int]],
) -> list[_Way]:
    """For each pair that can be bettered, how."""
    placed = (parent != NONE).nonzero()[0]
    order = placed[np.argsort(parent[placed], kind="stable")]
    begin = np.searchsorted(parent[order], np.arange(len(cost) + 1))
    lost = (parent == NONE).nonzero()[0]
    unit, request = seen.pairs(lost)
    by_request = np.argsort(request, kind="stable")
    loose, at = lost[unit[by_request]], np.searchsorted(request[by_request], np.arange(len(cost) + 1))
    by_size: dict[int, list[tuple[int, int, list[int]]]] = {}
    left = _WAYS
    for i, j in pairs:
        calls = [*order[begin[i] : begin[i + 1]].tolist(), *order[begin[j] : begin[j + 1]].tolist()]
        room = _CALLS - len(calls)
        if room < 0:
            continue
        calls += sorted({*loose[at[i] : at[i + 1]].tolist(), *loose[at[j] : at[j + 1]].tolist()})[:room]
        left -= 2 ** len(calls)
        if left < 0:
            break
        by_size.setdefault(len(calls), []).append((i, j, calls))
    ways: list[_Way] = []
    for found in by_size.values():
        one, other = np.array([i for i, *_ in found]), np.array([j for _, j, _ in found])
        ways += _share(seen, delays, parent, free, alone, cost, one, other, np.array([calls for *_, calls in found]))
    return ways


def _share(
    seen: Observed,
    delays: Delays,
    parent: Ints,
    free: Bools,
    alone: Floats,
    cost: Floats,
    one: Ints,
    other: Ints,
    calls: Ints,
) -> list[_Way]:
    """All ways to share the calls (p, k) among one (p,) and other (p,)."""
    k = calls.shape[1]
    to_one = ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.bool_)
    allowed = [_may(seen, parent, free, request, calls)[:, None, :] for request in (one, other)]
    pair, way = np.where(to_one, allowed[0], allowed[1]).all(2).nonzero()
    n = len(pair)
    if not n:
        return []
    chain = np.where(to_one[way], np.arange(n)[:, None], np.arange(n, 2 * n)[:, None])
    requests = np.concatenate([one[pair], other[pair]])
    both = Chains(seen, delays, requests, chain.ravel(), calls[pair].ravel()).costs()
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
