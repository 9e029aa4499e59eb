"""What the event loops of this host did last: the requests and calls of their threads, and which rule holds for whom.

The rules are those of `rungs.event_loop`. A table holds the requests, another the calls, of the last moments; every
rule works on whole columns of them, and only on the time before which all requests are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct, sparse
from otel_ebpf.tracing.keys import groups
from otel_ebpf.tracing.rungs.base import NONE, Calls, Requests, find

ROWS = 1 << 14
CHAIN = 16
"""Calls after calls that are followed back to their request."""
_PIDS = 1 << 22
_PID_MASK = np.uint32(_PIDS - 1)
AGREES, LEAST = 0.99, 3
"""Share of equal answers from which a rule is used for a process, and of how many."""
_MANY = 32
"""Samples of a rule that only goes by what came when: a few agree by chance, in a process that is still warming up."""
_MEMORY = 2048
"""Samples of a process after which all of them are halved: it may behave differently under another load."""
_FLAGS = (
    *("passed_on", "answered", "looked_at"),
    *("handed_over", "queued", "responded", "judged_turn", "judged_order"),
    *("direct", "followed", "asked_ids", "judged_ids"),
)
_REMOVALS = 32
"""Requests without a call, and calls without a request, that one pass can find in the queues of a thread."""
NOBODY = np.uint64(0)

Ids = NDArray[np.uint64]
Rows = NDArray[np.intp]
Unknown = Callable[[NDArray[np.uint32], Ids], NDArray[np.bool_]]
"""(process, time) → whether a request that began before may still become known."""


@dataclass(slots=True)
class RequestTable:
    """Requests that have ended. passed_on: (m,) a call took it out of its thread's queue, or it needed none.

    answered: (m,) the same of the queue of responses. looked_at: (m,) the call upon whose response it was answered is
    known.
    """

    span_id: Ids
    tgid: NDArray[np.uint32]
    thread: Ids
    start: Ids
    first_byte: Ids
    after: Ids
    passed_on: NDArray[np.bool_]
    answered: NDArray[np.bool_]
    looked_at: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.span_id)


@dataclass(slots=True)
class CallTable:
    """Calls, and what each rule says of them: the span id of a request, or NOBODY.

    handed_over: (n,) it, or a call before it, went out on the connection whose response the thread had just received:
    one after the other, or out of a queue for a pool; direct: (n,) it did itself. followed: (n,) `retro` is that of a
    later call, which went out after its response: this holds where `turn` does, and not where timers are waited for.
    queued, responded: (n,) it, or its response, had its place in the order. judged: (n,) the rule was held against the
    backward one. ids: (n,) Node's; asked_ids: (n,) they were followed.
    """

    span_id: Ids
    tgid: NDArray[np.uint32]
    thread: Ids
    conn: Ids
    start: Ids
    wanted: Ids
    first_byte: Ids
    end: Ids
    after: Ids
    turn: Ids
    order: Ids
    retro: Ids
    retro_order: Ids
    ids: Ids
    by_hand: Ids
    by_trigger: Ids
    handed_over: NDArray[np.bool_]
    queued: NDArray[np.bool_]
    responded: NDArray[np.bool_]
    judged_turn: NDArray[np.bool_]
    judged_order: NDArray[np.bool_]
    direct: NDArray[np.bool_]
    followed: NDArray[np.bool_]
    asked_ids: NDArray[np.bool_]
    judged_ids: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.span_id)


Table = TypeVar("Table", RequestTable, CallTable)


class Agreement:
    """How often two rules said the same, by process. least: samples from which that is an answer."""

    def __init__(self, least: int = LEAST) -> None:
        self._least = least
        self._same = sparse(_PIDS, np.uint16)
        self._all = sparse(_PIDS, np.uint16)

    def note(self, tgid: NDArray[np.uint32], same: NDArray[np.bool_]) -> None:
        """(n,) one more sample for each."""
        pids = tgid & _PID_MASK
        np.add.at(self._all, pids, np.uint16(1))
        np.add.at(self._same, pids[same], np.uint16(1))
        full = distinct(pids[self._all[pids] > _MEMORY])
        self._all[full] //= 2
        self._same[full] //= 2

    def share(self, tgid: NDArray[np.uint32]) -> NDArray[np.float64]:
        """(n,) share of equal answers; 0 while there are too few."""
        pids = tgid & _PID_MASK
        n = self._all[pids]
        shares: NDArray[np.float64] = np.where(n >= self._least, self._same[pids] / np.maximum(n, 1), 0.0)
        return shares

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes are gone."""
        self._same[tgid & _PID_MASK] = self._all[tgid & _PID_MASK] = 0


