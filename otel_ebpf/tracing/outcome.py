"""The ways in which a row's parent becomes known, and what is written down then."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans
from otel_ebpf.tracing.bits import NO_LINK, SERVER, TCP_OPTION, TRACEPARENT
from otel_ebpf.tracing.ids import trace_ids, traces_of
from otel_ebpf.tracing.join import local
from otel_ebpf.tracing.keys import exchange_keys
from otel_ebpf.tracing.memory import Released
from otel_ebpf.tracing.parents import Verdict
from otel_ebpf.tracing.pool import COVERED, DECIDED, NOWHERE, Pool, Rows
from otel_ebpf.tracing.rungs import Requests

UNRECOGNISED = -2
"""Shape of a row that no protocol recognises."""
_NO_SPAN = np.uint64(0)


def foreign_context(spans: Spans, rows: Rows) -> NDArray[np.bool_]:
    """(n,) whether the call's bytes name a parent, and not the call itself (a context that this agent put there)."""
    parent = spans.remote_parent[rows]
    named: NDArray[np.bool_] = (spans.remote_link[rows] != NO_LINK) & (parent != 0)
    named &= parent != spans.span_id[rows]
    return named


def set_child(pool: Pool, rows: Rows, parent: Rows, link: NDArray[np.uint8] | np.uint8) -> None:
    """Children of rows in the pool: the trace follows when that of the parent is known."""
    if not len(rows):
        return
    spans = pool.spans
    spans.parent[rows] = spans.span_id[parent]
    spans.link[rows] = link
    pool.up[rows] = parent
    pool.above[rows] = spans.remote_parent[parent]
    pool.state[rows] = DECIDED


def set_child_of_released(pool: Pool, rows: Rows, parent: Released, link: NDArray[np.uint8] | np.uint8) -> None:
    """Children of rows that are gone already, one for each."""
    if not len(rows):
        return
    spans = pool.spans
    spans.parent[rows] = parent.as_parent
    spans.link[rows] = np.where(parent.as_parent == _NO_SPAN, NO_LINK, link)
    set_top(pool, rows, parent.trace, parent.came_by, parent.came_with)


def set_remote(pool: Pool, rows: Rows) -> None:
    """Children of the span that the row's own bytes name, or what came beside them."""
    if not len(rows):
        return
    spans = pool.spans
    link = spans.remote_link[rows]
    spans.parent[rows] = spans.remote_parent[rows]
    spans.link[rows] = link
    # A TCP option says nothing of sampling: that is decided as where the trace began, by its id.
    decided = link != TCP_OPTION
    set_top(pool, rows, spans.remote_trace[rows], link * decided, spans.remote_flags[rows] * decided)


def set_root(pool: Pool, rows: Rows, random: Callable[[int], bytes] | None) -> None:
    """Nobody's children: each begins a trace of its own. random: None: which one follows from its span."""
    if not len(rows):
        return
    spans = pool.spans
    spans.parent[rows] = 0
    spans.link[rows] = NO_LINK
    begun_here = np.zeros(len(rows), np.uint8)
    traces = traces_of(spans.span_id[rows]) if random is None else trace_ids(random, len(rows))
    keys = keys_elsewhere(pool, rows) * (spans.kind[rows] == SERVER)
    came = keys.nonzero()[0]
    if len(came):
        traces[came] = traces_of(keys[came])
    set_top(pool, rows, traces, begun_here, begun_here)


def keys_elsewhere(pool: Pool, rows: Rows) -> NDArray[np.uint64]:
    """(n,) the keys of exchanges whose other end is not known on this host; else 0."""
    spans = pool.spans
    keys = spans.key[rows]
    far = (keys != 0) & ~local(spans, rows) & (pool.mate[rows] == NOWHERE)
    if not far.any():
        return np.zeros_like(keys)
    keys[~far] = 0
    return exchange_keys(keys, spans.seq[rows], pool.ordinal[rows])


