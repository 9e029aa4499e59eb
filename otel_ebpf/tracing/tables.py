"""The tables of an event loop's requests and calls, of which the last rows are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.bits import SUCCEEDS
from otel_ebpf.tracing.keys import among
from otel_ebpf.tracing.queues import NEVER, Ids, Rows
from otel_ebpf.tracing.rungs.base import NONE, Calls, Requests

ROWS = 1 << 14
_SPARE = ROWS // 4
_FLAGS = (
    *("passed_on", "answered", "looked_at", "outcome", "counted"),
    *("handed_over", "queued", "responded", "judged_turn", "judged_order"),
    *("direct", "followed", "asked_ids", "judged_apart"),
    *("alone", "answered_alone", "half_seen"),
    *("numbered", "reused", "succeeds", "in_line", "shaky", "doubtful", "proved", "refuted", "weighed"),
    *("awaits", "judged_line", "noted", "rivalled"),
)


@dataclass(slots=True)
class RequestTable:
    """Requests that have ended. passed_on: (m,) a call took it out of its thread's queue, or it needed none.

    gone: (m,) when; NEVER: not yet, 0: it needed none. answered: (m,) the same of the queue of responses. looked_at:
    (m,) the call upon whose response it was answered is known. outcome: (m,) as of a call. kind: (m,) the same for
    requests of the same shape. counted: (m,) it is known how many calls it put into a pool's line.
    """

    span_id: Ids
    tgid: NDArray[np.uint32]
    thread: Ids
    start: Ids
    first_byte: Ids
    after: Ids
    kind: Ids
    gone: Ids
    passed_on: NDArray[np.bool_]
    answered: NDArray[np.bool_]
    looked_at: NDArray[np.bool_]
    outcome: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.span_id)


@dataclass(slots=True)
class CallTable:
    """Calls, and what each rule says of them: the span id of a request, or NOBODY.

    handed_over: (n,) it, or a call before it, went out on the connection whose response the thread had just received:
    one after the other, or out of a queue for a pool; direct: (n,) it did itself. followed: (n,) `retro` is that of a
    later call, which went out after its response: this holds where `turn` does, and not where timers are waited for.
    alone: (n,) when it was sent, the request that `order` names was the only one that its thread had to pass on;
    answered_alone: (n,) likewise, of the responses, when the one that `retro_order` names was written. queued: (n,) it
    had its place in the order; answers, gone: (n,) so had its response, for this request, and went then, as a request
    does; responded: (n,) and so had all that were in the queue with it, or it will not have one.
    judged: (n,) the rule was held against the backward one. half_seen: (n,) its process had requests then that nobody
    saw come.
    ids: (n,) Node's; the rest is of `async_ids`. numbered: (n,) its loop has such ids. asked_ids: (n,) they were
    followed, to the exchanges `execution` and `trigger`. reused: (n,) it went out where a response had come; succeeds:
    (n,) on a connection that was opened when another had been closed; port: (n,) of its destination. kind: (n,) as
    `async_ids` tells calls apart; rivalled: (n,) its loop had several requests when it was wanted. owner: (n,) the
    request, by `rule` and by way of the exchange `step`. judged_ids: (n,) bits of the rules that were held against the
    backward one. shaky: (n,) the rule is not to be believed by itself; doubtful: (n,) or not yet. proved, refuted: (n,)
    by what followed; weighed: (n,) by its own answer.
    in_line: (n,) it had its place in the line of those that wait, behind `awaited`. outcome: (n,) its response put
    nothing into the line, or what it did.
    counted: (n,) the request is known by how many calls each has put there; awaits: (n,) it may become so; judged_line:
    (n,) its part of the line was; noted: (n,) of calls that are known otherwise, whether they were answered first.
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
    answers: Ids
    retro_order: Ids
    gone: Ids
    ids: Ids
    execution: Ids
    trigger: Ids
    awaited: Ids
    step: Ids
    owner: Ids
    port: NDArray[np.uint16]
    kind: NDArray[np.uint8]
    rule: NDArray[np.uint8]
    judged_ids: NDArray[np.uint8]
    handed_over: NDArray[np.bool_]
    queued: NDArray[np.bool_]
    responded: NDArray[np.bool_]
    judged_turn: NDArray[np.bool_]
    judged_order: NDArray[np.bool_]
    direct: NDArray[np.bool_]
    followed: NDArray[np.bool_]
    asked_ids: NDArray[np.bool_]
    judged_apart: NDArray[np.bool_]
    alone: NDArray[np.bool_]
    answered_alone: NDArray[np.bool_]
    half_seen: NDArray[np.bool_]
    numbered: NDArray[np.bool_]
    reused: NDArray[np.bool_]
    succeeds: NDArray[np.bool_]
    in_line: NDArray[np.bool_]
    outcome: NDArray[np.bool_]
    shaky: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    proved: NDArray[np.bool_]
    refuted: NDArray[np.bool_]
    weighed: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    awaits: NDArray[np.bool_]
    judged_line: NDArray[np.bool_]
    noted: NDArray[np.bool_]
    rivalled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.span_id)


