"""Keep-tail sampling: errors, the slowest of each route, and a part of the rest; whole traces, within a budget.

Theory of operation. The sampler of the configuration comes first (`tracing.sampling`); what it keeps is held here by
trace until the request by which the trace came to this host is known (its *local root*) and GRACE_NS have passed, or
`wait_ns` since its first row. Then it is decided, once:

1. A span failed (its status is ERROR): kept.
2. The local root is among the slowest of its route (`slowest`): kept.
3. The trace's id is below the ratio, as the sampler `traceidratio` has it: kept; so other hosts keep the same ones.
4. Else dropped.

The budget is asked in this order, and what it does not bear is dropped. Rows that come later follow the decision. Rows
that a process's own SDK tells of count as evidence, but are not held. When too many rows are held the oldest traces are
decided early, by what is known of them. Each row that is taken is returned once or counted as dropped once.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.combinations import Combinations
from otel_ebpf.model import Intern, Resource, Spans
from otel_ebpf.protocols.base import Fields
from otel_ebpf.tracing.bits import CONNECTION, NO_LINK, SERVER, TCP_OPTION
from otel_ebpf.tracing.keys import groups, trace_keys
from otel_ebpf.tracing.sampling import Sampler
from otel_ebpf.tracing.tail.budget import Budget
from otel_ebpf.tracing.tail.decisions import DROPPED, KEPT, OPEN, Decisions
from otel_ebpf.tracing.tail.held import Held, News, Traces
from otel_ebpf.tracing.tail.slowest import Slowest

GRACE_NS = 10**9
"""After the local root: rows of one trace are released by tracing in one turn, or in the next ones."""
FAILED, SLOW, CHOSEN, ROOTED = np.uint8(1), np.uint8(2), np.uint8(4), np.uint8(8)
_ORDER = (("error", FAILED, 0.0), ("slow", SLOW, 0.25), ("ratio", CHOSEN, 0.5))
"""Why traces are kept: the reason, the evidence, and the part of the budget's bucket that is left to those before."""
_NO_MATE = -1
_REMEMBERED = 1 << 16