class Loops:
    """The last 16,384 requests and calls of threads that poll, and how far each rule can be believed of whom."""

    def __init__(self) -> None:
        self.requests = _empty(RequestTable)
        self.calls = _empty(CallTable)
        self.turn, self.handed_over, self.order = Agreement(_MANY), Agreement(_MANY), Agreement(_MANY)
        """of the forward rules with the backward ones"""
        self.feasible = Agreement(_MANY)
        """whether the request that the backward rule names was open when the call was sent"""

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes are gone."""
        for agreement in (self.turn, self.handed_over, self.order, self.feasible):
            agreement.forget(tgid)

    def learn(self, calls: Calls, mine: Rows, requests: Requests, unknown: Unknown) -> None:
        """New calls (`mine` of them), and requests that became known: apply all rules to what is at hand."""
        self._add_calls(calls, mine)
        fresh = requests.fresh.nonzero()[0]
        if len(fresh):
            self.requests = _joined(self.requests, _request_table(requests, fresh))
        if not len(self.calls) or not len(self.requests):
            return
        self._look_back()
        self._follow_turns()
        known = ~unknown(self.calls.tgid, self.calls.wanted), ~unknown(self.requests.tgid, self.requests.start)
        self._follow_order(*known)
        self._follow_responses(*known)
        self._compare()

    def _add_calls(self, calls: Calls, mine: Rows) -> None:
        new = mine[find(self.calls.span_id, calls.span_id[mine]) == NONE]
        if len(new):
            self.calls = _joined(self.calls, _call_table(calls, new))

    def _follow_turns(self) -> None:
        """A call is for the request that the thread had received before; else for that of the call before."""
        calls = self.calls
        left = ((calls.turn == NOBODY) & (calls.after != NOBODY)).nonzero()[0]
        named = find(self.requests.span_id, calls.after[left]) != NONE
        calls.turn[left[named]] = calls.after[left[named]]
        before = find(calls.span_id, calls.after[left])
        left, before = left[before != NONE], before[before != NONE]
        calls.direct[left] |= calls.conn[before] == calls.conn[left]
        calls.handed_over[left] |= calls.direct[left]
        for _ in range(CHAIN):
            onward = (calls.turn[left] == NOBODY) & (calls.turn[before] != NOBODY)
            if not onward.any():
                break
            calls.turn[left[onward]] = calls.turn[before[onward]]
            calls.handed_over[left[onward]] |= calls.handed_over[before[onward]]

    def _follow_order(self, calls_known: NDArray[np.bool_], requests_known: NDArray[np.bool_]) -> None:
        """The k-th call of a thread is for its k-th request that was passed on at all."""
        calls, requests = self.calls, self.requests
        left = (calls_known & ~calls.queued).nonzero()[0]
        queue = (requests_known & ~requests.passed_on).nonzero()[0]
        call, request, no_request, no_call = _matched(calls, left, calls.wanted, requests, queue, requests.start)
        calls.order[call] = requests.span_id[request]
        calls.queued[call] = calls.queued[no_request] = True
        requests.passed_on[request] = requests.passed_on[no_call] = True

    def _follow_responses(self, calls_known: NDArray[np.bool_], requests_known: NDArray[np.bool_]) -> None:
        """Backward: the k-th response that a thread writes is for the k-th response to a call that it received."""
        calls, requests = self.calls, self.requests
        left = (calls_known & ~calls.responded & (calls.first_byte != 0)).nonzero()[0]
        queue = (requests_known & ~requests.answered & (requests.first_byte != 0)).nonzero()[0]
        call, request, no_request, no_call = _matched(
            calls, left, calls.first_byte, requests, queue, requests.first_byte
        )
        calls.retro_order[call] = requests.span_id[request]
        calls.responded[call] = calls.responded[no_request] = True
        requests.answered[request] = requests.answered[no_call] = True

    def _look_back(self) -> None:
        """Backward: the response received last before a response was written was for the same request; and so was the
        one after which that call was sent."""
        calls, requests = self.calls, self.requests
        request = (~requests.looked_at & (requests.after != NOBODY)).nonzero()[0]
        call = find(calls.span_id, requests.after[request])
        request, call = request[call != NONE], call[call != NONE]
        requests.looked_at[request] = True
        same = calls.tgid[call] == requests.tgid[request]
        request, call = request[same], call[same]
        inside = (requests.start[request] <= calls.start[call]) & (calls.start[call] <= requests.first_byte[request])
        self.feasible.note(calls.tgid[call], inside)
        request, call = request[inside], call[inside]
        for step in range(CHAIN):
            unknown = calls.retro[call] == NOBODY
            calls.retro[call[unknown]] = requests.span_id[request[unknown]]
            calls.followed[call[unknown]] = step > 0
            before = find(calls.span_id, calls.after[call])
            onward = unknown & (before != NONE)
            request, call, before = request[onward], call[onward], before[onward]
            onward = (calls.conn[before] != calls.conn[call]) & (requests.start[request] <= calls.start[before])
            request, call = request[onward], before[onward]
            if not len(call):
                break

    def _compare(self) -> None:
        """Hold each forward rule against its backward one, for the calls of which both speak for the first time."""
        calls = self.calls
        both = (calls.turn != NOBODY) & (calls.retro != NOBODY) & ~calls.judged_turn
        calls.judged_turn |= both
        for rule, rows in ((self.turn, both & ~calls.handed_over), (self.handed_over, both & calls.handed_over)):
            rule.note(calls.tgid[rows], calls.turn[rows] == calls.retro[rows])
        both = (calls.order != NOBODY) & (calls.retro_order != NOBODY) & ~calls.judged_order
        calls.judged_order |= both
        self.order.note(calls.tgid[both], calls.order[both] == calls.retro_order[both])


def _matched(
    calls: CallTable, left: Rows, call_time: Ids, requests: RequestTable, queue: Rows, request_time: Ids
) -> tuple[Rows, Rows, Rows, Rows]:
    """Calls `left` and requests `queue` of the same thread and the same rank in time; then calls without a request, and
    requests without a call.

    A request that was answered before the call of its rank has none; a call that was sent before the request of its
    rank came is for one that nobody saw come. Either leaves its queue, and those behind it move up. After so many
    rounds what precedes the first such pair of a thread holds; the rest has to wait.
    """
    no_call, no_request, at, owner = queue[:0], left[:0], left[:0], queue[:0]
    for _ in range(_REMOVALS):
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


def _call_table(calls: Calls, rows: Rows) -> CallTable:
    table = _empty(CallTable, len(rows))
    for name in ("span_id", "tgid", "thread", "conn", "start", "wanted", "first_byte", "end", "after", "ids"):
        setattr(table, name, getattr(calls, name)[rows])
    return table


def _request_table(requests: Requests, rows: Rows) -> RequestTable:
    table = _empty(RequestTable, len(rows))
    for name in ("span_id", "tgid", "start", "first_byte", "after"):
        setattr(table, name, getattr(requests, name)[rows])
    table.thread = requests.reader[rows]
    return table


def _empty(kind: type[Table], n: int = 0) -> Table:
    """n rows of zeros."""
    types: dict[str, type[np.generic]] = {"tgid": np.uint32, **dict.fromkeys(_FLAGS, np.bool_)}
    return kind(**{f.name: np.zeros(n, types.get(f.name, np.uint64)) for f in fields(kind)})


def _joined(old: Table, new: Table) -> Table:
    """Both, without the oldest beyond the limit."""
    return type(old)(
        **{f.name: np.concatenate([getattr(old, f.name), getattr(new, f.name)])[-ROWS:] for f in fields(old)}
    )
