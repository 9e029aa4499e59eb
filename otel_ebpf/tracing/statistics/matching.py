"""The cheapest assignment of runs to requests.

scipy is imported when it is needed: 0.15 s and 35 MB that an agent whose links are all fixed never pays.
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.tracing.statistics.observed import NONE, Floats, Ints


def match(run: Ints, request: Ints, cost: Floats, alone: Floats, requests: int) -> Ints:
    """(u,) the request of each run, or NONE; each request gets one run at most, and the sum of the costs is least.

    run, request, cost: (p,) possible pairs, in order of the runs. alone: (u,) cost of a run that belongs to none.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    result = np.full(len(alone), NONE)
    worth = (cost < alone[run]).nonzero()[0]
    if not len(worth):
        return result
    # Row by row the requests of a run, and, last, a column of its own for the case that it belongs to none.
    runs = np.arange(len(alone))
    begins = np.append(0, np.cumsum(np.bincount(run[worth], minlength=len(alone)) + 1))
    at, own = np.arange(len(worth)) + run[worth], begins[1:] - 1
    columns, costs = np.empty(begins[-1], np.int64), np.empty(begins[-1])
    columns[at], columns[own] = request[worth], requests + runs
    costs[at], costs[own] = cost[worth], alone
    table = csr_array((costs - costs.min() + 1, columns, begins), shape=(len(alone), requests + len(alone)))
    taken, by = min_weight_full_bipartite_matching(table)
    placed = by < requests
    result[taken[placed]] = by[placed]
    return result