Table = TypeVar("Table", RequestTable, CallTable)


class Recent(Generic[Table]):
    """The last 16,384 rows of a table, found by span id.

    Rows are written behind the last ones into columns with some room to spare; those that stay are moved to the front
    when that is used up. The ids are kept sorted, so that what comes is merged rather than all sorted again.

    rows: of the table, oldest first; what is written into its columns stays.

    >>> calls = Recent(CallTable)
    >>> calls.add(call_table(batch, new))
    >>> calls.find(batch.after)
    """

    def __init__(self, kind: type[Table]) -> None:
        self._room: Table = empty(kind, ROWS + _SPARE)
        self._first = self._end = 0
        self._ids = np.zeros(0, np.uint64)
        self._places: Rows = np.zeros(0, np.intp)
        """of the sorted ids, in the columns; those before `_first` are of rows that are gone"""
        self.rows: Table = self._part(0, 0)

    def add(self, new: Table) -> None:
        """Rows with ids that are not there."""
        n = min(len(new), ROWS)
        if self._end + n > ROWS + _SPARE:
            self._move(min(self._end - self._first, ROWS - n))
        begin, self._end = self._end, self._end + n
        for f in fields(new):
            getattr(self._room, f.name)[begin : self._end] = getattr(new, f.name)[len(new) - n :]
        self._first = max(self._first, self._end - ROWS)
        self.rows = self._part(self._first, self._end)
        ids = self._room.span_id[begin : self._end]
        order = np.argsort(ids)
        at = np.searchsorted(self._ids, ids[order])
        self._ids = np.insert(self._ids, at, ids[order])
        self._places = np.insert(self._places, at, begin + order)

    def find(self, span_ids: Ids) -> Rows:
        """(n,) which of `rows` have these ids, or NONE."""
        if not len(self._ids) or not len(span_ids):
            return np.full(len(span_ids), NONE, np.intp)
        ask = np.argsort(span_ids)  # sorted questions are seven times faster to answer
        at = np.empty(len(span_ids), np.intp)
        at[ask] = np.minimum(np.searchsorted(self._ids, span_ids[ask]), len(self._ids) - 1)
        place = self._places[at] - self._first
        return np.where((self._ids[at] == span_ids) & (place >= 0), place, NONE)

    def _part(self, begin: int, end: int) -> Table:
        room = self._room
        part: Table = type(room)(**{f.name: getattr(room, f.name)[begin:end] for f in fields(room)})
        return part

    def _move(self, kept: int) -> None:
        """The last rows to the front."""
        begin, end = self._end - kept, self._end
        for f in fields(self._room):
            values = getattr(self._room, f.name)
            values[:kept] = values[begin:end]
        stay = self._places >= begin
        self._ids, self._places = self._ids[stay], self._places[stay] - begin
        self._first, self._end = 0, kept


def call_table(calls: Calls, rows: Rows) -> CallTable:
    """These calls, of which no rule has said anything yet."""
    table = empty(CallTable, len(rows))
    table.gone[:] = NEVER
    names = ("span_id", "tgid", "thread", "conn", "start", "wanted", "first_byte", "end", "after", "ids", "half_seen")
    for name in names:
        setattr(table, name, getattr(calls, name)[rows])
    table.port = calls.kind[rows].astype(np.uint16)  # its lowest bits
    table.numbered = (calls.looping & ~calls.threaded)[rows]
    table.succeeds = calls.has(SUCCEEDS)[rows]
    return table


def request_table(requests: Requests, rows: Rows) -> RequestTable:
    """These requests, likewise."""
    table = empty(RequestTable, len(rows))
    table.gone[:] = NEVER
    for name in ("span_id", "tgid", "start", "first_byte", "after", "kind"):
        setattr(table, name, getattr(requests, name)[rows])
    table.thread = requests.reader[rows]
    return table


def before_on_connection(calls: CallTable, rows: Rows) -> Rows:
    """(k,) the call that went out on the same connection before each of `rows`, or NONE."""
    near = among(calls.conn[rows], calls.conn).nonzero()[0]
    near = near[np.lexsort((calls.start[near], calls.conn[near]))]
    before = np.full(len(near), NONE, np.intp)
    before[1:] = np.where(calls.conn[near[1:]] == calls.conn[near[:-1]], near[:-1], NONE)
    order = np.argsort(near)
    return before[order[np.searchsorted(near[order], rows)]]


def empty(kind: type[Table], n: int = 0) -> Table:
    """n rows of zeros."""
    types: dict[str, type[np.generic]] = {"tgid": np.uint32, **dict.fromkeys(_FLAGS, np.bool_)}
    types |= {"port": np.uint16}
    types |= dict.fromkeys(("rule", "judged_ids"), np.uint8)
    if kind is CallTable:
        types["kind"] = np.uint8
    return kind(**{f.name: np.zeros(n, types.get(f.name, np.uint64)) for f in fields(kind)})
