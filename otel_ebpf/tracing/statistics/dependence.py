"""How two ranks depend on each other: a request for much has long gaps and long calls, all of them.

A table of CODES × CODES for each kind of step: log of how much more often two ranks come together than if they were
independent (an empirical copula, smoothed over neighbours and towards independence).
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.tracing.statistics.observed import CODES, Floats, Ints

_ENOUGH = 40
_PRIOR = 30.0
"""So many observations of independence are added to a table."""


def tables(step: Ints, a: Ints, b: Ints, weight: Floats, steps: int) -> Floats:
    """(steps, CODES, CODES) log ratios; 0 where too little was seen. step, a, b: (l,)"""
    seen = np.bincount((step * CODES + a) * CODES + b, weight, minlength=steps * CODES * CODES)
    seen = seen.reshape(steps, CODES, CODES)
    ratio = np.zeros((steps, CODES, CODES))
    for i in (seen.sum((1, 2)) >= _ENOUGH).nonzero()[0]:
        table = _smooth(_smooth(seen[i]).T).T + _PRIOR / CODES**2
        expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
        ratio[i] = np.log(table / expected)
    return ratio


def told(ratio: Floats, step: Ints, a: Ints, b: Ints, steps: int) -> Floats:
    """(steps,) how much these tables tell of what was seen: the sum of its log ratios."""
    return np.bincount(step, ratio[step, a, b], minlength=steps).astype(np.float64)


def _smooth(table: Floats) -> Floats:
    padded = np.concatenate([table[:1], table, table[-1:]])
    smooth: Floats = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return smooth
