"""The arbiter: the one place where a proposal becomes a parent.

A proposal counts if it is deterministic or its calibrated confidence is at least 0.95. The highest rung that proposes
gives the method; two rungs that name different requests cancel each other, since a wrong parent is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.rungs import Calls, Requests, Rung
from otel_ebpf.tracing.rungs.base import CONFLICT, NONE

CONFIDENT = 0.95


@dataclass(slots=True)
class Verdict:
    """What was decided about n calls.

    request: (n,) index into the requests, or `base.NONE`. link: (n,) Link. confidence: (n,) of the chosen proposal.
    open: (n,) not decided, and some rung may still propose. conflict: (n,) rungs contradicted each other.
    """

    request: NDArray[np.intp]
    link: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    open: NDArray[np.bool_]
    conflict: NDArray[np.bool_]


def decide(rungs: Sequence[Rung], calls: Calls, requests: Requests) -> Verdict:
    """Ask every rung, in the ladder's order, and weigh what they say."""
    n = len(calls)
    verdict = Verdict(
        request=np.full(n, NONE, np.intp),
        link=np.full(n, Link.NONE, np.uint8),
        confidence=np.ones(n, np.float32),
        open=np.zeros(n, np.bool_),
        conflict=np.zeros(n, np.bool_),
    )
    for rung in rungs:
        calls.found = np.where(verdict.conflict, CONFLICT, verdict.request)
        said = rung.propose(calls, requests)
        verdict.open |= said.open
        sure = (said.request != NONE) & (said.confidence >= CONFIDENT)
        if not sure.any():
            continue
        first = sure & (verdict.request == NONE)
        verdict.conflict |= sure & ~first & (said.request != verdict.request)
        verdict.request[first] = said.request[first]
        verdict.link[first] = rung.link if said.link is None else said.link[first]
        verdict.confidence[first] = said.confidence[first]
    verdict.request[verdict.conflict] = NONE
    verdict.link[verdict.conflict] = Link.NONE
    verdict.open &= (verdict.request == NONE) & ~verdict.conflict & calls.waiting
    return verdict
