"""What the event loops of this host did last: the requests and calls of their threads, and which rule holds for whom.

The rules are those of `rungs.event_loop`. A table holds the requests, another the calls, of the last moments; every
rule works on whole columns of them, and only on the time before which all requests are known.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct
from otel_ebpf.tracing.keys import among
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.queues import NEVER, Ids, Rows, alone_in_queue, in_a_run, matched, throughout
from otel_ebpf.tracing.rungs.base import NONE, Calls, Requests
from otel_ebpf.tracing.tables import CallTable, Recent, RequestTable, call_table, request_table

CHAIN = 16
"""Calls after calls that are followed back to their request."""
REPEATED = 4
"""Attempts at the order of calls, of which some were not for whom their connections were opened: two do."""
AGREES, LEAST = 0.99, 3
"""Share of equal answers from which a rule is used for a process, and of how many."""
MANY = 32
"""Samples of a rule that only goes by what came when: a few agree by chance, in a process that is still warming up."""
VERY_MANY = 256
"""Samples of what seldom shows that a rule does not hold."""
_MEMORY = 2048
"""Samples of a process after which all of them are halved: it may behave differently under another load."""
ANSWER_NS = np.uint64(50 * 10**6)
"""A request is answered so soon after the call for it was, if that is known by order."""
NOBODY = np.uint64(0)

Unknown = Callable[[NDArray[np.uint32], Ids], NDArray[np.bool_]]
"""(process, time) → whether a request that began before may still become known."""


class Agreement:
    """How often two rules said the same, by process. least: samples from which that is an answer.

    Processes are forgotten by who has the places.
    """

    def __init__(self, places: Places, least: int = LEAST) -> None:
        self._places, self._least = places, least
        self._same = places.column(np.uint16)
        self._all = places.column(np.uint16)

    def note(self, tgid: NDArray[np.uint32], same: NDArray[np.bool_]) -> None:
        """(n,) one more sample for each."""
        if not len(tgid):
            return
        pids = self._places.take(tgid)
        np.add.at(self._all, pids, np.uint16(1))
        np.add.at(self._same, pids[same], np.uint16(1))
        full = distinct(pids[self._all[pids] > _MEMORY])
        self._all[full] //= 2
        self._same[full] //= 2

    def share(self, tgid: NDArray[np.uint32]) -> NDArray[np.float64]:
        """(n,) share of equal answers; 0 while there are too few."""
        pids = self._places.of(tgid)
        n = self._all[pids]
        shares: NDArray[np.float64] = np.where(n >= self._least, self._same[pids] / np.maximum(n, 1), 0.0)
        return shares

    def known(self, tgid: NDArray[np.uint32], least: int = 0) -> NDArray[np.bool_]:
        """(n,) there are enough, and at least so many."""
        enough: NDArray[np.bool_] = self._all[self._places.of(tgid)] >= max(self._least, least)
        return enough


class Loops:
    """The last 16,384 requests and calls of threads that poll, and how far each rule can be believed of whom."""

    def __init__(self, places: Places | None = None) -> None:
        """places: those of others who forget at the same time."""
        self.places = places = Places() if places is None else places
        self._received, self._sent = Recent(RequestTable), Recent(CallTable)
        self.turn, self.handed_over, self.order = (Agreement(places, MANY) for _ in range(3))
        """of the forward rules with the backward ones; order: of calls that were sent while several requests waited"""
        self.alone = Agreement(places, MANY)
        """of order with its backward rule, where one request waited and one response"""
        self.turn_apart = Agreement(places)
        """of turn with its backward rule, where order says something else"""
        self.once = Agreement(places, MANY)
        """whether a call had a request that no other call had: each is passed on once"""
        self.apart = Agreement(places, VERY_MANY)
        """whether no other request was answered after the same response: what came at once was handled one by one"""
        self.feasible = Agreement(places, MANY)
        """whether the request that the backward rule names was open when the call was sent"""

    @property
    def requests(self) -> RequestTable:
        """The last ones that were answered."""
        return self._received.rows

    @property
    def calls(self) -> CallTable:
        """The last ones that were sent, and answered."""
        return self._sent.rows

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes are gone."""
        self.places.forget(tgid)

    def backward(self, tgid: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """(n,) in these processes the last thing received tells for whom an answer was, whatever else holds.

        Not in a program that passes each request on once, as it may keep an order; which it does, is to be known first.
        """
        holds: NDArray[np.bool_] = (self.feasible.share(tgid) >= AGREES) & (self.apart.share(tgid) >= AGREES)
        holds &= self.once.known(tgid) & (self.once.share(tgid) < AGREES)
        return holds

    def borne_out(self, at: Rows) -> NDArray[np.bool_]:
        """(k,) the backward rule says what `turn` does of the call, or of one that it led to: each was the only thing
        that was sent after the one before was answered."""
        calls = self.calls
        request, row = calls.turn[at], at.copy()
        borne_out: NDArray[np.bool_] = (request != NOBODY) & (calls.retro[at] == request)
        order = np.argsort(calls.after)
        after = calls.after[order]
        left = ((request != NOBODY) & ~borne_out).nonzero()[0]
        for _ in range(CHAIN):
            answered = calls.span_id[row[left]]
            first, last = np.searchsorted(after, answered), np.searchsorted(after, answered, "right")
            one = (last - first == 1) & ~among(self.requests.after, answered)
            left = left[one]
            row[left] = order[first[one]]
            same = calls.turn[row[left]] == request[left]
            ends = calls.retro[row[left]] == request[left]
            borne_out[left[same & ends]] = True
            left = left[same & ~ends]
            if not len(left):
                break
        return borne_out

    def claimed_twice(self, at: Rows) -> NDArray[np.bool_]:
        """(k,) `turn` says the same of another call."""
        several: NDArray[np.bool_] = _times(self.calls.turn, self.calls.turn[at]) > 1
        return several

    def rivals(self) -> Ids:
        """Requests that `retro` names for calls of which `order` knows no request: more than one was made for them."""
        calls = self.calls
        named: Ids = calls.retro[(calls.order == NOBODY) & (calls.retro != NOBODY)]
        return named

    def find_requests(self, span_ids: Ids) -> Rows:
        """(n,) rows of `requests`, or NONE."""
        return self._received.find(span_ids)

    def find_calls(self, span_ids: Ids) -> Rows:
        """(n,) rows of `calls`, or NONE."""
        return self._sent.find(span_ids)

    def learn(self, calls: Calls, mine: Rows, requests: Requests, unknown: Unknown) -> None:
        """New calls (`mine` of them), and requests that became known: apply all rules to what is at hand."""
        self._add_calls(calls, mine)
        fresh = requests.fresh.nonzero()[0]
        if len(fresh):
            self._received.add(request_table(requests, fresh))
        if not len(self.calls) or not len(self.requests):
            return
        self._look_back()
        self._follow_turns()
        self._follow_order(unknown)
        self._follow_responses(unknown)
        self._compare()

    def _add_calls(self, calls: Calls, mine: Rows) -> None:
        new = mine[self.find_calls(calls.span_id[mine]) == NONE]
        if len(new):
            self._sent.add(call_table(calls, new))

    def _follow_turns(self) -> None:
        """A call is for the request that the thread had received before; else for that of the call before."""
        calls = self.calls
        left = ((calls.turn == NOBODY) & (calls.after != NOBODY)).nonzero()[0]
        named = self.find_requests(calls.after[left]) != NONE
        calls.turn[left[named]] = calls.after[left[named]]
        before = self.find_calls(calls.after[left])
        left, before = left[before != NONE], before[before != NONE]
        calls.direct[left] |= calls.conn[before] == calls.conn[left]
        calls.handed_over[left] |= calls.direct[left]
        for _ in range(CHAIN):
            onward = (calls.turn[left] == NOBODY) & (calls.turn[before] != NOBODY)
            if not onward.any():
                break
            calls.turn[left[onward]] = calls.turn[before[onward]]
            calls.handed_over[left[onward]] |= calls.handed_over[before[onward]]

    def _follow_order(self, unknown: Unknown) -> None:
        """The k-th call of a thread is for its k-th request that was passed on at all."""
        calls, requests = self.calls, self.requests
        left = (~calls.queued).nonzero()[0]
        left = left[~unknown(calls.tgid[left], calls.start[left])]
        born = left[calls.wanted[left] < calls.start[left]]
        calls.wanted[born] = np.where(self._opened_for(born), calls.wanted[born], calls.start[born])
        queue = (~requests.passed_on).nonzero()[0]
        queue = queue[~unknown(requests.tgid[queue], requests.start[queue])]
        call, request, no_request, no_call = self._matched(left, queue)
        calls.order[call] = requests.span_id[request]
        requests.gone[request], requests.gone[no_call] = calls.start[call], 0
        calls.alone[call] = alone_in_queue(requests.thread, requests.start, requests.gone, request)
        calls.queued[call] = calls.queued[no_request] = True
        requests.passed_on[request] = requests.passed_on[no_call] = True
        for rows, had_one in ((call, True), (no_request, False)):
            seen = rows[~calls.half_seen[rows]]
            self.once.note(calls.tgid[seen], np.full(len(seen), had_one))

    def _matched(self, left: Rows, queue: Rows) -> tuple[Rows, Rows, Rows, Rows]:
        """`matched` for calls as they were wanted. One whose connection was opened when nobody had come that waits is
        for somebody who came later, as the connection was for another one: it is not older than its bytes."""
        calls, requests = self.calls, self.requests
        for _ in range(REPEATED):
            found = matched(calls, left, calls.wanted, requests, queue, requests.start)
            early = found[2][calls.wanted[found[2]] < calls.start[found[2]]]
            if not len(early):
                break
            calls.wanted[early] = calls.start[early]
        return found

    def _opened_for(self, rows: Rows) -> NDArray[np.bool_]:
        """(k,) a request of the thread was open from when the connection was opened until the call went out on it: else
        that was for another one, whose call has gone out elsewhere, and this call is not older than its bytes."""
        calls, requests = self.calls, self.requests
        answered = np.where(requests.first_byte == 0, NEVER, requests.first_byte)
        time = calls.thread[rows], calls.wanted[rows], calls.start[rows]
        return throughout(requests.thread, requests.start, answered, *time)

    def _follow_responses(self, unknown: Unknown) -> None:
        """Backward: the k-th response that a thread writes is for the k-th response to a call that it received."""
        calls, requests = self.calls, self.requests
        left = ((calls.gone == NEVER) & (calls.first_byte != 0)).nonzero()[0]
        left = left[~unknown(calls.tgid[left], calls.first_byte[left])]
        queue = (~requests.answered & (requests.first_byte != 0)).nonzero()[0]
        queue = queue[~unknown(requests.tgid[queue], requests.first_byte[queue])]
        call, request, no_request, no_call = matched(
            calls, left, calls.first_byte, requests, queue, requests.first_byte
        )
        calls.answers[call] = requests.span_id[request]
        calls.gone[call], calls.gone[no_request] = requests.first_byte[request], 0
        calls.answered_alone[call] = alone_in_queue(calls.thread, calls.first_byte, calls.gone, call)
        requests.answered[request] = requests.answered[no_call] = True
        self._end_runs(unknown)

    def _end_runs(self, unknown: Unknown) -> None:
        """Believe it of the responses of a run, from when the queue was empty until it is empty again, if all of them
        had a place there: else whoever has none has moved the others."""
        calls = self.calls
        came = calls.first_byte != 0
        waits = came & (calls.gone == NEVER)
        waits[waits] = unknown(calls.tgid[waits], calls.first_byte[waits] + ANSWER_NS)
        over = (came & ~calls.responded & ~waits).nonzero()[0]
        over = over[~in_a_run(calls.thread, calls.first_byte, calls.gone, over, waits)]
        calls.responded[over] = True
        astray = came & (calls.answers == NOBODY)
        sound = over[~in_a_run(calls.thread, calls.first_byte, calls.gone, over, astray)]
        calls.retro_order[sound] = calls.answers[sound]

    def _look_back(self) -> None:
        """Backward: the response received last before a response was written was for the same request; and so was the
        one after which that call was sent."""
        calls, requests = self.calls, self.requests
        request = (~requests.looked_at & (requests.after != NOBODY)).nonzero()[0]
        call = self.find_calls(requests.after[request])
        request, call = request[call != NONE], call[call != NONE]
        requests.looked_at[request] = True
        same = calls.tgid[call] == requests.tgid[request]
        request, call = request[same], call[same]
        one = np.bincount(call, minlength=1)[call] == 1
        self.apart.note(calls.tgid[call], one)
        request, call = request[one], call[one]
        inside = (requests.start[request] <= calls.start[call]) & (calls.start[call] <= requests.first_byte[request])
        self.feasible.note(calls.tgid[call], inside)
        request, call = request[inside], call[inside]
        for step in range(CHAIN):
            unknown = calls.retro[call] == NOBODY
            calls.retro[call[unknown]] = requests.span_id[request[unknown]]
            calls.followed[call[unknown]] = step > 0
            before = self.find_calls(calls.after[call])
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
        sure = both & calls.alone & calls.answered_alone
        for rule, rows in ((self.alone, sure), (self.order, both & ~sure)):
            rule.note(calls.tgid[rows], calls.order[rows] == calls.retro_order[rows])
        apart = (calls.turn != NOBODY) & (calls.order != NOBODY) & (calls.turn != calls.order)
        apart &= (calls.retro != NOBODY) & ~calls.judged_apart
        calls.judged_apart |= apart
        self.turn_apart.note(calls.tgid[apart], calls.turn[apart] == calls.retro[apart])


def _times(keys: Ids, asked: Ids) -> Rows:
    """(k,) how often each of `asked` is among the keys."""
    keys = np.sort(keys)
    return np.searchsorted(keys, asked, "right") - np.searchsorted(keys, asked)
