"""From what was read to columns: each exchange becomes the spans of its readings, consecutive rows, without a Python
step per row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import SLOTS, Exchanges, Kind, Link, Spans
from otel_ebpf.protocols.extras import Columns
from otel_ebpf.tracing.context import Remote
from otel_ebpf.tracing.ids import derive

CERTAIN = 100
"""Percent."""
NOT_KNOWN, NOT_RECOGNISED = -1, -2
"""Shapes: the payload is not here; it is no protocol of ours, or none of its requests."""
_KINDS = np.array([Kind.CLIENT, Kind.SERVER], np.uint8)
"""By Flag.SERVER, which is bit 0."""
_AS_RECORDED = (
    *((name, name) for name in ("span_id", "conn", "flags", "tgid", "cause", "after")),
    *((name, name) for name in ("tid_req", "tid_rsp", "unit_req", "unit_rsp")),
    *((name, name) for name in ("req_bytes", "rsp_bytes")),
    *(("seq", "seq_req"), ("start", "t_req"), ("wanted", "t_req"), ("end", "t_rsp_end"), ("first_byte", "t_rsp")),
)
"""Columns of the spans, and where a record has them."""


class Pieces:
    """Collects, for the n exchanges of one batch, which readings each has; then makes the Spans.

    A piece is one reading: shape and texts. Exchanges that say the same share their pieces.
    """

    def __init__(self, n: int) -> None:
        self.first = np.full(n, 1, np.intp)  # piece 1: not recognised
        self.count = np.ones(n, np.intp)
        self._shape = [NOT_KNOWN, NOT_RECOGNISED]
        self._length: list[int] = [0] * (2 * SLOTS)
        self._texts: list[bytes] = []
        self._columns: list[Columns] = []
        self._columns_rows: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        self._starts: list[tuple[int, int, int]] = []
        self._flags: list[tuple[int, int, int]] = []
        self._requests: list[tuple[int, int, bytes]] = []
        self._remotes: list[tuple[NDArray[np.intp], Remote]] = []

    def add_all(self, shapes: Sequence[int], texts: Sequence[Sequence[bytes]]) -> tuple[int, int]:
        """The pieces of an exchange, and their texts; number of the first, and how many. None: not recognised."""
        if not shapes:
            return 1, 1
        first = len(self._shape)
        self._shape.extend(shapes)
        for of_one in texts:
            self._texts.extend(of_one)
            self._length.extend(map(len, of_one))
            self._length.extend([0] * (SLOTS - len(of_one)))
        return first, len(shapes)

    def shapes(self) -> set[int]:
        """Shapes of the pieces that were added one by one."""
        return set(self._shape)

    @property
    def size(self) -> int:
        """How many pieces there are; the number of the next."""
        return len(self._shape)

    def columns(self, rows: NDArray[np.intp], which: NDArray[np.intp], columns: Columns) -> None:
        """Exchanges that were read by columns. which: the row of `columns` that says what each of them says."""
        self._columns_rows.append((rows, which))
        self._columns.append(columns)

    def starts(self, row: int, k: int, start: int) -> None:
        """The k-th span of this exchange began earlier than its record."""
        self._starts.append((row, k, start))

    def flags(self, row: int, k: int, flags: int) -> None:
        """The k-th span of this exchange has these flags instead of its record's."""
        self._flags.append((row, k, flags))

    def carries(self, row: int, k: int, request: bytes) -> None:
        """The k-th span's request is to be searched for a trace context."""
        self._requests.append((row, k, request))

    def remote(self, rows: NDArray[np.intp], remote: Remote) -> None:
        """The contexts of the first spans of these exchanges."""
        self._remotes.append((rows, remote))

    def requests(self) -> list[tuple[int, int, bytes]]:
        """All that `carries` was told."""
        return self._requests

    @property
    def total(self) -> int:
        """How many spans there are."""
        return int(self.count.sum())

    def exchanges(self) -> NDArray[np.intp] | slice:
        """(total,) the exchange of each span; all of them, if each has one."""
        return slice(None) if (self.count == 1).all() else np.repeat(np.arange(len(self.count)), self.count)

    def write(self, out: Spans, exchanges: Exchanges, late: Remote) -> NDArray[np.uint8]:
        """The spans of all exchanges, in order, to `out`, which has `total` rows; all but pair and key. Returns the
        text.

        late: contexts of `requests()`.
        """
        n, total = len(self.first), len(out)
        head = exchanges.head
        shape, start, length, text = self._assemble()
        row = self.exchanges()
        single = isinstance(row, slice)
        piece: NDArray[np.intp] = self.first
        k = begin = np.zeros(0, np.intp)
        if not single:
            begin = np.cumsum(self.count) - self.count
            k = np.arange(total) - begin[row]
            piece = self.first[row] + k
        for column, name in _AS_RECORDED:
            getattr(out, column)[:] = head[name][row]
        if not single:
            out.span_id[:] = derive(out.span_id, k)
            out.seq += k.astype(np.uint32)
        unanswered = (out.end == 0).nonzero()[0]
        if len(unanswered):
            silent = head[row][unanswered]
            out.end[unanswered] = np.maximum(silent["t_req_end"], silent["t_req"])
        out.kind[:] = _KINDS[out.flags & 1]
        # Not "raise": that would copy once more.
        shape.take(piece, out=out.shape, mode="clip")
        if text.size:
            start.take(piece, 0, out.slot_start, "clip")
            length.take(piece, 0, out.slot_length, "clip")
        else:
            out.slot_start[:] = out.slot_length[:] = 0
        out.resource[:] = out.endpoint[:] = -1
        for constant in (out.peer_port, out.remote_link, out.remote_trace, out.remote_parent, out.remote_flags):
            constant[:] = 0
        out.request_id[:] = 0
        out.trace[:] = 0
        out.parent[:] = 0
        out.link[:] = Link.PENDING
        out.confidence[:], out.candidates[:] = CERTAIN, 1
        out.like_trace[:] = 0
        out.like_span[:] = 0
        where = np.arange(n) if single else begin
        for rows, remote in self._remotes:
            _put(out, where[rows], remote)
        if self._requests:
            at = np.array([where[r] + i for r, i, _ in self._requests], np.intp)
            _put(out, at, late)
        for r, i, began in self._starts:
            out.start[where[r] + i] = began
        for r, i, told in self._flags:
            out.flags[where[r] + i] = told
            out.first_byte[where[r] + i] = 0
        return text

    def _assemble(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]:
        """All pieces as columns: shape, slot_start, slot_length, text."""
        lengths = np.array(self._length, np.int32)
        ends = np.cumsum(lengths, dtype=np.int64)
        shapes = [np.array(self._shape, np.int32)]
        starts, sizes = [(ends - lengths).reshape(-1, SLOTS)], [lengths.reshape(-1, SLOTS)]
        texts = [np.frombuffer(b"".join(self._texts), np.uint8)]
        at, offset = len(self._shape), len(texts[0])
        for (rows, which), columns in zip(self._columns_rows, self._columns, strict=True):
            self.first[rows] = at + which
            shapes.append(columns.shape)
            starts.append(columns.slot_start + offset)
            sizes.append(columns.slot_length)
            texts.append(columns.text)
            at, offset = at + len(columns.shape), offset + len(columns.text)
        if len(shapes) == 1:
            return shapes[0], starts[0], sizes[0], texts[0]
        return np.concatenate(shapes), np.concatenate(starts), np.concatenate(sizes), np.concatenate(texts)


