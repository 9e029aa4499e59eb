"""What can be told of delays before any link is known: which events follow each other more often than by chance.

If one kind of event causes another, the gaps between the two pile up around the delay; all other pairs are as far apart
as their rates say. The excess over that, for each kind of step, is a first guess at its distribution.
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.tracing.statistics.delays import Delays, Steps, bin_of, edges, gap_of
from otel_ebpf.tracing.statistics.observed import NONE, Floats, Ints, Observed

_BACK = 64
"""So many earlier events of a kind are looked at."""
_SAMPLE = 4000
"""So many effects of a kind are looked at."""
_COARSE = 8
"""So many bins of the scale are compared with chance together."""
_FEW = 3.0


def first_guess(seen: Observed, delays: Delays) -> tuple[Steps, Floats]:
    """Steps with weights, as if they had been seen in each kind of request alike."""
    before = [np.sort(seen.request_start[seen.request_kind == kind]) for kind in range(delays.requests)]
    calls = [seen.call_kind == kind for kind in range(delays.calls)]
    sent = [np.sort(seen.call_start[of_kind]) for of_kind in calls]
    before += sent + [np.sort(seen.call_end[of_kind]) for of_kind in calls]
    after = [*sent, np.sort(seen.request_end)]
    found: list[tuple[int, int, Ints, Floats]] = []
    for i, causes in enumerate(before):
        for j, effects in enumerate(after):
            weight = _excess(causes, effects, seen.span)
            at = weight.nonzero()[0]
            if len(at):
                found.append((i, j, at, weight[at]))
    sizes = [len(at) for _, _, at, _ in found]
    columns = (
        np.repeat(np.array([i for i, *_ in found], np.int64), sizes),
        np.repeat(np.array([j for _, j, *_ in found], np.int64), sizes),
        gap_of(np.concatenate([at for _, _, at, _ in found])) if found else np.zeros(0, np.int64),
    )
    weight = np.concatenate([w for *_, w in found]) if found else np.zeros(0)
    kinds = np.repeat(np.arange(delays.requests), len(weight))
    cause, effect, gap = (np.tile(column, delays.requests) for column in columns)
    none = np.full(len(kinds), NONE)
    return Steps(kinds, cause, effect, gap, none, none), np.tile(weight, delays.requests)


def order_of_calls(guess: Steps, weight: Floats, delays: Delays) -> list[int]:
    """Kinds of calls, those that follow the request's arrival soonest first."""

    def delay(kind: int) -> float:
        direct = ((guess.before < delays.requests) & (guess.after == kind)).nonzero()[0]
        if not len(direct):
            return np.inf
        return float(np.average(np.log1p(guess.gap[direct]), weights=weight[direct]))

    return sorted(range(delays.calls), key=delay)


def _excess(causes: Ints, effects: Ints, span: int) -> Floats:
    """(bins,) how many gaps from a cause to a later effect there are beyond what chance and its deviation explain."""
    edge = edges()
    if not len(causes) or not len(effects):
        return np.zeros(len(edge) - 1)
    every = len(effects) / min(len(effects), _SAMPLE)
    effects = effects[-_SAMPLE:]
    until = np.searchsorted(causes, effects, "right")
    at = until[:, None] - np.arange(1, _BACK + 1)
    gap = (effects[:, None] - causes[np.maximum(at, 0)])[at >= 0]
    seen = np.bincount(bin_of(gap), minlength=len(edge) - 1).astype(np.float64)
    full = until >= _BACK
    reach = float(np.median(effects[full] - causes[until[full] - _BACK])) if full.any() else edge[-1]
    seen[edge[:-1] > reach] = 0
    chance = len(effects) * len(causes) / span * np.diff(np.minimum(edge, reach))
    together, by_chance = (one.reshape(-1, _COARSE).sum(1) for one in (seen, chance))
    excess = np.maximum(together - by_chance - 2 * np.sqrt(by_chance + 0.5), 0)
    if excess.sum() < _FEW:
        return np.zeros(len(seen))
    share: Floats = every * np.repeat(excess / np.maximum(together, 1), _COARSE) * seen
    return share
