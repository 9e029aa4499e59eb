"""The queues of an event loop's threads: who goes by its place in them, and who had no need to wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct
from otel_ebpf.tracing.keys import among, groups

Ids = NDArray[np.uint64]
Rows = NDArray[np.intp]

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
    rank came is for one that nobody saw come. Either leaves its queue, and those behind it move up.
    """
    if not len(left) or not len(queue):
        return left[:0], queue[:0], left[:0], queue[:0]
    left, queue = _of_common_threads(calls.thread, left, requests.thread, queue)
    left, begins = _in_order(left, calls.thread, call_time)
    queue, opens = _in_order(queue, requests.thread, request_time)
    sizes = np.minimum(np.diff(begins), np.diff(opens))
    rank = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    at, owner = left[np.repeat(begins[:-1], sizes) + rank], queue[np.repeat(opens[:-1], sizes) + rank]
    wrong = (requests.first_byte[owner] < call_time[at]) | (requests.start[owner] > calls.wanted[at])
    if not wrong.any():
        return at, owner, left[:0], queue[:0]
    thread = np.repeat(np.arange(len(sizes)), sizes)
    astray = distinct(thread[wrong])
    fits = np.ones(len(sizes), np.bool_)
    fits[astray] = False
    found: list[tuple[int, int]] = []
    no_request: list[int] = []
    no_call: list[int] = []
    for one in astray.tolist():  # few, and of those only what came since they were looked at last
        mine, theirs = left[begins[one] : begins[one + 1]], queue[opens[one] : opens[one + 1]]
        _walk(
            [column.tolist() for column in (mine, call_time[mine], calls.wanted[mine])],
            [column.tolist() for column in (theirs, requests.start[theirs], requests.first_byte[theirs])],
            found,
            no_request,
            no_call,
        )
    pairs = np.array(found, np.intp).reshape(-1, 2)
    sound = fits[thread]
    return (
        np.concatenate([at[sound], pairs[:, 0]]),
        np.concatenate([owner[sound], pairs[:, 1]]),
        np.array(no_request, np.intp),
        np.array(no_call, np.intp),
    )


def alone_in_queue(thread: Ids, came: Ids, went: Ids, rows: Rows) -> NDArray[np.bool_]:
    """(k,) whether nothing else waited in its thread's queue from when each of `rows` came until it went.

    thread, came, went: (n,) of all that were in a queue; NEVER: it still waits, 0: it never waited.
    """
    if not len(rows):
        return np.zeros(0, np.bool_)
    near, origin = _near(thread, came, went, rows)
    order, of_thread, begun, latest = _by_thread(thread[near], came[near], went[near], origin)
    at = _places(order)[np.searchsorted(near, rows)]
    # What came before had gone by then, and nothing that came since could go instead.
    before = np.append(np.uint64(0), latest[:-1])
    after = np.append(begun[1:], NEVER)
    alone: NDArray[np.bool_] = before[at] < begun[at]
    alone &= of_thread[at] | _clock(went[rows], origin) < after[at]
    return alone


