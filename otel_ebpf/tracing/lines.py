"""Calls that wait for a connection, in the order in which they go out: a pool sends what has waited longest.

What a loop received has an *outcome* if a call went out, or a request was answered, in the turn of it. A request or a
response without one is taken for a call that was put into the line of its pool, one for each. They leave it in their
order, each on the connection whose response has come. When a call goes out at once, on a connection that was idle,
nobody waits: what is still in the line then has not put a call there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct
from otel_ebpf.tracing.loops import Loops, Unknown
from otel_ebpf.tracing.queues import NEVER, Ids, Rows, matched
from otel_ebpf.tracing.rungs.base import NONE


@dataclass(slots=True)
class _Received:
    """What had no outcome. first_byte: when it was too late for one, or NEVER."""

    thread: Ids
    start: Ids
    first_byte: Ids
    event: Ids


def line_up(loops: Loops, drawn: NDArray[np.bool_], unknown: Unknown) -> None:
    """Give calls that went out of a line (`awaited`) what they were put there for.

    drawn: (n,) of all calls, they have no other explanation; those with `in_line` have had their place.
    """
    calls = loops.calls
    left = (drawn & ~calls.in_line).nonzero()[0]
    left = left[~unknown(calls.tgid[left], calls.start[left])]
    if not len(left):
        return
    events, request, call = _without_outcome(loops, drawn, distinct(calls.thread[left]), unknown)
    events.first_byte = np.minimum(events.first_byte, _nobody_waits(loops, drawn, left, events))
    queue = np.arange(len(events.event))
    mine, theirs, no_event, no_call = matched(calls, left, calls.start, events, queue, events.start)
    calls.awaited[mine] = events.event[theirs]
    calls.in_line[mine] = calls.in_line[no_event] = True
    for done in (theirs, no_call):
        loops.requests.outcome[request[done[done < len(request)]]] = True
        calls.outcome[call[done[done >= len(request)] - len(request)]] = True


def _nobody_waits(loops: Loops, drawn: NDArray[np.bool_], left: Rows, events: _Received) -> Ids:
    """(m,) when the first call after each event went out at once to where those of the line go; or NEVER."""
    calls = loops.calls
    at_once = (calls.numbered & ~drawn & (calls.wanted == calls.start)).nonzero()[0]
    at_once = at_once[np.isin(calls.port[at_once], calls.port[left])]
    at_once = at_once[np.lexsort((calls.start[at_once], calls.thread[at_once]))]
    when = np.full(len(events.start), NEVER)
    for thread in distinct(events.thread).tolist():
        times = calls.start[at_once[calls.thread[at_once] == thread]]
        mine = (events.thread == thread).nonzero()[0]
        when[mine] = np.append(times, NEVER)[np.searchsorted(times, events.start[mine])]
    return when


def _without_outcome(
    loops: Loops, drawn: NDArray[np.bool_], threads: Ids, unknown: Unknown
) -> tuple[_Received, Rows, Rows]:
    """Requests and responses of these threads that may have put a call into a line; which rows they are."""
    calls, requests = loops.calls, loops.requests
    came = (~requests.outcome & np.isin(requests.thread, threads)).nonzero()[0]
    came = came[~unknown(requests.tgid[came], requests.start[came])]
    back = (calls.numbered & ~calls.outcome & (calls.first_byte != 0) & np.isin(calls.thread, threads)).nonzero()[0]
    back = back[~unknown(calls.tgid[back], calls.end[back])]
    by_itself = calls.numbered & ~drawn
    elsewhere = by_itself & ~calls.reused
    led = [calls.step[by_itself], requests.after]
    led += [column[elsewhere] for column in (calls.after, calls.execution, calls.trigger)]
    led_to = distinct(np.concatenate(led))
    for rows, table in ((came, requests), (back, calls)):
        table.outcome[rows[np.isin(table.span_id[rows], led_to)]] = True
    came, back = came[~requests.outcome[came]], back[~calls.outcome[back]]
    owner = loops.find_requests(calls.owner[back])
    answered = np.where(owner != NONE, requests.first_byte[owner], NEVER)
    return (
        _Received(
            thread=np.concatenate([requests.thread[came], calls.thread[back]]),
            start=np.concatenate([requests.start[came], calls.end[back]]),
            first_byte=np.concatenate([requests.first_byte[came], answered]),
            event=np.concatenate([requests.span_id[came], calls.span_id[back]]),
        ),
        came,
        back,
    )
