"""What becomes of rows when they come in: pipelined records are recognised, times set, amendments applied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans
from otel_ebpf.tracing.bits import AMENDS, HEAD, MANY, PARTIAL, PENDING, SERVER, UNANSWERED
from otel_ebpf.tracing.counters import Counters
from otel_ebpf.tracing.join import count_up, is_follower, local
from otel_ebpf.tracing.keys import unit_keys
from otel_ebpf.tracing.memory import Memory
from otel_ebpf.tracing.pool import FREE, Pool, Rows
from otel_ebpf.tracing.processes import SERVES, Processes
from otel_ebpf.tracing.rungs.base import NONE, find

SKEW_NS = 50 * 10**6
NAMED_NS = 60 * 10**9
AMEND_NS = 5 * 10**9


def arrive(
    pool: Pool,
    spans: Spans,
    waits: NDArray[np.uint64],
    processes: Processes,
    lag_ns: np.uint64,
    hold_ns: np.uint64,
    patience_ns: np.uint64,
) -> Rows:
    """Append the batch to the pool, with all that is known of a row by itself; the processes learn from it.

    patience_ns: how long a call waits for its request at most, from its end.
    """
    rows = pool.append(spans)
    here = slice(pool.next - len(rows), pool.next)  # the same rows; nothing is gathered or scattered by it
    server = spans.kind == SERVER
    thread, waiter = unit_keys(spans.tgid, spans.tid_req), unit_keys(spans.tgid, spans.tid_rsp)
    processes.arrived(server, spans.tgid, thread, waiter, spans.start, spans.flags)
    for unit, read in ((spans.unit_req, spans.start), (spans.unit_rsp, spans.first_byte)):
        shown = (unit != 0).nonzero()[0]
        if len(shown):
            processes.with_units(spans.tgid[shown], read[shown])
    pool.thread[here], pool.waiter[here] = thread, waiter
    pool.spans.link[here] = PENDING
    first = _mark_followers(pool, spans, rows)
    pool.due[here], pool.deadline[here] = _times(spans, server, waits[first], processes, lag_ns, hold_ns, patience_ns)
    return rows


def _times(
    spans: Spans,
    server: NDArray[np.bool_],
    waits: NDArray[np.uint64],
    processes: Processes,
    lag_ns: np.uint64,
    hold_ns: np.uint64,
    patience_ns: np.uint64,
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(n,) when the row may be judged, (n,) when it waits no longer."""
    bare = (spans.flags & HEAD) != 0
    due = spans.end + np.where(server, lag_ns + np.uint64(SKEW_NS), lag_ns)
    # Whether a client end without payload is complete is known by its server's end, which it waits for anyway.
    open_ended = waits > 0
    due += waits
    caused = (spans.cause != 0) | ((spans.flags & MANY) != 0)
    serving = (processes.traits(spans.tgid) & SERVES) != 0
    due[~(server | caused | serving | bare | open_ended)] = 0
    # The other end may be one that waits for its amendment.
    patience = np.where(local(spans) | bare, hold_ns + np.uint64(AMEND_NS), hold_ns)
    patience[~server & serving] = patience_ns
    patience[~server & (spans.cause != 0)] = NAMED_NS
    # Whoever gave up did not wait for the other end, which may answer long after that.
    patience[~server & bare & ((spans.flags & UNANSWERED) != 0)] = NAMED_NS
    return due, spans.end + patience


def _mark_followers(pool: Pool, spans: Spans, rows: Rows) -> Rows | slice:
    """(n,) index in the batch of the first row of each row's record.

    The rows of one record lie behind each other and differ in nothing that the kernel saw but their ids, and their
    sequence numbers, which count up from the record's; in the pool all of them have the record's.
    """
    follows = np.zeros(len(rows), np.bool_)
    np.equal(spans.start[1:], spans.start[:-1], out=follows[1:])
    if not follows.any():
        return slice(None)
    follows[1:] &= spans.conn[1:] == spans.conn[:-1]
    position = np.arange(len(rows))
    follows[1:] &= (spans.seq[1:] - spans.seq[:-1] <= 1) & (spans.flags[1:] == spans.flags[:-1])
    follows[1:] &= spans.span_id[1:] != spans.span_id[:-1]
    first: Rows = np.maximum.accumulate(np.where(follows, 0, position))
    pool.spans.seq[rows] = spans.seq[first]
    pool.ordinal[rows] = position - first
    pool.count[rows] = np.bincount(first, minlength=len(rows))[first]
    return first


def amend(pool: Pool, rows: Rows, memory: Memory, counters: Counters) -> None:
    """Among new rows, let amendments replace what they amend; too late if that has been released.

    An amendment whose original was never seen (lost in a full ring) stays as a row of its own.
    """
    spans = pool.spans
    newer = rows[(spans.flags[rows] & AMENDS) != 0]
    if not len(newer):
        return
    # Of several amendments of one row the last counts.
    ids, last = np.unique(spans.span_id[newer[::-1]], return_index=True)
    latest = newer[::-1][last]
    older = np.setdiff1d(newer, latest)
    pool.discard(older)
    counters.amended += len(older)
    partial = (spans.flags & PARTIAL) != 0
    partial[newer] = False
    originals = (partial & (pool.state != FREE)).nonzero()[0]
    at = find(spans.span_id[originals], ids)
    here = at != NONE
    amended = originals[at[here]]
    pool.replace(amended, latest[here])
    _amend_followers(pool, amended[pool.count[amended] > 1])
    counters.amended += int(here.sum())
    absent = latest[~here]
    too_late = absent[memory.find("span_id", spans.span_id[absent])[0]]
    pool.discard(too_late)
    counters.amended_late += len(too_late)


def _amend_followers(pool: Pool, first: Rows) -> None:
    """An amendment bears the id of its record's first row, and is meant for all of them."""
    behind = pool.count[first] - 1
    leader = np.repeat(first, behind)
    ordinal = count_up(behind)
    rows = np.minimum(leader + ordinal, pool.size - 1)
    there = is_follower(pool, rows, leader, ordinal)
    rows, leader = rows[there], leader[there]
    for column in (pool.spans.end, pool.spans.flags, pool.due, pool.deadline):
        column[rows] = column[leader]
