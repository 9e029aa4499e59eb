"""A long time, cut into windows: they bound memory and work, and what was learned in one goes on to the next."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from otel_ebpf.tracing.statistics.assign import Assignment, assign
from otel_ebpf.tracing.statistics.delays import Delays
from otel_ebpf.tracing.statistics.observed import NONE, Columns, Ints, Observed

_WINDOW = 2_000
"""Requests; up to half as many again are looked at with them."""
_MARGIN = 500
"""Requests before and after the window, and those from before that are still open, at most so many each."""


def assign_all(columns: Columns, delays: Delays | None = None) -> Assignment:
    """As `assign`, of any length; delays as there."""
    m, n = len(columns.request_start), len(columns.call_start)
    parent = np.where(columns.known == NONE, NONE, columns.known)
    confidence = (parent != NONE).astype(np.float64)
    candidates = np.zeros(n, np.int64)
    order = np.argsort(columns.request_start, kind="stable")
    starts = columns.request_start[order]
    edges = [None, *(int(starts[i]) for i in range(_WINDOW, m - _WINDOW // 2, _WINDOW)), None]
    for begin, end in pairwise(edges):
        requests = _requests(columns, order, starts, begin, end)
        if not len(requests):
            continue
        first, last = columns.request_start[requests].min(), columns.request_end[requests].max()
        calls = ((columns.call_start >= first) & (columns.call_end <= last)).nonzero()[0]
        if begin is not None and end is not None:
            within = columns.call_start[calls]
            calls = calls[within < starts[min(np.searchsorted(starts, end) + _MARGIN, m - 1)]]
        if not len(calls):
            continue
        found = assign(Observed.of(columns.part(requests, calls)), delays)
        delays = found.delays
        at = columns.call_start[calls]
        core = (at >= (begin if begin is not None else at.min())) & (at < (end if end is not None else at.max() + 1))
        kept = calls[core]
        parent[kept] = np.where(found.parent[core] == NONE, NONE, requests[found.parent[core]])
        confidence[kept], candidates[kept] = found.confidence[core], found.candidates[core]
    return Assignment(parent, confidence, candidates, delays or Delays(columns.request_kinds, columns.call_kinds))


def _requests(columns: Columns, order: Ints, starts: Ints, begin: int | None, end: int | None) -> Ints:
    """Those that begin in the window, a margin on both sides, and those that are open when it begins."""
    low = 0 if begin is None else int(np.searchsorted(starts, begin))
    high = len(starts) if end is None else int(np.searchsorted(starts, end))
    near = order[max(low - _MARGIN, 0) : high + _MARGIN]
    before = order[: max(low - _MARGIN, 0)]
    still_open = before[columns.request_end[before] >= (begin or 0)][-_MARGIN:]
    return np.concatenate([still_open, near])
