"""The cheapest assignment of runs to requests.

scipy is imported when it is needed: 0.15 s and 35 MB that an agent whose links are all fixed never pays.
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.tracing.statistics.observed import NONE, Floats, Ints


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
    order = np.lexsort((columns, rows))
    begins = np.searchsorted(rows[order], np.arange(len(alone) + 1))
    shape = (len(alone), requests + len(alone))
    table = csr_array(((costs - costs.min() + 1)[order], columns[order], begins), shape=shape)
    taken, by = min_weight_full_bipartite_matching(table)
    placed = by < requests
    result[taken[placed]] = by[placed]
    return result