def set_requests(
    pool: Pool, rows: Rows, requests: Requests, gone: Released, verdict: Verdict, decided: NDArray[np.intp]
) -> None:
    """The calls at `decided` get the requests that were chosen for them: rows that wait, or the last ones, `gone`."""
    if not len(decided):
        return
    spans = pool.spans
    request, calls = verdict.request[decided], rows[decided]
    _weigh(pool, calls, verdict, decided)
    link = verdict.link[decided]
    # What was forwarded says in which format: traceparent, b3, …
    forwarded = (link == TRACEPARENT) & (spans.remote_link[calls] != NO_LINK)
    link = np.where(forwarded, spans.remote_link[calls], link).astype(np.uint8)
    waiting = len(requests) - len(gone)
    here = request < waiting
    set_child(pool, calls[here], requests.row[request[here]], link[here])
    set_child_of_released(pool, calls[~here], gone.take(request[~here] - waiting), link[~here])


def set_likely(
    pool: Pool, rows: Rows, requests: Requests, gone: Released, verdict: Verdict, decided: NDArray[np.intp]
) -> None:
    """The calls at `decided`, which are roots, get a link to the requests that are likely theirs."""
    if not len(decided):
        return
    spans = pool.spans
    request, calls = verdict.likely[decided], rows[decided]
    _weigh(pool, calls, verdict, decided)
    spans.link[calls] = verdict.link[decided]
    spans.like_span[calls] = requests.span_id[request]
    waiting = len(requests) - len(gone)
    here = request < waiting
    pool.like[calls[here]] = requests.row[request[here]]
    spans.like_trace[calls[~here]] = gone.trace[request[~here] - waiting]
    spans.like_span[calls[~here]] = gone.as_parent[request[~here] - waiting]


def _weigh(pool: Pool, calls: Rows, verdict: Verdict, decided: NDArray[np.intp]) -> None:
    """Steps of 5 %, downwards: what is written is a constant of many rows."""
    percent = np.floor(verdict.confidence[decided] * 20 + 1e-4) * 5
    pool.spans.confidence[calls] = percent.astype(np.uint8)
    pool.spans.candidates[calls] = verdict.candidates[decided]


def pass_over_unrecognised(pool: Pool, rows: Rows) -> None:
    """Of what no protocol recognises there will be no span: nobody may be its child."""
    unnamed = rows[pool.spans.shape[rows] == UNRECOGNISED]
    unnamed = unnamed[pool.cover[unnamed] != COVERED]
    pool.cover[unnamed], pool.alias[unnamed] = COVERED, _NO_SPAN


def settle_parents(pool: Pool, rows: Rows) -> None:
    """Parents of rows that go: covered ones have their span's id, or, if there is none, their own parent's."""
    spans = pool.spans
    above = pool.up[rows]
    below = rows[(above != rows) & (pool.cover[above] == COVERED)]
    if len(below):
        spans.parent[below] = _instead(pool, pool.up[below])
        spans.link[below[spans.parent[below] == _NO_SPAN]] = NO_LINK
    given = rows[pool.given[rows] != _NO_SPAN]
    spans.parent[given] = pool.given[given]


def _instead(pool: Pool, rows: Rows) -> NDArray[np.uint64]:
    """(n,) ids of the spans that stand for covered rows."""
    spans = pool.spans
    ids = pool.alias[rows]
    rest = (ids == _NO_SPAN).nonzero()[0]
    at = rows[rest]
    while len(rest):
        above = pool.up[at]
        top, covered = above == at, pool.cover[above] == COVERED
        ids[rest] = np.where(top, spans.parent[at], np.where(covered, pool.alias[above], spans.span_id[above]))
        onward = ~top & covered & (ids[rest] == _NO_SPAN)
        rest, at = rest[onward], above[onward]
    return ids


def set_top(
    pool: Pool,
    rows: Rows,
    trace: NDArray[np.uint64],
    came_by: NDArray[np.uint8] | np.uint8,
    came_with: NDArray[np.uint8] | np.uint8,
) -> None:
    """Rows with nobody above them in the pool, and the trace that they are in."""
    for column, half in zip(pool.spans.trace.T, trace.T, strict=True):
        column[rows] = half
    pool.came_by[rows], pool.came_with[rows] = came_by, came_with
    pool.up[rows] = rows
    pool.state[rows] = DECIDED
