"""Which exchanges of a batch are equal in all that a columnar reader looks at, so that it reads each of them once.

Theory of operation. Rows are grouped by a hash of what is looked at; one row of each kind is read, and what it said is
kept, so that a kind that comes again with the next batch is not read at all. Grouping costs a tenth of reading, and is
in vain where every request bears an id of its own: after a batch in which it did not pay it is not tried for a while.
What is kept is bounded, and thrown away as a whole: when it is full or old, when a shape is no more, or when the reader
has learned something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct
from otel_ebpf.model import SLOTS, STREAM, Flag
from otel_ebpf.protocols.extras import Alike, Batch, Columns, Interning
from otel_ebpf.protocols.headers import Lines
from otel_ebpf.protocols.memo import Memo, hash_rows, mix
from otel_ebpf.tracing.context import Remote, remote
from otel_ebpf.tracing.keys import groups

FEWEST = 256
"""A batch of fewer rows is read faster than it is grouped."""
PAUSE = 31
"""So many batches are not looked at after one in which grouping did not pay."""
KINDS, TEXT = 1024, 1 << 16
"""What is kept: kinds, and bytes of their texts."""
KEPT_NS = 60 * 10**9
_SERVER = int(Flag.SERVER)
_TELLING = int(Flag.SERVER | Flag.TLS | Flag.UNANSWERED | Flag.RESET)
_STREAM = np.uint32(STREAM)
_NO_LINES = Lines.of(np.zeros((0, 8), np.uint8))


@dataclass(frozen=True, slots=True)
class Share:
    """Rows of a batch and what they say: row `rows[i]` says what `columns` and `context` have at `which[i]`."""

    rows: NDArray[np.intp]
    which: NDArray[np.intp]
    columns: Columns
    context: Remote

    @classmethod
    def whole(cls, columns: Columns) -> Share:
        """A batch that was read row by row."""
        rows = np.arange(len(columns.shape))
        return cls(rows, rows, columns, remote(columns.lines))


class Repeats:
    """Reads batches by a reader, equal rows once."""

    def __init__(self, reader: Alike, intern: Interning) -> None:
        self._reader = reader
        self._intern = intern
        self._pause = 0
        self._since = 0
        self._changed = 0
        self.forget()

    def forget(self, _shape: int = 0) -> None:
        """Nothing of what was said before holds."""
        self._memo = Memo(2 * KINDS)
        self._kept = Columns(
            np.zeros(0, np.int32),
            np.zeros((0, SLOTS), np.int64),
            np.zeros((0, SLOTS), np.int32),
            np.zeros(0, np.uint8),
            _NO_LINES,
        )

    def read(self, batch: Batch) -> list[Share]:
        """What the rows of a batch say, each row in one of the shares."""
        n = len(batch.row)
        if n < FEWEST or self._pause:
            self._pause -= n >= FEWEST
            return [Share.whole(self._reader.read(batch))]
        kinds, which = groups(_keys(batch, self._reader.compared))
        if 2 * len(kinds) > n:
            self._pause = PAUSE
            return [Share.whole(self._reader.read(batch))]
        self._outdate(int(batch.head["t_req"][0]))
        known = self._memo.find(kinds)
        new = (known < 0).nonzero()[0]
        shares = []
        if len(new) < len(kinds):
            self._intern.touch(distinct(self._kept.shape[known[known >= 0]]).tolist())
            shares.append(_share(known, which, self._kept, Remote.none(0)))
        if len(new):
            first = np.empty(len(kinds), np.intp)
            first[which] = np.arange(n)
            at = first[new]
            one = Batch(batch.head[at], batch.request[at], batch.response[at], batch.row[at], batch.table)
            columns = self._reader.read(one)
            context = remote(columns.lines)
            numbers = np.full(len(kinds), -1, np.intp)
            numbers[new] = np.arange(len(new))
            shares.append(_share(numbers, which, columns, context))
            self._keep(kinds[new], columns, (columns.shape >= 0) & ~context.tells)
        return shares

    def _outdate(self, now: int) -> None:
        if self._changed != self._reader.changed or abs(now - self._since) > KEPT_NS:
            self.forget()
            self._since, self._changed = now, self._reader.changed

    def _keep(self, keys: NDArray[np.uint64], columns: Columns, good: NDArray[np.bool_]) -> None:
        kept = self._kept
        rows = good.nonzero()[0]
        if len(kept.shape) + len(rows) > KINDS or len(kept.text) + len(columns.text) > TEXT:
            self.forget()
            kept = self._kept
            if len(rows) > KINDS or len(columns.text) > TEXT:
                return
        self._memo.add(keys[rows], np.arange(len(kept.shape), len(kept.shape) + len(rows)))
        self._kept = Columns(
            np.append(kept.shape, columns.shape[rows]),
            np.concatenate([kept.slot_start, columns.slot_start[rows] + len(kept.text)]),
            np.concatenate([kept.slot_length, columns.slot_length[rows]]),
            np.append(kept.text, columns.text),
            _NO_LINES,
        )


def _share(numbers: NDArray[np.intp], which: NDArray[np.intp], columns: Columns, context: Remote) -> Share:
    """The rows whose kinds have a number."""
    said = numbers[which]
    rows = (said >= 0).nonzero()[0]
    return Share(rows, said[rows], columns, context)


def _keys(batch: Batch, compared: int) -> NDArray[np.uint64]:
    """(n,) hashes of the request, of what is compared of the response, and of the record and the service."""
    head = batch.head
    size, flags = head["req_cap"].astype(np.uint64), head["flags"]
    asked = batch.request.view("<u8")[:, : (int(size.max()) + 7) // 8]
    answered = batch.response[:, :compared].view("<u8")
    service = batch.table["netns"][batch.row].astype(np.uint64) << np.uint64(16)
    service |= batch.table["local_port"][batch.row]
    service *= (flags & _SERVER) > 0  # a client's own port says nothing
    small = size | (flags & _TELLING).astype(np.uint64) << np.uint64(16)
    ended = np.where(flags & _STREAM, head["seq_rsp"], 0).astype(np.uint64)
    return mix(hash_rows(asked), hash_rows(answered), small, head["req_bytes"], service, ended)
