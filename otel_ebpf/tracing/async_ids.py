"""Node: which request a call is for by the ids of the resources in whose callback it was sent.

The execution id (whose callback runs) and the trigger id (what made that resource) each lead to the exchange after
which they were given (`segments.Segments`): a request, or the response of another call, which then is for the same
request as that call. Both may lead somewhere, or neither; so there are four rules:

- *hand-over*: the execution id; but the trigger id for a call that goes out on the connection whose response came
  before, since a pool's queue sends there what somebody else has asked for;
- *trigger*: timers make their resources in a turn of their own, of which the trigger tells;
- *turn*: what the loop received last, as promises are continued without ids;
- *line*: a pool without ids in its queue sends what waits longest (`lines`).

Which one holds a process shows by its agreement with the backward rule of `loops`, apart for each *kind* of call: on a
connection whose response came before or not, and in whose callback; and apart for moments in which the loop had one
request only, when whatever comes last is right. What a rule says of a call that comes after another
call depends on what that one is for, which has to be known by a rule that is believed.

A call that is known by its place in a line, or by a rule that does not hold quite always or has not been seen often,
has to be *proved*: what follows from its response is followed to a call upon whose response the request was answered.
What leads to the answer of another request is wrong, and so is all that it follows from. Where such proofs fail now and
then a pool keeps another order: nothing is believed of its line.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.counting import APART, LINE, Counting
from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.keys import among
from otel_ebpf.tracing.lines import line_up
from otel_ebpf.tracing.loops import AGREES, CHAIN, MANY, NOBODY, Agreement, Loops, Unknown
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.queues import Ids, Rows, how_many
from otel_ebpf.tracing.rungs.base import NONE
from otel_ebpf.tracing.segments import NODE_ID_BITS, Segments, is_async
from otel_ebpf.tracing.tables import CallTable, before_on_connection

NEARLY = 0.95
"""Share of equal answers from which a rule is used for a process's calls that are proved one by one."""
SOME = 8
"""Samples of a rule whose calls are proved one by one."""
_NOT_YET = 2.0
_PATIENCE_NS = np.uint64(10**9)
"""So long a call waits for its rule to have been seen often, in a process that is still warming up."""
_RULES = LINE + 1
_HAND, _TRIGGER, _TURN, _LINE = range(_RULES)
_LINKS = np.array([Link.ASYNC_ID, Link.ASYNC_ID, Link.TURN, Link.ORDER], np.uint8)
_IN_NONE, _IN_FRESH, _IN_OTHER = range(3)
"""In whose callback: of nothing that has an id; of what was made after the last receive; of what is older."""
_APART, _DIFFER, _SUCCEEDS = APART, 6, 7
"""Kinds of calls whose connection had a response before; others follow: two ids that lead elsewhere, and connections
that were opened when others had just been closed, which a pool may have done for whoever waits longest."""
_KINDS = 8
_RECENT_NS = np.uint64(10**10)


