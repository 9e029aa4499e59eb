"""Where rows wait until their trace is known: columns with stable row numbers, and their texts in one arena.

The columns are a ring: rows are appended behind the last ones and released from anywhere, and by the time that the end
is reached those at the beginning have long gone; the few that have not are moved (`make_room`, between passes: row
numbers hold within one). Memory is used again and again, since a page that is touched first costs more than all the
work on the rows in it. Texts are never written over: a released batch keeps the arena that it points into alive, and an
arena that is full is replaced by one with the waiting texts only.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import SLOTS, Spans
from otel_ebpf.tracing.bits import HEAD

Rows = NDArray[np.intp]

FREE, LEAVING, ARRIVED, OPEN, DECIDED = range(5)
"""States of a row: not there; about to be given back; too young to be judged; its parent is sought; it is known."""

NOT_ASKED, SEEN, ASKED = range(3)
UNASKED, OWN, COVERED = range(3)
"""Whether a foreign span tells of the same exchange: not looked for; none does, or both are wanted; one does."""
NOWHERE = -1

_COLUMNS = tuple(f.name for f in fields(Spans) if f.name != "text")
_DECISIONS = ("trace", "parent", "link", "confidence", "candidates", "like_trace", "like_span")
TAKEN_OVER = (
    "shape",
    "slot_start",
    "slot_length",
    "remote_link",
    "remote_trace",
    "remote_parent",
    "remote_flags",
    "request_id",
)
"""What the bytes say: a client end without payload has it from its mate, an amendment from what it amends."""
_OWN: dict[str, type[np.generic]] = {
    "state": np.uint8,
    "due": np.uint64,
    "deadline": np.uint64,
    "up": np.intp,
    "mate": np.intp,
    "ordinal": np.int32,
    "count": np.int32,
    "thread": np.uint64,
    "waiter": np.uint64,
    "like": np.intp,
    "asked": np.uint8,
    "above": np.uint64,
    "came_by": np.uint8,
    "came_with": np.uint8,
    "cover": np.uint8,
    "alias": np.uint64,
    "given": np.uint64,
}
_ARENA = 1 << 18
_CAPACITY = 1 << 12


class Pool:
    """Columns of `size` rows, of which `live` are waiting. The next ones that come are put at `next`.

    spans: the columns that came with the row; decisions are written into its trace, parent and link.
    state: see above. due: when it may be judged; deadline: when it no longer waits for others; monotonic ns.
    up: row of its parent, itself if that is not in the pool. mate: row of the connection's other end, or NOWHERE.
    ordinal, count: the row is the ordinal-th of `count` exchanges of its record.
    thread, waiter: process-wide keys of tid_req and tid_rsp, 0 if there was none.
    asked: how far its relations to older rows were looked for (`NOT_ASKED`, `SEEN`, `ASKED`).
    above: the remote parent in the bytes of its parent, 0 if there was none.
    cover: UNASKED, OWN or COVERED; alias: the span id that stands for a COVERED row's, 0: not known; given: the foreign
    span that is to be its parent, 0: none.
    came_by, came_with: Link and flags of the context with which the row's trace came to this host, Link.NONE if it
    began here; final for the topmost row of a chain, from where they are handed down.
    """

    def __init__(self) -> None:
        self.live = 0
        self.size = 0
        self.next = 0
        self._arena: NDArray[np.uint8] = np.empty(_ARENA, np.uint8)
        self._text_used = 0
        self.spans = Spans.empty()
        for name, dtype in _OWN.items():
            setattr(self, name, np.empty(0, dtype))
        self._resize(np.zeros(0, np.intp), _CAPACITY)

    state: NDArray[np.uint8]
    due: NDArray[np.uint64]
    deadline: NDArray[np.uint64]
    up: Rows
    mate: Rows
    ordinal: NDArray[np.int32]
    count: NDArray[np.int32]
    thread: NDArray[np.uint64]
    waiter: NDArray[np.uint64]
    like: Rows
    asked: NDArray[np.uint8]
    above: NDArray[np.uint64]
    came_by: NDArray[np.uint8]
    came_with: NDArray[np.uint8]
    cover: NDArray[np.uint8]
    alias: NDArray[np.uint64]
    given: NDArray[np.uint64]

    def __len__(self) -> int:
        """How many rows wait."""
        return self.live

    def make_room(self, n: int) -> None:
        """Room for n more rows. Rows that wait where they shall go are moved behind them: renumbers rows."""
        needed = _CAPACITY
        while needed < self.live + n + n // 2:
            needed *= 2
        if needed > self.size or 4 * needed < self.size:
            self._move(self.state.nonzero()[0], needed)
            return
        if self.next + n > self.size:
            self.next = 0
        blocked = self.state[self.next : self.next + n].nonzero()[0] + self.next
        if len(blocked):
            self._move(self.state.nonzero()[0], needed)

    def append(self, batch: Spans) -> Rows:
        """The batch as rows that follow each other, ARRIVED and without any relation; texts are copied."""
        n = len(batch)
        if self.next + n > self.size or self.state[self.next : self.next + n].any():
            self._grow(n)
        first, last = self.next, self.next + n
        offset = self._keep_text(batch.text)
        for name in _COLUMNS:
            getattr(self.spans, name)[first:last] = getattr(batch, name)
        self.spans.slot_start[first:last] += offset
        rows = np.arange(first, last)
        self.state[first:last] = ARRIVED
        self.up[first:last] = rows
        self.mate[first:last] = NOWHERE
        self.count[first:last] = 1
        self.like[first:last] = NOWHERE
        for column in (
            *(self.ordinal, self.asked, self.above, self.came_by, self.came_with),
            *(self.cover, self.alias, self.given),
        ):
            column[first:last] = 0
        self.next = last
        self.live += n
        return rows

    def copy_of(self, rows: Rows) -> Spans:
        """The rows as a batch that shares the arena's text."""
        columns = {name: getattr(self.spans, name).take(rows, axis=0) for name in _COLUMNS}
        return Spans(text=self._arena[: self._text_used], **columns)

    def mates_among(self, rows: Rows) -> Rows:
        """(n,) index in `rows` of each one's mate; NOWHERE where it has none, or one that is not among them."""
        place = np.full(self.size + 1, NOWHERE, np.intp)  # the last entry: NOWHERE stays NOWHERE
        place[rows] = np.arange(len(rows))
        mates: Rows = place[self.mate[rows]]
        # Of a mate that went before, another row may have the number by now.
        strange = (mates != NOWHERE) & (mates[mates] != np.arange(len(rows)))
        mates[strange] = NOWHERE
        return mates

    def duplicate(self, rows: Rows) -> Rows:
        """New rows with all that is known of the given ones, relations and text included."""
        batch = self.copy_of(rows)
        batch.text = batch.text[:0]
        slots = batch.slot_start
        batch.slot_start = np.zeros((len(rows), SLOTS), np.int64)
        new = self.append(batch)
        self.spans.slot_start[new] = slots
        for name in _OWN:
            getattr(self, name)[new] = getattr(self, name)[rows]
        self.up[new] = np.where(self.up[rows] == rows, new, self.up[rows])
        return new

    def replace(self, rows: Rows, newer: Rows) -> None:
        """The waiting rows take what came with the newer ones, which are free then; relations and decisions stay.

        What the bytes said stays as well where the newer row brings none (Flag.HEAD, as amendments do).
        """
        spans = self.spans
        undecided = self.state[rows] != DECIDED
        bare = (spans.flags[newer] & HEAD) != 0
        spans.flags[newer[bare]] &= ~HEAD
        spans.flags[newer[bare]] |= spans.flags[rows[bare]] & HEAD
        for name in _COLUMNS:
            column = getattr(spans, name)
            if name in _DECISIONS:
                column[rows[undecided]] = column[newer[undecided]]
            elif name in TAKEN_OVER:
                column[rows[~bare]] = column[newer[~bare]]
            else:
                column[rows] = column[newer]
        for name in ("thread", "waiter", "due", "deadline"):
            column = getattr(self, name)
            column[rows] = column[newer]
        self.discard(newer)

    def leave(self, rows: Rows) -> None:
        """They wait no longer; their columns stay readable until they are discarded."""
        self.state[rows] = LEAVING
        self.live -= len(rows)

    def discard(self, rows: Rows) -> None:
        """Free the rows."""
        self.live -= int((self.state[rows] != LEAVING).sum())
        self.state[rows] = FREE

    def _move(self, rows: Rows, size: int) -> None:
        """These rows to the front of columns of the given size, the rest is free; relations to others are cut."""
        moved = np.full(self.size + 1, NOWHERE, np.intp)  # the last entry: NOWHERE stays NOWHERE
        moved[rows] = np.arange(len(rows))
        self._resize(rows, size)
        self.next = n = len(rows)
        self.up[:n], self.mate[:n], self.like[:n] = moved[self.up[:n]], moved[self.mate[:n]], moved[self.like[:n]]
        tops = (self.up[:n] == NOWHERE).nonzero()[0]
        self.up[tops] = tops

    def _grow(self, n: int) -> None:
        """Free rows at the end of longer columns; no row is renumbered."""
        old = self.size
        self._resize(np.arange(old), old + max(n, old // 4))
        self.next = old

    def _resize(self, rows: Rows, size: int) -> None:
        owners = [(self.spans, name) for name in _COLUMNS] + [(self, name) for name in _OWN]
        for owner, name in owners:
            old = getattr(owner, name)
            new = old if size == len(old) else np.empty((size, *old.shape[1:]), old.dtype)
            new[: len(rows)] = old.take(rows, axis=0)
            setattr(owner, name, new)
        self.state[len(rows) :] = FREE
        self.size = size

    def _keep_text(self, text: NDArray[np.uint8]) -> int:
        """Append to the arena; returns where it lies."""
        if self._text_used + len(text) > len(self._arena):
            self._renew_arena(len(text))
        begin = self._text_used
        self._text_used += len(text)
        self._arena[begin : self._text_used] = text
        return begin

    def _renew_arena(self, incoming: int) -> None:
        """A new arena with the waiting texts. Most of them lie at the end: that is copied as it is, gaps included."""
        rows = self.state.nonzero()[0]
        starts = self.spans.slot_start.take(rows, axis=0).ravel()
        lengths = self.spans.slot_length.take(rows, axis=0).ravel().astype(np.int64)
        present = lengths.nonzero()[0]
        cut = self._text_used
        if len(present):
            few = len(present) // 16
            cut = int(np.partition(starts[present], few)[few])
        if self._text_used - cut > 4 * int(lengths.sum()):
            cut = self._text_used
        early = ((lengths > 0) & (starts < cut)).nonzero()[0]
        ends = np.cumsum(lengths[early])
        begins = ends - lengths[early]
        moved = int(ends[-1]) if len(early) else 0
        used = moved + self._text_used - cut
        arena = np.empty(max(_ARENA, 4 * (used + incoming)), np.uint8)
        arena[:moved] = self._arena[np.arange(moved) + np.repeat(starts[early] - begins, lengths[early])]
        arena[moved:used] = self._arena[cut : self._text_used]
        starts += moved - cut
        starts[early] = begins
        self.spans.slot_start[rows] = np.where(lengths > 0, starts, 0).reshape(-1, SLOTS)
        self._arena, self._text_used = arena, used
