"""Quantiles of durations that are known by bucket only.

A bucket b holds 2^(b/4) <= duration in ns < 2^((b+1)/4), as in `operations`. Within a bucket durations are taken to be
spread evenly on that logarithmic scale, which errs by at most 19 %, the width of a bucket. Where the sum of the
durations in a bucket is known, no quantile is more than the mean of the highest one, nor less than that of the lowest:
so none lies outside of what was measured, and that of a single call is its duration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BUCKETS = 256
Histograms = NDArray[np.float64]
"""(n, BUCKETS) how many durations are in each bucket."""


def upper_ms(bucket: int) -> float:
    """The bucket's upper bound.

    >>> round(upper_ms(79), 4)  # 2^20 ns
    1.0486
    """
    return float(2.0 ** ((bucket + 1) / 4) / 1e6)


def histograms(
    groups: NDArray[np.generic], count: int, buckets: NDArray[np.generic], calls: NDArray[np.generic]
) -> Histograms:
    """(count, BUCKETS) sums of `calls` (n,) by group (n,) in 0..count-1, and bucket (n,)."""
    cells = groups.astype(np.int64) * BUCKETS + buckets.astype(np.int64)
    sums = np.bincount(cells, calls.astype(np.float64), count * BUCKETS)
    return sums.astype(np.float64).reshape(count, BUCKETS)


def summed(buckets: Sequence[int], calls: Sequence[int], sums: Sequence[float]) -> NDArray[np.float64]:
    """(2, BUCKETS) by bucket: how many durations, and their sums in ns (0: not known)."""
    at = np.array(buckets, np.int64)
    rows = [np.bincount(at, np.array(weights, np.float64), BUCKETS) for weights in (calls, sums)]
    return np.array(rows, np.float64)


def quantile(found: Histograms, share: float, sums: Histograms | None = None) -> list[float | None]:
    """(n,) milliseconds; None for a histogram without durations. sums: (n, BUCKETS) of the durations in ns; 0: unknown.

    >>> two = histograms(np.array([0]), 2, np.array([80]), np.array([3]))
    >>> quantile(two, 0.5)
    [1.14348, None]
    """
    reached = np.cumsum(found, axis=1)
    totals = reached[:, -1]
    wanted = totals * share
    rows = np.arange(len(found))
    at = np.minimum((reached < wanted[:, None]).sum(axis=1), BUCKETS - 1)
    inside = found[rows, at]
    below = reached[rows, at] - inside
    part = np.divide(wanted - below, inside, out=np.zeros(len(found)), where=inside > 0)
    values = np.exp2((at + np.clip(part, 0, 1)) / 4)
    if sums is not None:
        values = np.clip(values, *_ends(found, sums))
    values = values / 1e6
    return [
        float(f"{value:.6g}") if total > 0 else None
        for value, total in zip(values.tolist(), totals.tolist(), strict=True)
    ]


def _ends(found: Histograms, sums: Histograms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) least and most ns of a quantile: the means of the lowest and of the highest bucket that hold anything."""
    rows, there = np.arange(len(found)), found > 0
    lowest, highest = there.argmax(axis=1), BUCKETS - 1 - there[:, ::-1].argmax(axis=1)
    ends = []
    for at, unknown in ((lowest, 0.0), (highest, np.inf)):
        mean = np.divide(sums[rows, at], found[rows, at], out=np.zeros(len(found)), where=found[rows, at] > 0)
        # A mean that is not in its bucket is not one of all its durations: some came without their sum.
        known = (mean >= np.exp2(at / 4) * (1 - 1e-9)) & (mean <= np.exp2((at + 1) / 4) * (1 + 1e-9))
        ends.append(np.where(known, mean, unknown))
    return ends[0], np.maximum(ends[0], ends[1])


def of_bounds(bounds: Sequence[float], counts: Sequence[float]) -> NDArray[np.float64]:
    """(BUCKETS,) the counts of an explicit-bucket histogram of seconds, each spread over the buckets that it covers.

    As Prometheus does (histogram_quantile), what is above the last bound counts as being there.
    """
    found = np.zeros(BUCKETS)
    if not counts:
        return found
    if not bounds:
        return found
    edges = [max(bounds[0] / 4, 0.0), *bounds, bounds[-1]]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count <= 0:
            continue
        first, last = _place(low), _place(high)
        if last - first < 1e-6:
            found[min(int(max(first - 1e-6, 0)), BUCKETS - 1)] += count
            continue
        cuts = np.clip(np.arange(BUCKETS + 1), first, last)
        found += np.diff(cuts) * (count / (last - first))
    return found


def _place(seconds: float) -> float:
    """Where on the scale of buckets a duration is."""
    if not np.isfinite(seconds) or seconds <= 1e-9:
        return 0.0 if not seconds > 1e-9 else float(BUCKETS)
    return float(min(4 * np.log2(seconds * 1e9), BUCKETS))