class AsyncIds:
    """What the ids say of the calls in a table of `Loops`, and how far that can be believed of each process.

    places: of the processes, which are forgotten by who has them.
    """

    def __init__(self, segments: Segments, places: Places) -> None:
        self._segments = segments
        self._counting = Counting(segments, places)
        self._agreement = [[Agreement(places, SOME) for _ in range(2 * _KINDS)] for _ in range(_LINE)]
        self._in_order = Agreement(places, MANY)

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes are gone."""
        self._counting.forget(tgid)

    def learn(self, loops: Loops, unknown: Unknown) -> None:
        """Find out all that can be known by now of the calls of loops with ids."""
        calls = loops.calls
        if not calls.numbered.any():
            return
        fresh = (calls.numbered & ~calls.asked_ids).nonzero()[0]
        if len(fresh):
            self._lead(loops, fresh[~unknown(calls.tgid[fresh], calls.start[fresh])])
        recent = calls.start + _RECENT_NS > calls.start.max()
        left = (calls.numbered & calls.asked_ids & (calls.owner == NOBODY) & recent).nonzero()[0]
        self._name(loops, left)
        left = left[calls.owner[left] == NOBODY]
        drawn = np.zeros(len(calls), np.bool_)
        drawn[left] = self._drawn(calls, left)
        if (drawn & ~calls.in_line).any():
            drawn |= calls.in_line
            line_up(loops, drawn, unknown)
            self._name(loops, left)
        self._confirm(loops)
        self._count(loops, unknown)
        self._prove(loops)

    def _count(self, loops: Loops, unknown: Unknown) -> None:
        """Of calls that may have waited in a line, and are not certain."""
        calls = loops.calls
        certain = calls.numbered & (calls.owner != NOBODY) & ~calls.doubtful & ~calls.counted & ~calls.noted
        self._counting.note(loops, (certain & (calls.first_byte != 0)).nonzero()[0])
        recent = calls.start + _RECENT_NS > calls.start.max()
        left = calls.numbered & calls.asked_ids & (calls.kind < _APART) & recent & ~calls.counted
        left &= (calls.owner == NOBODY) | calls.doubtful
        rows = left.nonzero()[0]
        if len(rows):
            self._counting.learn(loops, rows, unknown)

    def say(self, loops: Loops, at: Rows, unknown: Unknown) -> tuple[Ids, NDArray[np.float64], NDArray[np.uint8]]:
        """(k,) span id of a request, or NOBODY; by what share the rule agrees with the backward one; which `Link`.

        More than 1: it is not known yet where the ids lead, or whether that can be proved, and nobody knows better.
        """
        calls = loops.calls
        named = calls.numbered[at] & (calls.owner[at] != NOBODY) & ~calls.refuted[at]
        sure = named & (~calls.doubtful[at] | calls.proved[at])
        sure &= (calls.rule[at] != _LINE) | calls.counted[at] | ~self._counting.speaks(calls.tgid[at])
        placed = sure & calls.doubtful[at] & (self._in_order.share(calls.tgid[at]) < AGREES)
        placed[placed] = _by_place(loops, at[placed])
        sure &= ~placed
        said = np.where(sure, calls.owner[at], NOBODY)
        answered = loops.requests.first_byte[loops.find_requests(calls.owner[at])]
        pending = named & calls.doubtful[at] & ~calls.proved[at] & unknown(calls.tgid[at], answered)
        young = named & calls.doubtful[at] & ~calls.shaky[at]
        young[young] = ~self._firm(calls, at[young])
        young |= placed & ~self._in_order.known(calls.tgid[at])
        pending |= young & unknown(calls.tgid[at], calls.start[at] + _PATIENCE_NS)
        pending |= calls.numbered[at] & ~calls.asked_ids[at]
        share = np.where(pending, _NOT_YET, (said != NOBODY).astype(np.float64))
        return said, share, _LINKS[calls.rule[at]]

    def _lead(self, loops: Loops, rows: Rows) -> None:
        """Follow the ids of calls, once that all requests that they may be for are known.

        What is neither a request nor a call is nothing to ask: several calls in one, or long ago.
        """
        calls = loops.calls
        execution, trigger = self._segments.causes(calls.thread[rows], calls.ids[rows])
        after = calls.after[rows]
        by_id, by_turn = (self._same_connection(loops, rows, cause) for cause in (execution, after))
        by_id[_elsewhere_as_well(calls, rows)] = False
        own = by_id | by_turn
        fresh = (execution != 0) & ((execution == after) | by_id)
        where = np.where(fresh, _IN_FRESH, np.where(is_async(calls.ids[rows]), _IN_OTHER, _IN_NONE))
        differ = (execution != 0) & (trigger != 0) & (execution != trigger) & (where == _IN_OTHER)
        kind = np.where(own, where, np.where(differ, _DIFFER, _APART + where))
        calls.kind[rows] = np.where(calls.succeeds[rows] & (kind == _APART + _IN_FRESH), _SUCCEEDS, kind)
        calls.execution[rows], calls.trigger[rows], calls.reused[rows] = execution, trigger, own
        received = loops.requests
        answered = np.where(received.first_byte == 0, received.start, received.first_byte)
        open_then = how_many(received.thread, received.start, answered, calls.thread[rows], calls.wanted[rows])
        calls.rivalled[rows] = open_then > 1
        calls.asked_ids[rows] = True

    def _same_connection(self, loops: Loops, rows: Rows, cause: Ids) -> NDArray[np.bool_]:
        """(k,) this is the call before on the connection. An id that is older, as that which the connection itself has
        for long, leads to one of its calls by chance."""
        calls, call = loops.calls, loops.find_calls(cause)
        same: NDArray[np.bool_] = (call != NONE) & (calls.conn[call] == calls.conn[rows])
        at = same.nonzero()[0]
        if len(at):
            same[at] = call[at] == before_on_connection(calls, rows[at])
        return same

    def _drawn(self, calls: CallTable, rows: Rows) -> NDArray[np.bool_]:
        """(k,) it went out where a response had come, and no rule tells for whom: it may have waited in a line."""
        share = self._shares(calls, rows)[:_LINE].max(axis=0, initial=0.0)
        drawn: NDArray[np.bool_] = (calls.kind[rows] < _APART) & (share < AGREES)
        return drawn

    def _shares(self, calls: CallTable, rows: Rows) -> NDArray[np.float64]:
        """(rules, k) by what share each rule agrees with the backward one, of calls of the same kind and process."""
        shares = np.zeros((_RULES, len(rows)))
        for case, of in _cases(calls, rows):
            for rule in range(_LINE):
                shares[rule, of] = self._agreement[rule][case].share(calls.tgid[rows[of]])
        return shares

    def _name(self, loops: Loops, rows: Rows) -> None:
        """Calls after calls: those that need another call's answer come after it."""
        calls = loops.calls
        for _ in range(CHAIN):
            if not len(rows):
                return
            said, causes, certain = self._rules(loops, rows)
            self._compare(calls, rows, np.where(certain, said, NOBODY))
            shares = self._shares(calls, rows)
            shares[(said == NOBODY) | (shares < NEARLY)] = 0.0
            shares[_LINE, (said[_LINE] != NOBODY) & (shares[:_LINE] == 0.0).all(axis=0)] = NEARLY
            best = shares.argmax(axis=0)
            all_rows = np.arange(len(rows))
            named = np.where(shares[best, all_rows] > 0.0, said[best, all_rows], NOBODY)
            other = (shares == shares[best, all_rows]) & (said != NOBODY) & (said != named)
            named[other.any(axis=0)] = NOBODY
            now = (named != NOBODY).nonzero()[0]
            if not len(now):
                return
            at, rule = rows[now], best[now]
            calls.owner[at], calls.rule[at] = named[now], rule
            calls.step[at] = causes[rule, now]
            calls.shaky[at] = ~certain[rule, now] | (shares[rule, now] < AGREES) | (calls.kind[at] == _SUCCEEDS)
            before = loops.find_calls(calls.step[at])
            calls.doubtful[at] = calls.shaky[at] | ~self._firm(calls, at) | ((before != NONE) & calls.doubtful[before])
            rows = rows[named == NOBODY]

    def _firm(self, calls: CallTable, rows: Rows) -> NDArray[np.bool_]:
        """(k,) their rule needs no proof of each call: it has agreed too often for chance."""
        firm = np.zeros(len(rows), np.bool_)
        for case, of in _cases(calls, rows):
            for rule in range(_LINE):
                mine = of[calls.rule[rows[of]] == rule]
                agreement, tgid = self._agreement[rule][case], calls.tgid[rows[mine]]
                firm[mine] = agreement.known(tgid, MANY) & (agreement.share(tgid) >= AGREES)
        return firm

    def _confirm(self, loops: Loops) -> None:
        """Calls that were named while their rule had not been seen often, which it has been by now."""
        calls = loops.calls
        recent = calls.start + _RECENT_NS > calls.start.max()
        rows = (calls.numbered & calls.doubtful & ~calls.shaky & recent & (calls.owner != NOBODY)).nonzero()[0]
        rows = rows[self._firm(calls, rows)]
        for _ in range(CHAIN):
            before = loops.find_calls(calls.step[rows])
            clear = (before == NONE) | ~calls.doubtful[before]
            if not clear.any():
                return
            calls.doubtful[rows[clear]] = False
            rows = rows[~clear]

    def _rules(self, loops: Loops, rows: Rows) -> tuple[Ids, Ids, NDArray[np.bool_]]:
        """(rules, k) the request that each rule names, or NOBODY; the exchange that leads there; it is certain that
        this leads there."""
        requests, calls = loops.requests, loops.calls
        causes = np.stack([calls.execution[rows], calls.trigger[rows], calls.after[rows], calls.awaited[rows]])
        request = loops.find_requests(causes.ravel()).reshape(causes.shape)
        call = loops.find_calls(causes.ravel()).reshape(causes.shape)
        named = np.where(request != NONE, causes, np.where(call != NONE, calls.owner[call], NOBODY))
        certain = (request != NONE) | ((call != NONE) & ~calls.shaky[call])
        at = loops.find_requests(named.ravel()).reshape(causes.shape)
        wanted = calls.wanted[rows]
        open_then = (requests.start[at] <= wanted) & (wanted <= requests.first_byte[at])
        open_then &= (at != NONE) & (requests.tgid[at] == calls.tgid[rows])
        # Where an id leads to what nobody knows the request of, it ends there: the other one is not asked.
        blind = (causes != NOBODY) & (named == NOBODY)
        named = np.where(open_then, named, NOBODY)
        pick = np.stack([np.where(calls.kind[rows] < _APART, 1, 0), np.full(len(rows), 1), np.full(len(rows), 2)])
        other = np.stack([1 - pick[0], np.zeros(len(rows), np.intp)])
        all_rows = np.arange(len(rows))
        none = ~open_then & ~blind
        pick[:2] = np.where(none[pick[:2], all_rows], other, pick[:2])
        pick = np.concatenate([pick, np.full((1, len(rows)), 3)])
        return named[pick, all_rows], causes[pick, all_rows], certain[pick, all_rows]

    def _compare(self, calls: CallTable, rows: Rows, said: Ids) -> None:
        """Not those that were followed back: what a loop received last before a call is not why it sent it, with a
        pool's line or when calls go out at the end of a turn."""
        retro = np.where(calls.followed[rows] | calls.half_seen[rows], NOBODY, calls.retro[rows])
        for rule in range(_LINE):
            bit = np.uint8(1 << rule)
            new = ((said[rule] != NOBODY) & (retro != NOBODY) & (calls.judged_ids[rows] & bit == 0)).nonzero()[0]
            calls.judged_ids[rows[new]] |= bit
            for case, of in _cases(calls, rows[new]):
                at = new[of]
                self._agreement[rule][case].note(calls.tgid[rows[at]], said[rule, at] == retro[at])

    def _prove(self, loops: Loops) -> None:
        """Hold what has been named against the answers, back along the calls that led there."""
        calls = loops.calls
        rows = (calls.numbered & ~calls.weighed & (calls.owner != NOBODY) & (calls.retro != NOBODY)).nonzero()[0]
        rows = rows[~calls.followed[rows]]
        calls.weighed[rows] = True
        right = calls.owner[rows] == calls.retro[rows]
        by_place = (calls.rule[rows] == _LINE) & ~calls.counted[rows]
        self._in_order.note(calls.tgid[rows[by_place]], right[by_place])
        for flag, at in ((calls.proved, rows[right]), (calls.refuted, rows[~right])):
            for _ in range(CHAIN):
                flag[at] = True
                if flag is calls.refuted:  # what has the wrong place in a line says nothing of what was before
                    at = at[calls.rule[at] != _LINE]
                at = loops.find_calls(calls.step[at])
                at = np.unique(at[at != NONE])
                at = at[~flag[at]]
                if not len(at):
                    break