def written(
    jobs: Sequence[tuple[Pieces, Exchanges, NDArray[np.int32], Remote]],
    pair: NDArray[np.uint64],
    key: NDArray[np.uint64],
) -> tuple[Spans, NDArray[np.int32]]:
    """The spans of several batches, one behind the other, and (n,) the row of each one's connection.

    jobs: as for `Pieces.write`, and (m,) the row of each exchange. pair, key: by row.
    """
    spans = Spans.room(sum(pieces.total for pieces, *_ in jobs))
    rows = np.empty(len(spans), np.int32)
    texts: list[NDArray[np.uint8]] = []
    begin = offset = 0
    for pieces, exchanges, row, late in jobs:
        part = spans.part(begin, begin + pieces.total)
        texts.append(pieces.write(part, exchanges, late))
        rows[begin : begin + len(part)] = row[pieces.exchanges()]
        if offset:
            part.slot_start += offset
        begin, offset = begin + len(part), offset + len(texts[-1])
    if texts:
        spans.text = texts[0] if len(texts) == 1 else np.concatenate(texts)
    pair.take(rows, out=spans.pair, mode="clip")
    key.take(rows, out=spans.key, mode="clip")
    return spans, rows


def _put(spans: Spans, at: NDArray[np.intp], remote: Remote) -> None:
    spans.remote_link[at] = remote.link
    spans.remote_trace[at] = remote.trace
    spans.remote_parent[at] = remote.parent
    spans.remote_flags[at] = remote.flags
    spans.request_id[at] = remote.request_id
