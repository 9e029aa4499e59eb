"""Whole traces before export: rows are held until their parent, and its parent, and so on to the root, are known.

Theory of operation. The kernel hands an exchange over up to `lag_ns` after it ended. So when that time has passed since
a row's end, everything that ended before it is here: the row is *due*, and judged, once, against what became due with
it or waits since before. Servers are given `SKEW_NS` more, so that the client end of the same exchange, which ends
last, and all calls made for a request are due no later than the request itself. A pass, on each `feed`:

1. `join`: the two ends of a connection on this host become mates; a client end without payload takes over the server's.
2. Server rows: child of their mate; else of the context in the request; else root.
3. Client rows: the ladder (`parents`, `rungs`) finds the request that they were made for, or says that it is to come:
   then the row waits, `hold_ns` from its end, or `NAMED_NS` if the kernel has named the request.
4. `resolve`: rows whose chain of parents ends in a decided row get that row's trace id, and go.

Rows of a process that never receives requests (curl, cron jobs) pass through at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct
from otel_ebpf.model import Spans
from otel_ebpf.tracing.arrivals import NAMED_NS, SKEW_NS, amend, arrive
from otel_ebpf.tracing.bits import CLIENT, CONNECTION, HEAD, NO_LINK, SERVER, TRACEPARENT
from otel_ebpf.tracing.carriers import Carriers
from otel_ebpf.tracing.completion import Completion
from otel_ebpf.tracing.counters import Counters
from otel_ebpf.tracing.join import agree_with_released, join, local
from otel_ebpf.tracing.keys import place
from otel_ebpf.tracing.lineage import Lineage
from otel_ebpf.tracing.marks import Marks
from otel_ebpf.tracing.memory import Memory, Released
from otel_ebpf.tracing.openings import Openings
from otel_ebpf.tracing.outcome import (
    foreign_context,
    keys_elsewhere,
    pass_over_unrecognised,
    set_child,
    set_child_of_released,
    set_likely,
    set_remote,
    set_requests,
    set_root,
    settle_parents,
)
from otel_ebpf.tracing.parents import Verdict, decide
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.pool import ARRIVED, ASKED, COVERED, DECIDED, FREE, NOWHERE, OPEN, SEEN, Pool, Rows
from otel_ebpf.tracing.processes import CALLS, SERVES, Processes
from otel_ebpf.tracing.rungs import Requests, ladder
from otel_ebpf.tracing.rungs.base import NONE, find
from otel_ebpf.tracing.segments import Segments
from otel_ebpf.tracing.views import calls_of, learn, released_of, requests_of, with_wanted

HOLD_NS = 2 * 10**9
LAG_NS = 600 * 10**6
FORGET_THREADS_NS = 600 * 10**9
_GENERATIONS = 1 << 10
_FORCED_PASSES = 8


class Assembler:
    """Takes rows as they come, gives them back with trace, parent and link, and client ends with their shape.

    After tracing, `remote_link`, `remote_flags` of a row say how its *trace* came to this host (NONE: begun here): what
    parent-based sampling asks. A row's parent is a remote span if and only if `parent == remote_parent != 0`.

    hold_ns: how long a row waits for something that may come. limit_rows: how many may wait. random: of trace ids;
    None: they follow from span ids, which are random, so that the kernel side knows them.
    lag_ns: how long after its end a row may arrive.
    statistics: parents by the distributions of delays as well, where nothing else tells (`rungs.statistics`).
    """

    def __init__(
        self,
        hold_ns: int = HOLD_NS,
        limit_rows: int = 200_000,
        random: Callable[[int], bytes] | None = os.urandom,
        lag_ns: int = LAG_NS,
        completion: Completion | None = None,
        statistics: bool = False,
    ) -> None:
        self.counters = Counters()
        self._places = Places()
        self.processes = Processes(self._places)
        self._hold = np.uint64(hold_ns)
        self._lag = np.uint64(lag_ns)
        self._limit = limit_rows
        self._random = random
        self._pool = Pool()
        self._memory = Memory()
        self.completion = completion or Completion()
        self._lineage = Lineage()
        self._openings = Openings(lag_ns + 2 * SKEW_NS)
        self._segments = Segments()
        self._marks = Marks()
        self._carriers = Carriers()
        self._rungs = ladder(
            self._lineage,
            self._marks,
            self._carriers,
            self._openings,
            self._segments,
            self._places,
            self.counters,
            statistics,
        )
        self._threads_known_since = 0
        self.covered: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """(n,) for each of these, whether it is not to be emitted, since the process's own SDK tells of it: its span id
        is that of the SDK's span then, where it is known"""
        self.mates: Rows = np.zeros(0, np.intp)
        """(n,) for each of these, which other one is the other end of its exchange; NOWHERE: none of them"""

    @property
    def missed(self) -> int:
        """Processes of which nothing is kept: see `Places`."""
        return self._places.missed

    def hear(
        self,
        lineages: NDArray[np.void] | None,
        open_since: tuple[NDArray[np.uint32], NDArray[np.void] | None],
        now: int,
        segments: NDArray[np.void] | None = None,
        until: int = 0,
        heap_marks: NDArray[np.void] | None = None,
    ) -> None:
        """What the kernel side told besides rows, before these are fed: see `Lineage.tell`, `Openings.swept`,
        `Segments.tell`, `Marks.tell` and `Carriers.tell`."""
        if segments is not None:
            self._segments.tell(segments)
        if heap_marks is not None:
            of_units = heap_marks["unit"] != 0
            self._marks.tell(heap_marks[~of_units])
            self._carriers.tell(heap_marks[of_units])
        if lineages is not None:
            self._lineage.tell(lineages)
        self._openings.swept(now, *open_since, until=until)

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes ended, or became another program."""
        self.processes.forget(tgid)
        for rung in self._rungs:
            rung.forget(tgid)

    def feed(self, spans: Spans, now: int, waits: NDArray[np.uint64] | None = None) -> Spans:
        """New rows in, decided rows out. waits: (n,) ns for which an amendment of the row (Flag.PARTIAL) is awaited.

        The texts of the rows that are returned lie in an arena that they share with rows that still wait: encode the
        batch, or `take` from it, rather than keep it.
        """
        pool = self._pool
        pool.make_room(len(spans))
        if now - self._threads_known_since > FORGET_THREADS_NS:
            self.processes.forget_threads()
            self._threads_known_since = now
        if len(spans):
            awaited = np.zeros(len(spans), np.uint64) if waits is None else waits
            patience = NAMED_NS if self._openings.informed else self._hold
            rows = arrive(pool, spans, awaited, self.processes, self._lag, self._hold, np.uint64(patience))
            amend(pool, rows, self._memory, self.counters)
        released = [self._pass(now)]
        for _ in range(_FORCED_PASSES):
            if len(pool) <= self._limit:
                break
            self._force_oldest(len(pool) - self._limit)
            released.append(self._pass(now))
            self.counters.overflow += len(released[-1])
        return self._give(released, now)

    def flush(self) -> Spans:
        """All rows, with what is known of them now: nothing more is to come."""
        pool = self._pool
        self._openings.conclude()
        now = int(pool.spans.end[pool.state != FREE].max(initial=0))
        released = []
        while len(pool):
            live = (pool.state >= ARRIVED).nonzero()[0]
            pool.due[live] = pool.deadline[live] = 0
            released.append(self._pass(now))
        return self._give(released, now)

    def _pass(self, now: int) -> Rows:
        """Judge what is due; returns the rows that are free to go (their columns stay readable for this feed)."""
        pool = self._pool
        spans = pool.spans
        time = np.uint64(now)
        fresh = ((pool.state == ARRIVED) & (pool.due <= time)).nonzero()[0]
        pool.state[fresh] = OPEN
        ripe = (pool.state >= OPEN).nonzero()[0]
        if not len(ripe):
            return ripe
        self._join(ripe[(pool.mate[ripe] == NOWHERE) & (pool.ordinal[ripe] == 0)], time)
        rows = (pool.state == OPEN).nonzero()[0]
        server = spans.kind[rows] == SERVER
        self.completion.notice(pool, rows, time)
        self._judge_servers(rows[server], time)
        calls = rows[~server]
        # What a call without payload carries, its server's end will tell, which is due no later than the request.
        unread = (pool.mate[calls] == NOWHERE) & ((spans.flags[calls] & HEAD) != 0) & (pool.deadline[calls] > time)
        self._judge_calls(calls[~unread] if unread.any() else calls, fresh, time)
        return self._resolve(time)

    def _join(self, rows: Rows, time: np.uint64) -> None:
        pool = self._pool
        spans = pool.spans
        clients, _ = join(pool, rows)
        self.counters.joined += len(clients)
        # A call that has its parent already, and turns out to carry a context.
        late = clients[(pool.state[clients] == DECIDED) & foreign_context(spans, clients)]
        forwarded = pool.above[late] == spans.remote_parent[late]
        if self.completion.follows:
            set_remote(pool, late[~forwarded])
            self.completion.carried(pool, late[~forwarded], time)

    def _judge_servers(self, rows: Rows, time: np.uint64) -> None:
        """Child of the other end; else of the context in its bytes; else root."""
        pool, spans = self._pool, self._pool.spans
        rows = rows[self.completion.requests(pool, rows, time)]
        mate = pool.mate[rows]
        joined = mate != NOWHERE
        set_child(pool, rows[joined], mate[joined], CONNECTION)
        rows = rows[~joined]
        if not len(rows):
            return
        rows = rows[~self._recall_clients(rows)]
        near = local(spans, rows)
        past = pool.deadline[rows] <= time
        self.counters.timed_out += int((near & past).sum())
        rows = rows[past | ~near]
        remote = (spans.remote_link[rows] != NO_LINK) & (spans.remote_parent[rows] != 0)
        set_remote(pool, rows[remote])
        set_root(pool, rows[~remote], self._random)

    def _recall_clients(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,) whether the client end of these server rows was released a moment ago: they are its children then."""
        pool, spans = self._pool, self._pool.spans
        recalled = np.zeros(len(rows), np.bool_)
        ask = ((pool.asked[rows] != ASKED) & (spans.seq[rows] != 0) & local(spans, rows)).nonzero()[0]
        if not len(ask):
            return recalled
        asked = rows[ask]
        pool.asked[asked] = ASKED
        found, ends = self._memory.find("place", place(spans.pair[asked], spans.seq[asked], pool.ordinal[asked]))
        client = ends.kind == CLIENT
        found, ends = found[client], ends.take(client)
        recalled[ask[found]] = True
        agree_with_released(spans, asked[found], ends)
        set_child_of_released(pool, asked[found], ends, CONNECTION)
        return recalled

    def _judge_calls(self, rows: Rows, fresh: Rows, time: np.uint64) -> None:
        """Ask the ladder; what it leaves open waits, the rest is a child, a remote span's child, or a root.

        fresh: (m,) the rows that became due in this pass.
        """
        pool, spans = self._pool, self._pool.spans
        server = spans.kind[fresh] == SERVER
        learn(self.processes, pool, fresh[~server])
        fresh_requests = fresh[server & (pool.ordinal[fresh] == 0)]
        fresh_requests = fresh_requests[(self.processes.traits(spans.tgid[fresh_requests]) & CALLS) != 0]
        # Of processes that receive nothing no rung knows anything.
        asked = (self.processes.traits(spans.tgid[rows]) & SERVES) != 0
        asked |= (spans.cause[rows] != 0) | (spans.unit_req[rows] != 0)
        nobodys, rows = rows[~asked], rows[asked]
        if len(nobodys):
            none = requests_of(pool, nobodys[:0], fresh=False)
            self._conclude(nobodys, none, Released.empty(), Verdict.none(len(nobodys)), time)
        if not len(rows) and not len(fresh_requests):
            return
        self._openings.settle(int(time))
        waiting = self._openings.waiting(spans.tgid[rows], spans.start[rows])
        calls, requests = calls_of(pool, rows, self.processes, waiting), requests_of(pool, fresh_requests, fresh=True)
        wanted = [self._late(rows, waiting), *(rung.wants(calls, requests) for rung in self._rungs)]
        requests, gone = with_wanted(requests, np.concatenate(wanted), pool, self._memory)
        calls.named = find(requests.span_id, calls.cause)
        self._conclude(rows, requests, gone, decide(self._rungs, calls, requests), time)

    def _conclude(self, rows: Rows, requests: Requests, gone: Released, verdict: Verdict, time: np.uint64) -> None:
        """Calls get what was decided of them; the last requests are those that are `gone`."""
        pool, spans = self._pool, self._pool.spans
        past = pool.deadline[rows] <= time
        found = verdict.request != NONE
        finished = found | ~verdict.open | past
        if self.completion.active:
            finished &= found | foreign_context(spans, rows) | ~self.completion.waiting(pool, rows, time)
        # A context that no request of the process had is that of an SDK in the process: its span is in between.
        own_sdk = finished & foreign_context(spans, rows) & (verdict.link != TRACEPARENT)
        own_sdk &= self.completion.follows
        set_remote(pool, rows[own_sdk])
        self.completion.carried(pool, rows[own_sdk], time)
        made_for = (own_sdk & found).nonzero()[0]
        self.completion.carried_on(pool, rows[made_for], requests.row[verdict.request[made_for]])
        set_root(pool, rows[finished & ~found & ~own_sdk], self._random)
        set_requests(pool, rows, requests, gone, verdict, (found & ~own_sdk).nonzero()[0])
        likely = finished & ~found & ~own_sdk & (verdict.likely != NONE)
        set_likely(pool, rows, requests, gone, verdict, likely.nonzero()[0])
        self.counters.conflicts += int(verdict.conflict.sum())
        self.counters.timed_out += int((verdict.open & past).sum())

    def _late(self, calls: Rows, waiting: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """Span ids of the requests that calls name and that did not become due with them: searched for once.

        At once where no request can come any more: an unfinished response may have kept the call longer than that.
        """
        pool = self._pool
        asking = (pool.spans.cause[calls] != 0) & (pool.asked[calls] != ASKED)
        named = calls[asking]
        late: Rows = named[(pool.asked[named] == SEEN) | ~waiting[asking]]
        pool.asked[named] += np.uint8(1)
        causes: NDArray[np.uint64] = pool.spans.cause[late]
        return causes

    def _resolve(self, time: np.uint64) -> Rows:
        """Rows whose root is decided get its trace; returns those that wait for nothing else."""
        pool, spans = self._pool, self._pool.spans
        rows = (pool.state == DECIDED).nonzero()[0]
        top = self._tops(rows)
        known = pool.state[top] == DECIDED
        held = rows[:0]
        if self.completion.active:
            waits = known & np.isin(top, self._awaited())
            held = rows[waits]
            known &= ~waits
        rows, top = rows[known], top[known]
        self.completion.calls(pool, rows, top)
        pass_over_unrecognised(pool, rows)
        settle_parents(pool, rows)
        below = top != rows
        heirs, top = rows[below], top[below]
        for column in (*spans.trace.T, pool.came_by, pool.came_with):
            column[heirs] = column[top]
        pool.up[heirs] = heirs  # the trace is known: from now on the row depends on nobody
        unlike = self._follow_likely(rows)
        self._follow_likely(held)  # what they link to may go
        is_client = spans.kind[rows] == CLIENT
        unnumbered = local(spans, rows) & (spans.seq[rows] == 0)  # the mate could not be found in memory later
        bare = (spans.flags[rows] & HEAD) != 0
        unjoined = is_client & (pool.mate[rows] == NOWHERE) & (bare | unnumbered)
        go = ~(unjoined | unlike) | (pool.deadline[rows] <= time)
        self.counters.unjoined_heads += int((unjoined & bare & go).sum())
        gone: Rows = rows[go]
        pool.leave(gone)
        return gone

    def _awaited(self) -> Rows:
        """Rows on top of calls whose other ends still wait; and those of which these are known by now get their trace.

        A trace that an SDK begins is that of who called, too, if that has none from elsewhere.
        """
        pool, spans = self._pool, self._pool.spans
        ends = ((pool.state >= ARRIVED) & (pool.mate != NOWHERE)).nonzero()[0]
        ends = ends[(spans.kind[ends] == SERVER) & (pool.state[pool.mate[ends]] >= ARRIVED)]
        began = ends[(pool.state[ends] == DECIDED) & (pool.cover[ends] == COVERED) & (spans.parent[ends] == 0)]
        if len(began):
            self.completion.met(pool.alias[began], spans.span_id[pool.mate[began]])
        tops = self._tops(pool.mate[began])
        ours = (pool.state[tops] == DECIDED) & (pool.came_by[tops] == NO_LINK) & (spans.parent[tops] == 0)
        spans.trace[tops[ours]] = spans.trace[began[ours]]
        pool.came_by[tops[ours]], pool.came_with[tops[ours]] = TRACEPARENT, 1
        return self._tops(pool.mate[ends[pool.state[ends] != DECIDED]])

    def _follow_likely(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,) which of the decided rows wait for the trace of the span that they link to."""
        pool, spans = self._pool, self._pool.spans
        waits: NDArray[np.bool_] = pool.like[rows] != NOWHERE
        if not waits.any():
            return waits
        linked = rows[waits]
        target = pool.like[linked]
        known = (pool.state[target] == DECIDED) & (pool.up[target] == target)
        spans.like_trace[linked[known]] = spans.trace.take(target[known], axis=0)
        stands = known & (pool.cover[target] == COVERED) & (pool.alias[target] != 0)
        spans.like_span[linked[stands]] = pool.alias[target[stands]]
        pool.like[linked[known]] = NOWHERE
        waits[waits] = ~known
        return waits

    def _tops(self, rows: Rows) -> Rows:
        """(n,) the topmost known ancestor of each row: the row itself, if nothing is above it."""
        pool = self._pool
        top = rows
        for _ in range(_GENERATIONS):
            above: Rows = pool.up[top]
            if (above == top).all():
                return top
            top = above
        # Only rows that are their own ancestors never arrive: the walk goes round with them. One of each ring is cut.
        ring = distinct(top[pool.up[top] != top])
        lowest, onward = np.arange(len(ring)), np.searchsorted(ring, pool.up[ring])
        for _ in range(len(ring).bit_length()):
            lowest, onward = np.minimum(lowest, lowest[onward]), onward[onward]
        cut = ring[lowest == np.arange(len(ring))]
        self.counters.cycles += len(cut)
        set_root(pool, cut, self._random)
        return self._tops(rows)

    def _force_oldest(self, n: int) -> None:
        """The n oldest rows, and what they wait for, wait no longer."""
        pool = self._pool
        rows = (pool.state >= ARRIVED).nonzero()[0]
        oldest = rows[np.argpartition(pool.spans.end[rows], n - 1)[:n]]
        for column in (pool.due, pool.deadline):
            column[oldest] = column[self._tops(oldest)] = 0

    def _give(self, released: list[Rows], now: int) -> Spans:
        pool = self._pool
        rows = released[0] if len(released) == 1 else np.concatenate([np.zeros(0, np.intp), *released])
        self.counters.held = len(pool)
        self.mates = pool.mates_among(rows)
        if not len(rows):
            self.covered = rows > 0
            self._memory.expire(now)
            return Spans.empty()
        batch = pool.copy_of(rows)
        batch.key = keys_elsewhere(pool, rows)
        batch.remote_link, batch.remote_flags = pool.came_by[rows], pool.came_with[rows]
        self.covered = pool.cover[rows] == COVERED
        self._memory.file(released_of(pool, rows, batch), now)
        if self.covered.any():
            stands = self.covered & (pool.alias[rows] != 0)
            batch.span_id = np.where(stands, pool.alias[rows], batch.span_id)
        pool.discard(rows)
        self.counters.by_link += np.bincount(batch.link, minlength=256)
        return batch