def _by_place(loops: Loops, at: Rows) -> NDArray[np.bool_]:
    """(k,) its request is known by a place in a line: its own, or that of a call that led to it."""
    calls = loops.calls
    placed = np.zeros(len(at), np.bool_)
    left, call = np.arange(len(at)), at
    for _ in range(CHAIN):
        placed[left] = (calls.rule[call] == _LINE) & ~calls.counted[call]
        before = loops.find_calls(calls.step[call])
        onward = (before != NONE) & ~placed[left]
        left, call = left[onward], before[onward]
        if not len(left):
            return placed
    placed[left] = True
    return placed


def _cases(calls: CallTable, rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Which of `rows` (their places there) are judged together: of one kind, and alike in whether the loop had another
    request than theirs. Where it had none, all that comes last is right, which says nothing of where it had."""
    cases = calls.kind[rows] + np.uint8(_KINDS) * calls.rivalled[rows]
    for case in np.unique(cases).tolist():
        yield case, (cases == case).nonzero()[0]


def _elsewhere_as_well(calls: CallTable, rows: Rows) -> NDArray[np.bool_]:
    """(k,) in the same callback, or in one of the same resource, a call went out on another connection."""
    key = splitmix64(calls.thread ^ splitmix64(calls.ids >> NODE_ID_BITS))
    near = among(key[rows], key).nonzero()[0]
    near = near[np.lexsort((calls.conn[near], key[near]))]
    several = (key[near[1:]] == key[near[:-1]]) & (calls.conn[near[1:]] != calls.conn[near[:-1]])
    return among(key[near[1:]][several], key[rows])
