"""Rows of `Spans` to rows of protobuf: what spans and log records have in common.

Theory of operation: a row is a head of fixed width (ids, times; built as a structured array), then what only some rows
have, then constants. Constants come from a pool that is filled once per batch from `Templates`, one entry for each of
its `Combinations`; texts come from the batch's own text. `columns.write` moves all of it; no step's number of Python
operations depends on the number of rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.combinations import Combinations
from otel_ebpf.model import SLOTS, Endpoint, Intern, Kind, Resource, Spans
from otel_ebpf.otlp import wire
from otel_ebpf.otlp.columns import (
    SMALL4,
    Bytes,
    Index,
    Piece,
    padded4,
    padded8,
    rows_of,
    total_length,
    write,
)
from otel_ebpf.otlp.framing import Message, plan
from otel_ebpf.otlp.templates import (
    FIRST_BYTE,
    PEER_PORT,
    POOLED,
    Pool,
    SideTemplate,
    SlotTemplate,
    Templates,
)
from otel_ebpf.protocols.base import Fields, Side

MAX_BYTES = 2_000_000
"""Receivers take 4 MiB by default (OTLP/gRPC); half of it leaves room for what one span can add."""
MAX_ITEMS = 8192
_BATCH = 4096
"""Rows that are worked on together: their columns fit the cache."""
MAX_TEXT = 1 << 20
"""Bytes of one text that are sent; what is longer is cut between characters."""
_SCRATCH = 2 << 20
"""A buffer of up to this size is kept for the next batch: fresh pages cost more than the copy into them."""


Part: TypeAlias = "bytes | tuple[str, str] | tuple[str, str, int]"
"""A part of a `Layout`: constant bytes, or a column's name, dtype and number of items."""


class Layout:
    """A row of fixed width as a packed structured array: constant bytes and named columns, in order.

    >>> Layout(b"\x39", ("start", "<u8")).rows(2)["start"].shape
    (2,)
    """

    def __init__(self, *parts: Part) -> None:
        template = bytearray()
        columns: list[tuple[str, object]] = []
        for number, part in enumerate(parts):
            if isinstance(part, bytes):
                columns.append((f"constant_{number}", np.dtype((np.void, len(part)))))
                template += part
            else:
                kind = np.dtype(part[1]) if len(part) == 2 else np.dtype((part[1], part[2]))
                columns.append((part[0], kind))
                template += bytes(kind.itemsize)
        self.dtype = np.dtype(columns)
        self.width = self.dtype.itemsize
        self._template = np.frombuffer(bytes(template), self.dtype)

    def rows(self, n: int) -> NDArray[np.void]:
        """n rows, their named columns still zero."""
        return np.repeat(self._template, n)

    def matrix(self, rows: NDArray[np.void]) -> Bytes:
        """The rows as (n, width) uint8, without a copy."""
        return rows.view(np.uint8).reshape(len(rows), self.width)


@dataclass(slots=True)
class Batch:
    """Rows on their way. sides: the template of each combination. side: (n,) which one each row has."""

    spans: Spans
    sides: list[SideTemplate]
    side: Index
    pool: Pool
    long_texts: bool
    """Some text is longer than MAX_TEXT."""

    def slots(self, number: int) -> Slots:
        """The `number`-th variable text of each row; sides that have fewer have none."""
        slots = [s.slots[number] if number < len(s.slots) else _NO_SLOT for s in self.sides]
        start, length = self._texts([slot.index for slot in slots])
        prefix = self._by_side([len(slot.prefix) for slot in slots])
        key = self._by_side([len(slot.key) for slot in slots])
        return Slots(slots, length > 0, start, length, prefix, key)

    def _by_side(self, values: list[int]) -> Index | int:
        """(n,) the value of each row's side; one number if all sides have the same."""
        return values[0] if len(set(values)) == 1 else np.array(values, np.intp)[self.side]

    def _texts(self, which: list[int]) -> tuple[Index, Index]:
        """Start and length of one text of each row; which[s]: its index for rows of side s, -1 for none."""
        spans = self.spans
        if len(set(which)) == 1:
            index = which[0]
            start, length = spans.slot_start[:, index], spans.slot_length[:, index].astype(np.intp)
            if index < 0:
                length[:] = 0
        else:
            of_side = np.array(which, np.intp)
            flat = np.arange(0, SLOTS * len(spans), SLOTS) + (of_side % SLOTS)[self.side]
            start = spans.slot_start.reshape(-1)[flat]
            length = spans.slot_length.reshape(-1)[flat].astype(np.intp)
            if -1 in which:
                length *= (of_side >= 0)[self.side]
        if self.long_texts:
            _cut(spans.text, start, length)
        return start, length


