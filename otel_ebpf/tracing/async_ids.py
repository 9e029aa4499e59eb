"""Node: which request a call is for by the ids of the resources in whose callback it was sent.

The execution id (whose callback runs) and the trigger id (what made that resource) each lead to the exchange after
which they were given (`segments.Segments`): a request, or the response of another call, which then is for the same
request as that call. Both may lead somewhere, and which one to ask first depends on how a program sends:

- *by hand-over*: the execution id; but the trigger id for a call that goes out on the connection whose response the
  loop has just received, since a pool's queue sends there what somebody else has asked for;
- *trigger first*: timers make their resources in a turn of their own, of which the trigger tells.

A process shows which one holds for it, apart for calls handed over, for those of which both orders say the same, and
for those of which they differ: by its agreement with the backward rule of `loops`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.loops import AGREES, CHAIN, NOBODY, Agreement, Loops
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.queues import Ids, Rows
from otel_ebpf.tracing.rungs.base import NONE
from otel_ebpf.tracing.segments import Segments, is_async
from otel_ebpf.tracing.tables import CallTable

_NOT_YET = 2.0
_APART = 3
_HANDED_OVER, _SAME, _DIFFERENT = range(_APART)


class AsyncIds:
    """What the ids say of the calls in a table of `Loops`, and how far that can be believed of each process.

    places: of the processes, which are forgotten by who has them.
    """

    def __init__(self, segments: Segments, places: Places) -> None:
        self._segments = segments
        self._by_hand = [Agreement(places) for _ in range(_APART)]
        self._trigger = [Agreement(places) for _ in range(_APART)]

    def learn(self, loops: Loops) -> None:
        """Ask the ids of all calls of which it is not known yet where they lead."""
        calls = loops.calls
        rows = (~calls.asked_ids & is_async(calls.ids)).nonzero()[0]
        if len(rows):
            self._follow(loops, rows)
        # Not those that were followed back: what a loop received last before a call is not why it sent it, with a
        # pool's queue or when calls go out at the end of a turn.
        both = calls.asked_ids & (calls.retro != NOBODY) & ~calls.followed & ~calls.judged_ids
        calls.judged_ids |= both
        if both.any():
            self._compare(calls, both.nonzero()[0])

    def say(self, calls: CallTable, at: Rows) -> tuple[Ids, NDArray[np.float64]]:
        """(k,) span id of a request, or NOBODY; and by what share the rule agrees with the backward one.

        More than 1: it is not known yet where the ids lead, and nobody else knows better.
        """
        said, share = np.zeros(len(at), np.uint64), np.zeros(len(at))
        kind, tgid = _kinds(calls, at), calls.tgid[at]
        for i in range(_APART):
            of = (kind == i).nonzero()[0]
            if not len(of):
                continue
            by_hand, trigger = self._by_hand[i].share(tgid[of]), self._trigger[i].share(tgid[of])
            first = by_hand >= trigger
            share[of] = np.where(first, by_hand, trigger)
            said[of] = np.where(first, calls.by_hand[at[of]], calls.by_trigger[at[of]])
        with_ids = is_async(calls.ids[at])
        said[(share < AGREES) | ~with_ids | ~calls.asked_ids[at]] = NOBODY
        share[with_ids & ~calls.asked_ids[at]] = _NOT_YET
        return said, share

    def _compare(self, calls: CallTable, rows: Rows) -> None:
        kind = _kinds(calls, rows)
        for order, agreements in ((calls.by_hand, self._by_hand), (calls.by_trigger, self._trigger)):
            for i, agreement in enumerate(agreements):
                of = rows[(kind == i) & (order[rows] != NOBODY)]
                agreement.note(calls.tgid[of], order[of] == calls.retro[of])

    def _follow(self, loops: Loops, rows: Rows) -> None:
        """Calls after calls: those that need another call's answer come after it."""
        calls = loops.calls
        cause = np.stack(self._segments.causes(calls.thread[rows], calls.ids[rows]))
        request, call = (find(cause.ravel()).reshape(cause.shape) for find in (loops.find_requests, loops.find_calls))
        left = np.arange(len(rows))
        for _ in range(CHAIN):
            # What is neither here nor there is a request that has not ended, or a call that has not been handed over.
            asked = calls.asked_ids[call] | ~is_async(calls.ids[call])
            there = (cause == 0) | (request != NONE) | ((call != NONE) & asked)
            now = left[there[:, left].all(axis=0)]
            if not len(now):
                return
            at = rows[now]
            for order, trigger_first in ((calls.by_hand, calls.direct[at]), (calls.by_trigger, np.full(len(at), True))):
                ways = [self._way(loops, order, at, request[i, now], call[i, now]) for i in (0, 1)]
                (execution, no_execution), (trigger, no_trigger) = ways
                order[at] = np.where(
                    trigger_first,
                    np.where(no_trigger, execution, trigger),
                    np.where(no_execution, trigger, execution),
                )
            calls.asked_ids[at] = True
            left = np.setdiff1d(left, now)

    def _way(self, loops: Loops, order: Ids, rows: Rows, request: Rows, call: Rows) -> tuple[Ids, NDArray[np.bool_]]:
        """(k,) the request that one id of each call leads to; (k,) there is none that was open when it was wanted, so
        that the other id may be asked. Where it leads to a call of which nobody knows what it is for, it ends there."""
        requests, calls = loops.requests, loops.calls
        above = np.where(is_async(calls.ids[call]), order[call], self._turns(loops, call))
        named = np.where(call != NONE, above, NOBODY)
        at = np.where(request != NONE, request, loops.find_requests(named))
        wanted = calls.wanted[rows]
        open_then = (requests.start[at] <= wanted) & (wanted <= requests.first_byte[at])
        open_then &= (at != NONE) & (requests.tgid[at] == calls.tgid[rows])
        blind = (request == NONE) & (call != NONE) & (named == NOBODY)
        return np.where(open_then, requests.span_id[at], NOBODY), ~open_then & ~blind

    def _turns(self, loops: Loops, call: Rows) -> Ids:
        """(k,) what is known of a call that was sent without ids."""
        believed = loops.turn.share(loops.calls.tgid[call]) >= AGREES
        return np.where(believed, loops.calls.turn[call], NOBODY)


def _kinds(calls: CallTable, at: Rows) -> NDArray[np.intp]:
    """(k,) how a call was sent, and whether its ids contradict each other."""
    one, other = calls.by_hand[at], calls.by_trigger[at]
    differ = (one != NOBODY) & (other != NOBODY) & (one != other)
    return np.where(calls.direct[at], _HANDED_OVER, np.where(differ, _DIFFERENT, _SAME))
