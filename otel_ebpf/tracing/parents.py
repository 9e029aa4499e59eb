"""The arbiter: the one place where a proposal becomes a parent.

A proposal counts if it is deterministic or its calibrated confidence is at least 0.95. The highest rung that proposes
gives the method; two rungs that name different requests cancel each other, since a wrong parent is worse than none.
What is less certain, but more likely than not, becomes a span link instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.rungs import Calls, Proposal, Requests, Rung
from otel_ebpf.tracing.rungs.base import CONFLICT, NONE

CONFIDENT, LIKELY = 0.95, 0.5


@dataclass(slots=True)
class Verdict:
    """What was decided about n calls.

    request: (n,) index into the requests, or `base.NONE`. likely: (n,) the same, for a span link. link: (n,) Link,
    confidence: (n,) 0 … 1, candidates: (n,) of the chosen proposal.
    open: (n,) not decided, and some rung may still propose. conflict: (n,) rungs contradicted each other.
    """

    request: NDArray[np.intp]
    likely: NDArray[np.intp]
    link: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    candidates: NDArray[np.uint8]
    open: NDArray[np.bool_]
    conflict: NDArray[np.bool_]

    @staticmethod
    def none(n: int) -> Verdict:
        """Nobody said anything."""
        return Verdict(
            request=np.full(n, NONE, np.intp),
            likely=np.full(n, NONE, np.intp),
            link=np.full(n, Link.NONE, np.uint8),
            confidence=np.ones(n, np.float32),
            candidates=np.ones(n, np.uint8),
            open=np.zeros(n, np.bool_),
            conflict=np.zeros(n, np.bool_),
        )


def decide(rungs: Sequence[Rung], calls: Calls, requests: Requests) -> Verdict:
    """Ask every rung, in the ladder's order, and weigh what they say."""
    verdict = Verdict.none(len(calls))
    for rung in rungs:
        calls.found = np.where(verdict.conflict, CONFLICT, verdict.request)
        said = rung.propose(calls, requests)
        verdict.open |= said.open & calls.waiting
        if said.later is not None:
            verdict.open |= said.later
        spoke = said.request != NONE
        sure = spoke & (said.confidence >= CONFIDENT)
        likely = spoke & ~sure & (said.confidence >= LIKELY) & (verdict.request == NONE)
        if likely.any():
            verdict.likely[likely] = said.request[likely]
            _note(verdict, likely, rung, said)
        if not sure.any():
            continue
        first = sure & (verdict.request == NONE)
        verdict.conflict |= sure & ~first & (said.request != verdict.request)
        verdict.request[first] = said.request[first]
        verdict.likely[first] = NONE
        _note(verdict, first, rung, said)
    for column in (verdict.request, verdict.likely):
        column[verdict.conflict] = NONE
    verdict.link[verdict.conflict] = Link.NONE
    verdict.open &= (verdict.request == NONE) & ~verdict.conflict
    return verdict


def _note(verdict: Verdict, rows: NDArray[np.bool_], rung: Rung, said: Proposal) -> None:
    verdict.link[rows] = rung.link if said.link is None else said.link[rows]
    verdict.confidence[rows] = said.confidence[rows]
    verdict.candidates[rows] = 1 if said.candidates is None else said.candidates[rows]
