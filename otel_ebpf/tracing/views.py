"""The pool's columns as the rungs, the processes and the memory want to see them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans, Unit
from otel_ebpf.tracing.bits import SERVER
from otel_ebpf.tracing.keys import groups, unit_keys
from otel_ebpf.tracing.memory import Memory, Released
from otel_ebpf.tracing.pool import COVERED, NOWHERE, OPEN, Pool, Rows
from otel_ebpf.tracing.processes import Processes
from otel_ebpf.tracing.request_ids import UNKNOWN
from otel_ebpf.tracing.rungs import Calls, Requests
from otel_ebpf.tracing.rungs.base import NONE, find
from otel_ebpf.tracing.segments import is_async

_NOBODY = Released.empty()
_KIND = np.uint64(56)
GOROUTINE, ASYNC, OPAQUE = np.uint64(Unit.GOROUTINE), np.uint64(Unit.ASYNC), np.uint64(Unit.OPAQUE)
_TELLING = np.zeros(256, np.bool_)
_TELLING[[Unit.GOROUTINE, Unit.CONTEXT, Unit.GREENLET, Unit.VIRTUAL]] = True
"""Kinds of units that answer the requests that they handle."""


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


def calls_of(pool: Pool, rows: Rows, processes: Processes, waiting: NDArray[np.bool_]) -> Calls:
    """Client rows whose parent is sought. waiting: (n,) see `Calls.waiting`."""
    spans = pool.spans
    tgid, unit = spans.tgid[rows], spans.unit_req[rows]
    threaded = (unit == 0) & ~processes.before_units(tgid, spans.start[rows])
    return Calls(
        row=rows,
        span_id=spans.span_id[rows],
        conn=spans.conn[rows],
        tgid=tgid,
        thread=pool.thread[rows],
        waiter=pool.waiter[rows],
        unit=_units(tgid, _sender(unit, spans.unit_rsp[rows])),
        ids=np.where(is_async(unit), unit, np.uint64(0)),
        looping=threaded | (unit >> _KIND == ASYNC),
        threaded=threaded,
        wanted=spans.wanted[rows],
        start=spans.start[rows],
        first_byte=spans.first_byte[rows],
        after=spans.after[rows],
        end=spans.end[rows],
        flags=spans.flags[rows],
        single=pool.count[rows] == 1,
        waiting=waiting,
        kind=_like(spans, rows) | spans.peer_port[rows],
        found=np.full(len(rows), NONE, np.intp),
        cause=spans.cause[rows],
        named=np.full(len(rows), NONE, np.intp),
        half_seen=processes.half_seen(tgid, spans.wanted[rows]),
        traits=processes.traits(tgid),
        remote_trace=_contexts(spans, rows),
        remote_parent=spans.remote_parent[rows],
        request_id=spans.request_id[rows],
    )


def _sender(sent: NDArray[np.uint64], received: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(n,) the unit that made the call. A pooled connection of Go is written to by a loop of its own: who waits for it
    may only be known when the response is received."""
    late = (sent >> _KIND == OPAQUE) & (received >> _KIND == GOROUTINE)
    return np.where(late, received, sent) if late.any() else sent


def _units(tgid: NDArray[np.uint32], unit: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(n,) keys of the units; 0 where there is none, or one that says nothing by itself."""
    if not unit.any():
        return unit
    return np.where(_TELLING[(unit >> _KIND).astype(np.intp)], unit_keys(tgid, unit), np.uint64(0))


def _like(spans: Spans, rows: Rows) -> NDArray[np.uint64]:
    """(n,) a number for each shape, of which the lowest 16 bits are free."""
    like: NDArray[np.uint64] = spans.shape[rows].astype(np.uint32).astype(np.uint64) << np.uint64(16)
    return like


def _contexts(spans: Spans, rows: Rows) -> NDArray[np.uint64]:
    """(n, 2) trace ids in the rows' bytes; most programs know of none."""
    if not spans.remote_parent[rows].any():
        return np.zeros((len(rows), 2), np.uint64)
    return spans.remote_trace.take(rows, axis=0)


def requests_of(pool: Pool, rows: Rows, fresh: bool) -> Requests:
    """Server rows. fresh: they became due in this pass."""
    spans = pool.spans
    tgid = spans.tgid[rows]
    return Requests(
        row=rows,
        fresh=np.full(len(rows), fresh),
        tgid=tgid,
        span_id=spans.span_id[rows],
        conn=spans.conn[rows],
        reader=pool.thread[rows],
        writer=pool.waiter[rows],
        reader_unit=_units(tgid, spans.unit_req[rows]),
        unit=_units(tgid, spans.unit_rsp[rows]),
        start=spans.start[rows],
        first_byte=spans.first_byte[rows],
        end=spans.end[rows],
        after=spans.after[rows],
        kind=_like(spans, rows),
        single=pool.count[rows] == 1,
        remote_trace=_contexts(spans, rows),
        remote_parent=spans.remote_parent[rows],
        request_id=np.where(spans.shape[rows] < 0, UNKNOWN, spans.request_id[rows]),
    )


def with_wanted(
    requests: Requests, wanted: NDArray[np.uint64], pool: Pool, memory: Memory
) -> tuple[Requests, Released]:
    """The requests, and older ones with the wanted span ids: held ones, then released ones, which are also given as
    such. They are at the end."""
    wanted = groups(wanted)[0]
    wanted = wanted[(wanted != 0) & (find(requests.span_id, wanted) == NONE)]
    if not len(wanted):
        return requests, _NOBODY
    spans = pool.spans
    held = (pool.state >= OPEN).nonzero()[0]
    held = held[(spans.kind[held] == SERVER) & (pool.ordinal[held] == 0)]
    at = find(spans.span_id[held], wanted)
    if (at != NONE).any():
        requests = _both(requests, requests_of(pool, held[at[at != NONE]], fresh=False))
    gone = memory.find("span_id", wanted[at == NONE])[1]
    gone = gone.take(gone.kind == SERVER)
    return (_both(requests, _released(gone)) if len(gone) else requests), gone


def _both(requests: Requests, more: Requests) -> Requests:
    return Requests(
        **{f.name: np.concatenate([getattr(requests, f.name), getattr(more, f.name)]) for f in fields(more)}
    )


def _released(gone: Released) -> Requests:
    # No rung needs the process, the units or the context of a request that is gone: threads' keys include the process.
    none = np.zeros(len(gone), np.uint64)
    return Requests(
        row=np.full(len(gone), NOWHERE),
        fresh=none != 0,
        tgid=none.astype(np.uint32),
        span_id=gone.span_id,
        conn=none,
        reader=gone.thread,
        writer=gone.waiter,
        reader_unit=none,
        unit=none,
        start=gone.start,
        first_byte=gone.first_byte,
        end=gone.end,
        after=none,
        kind=none,
        single=gone.count == 1,
        remote_trace=np.stack([none, none], axis=1),
        remote_parent=none,
        request_id=none,
    )


def released_of(pool: Pool, rows: Rows, batch: Spans) -> Released:
    """What to remember of rows that go, of which `batch` is the copy."""
    return Released(
        span_id=batch.span_id,
        as_parent=_as_parent(pool, rows, batch),
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


def _as_parent(pool: Pool, rows: Rows, batch: Spans) -> NDArray[np.uint64]:
    """(n,) by which span id the children of these rows go."""
    covered = pool.cover[rows] == COVERED
    if not covered.any():
        return batch.span_id
    alias = pool.alias[rows]
    return np.where(covered, np.where(alias != 0, alias, batch.parent), batch.span_id)
