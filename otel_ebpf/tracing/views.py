"""The pool's columns as the rungs, the processes and the memory want to see them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans
from otel_ebpf.tracing.bits import SERVER
from otel_ebpf.tracing.keys import groups
from otel_ebpf.tracing.memory import Memory, Released
from otel_ebpf.tracing.pool import NOWHERE, OPEN, Pool, Rows
from otel_ebpf.tracing.processes import Processes
from otel_ebpf.tracing.rungs import Calls, Requests
from otel_ebpf.tracing.rungs.base import NONE, find

_NOBODY = Released.empty()


def learn(processes: Processes, pool: Pool, calls: Rows) -> None:
    """What client rows that have become due say of their processes."""
    spans = pool.spans
    processes.judged(
        spans.tgid[calls],
        pool.thread[calls],
        pool.waiter[calls],
        spans.start[calls],
        spans.flags[calls],
        spans.cause[calls],
    )


def calls_of(pool: Pool, rows: Rows, requests: Requests, processes: Processes) -> Calls:
    """Client rows whose parent is sought."""
    spans = pool.spans
    cause, tgid = spans.cause[rows], spans.tgid[rows]
    named = np.full(len(rows), NONE, np.intp)
    caused = cause.nonzero()[0]
    named[caused] = find(requests.span_id, cause[caused])
    return Calls(
        row=rows,
        tgid=tgid,
        thread=pool.thread[rows],
        waiter=pool.waiter[rows],
        start=spans.start[rows],
        end=spans.end[rows],
        flags=spans.flags[rows],
        cause=cause,
        named=named,
        traits=processes.traits(tgid),
        remote_trace=_contexts(spans, rows),
        remote_parent=spans.remote_parent[rows],
    )


def _contexts(spans: Spans, rows: Rows) -> NDArray[np.uint64]:
    """(n, 2) trace ids in the rows' bytes; most programs know of none."""
    if not spans.remote_parent[rows].any():
        return np.zeros((len(rows), 2), np.uint64)
    return spans.remote_trace.take(rows, axis=0)


def requests_of(pool: Pool, fresh: Rows, late_calls: Rows, memory: Memory) -> tuple[Requests, Released]:
    """The server rows that became due in this pass, and those that `late_calls` name, at the end: held ones, then
    released ones, which are also given as such."""
    spans = pool.spans
    rows, gone = fresh, _NOBODY
    if len(late_calls):
        cause = groups(spans.cause[late_calls])[0]
        cause = cause[find(spans.span_id[fresh], cause) == NONE]
        held = (pool.state >= OPEN).nonzero()[0]
        held = held[(spans.kind[held] == SERVER) & (pool.ordinal[held] == 0)]
        at = find(spans.span_id[held], cause)
        rows = np.concatenate([fresh, held[at[at != NONE]]])
        gone = memory.find("span_id", cause[at == NONE])[1]
        gone = gone.take(gone.kind == SERVER)
    requests = Requests(
        row=rows,
        fresh=np.arange(len(rows)) < len(fresh),
        tgid=spans.tgid[rows],
        span_id=spans.span_id[rows],
        reader=pool.thread[rows],
        writer=pool.waiter[rows],
        start=spans.start[rows],
        first_byte=spans.first_byte[rows],
        end=spans.end[rows],
        single=pool.count[rows] == 1,
        remote_trace=_contexts(spans, rows),
        remote_parent=spans.remote_parent[rows],
    )
    return (_with_released(requests, gone), gone) if len(gone) else (requests, gone)


def _with_released(requests: Requests, gone: Released) -> Requests:
    # No rung needs the process or the context of a request that is gone: threads' keys include the process.
    none = np.zeros(len(gone), np.uint64)
    more = Requests(
        row=np.full(len(gone), NOWHERE),
        fresh=none != 0,
        tgid=none.astype(np.uint32),
        span_id=gone.span_id,
        reader=gone.thread,
        writer=gone.waiter,
        start=gone.start,
        first_byte=gone.first_byte,
        end=gone.end,
        single=gone.count == 1,
        remote_trace=np.stack([none, none], axis=1),
        remote_parent=none,
    )
    return Requests(
        **{f.name: np.concatenate([getattr(requests, f.name), getattr(more, f.name)]) for f in fields(more)}
    )


def released_of(pool: Pool, rows: Rows, batch: Spans) -> Released:
    """What to remember of rows that go, of which `batch` is the copy."""
    return Released(
        span_id=batch.span_id,
        pair=batch.pair,
        seq=batch.seq,
        kind=batch.kind,
        trace=batch.trace,
        came_by=batch.remote_link,
        came_with=batch.remote_flags,
        start=batch.start,
        first_byte=batch.first_byte,
        end=batch.end,
        ordinal=pool.ordinal[rows],
        count=pool.count[rows],
        thread=pool.thread[rows],
        waiter=pool.waiter[rows],
    )
