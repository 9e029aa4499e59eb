"""The queues of an event loop's threads: who goes by its place in them, and who had no need to wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.keys import groups

Ids = NDArray[np.uint64]
Rows = NDArray[np.intp]

REMOVALS = 32
"""Requests without a call, and calls without a request, that one pass can find in the queues of a thread."""
NEVER = np.uint64(2**64 - 1)
_TIME_BITS = np.uint64(44)
_TIME_MASK = (np.uint64(1) << _TIME_BITS) - np.uint64(1)


class Sent(Protocol):
    """Columns of calls."""

    thread: Ids
    wanted: Ids


class Received(Protocol):
    """Columns of requests."""

    thread: Ids
    start: Ids
    first_byte: Ids


def matched(
    calls: Sent, left: Rows, call_time: Ids, requests: Received, queue: Rows, request_time: Ids
) -> tuple[Rows, Rows, Rows, Rows]:
    """Calls `left` and requests `queue` of the same thread and the same rank in time; then calls without a request, and
    requests without a call.

    A request that was answered before the call of its rank has none; a call that was sent before the request of its
    rank came is for one that nobody saw come. Either leaves its queue, and those behind it move up. After so many
    rounds what precedes the first such pair of a thread holds; the rest has to wait.
    """
    no_call, no_request, at, owner = queue[:0], left[:0], left[:0], queue[:0]
    for _ in range(REMOVALS):
        at, owner = left[:0], queue[:0]
        if not len(left) or not len(queue):
            break
        call, request = _by_rank((calls.thread[left], call_time[left]), (requests.thread[queue], request_time[queue]))
        at, owner = left[call], queue[request]
        answered = requests.first_byte[owner] < call_time[at]
        unseen = ~answered & (requests.start[owner] > calls.wanted[at])
        wrong = (answered | unseen).nonzero()[0]
        if not len(wrong):
            return at, owner, no_request, no_call
        # Of those of one thread only the first is sure, as what follows moves by it.
        thread = calls.thread[at[wrong]]
        wrong = wrong[np.append(True, thread[1:] != thread[:-1])]
        begins = np.append(True, calls.thread[at[1:]] != calls.thread[at[:-1]]).nonzero()[0]
        past = np.zeros(len(at), np.intp)
        past[wrong] = 1
        before = np.cumsum(past) - past
        sizes = np.diff(np.append(begins, len(at)))
        sound = np.cumsum(past) == np.repeat(before[begins], sizes)
        no_call = np.concatenate([no_call, owner[wrong[answered[wrong]]]])
        no_request = np.concatenate([no_request, at[wrong[unseen[wrong]]]])
        left, queue = np.setdiff1d(left, no_request), np.setdiff1d(queue, no_call)
        at, owner = at[sound], owner[sound]
    return at, owner, no_request, no_call


def alone(thread: Ids, came: Ids, went: Ids, rows: Rows) -> NDArray[np.bool_]:
    """(k,) whether nothing else waited in its thread's queue from when each of `rows` came until it went.

    thread, came, went: (n,) of all that were in a queue; NEVER: it still waits, 0: it never waited.
    """
    if not len(rows):
        return np.zeros(0, np.bool_)
    origin = came[rows].min()
    near = (went >= origin).nonzero()[0]
    order, of_thread, begun, latest = _by_thread(thread[near], came[near], went[near], origin)
    before = np.append(np.uint64(0), latest[:-1])
    after = np.append(begun[1:], NEVER)
    place = np.empty(len(near), np.intp)
    place[order] = np.arange(len(near))
    at = place[np.searchsorted(near, rows)]
    # What came before had gone by then, and nothing that came since could go instead.
    mine: NDArray[np.bool_] = (before[at] < begun[at]) & (of_thread[at] | _clock(went[rows], origin) < after[at])
    return mine


def throughout(thread: Ids, came: Ids, went: Ids, of_thread: Ids, begin: Ids, end: Ids) -> NDArray[np.bool_]:
    """(k,) whether something was in the queue of each thread from `begin` until `end`."""
    if not len(of_thread):
        return np.zeros(0, np.bool_)
    near = (went >= end.min()).nonzero()[0]
    if not len(near):
        return np.zeros(len(of_thread), np.bool_)
    origin = min(came[near].min(), begin.min())
    _, _, begun, latest = _by_thread(thread[near], came[near], went[near], origin)
    threads, _ = groups(thread[near])
    at = np.minimum(np.searchsorted(threads, of_thread), len(threads) - 1)
    mine = at.astype(np.uint64) << _TIME_BITS
    last = np.searchsorted(begun, mine | _clock(begin, origin), "right") - 1
    still: NDArray[np.bool_] = latest[last] >= mine | _clock(end, origin)
    still &= (last >= 0) & (threads[at] == of_thread)
    return still


def _by_thread(thread: Ids, came: Ids, went: Ids, origin: np.uint64) -> tuple[Rows, Ids, Ids, Ids]:
    """Order by thread and time of coming; of each in that order its thread, when it came, and when the last one of
    those until it went: numbers that are greater for a later thread."""
    which = groups(thread)[1]
    order = np.lexsort((came, which))
    of_thread = which[order].astype(np.uint64) << _TIME_BITS
    latest = np.maximum.accumulate(of_thread | _clock(went[order], origin))
    return order, of_thread, of_thread | _clock(came[order], origin), latest


def _clock(times: Ids, origin: np.uint64) -> Ids:
    """Times as 44 bits after `origin`: what is earlier is 0, what is hours later the last moment."""
    after: Ids = np.where(times > origin, times - origin, np.uint64(0))
    np.minimum(after, _TIME_MASK, out=after)
    return after


def _by_rank(calls: Sequence[Ids], requests: Sequence[Ids]) -> tuple[Rows, Rows]:
    """Pairs (call, request) of the same thread and the same rank in time, ordered by thread and time."""
    threads, which = groups(np.concatenate([calls[0], requests[0]]))
    of_call, of_request = which[: len(calls[0])], which[len(calls[0]) :]
    call, call_rank = _ranks(of_call, calls[1], len(threads))
    request, request_rank = _ranks(of_request, requests[1], len(threads))
    width = max(len(of_call), len(of_request)) + 1
    left, right = of_call[call] * width + call_rank, of_request[request] * width + request_rank
    at = np.minimum(np.searchsorted(right, left), len(right) - 1)
    same = right[at] == left
    return call[same], request[at[same]]


def _ranks(group: NDArray[np.intp], time: Ids, count: int) -> tuple[Rows, Rows]:
    """Order by group and time, and each one's place in its group."""
    order = np.lexsort((time, group))
    sizes = np.bincount(group, minlength=count)
    begins = np.cumsum(sizes) - sizes
    return order, np.arange(len(group)) - begins[group[order]]