def in_a_run(thread: Ids, came: Ids, went: Ids, rows: Rows, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(k,) whether one of `some` came to the thread's queue in the same run as each of `rows`: between two moments at
    which it was empty.

    thread, came, went, some: (n,) of all that were in a queue; as in `alone_in_queue`.

    >>> thread, came, went = np.array([[7, 7, 7, 7], [1, 3, 4, 9], [4, 0, 5, 10]], np.uint64)
    >>> in_a_run(thread, came, went, np.array([0, 2, 3]), went == 0)
    array([ True,  True, False])
    """
    if not len(rows) or not some.any():
        return np.zeros(len(rows), np.bool_)
    went = np.maximum(came, went)
    near, origin = _near(thread, came, went, rows)
    order, _, begun, latest = _by_thread(thread[near], came[near], went[near], origin)
    run = np.cumsum(np.append(True, begun[1:] > latest[:-1]))
    found = np.bincount(run, some[near[order]]) > 0
    there: NDArray[np.bool_] = found[run[_places(order)[np.searchsorted(near, rows)]]]
    return there


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


def how_many(thread: Ids, came: Ids, went: Ids, of_thread: Ids, moment: Ids) -> NDArray[np.int64]:
    """(k,) how much was in the queue of each thread at a moment: had come, and had not gone before it.

    >>> thread, came, went = np.array([[7, 7, 8], [1, 4, 1], [5, 9, 9]], np.uint64)
    >>> how_many(thread, came, went, np.array([7, 7, 7], np.uint64), np.array([3, 5, 6], np.uint64))
    array([1, 2, 1])
    """
    if not len(thread) or not len(of_thread):
        return np.zeros(len(of_thread), np.int64)
    origin = min(came.min(), moment.min())
    threads, which = groups(thread)
    which = which.astype(np.uint64) << _TIME_BITS
    at = np.minimum(np.searchsorted(threads, of_thread), len(threads) - 1)
    asked = at.astype(np.uint64) << _TIME_BITS | _clock(moment, origin)
    begun = np.searchsorted(np.sort(which | _clock(came, origin)), asked, "right")
    over = np.searchsorted(np.sort(which | _clock(went, origin)), asked, "left")
    return np.where(threads[at] == of_thread, begun - over, 0)


def _near(thread: Ids, came: Ids, went: Ids, rows: Rows) -> tuple[Rows, np.uint64]:
    """What was in the queues of the threads of `rows` with them, or with what was there with them, and so on; and when
    the first of it came. In the order of the rows."""
    threads = thread[rows]
    origin, earlier = came[rows].min(), NEVER
    while origin < earlier:  # what came before those that still waited then
        near = (went >= origin).nonzero()[0]
        near = near[among(threads, thread[near])]
        earlier, origin = origin, came[near].min()
    return near, origin


def _places(order: Rows) -> Rows:
    """Where each row is in an order."""
    places = np.empty(len(order), np.intp)
    places[order] = np.arange(len(order))
    return places


def _by_thread(thread: Ids, came: Ids, went: Ids, origin: np.uint64) -> tuple[Rows, Ids, Ids, Ids]:
    """Order by thread and time of coming; of each in that order its thread, when it came, and when the last one of
    those until it went: numbers that are greater for a later thread."""
    order = np.lexsort((came, thread))
    ordered = thread[order]
    next_one = np.zeros(len(order), np.uint64)
    np.not_equal(ordered[1:], ordered[:-1], out=next_one[1:], casting="unsafe")
    of_thread = np.cumsum(next_one, dtype=np.uint64) << _TIME_BITS
    latest = np.maximum.accumulate(of_thread | _clock(went[order], origin))
    return order, of_thread, of_thread | _clock(came[order], origin), latest


def _clock(times: Ids, origin: np.uint64) -> Ids:
    """Times as 44 bits after `origin`: what is earlier is 0, what is hours later the last moment."""
    after: Ids = np.where(times > origin, times - origin, np.uint64(0))
    np.minimum(after, _TIME_MASK, out=after)
    return after


def _walk(
    calls: Sequence[list[int]],
    requests: Sequence[list[int]],
    found: list[tuple[int, int]],
    no_request: list[int],
    no_call: list[int],
) -> None:
    """`matched` for one thread. calls: rows, times, since when wanted. requests: rows, starts, first bytes."""
    call, time, wanted = calls
    request, start, answered = requests
    i = j = 0
    while i < len(call) and j < len(request):
        if answered[j] < time[i]:
            no_call.append(request[j])
            j += 1
        elif start[j] > wanted[i]:
            no_request.append(call[i])
            i += 1
        else:
            found.append((call[i], request[j]))
            i, j = i + 1, j + 1


def _of_common_threads(mine: Ids, left: Rows, theirs: Ids, queue: Rows) -> tuple[Rows, Rows]:
    """Those rows of either table whose threads are among the other rows'. mine, theirs: the tables' threads."""
    threads = distinct(mine[left])
    at = np.searchsorted(threads, theirs[queue])
    at[at == len(threads)] = 0
    queue = queue[threads[at] == theirs[queue]]
    common = np.zeros(len(threads), np.bool_)
    common[np.searchsorted(threads, theirs[queue])] = True
    left = left[common[np.searchsorted(threads, mine[left])]]
    return left, queue


def _in_order(rows: Rows, thread: Ids, time: Ids) -> tuple[Rows, Rows]:
    """The rows by thread and time; (threads + 1,) where those of each thread begin."""
    rows = rows[np.lexsort((time[rows], thread[rows]))]
    of = thread[rows]
    return rows, np.append(np.append(True, of[1:] != of[:-1])[: len(rows)].nonzero()[0], len(rows))