@dataclass(frozen=True, slots=True)
class Slots:
    """One variable text of each row: its slot by side, where it lies, and the lengths of prefix and key around it."""

    by_side: list[SlotTemplate]
    present: NDArray[np.bool_]
    start: Index
    length: Index
    prefix: Index | int
    key: Index | int

    def keys(self) -> list[bytes]:
        """The encoded key of each side's attribute."""
        return [template.key for template in self.by_side]

    def fill(self, header: NDArray[np.void]) -> None:
        """The three lengths in front of the text: of the string, its `AnyValue`, its `KeyValue`."""
        text = self.length + self.prefix
        whole = text + self.key + 10
        small = int(np.maximum.reduce(whole)) < len(SMALL4)
        header["text"] = SMALL4[text] if small else padded4(text)
        header["any_value"] = SMALL4[text + 5] if small else padded4(text + 5)
        header["key_value"] = SMALL4[whole] if small else padded4(whole)


class RowEncoder(ABC):
    """Columnar encoder of one signal. Subclasses say what a row begins with and what is constant of a side."""

    attributes_field: int
    """Number of the repeated `KeyValue attributes` in the row's message."""
    head: ClassVar[tuple[Part, ...]]
    """The row's fixed part: tag 0x12 (field 2 of ScopeSpans and ScopeLogs), a column "length" of 4 bytes, and so on."""

    def __init__(
        self,
        shapes: Intern[Fields],
        endpoints: Intern[Endpoint],
        resources: Intern[Resource],
        *,
        max_bytes: int = MAX_BYTES,
        max_items: int = MAX_ITEMS,
    ) -> None:
        self.max_bytes, self.max_items = max_bytes, max_items
        self.unreadable = 0
        """Rows left out because their shape says nothing (-1, -2) or was forgotten while they were held."""
        self._templates = Templates(self.attributes_field, self._constant, shapes, endpoints, resources)
        tag = wire.tag(self.attributes_field, wire.BYTES)
        slot = (tag, ("key_value", "<u4"), b"\x12", ("any_value", "<u4"), wire.ANY_STRING, ("text", "<u4"))
        self._slot = Layout(*slot)
        port, first_byte = _integer(tag, PEER_PORT, ("port", "<u4")), _integer(tag, FIRST_BYTE, ("first_byte", "<u8"))
        self._row = Layout(*self.head, *port, *first_byte, *slot)
        end = self._row.width
        self._slot_at = (end - self._slot.width, end)
        self._first_byte_at = (self._slot_at[0] - Layout(*first_byte).width, self._slot_at[0])
        self._port_at = (self._first_byte_at[0] - Layout(*port).width, self._first_byte_at[0])
        self._scratch = np.empty(0, np.uint8)

    @abstractmethod
    def _constant(self, side: Side, kind: Kind) -> bytes:
        """What a side's rows have in common beside its attributes."""

    @abstractmethod
    def _fill(self, head: NDArray[np.void], batch: Batch, offset_ns: int) -> None:
        """Fill the columns of `head` but "length"."""

    def _end(self, batch: Batch) -> list[Piece]:
        """What comes after the attributes."""
        return []

    def encode(self, spans: Spans, offset_ns: int, found: Combinations | None = None) -> Iterator[Message]:
        """Export requests with all rows that can be read, grouped by resource.

        offset_ns: what turns CLOCK_MONOTONIC into Unix time. found: the rows' combinations, if they are known already.
        Each message has at most `max_items` rows and `max_bytes` bytes (more only where a single row is longer).
        """
        found = found or Combinations.among(spans)
        templates = [self._templates.side(side) for side in found.side]
        sides = [template for template in templates if template is not None]
        if len(sides) < len(templates):
            readable = np.array([template is not None for template in templates])[found.of]
            self.unreadable += len(spans) - int(np.count_nonzero(readable))
            yield from self.encode(spans.take(readable), offset_ns)
            return
        pool = Pool()
        for begin in range(0, len(spans), _BATCH):
            part = spans if len(spans) <= _BATCH else spans.part(begin, begin + _BATCH)
            long_texts = bool(np.maximum.reduce(part.slot_length, axis=None) > MAX_TEXT)
            of = found.of[begin : begin + _BATCH]
            yield from self._encode(Batch(part, sides, of, pool, long_texts), found, offset_ns)

    def _encode(self, batch: Batch, found: Combinations, offset_ns: int) -> list[Message]:
        spans, n = batch.spans, len(batch.spans)
        head = self._row.rows(n)
        self._fill(head, batch, offset_ns)
        head["port"] = padded4(spans.peer_port)
        head["first_byte"] = padded8(np.maximum(spans.first_byte, spans.start) - spans.start)
        slot = batch.slots(0)
        slot.fill(head)
        may_lack = (
            (*self._port_at, spans.peer_port != 0),
            (*self._first_byte_at, spans.first_byte != 0),
            (*self._slot_at, slot.present),
        )
        optional = [(low, high, present) for low, high, present in may_lack if not present.all()]
        pieces = [*self._around(slot, batch, found), *self._more_slots(batch), *self._end(batch)]
        pool = batch.pool.array()
        pieces = [Piece(pool, p.start, p.length) if p.source is POOLED else p for p in pieces]
        total = total_length(pieces, n) + self._row.width
        for low, high, present in optional:
            total -= (high - low) * ~present
        head["length"] = padded4(total - 5)
        pieces.insert(0, rows_of(self._row.matrix(head), optional))

        numbers = {number: i for i, number in enumerate(dict.fromkeys(found.resource))}
        resources = [self._templates.resource(number) for number in numbers]
        group = np.array([numbers[number] for number in found.resource], np.intp)
        layout = plan(total, group[batch.side], resources, self.max_bytes, self.max_items)
        out = self._buffer(layout.size)
        write(out, layout.at, pieces)
        for at, header in layout.headers:
            out.data[at : at + len(header)] = header
        return [Message(out[first:last].tobytes(), items) for first, last, items in layout.messages]

    def _around(self, slot: Slots, batch: Batch, found: Combinations) -> list[Piece]:
        """The first text, and behind it all that is constant; its key only where the text is."""

        def behind() -> list[bytes]:
            ends = zip(slot.by_side, batch.sides, found.endpoint, found.link, strict=True)
            return [
                template.key + side.constant + self._templates.endpoint(endpoint, side.addressed, link)
                for template, side, endpoint, link in ends
            ]

        start, length = (column[batch.side] for column in batch.pool.add("behind", behind))
        if slot.present.all():
            return [*self._text(slot, batch, 0), Piece(POOLED, start, length)]
        absent = slot.key * ~slot.present
        return [*self._text(slot, batch, 0), Piece(POOLED, start + absent, length - absent)]

    def _more_slots(self, batch: Batch) -> Iterator[Piece]:
        """The other texts, each a `KeyValue` of its own."""
        for number in range(1, max(len(s.slots) for s in batch.sides)):
            slot = batch.slots(number)
            if not slot.present.any():
                continue
            header = self._slot.rows(len(batch.spans))
            slot.fill(header)
            width = self._slot.width
            begins = np.arange(0, header.size * width, width)
            yield Piece(self._slot.matrix(header).reshape(-1), begins, slot.present * width)
            yield from self._text(slot, batch, number)
            start, _ = batch.pool.add(f"key {number}", slot.keys)
            yield Piece(POOLED, start[batch.side], slot.key * slot.present)

    def _text(self, slot: Slots, batch: Batch, number: int) -> Iterator[Piece]:
        prefixes = [template.prefix for template in slot.by_side]
        if any(prefixes):
            start, _ = batch.pool.add(f"prefix {number}", lambda: prefixes)
            yield Piece(POOLED, start[batch.side], slot.prefix * slot.present)
        yield Piece(batch.spans.text, slot.start, slot.length)

    def _buffer(self, size: int) -> Bytes:
        if size > _SCRATCH:
            return np.empty(size, np.uint8)
        if size > len(self._scratch):
            self._scratch = np.empty(_SCRATCH, np.uint8)
        return self._scratch[:size]


_NO_SLOT = SlotTemplate(-1, b"", b"")


def _integer(tag: bytes, name: str, column: tuple[str, str]) -> tuple[Part, ...]:
    """An integer attribute; its value is a padded varint as wide as the column."""
    key = wire.key(name)
    width = np.dtype(column[1]).itemsize
    length = wire.varint(len(key) + 3 + width)
    return tag + length + key + b"\x12" + wire.varint(1 + width) + wire.ANY_INT, column


def _cut(text: Bytes, start: Index, length: Index) -> None:
    """Shorten what is longer than MAX_TEXT, in place, without cutting a character in two."""
    for row in np.flatnonzero(length > MAX_TEXT).tolist():
        end = int(start[row]) + MAX_TEXT
        while text[end] & 0xC0 == 0x80 and end > start[row]:
            end -= 1
        length[row] = end - start[row]
