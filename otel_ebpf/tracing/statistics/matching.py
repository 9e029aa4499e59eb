"""The cheapest assignment of runs to requests, and how much worse its alternatives are.

scipy is imported when it is needed: 0.15 s and 35 MB that an agent whose links are all fixed never pays.
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.tracing.statistics.observed import NONE, Floats, Ints

_IMPOSSIBLE = 700.0


def match(run: Ints, request: Ints, cost: Floats, alone: Floats, requests: int) -> Ints:
    """(u,) the request of each run, or NONE; each request gets one run at most, and the sum of the costs is least.

    run, request, cost: (p,) possible pairs. alone: (u,) cost of a run that belongs to none of them.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    result = np.full(len(alone), NONE)
    worth = (cost < alone[run]).nonzero()[0]
    if not len(worth):
        return result
    runs = np.arange(len(alone))
    rows = np.concatenate([run[worth], runs])
    columns = np.concatenate([request[worth], requests + runs])
    costs = np.concatenate([cost[worth], alone])
    table = csr_array((costs - costs.min() + 1, (rows, columns)), shape=(len(alone), requests + len(alone)))
    taken, by = min_weight_full_bipartite_matching(table)
    placed = by < requests
    result[taken[placed]] = by[placed]
    return result


def odds_against(run: Ints, request: Ints, cost: Floats, alone: Floats, requests: int, chosen: Ints) -> Floats:
    """(u,) odds that a run is not where it was put: the sum of exp(-d) over all single changes that move it, each
    making the whole more expensive by d: to a request that is free, to none, in exchange with one other run.

    chosen: (u,) as of `match`. (Marginals of the whole, by belief propagation, were tried: they call an exchange of two
    certain in one direction.)
    """
    u = len(alone)
    key = run * requests + request
    order = np.argsort(key)
    key = key[order]

    def price(runs: Ints, of: Ints) -> Floats:
        if not len(key):
            return np.full(len(runs), np.inf)
        wanted = runs * requests + of
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        there = (key[at] == wanted) & (runs != NONE) & (of != NONE)
        return np.where(there, cost[order[at]], np.inf)

    now = np.where(chosen == NONE, alone, price(np.arange(u), chosen))
    now = np.where(np.isfinite(now), now, alone)
    holder = np.full(requests, NONE)
    placed = (chosen != NONE).nonzero()[0]
    holder[chosen[placed]] = placed
    other = holder[request]
    back = np.minimum(price(other, chosen[run]), alone[other]) - now[other]
    worse = cost - now[run] + np.where(other == NONE, 0.0, back)
    moves = request != chosen[run]
    odds: Floats = np.bincount(run[moves], np.exp(-_bounded(worse[moves])), minlength=u).astype(np.float64)
    odds[placed] += np.exp(-_bounded(alone[placed] - now[placed]))
    return odds


def _bounded(worse: Floats) -> Floats:
    return np.clip(np.nan_to_num(worse, nan=_IMPOSSIBLE, posinf=_IMPOSSIBLE), -20.0, _IMPOSSIBLE)
