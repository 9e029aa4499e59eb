"""The last rung: by the distributions of delays, for calls that no other rung decided when all requests that they can
belong to have ended.

It says nothing of a process before it knows enough links that other rungs fixed there: from these it learns the delays,
and by hiding some of them in every pass it learns what its own confidence is worth. It spends at most a few per cent of
the time; calls that come when that is spent are left undecided.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.counters import Counters
from otel_ebpf.tracing.processes import SERVES
from otel_ebpf.tracing.rungs.base import NONE, Calls, Proposal, Requests, Rung, find
from otel_ebpf.tracing.statistics.history import History

_PROCESSES = 64
_SHARE = 0.03
_ADVANCE_S = 0.5
"""So much of the time may it take, and so much is there to begin with."""


@dataclass(slots=True)
class _Budget:
    spent: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def left(self) -> bool:
        return self.spent < _ADVANCE_S + _SHARE * (time.monotonic() - self.began)


class Statistics(Rung):
    """Keeps the last requests and calls of at most 64 processes in which calls stayed undecided."""

    link = Link.STATISTICS

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._of: dict[int, History] = {}
        self._budget = _Budget()

    def wants(self, calls: Calls, requests: Requests) -> NDArray[np.uint64]:
        wanted = [np.zeros(0, np.uint64)]
        for tgid, history in self._of.items():
            ended = ((requests.tgid == tgid) & requests.fresh & requests.single).nonzero()[0]
            if len(ended):
                history.ended(requests.span_id[ended], requests.start[ended], requests.end[ended], requests.kind[ended])
            ripe = (calls.tgid == tgid) & ~calls.waiting
            wanted.append(history.candidates(calls.start[ripe], calls.end[ripe]))
        return np.concatenate(wanted)

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        for one in tgid.tolist():
            self._of.pop(one, None)

    def propose(self, calls: Calls, requests: Requests) -> Proposal:
        said = Proposal.silent(len(calls))
        said.candidates = np.ones(len(calls), np.uint8)
        undecided = (calls.found == NONE) & calls.of_process(SERVES)
        ripe = ~calls.waiting
        self._watch(calls.tgid[undecided & ripe])
        for tgid, history in self._of.items():
            here = calls.tgid == tgid
            said.open[here & undecided & calls.waiting] = True
            told = (here & ((calls.found >= 0) | (undecided & ripe))).nonzero()[0]
            if not len(told):
                continue
            found = calls.found[told]
            request = np.where(found >= 0, requests.span_id[np.maximum(found, 0)], 0) if len(requests) else found * 0
            history.called(
                calls.span_id[told], calls.start[told], calls.end[told], calls.kind[told], request.astype(np.uint64)
            )
            asked = told[found == NONE]
            if not len(asked):
                continue
            if not self._budget.left():
                self._counters.no_time += len(asked)
                continue
            began = time.thread_time()
            answer = history.ask(calls.span_id[asked])
            self._budget.spent += time.thread_time() - began
            at = find(requests.span_id, answer.request)
            named = (at != NONE) & (answer.request != 0)
            said.request[asked[named]] = at[named]
            said.confidence[asked[named]] = answer.confidence[named]
            said.candidates[asked[named]] = np.minimum(answer.candidates[named], 255)
        return said

    def _watch(self, tgid: NDArray[np.uint32]) -> None:
        for one in np.unique(tgid).tolist():
            if one not in self._of:
                if len(self._of) >= _PROCESSES:
                    del self._of[next(iter(self._of))]
                self._of[one] = History()