class Tail:
    """Takes rows in, gives those of kept traces back.

    slowest: percent of each route. ratio: of the rest, 0 … 1. budget: spans per second, 0: no limit. wait_ns: how long
    a trace is held at most. limit: how many rows are.

    >>> tail = Tail(shapes, resources, slowest=1.0, ratio=0.1, budget=0, wait_ns=10**10, limit=50_000)
    >>> tail.take(spans, Combinations.among(spans), local_roots(spans, mates), sampled, None, now)
    >>> kept = tail.decide(now)
    """

    def __init__(
        self,
        shapes: Intern[Fields],
        resources: Intern[Resource],
        *,
        slowest: float,
        ratio: float,
        budget: float,
        wait_ns: int,
        limit: int,
        decisions: Decisions | None = None,
    ) -> None:
        self.spans: Counter[tuple[str, str]] = Counter()
        """Rows by outcome (kept, dropped) and reason"""
        self.traces: Counter[tuple[str, str]] = Counter()
        """Traces likewise"""
        self.hurried = 0
        """Rows of traces that were decided early, because too many were held"""
        self.rootless = 0
        """Traces that were decided without their local root"""
        self.late_errors = 0
        """Rows that failed and came after their trace had been dropped"""
        self.decisions = decisions if decisions is not None else Decisions()
        self.slowest = Slowest(slowest, shapes, resources)
        self._shapes = shapes
        self._fails: dict[int, bool] = {}
        """By side of a `Combinations`: ids are never used again"""
        self._chosen = Sampler("traceidratio", ratio).sample
        self._budget = Budget(budget)
        self._wait, self._grace, self._limit = wait_ns, min(GRACE_NS, wait_ns), limit
        self._traces, self._held = Traces(), Held()
        self._late: list[Spans] = []

    @property
    def held(self) -> int:
        """Rows that wait for their trace to be decided."""
        return len(self._held)

    def take(
        self,
        spans: Spans,
        found: Combinations,
        roots: NDArray[np.bool_],
        sampled: NDArray[np.bool_],
        covered: NDArray[np.bool_] | None,
        now: int,
    ) -> None:
        """Hold decided rows. found: their combinations. roots: (n,) local roots. sampled: (n,) what the sampler keeps;
        all else is none of ours. covered: (n,) rows that are evidence alone. now: monotonic ns."""
        rows = sampled.nonzero()[0]
        if not len(rows):
            return
        key, which = groups(trace_keys(spans.trace[rows]))
        failed = self._failing(found)[found.of[rows]]
        told = rows[:0] if covered is None else covered[rows].nonzero()[0]
        mine = np.ones(len(rows), np.bool_)
        mine[told] = False
        past = self.decisions.of(key)
        if (past != OPEN).any():
            self._follow(spans, rows, which, past, mine, failed, now)
        root = roots[rows]
        evidence = np.zeros(len(key), np.uint8)
        evidence[which[failed]] |= FAILED
        evidence[which[self._chosen(spans)[rows]]] |= CHOSEN
        at = root.nonzero()[0]
        evidence[which[at]] |= ROOTED
        evidence[which[at[self.slowest.judge(spans, found, rows[at], now)]]] |= SLOW
        news = News(key, evidence, np.bincount(which[mine], minlength=len(key)), (evidence & ROOTED) != 0)
        new = past == OPEN
        if not new.any():
            return
        numbers = np.zeros(len(key), np.intp)
        numbers[new], moved = self._traces.add(news.take(new), now, self._wait, self._grace)
        self._held.renumber(moved)
        mine &= new[which]
        self._held.add(spans, rows[mine], numbers[which[mine]])

    def decide(self, now: int, everything: bool = False) -> list[Spans]:
        """Batches of rows that are to be exported now. everything: decide all that is held."""
        traces = self._traces
        due = traces.due <= now
        if everything:
            due[:] = True
        else:
            self._hurry(due)
        released, self._late = self._late, []
        if not due.any():
            return released
        verdict = np.full(len(traces), OPEN, np.uint8)
        verdict[due] = DROPPED
        left = due.nonzero()[0]
        left = left[np.argsort(traces.first[left], kind="stable")]
        self.rootless += int(np.count_nonzero((traces.evidence[left] & ROOTED) == 0))
        for reason, bit, reserve in _ORDER:
            has = (traces.evidence[left] & bit) != 0
            some, left = left[has], left[~has]
            passes = self._budget.spend(traces.size[some], reserve, now)
            verdict[some[passes]] = KEPT
            self._count("kept", reason, traces.size[some[passes]])
            self._count("dropped", f"over_budget_{reason}", traces.size[some[~passes]])
        self._count("dropped", "ratio", traces.size[left])
        self.decisions.note(traces.key[due], verdict[due] == KEPT, now)
        released += self._held.release(verdict)
        self._held.renumber(traces.remove(due))
        return released

    def _count(self, outcome: str, reason: str, sizes: NDArray[np.intp]) -> None:
        if len(sizes):
            self.traces[outcome, reason] += len(sizes)
            self.spans[outcome, reason] += int(sizes.sum())

    def _failing(self, found: Combinations) -> NDArray[np.bool_]:
        """(k,) whether spans of that combination have the status ERROR."""
        known = self._fails
        if len(known) > _REMEMBERED:
            known.clear()
        for side in set(found.side).difference(known):
            try:
                shape = self._shapes[side >> 1]
            except KeyError:  # forgotten meanwhile
                known[side] = False
            else:
                known[side] = (shape.client if side & 1 else shape.server).error
        return np.array([known[side] for side in found.side], np.bool_)

    def _follow(
        self,
        spans: Spans,
        rows: NDArray[np.intp],
        which: NDArray[np.intp],
        past: NDArray[np.uint8],
        mine: NDArray[np.bool_],
        failed: NDArray[np.bool_],
        now: int,
    ) -> None:
        """Rows of traces that have been decided."""
        of_row = past[which]
        lost = mine & (of_row == DROPPED)
        self.spans["dropped", "late"] += int(np.count_nonzero(lost))
        self.late_errors += int(np.count_nonzero(lost & failed))
        joins = mine & (of_row == KEPT)
        if not joins.any():
            return
        # Somebody may send the same trace id for ever: that is within the budget, or not at all.
        size = np.bincount(which[joins], minlength=len(past))
        passes = np.zeros(len(past), np.bool_)
        some = size.nonzero()[0]
        passes[some] = self._budget.spend(size[some], 0.0, now)
        goes = joins & passes[which]
        count = int(np.count_nonzero(goes))
        self.spans["kept", "late"] += count
        self.spans["dropped", "over_budget_late"] += int(np.count_nonzero(joins)) - count
        if count:
            self._late.append(spans.take(rows[goes]))

    def _hurry(self, due: NDArray[np.bool_]) -> None:
        """The oldest traces are due, as many as there are rows too many. A trace without a row counts as one."""
        traces = self._traces
        size = np.maximum(traces.size, 1)
        excess = int(size[~due].sum()) - self._limit
        if excess <= 0:
            return
        waiting = (~due).nonzero()[0]
        waiting = waiting[np.argsort(traces.first[waiting], kind="stable")]
        gone_before = np.cumsum(size[waiting]) - size[waiting]
        oldest = waiting[gone_before < excess]
        due[oldest] = True
        self.hurried += int(traces.size[oldest].sum())


def local_roots(spans: Spans, mates: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(n,) the rows by which traces came to this host, or began here.

    That is a request whose caller is not on this host, or a call that nothing on this host is known to have caused; but
    where both ends of that call are here, the server's, which knows the route. A call below a span of its process's own
    SDK is none. mates: (n,) as of `Assembler`.
    """
    server = spans.kind == SERVER
    root = spans.parent == 0
    came = (spans.remote_link != NO_LINK) & (spans.parent == spans.remote_parent) & (spans.link != CONNECTION)
    came |= spans.link == TCP_OPTION
    roots: NDArray[np.bool_] = root | (server & came)
    calls = (roots & ~server & (mates != _NO_MATE)).nonzero()[0]
    roots[calls] = False
    roots[mates[calls]] = True
    return roots
