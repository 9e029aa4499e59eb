"""Header blocks of HTTP/2 (RFC 7541), for an onlooker who may have come late.

Theory of operation. A block says fields by their literal text, or by the index of one that was said before: the newest
has index 62. So what was inserted since we look is known by its index, whatever was in the table before, and evictions
change no index: a table of which only the newest entries are known is as good, as far as it goes. An index beyond them
is a field that is not known. In a table that is known from its beginning there are no such: there it is an error. How
large a table may be that is not known from its beginning is not known, either: INITIAL is what nearly all have.

After an error, or behind a part of a block that was lost, nothing is known of what was inserted: the table begins anew
with nothing known. Nothing raises; every table is bounded by LARGEST, whatever its peers agree upon.
"""

from __future__ import annotations

from itertools import count
from typing import TypeAlias

from otel_ebpf.protocols.http2.huffman import Huffman
from otel_ebpf.protocols.memory import Recent

Field: TypeAlias = "tuple[bytes | None, bytes | None]"
"""Name and value; None: not known."""

INITIAL = 4096
"""SETTINGS_HEADER_TABLE_SIZE, unless agreed otherwise (RFC 9113 §6.5.2)."""
LARGEST = 1 << 16
"""A larger table is followed only so far."""
OVERHEAD = 32
"""Of an entry, beside its octets (RFC 7541 §4.1)."""
UNKNOWN: Field = (None, None)
_MOST_BYTES = 4
"""Of an integer, behind its first: no number of ours needs more than 28 bits."""
_REMEMBERED, _LONGEST = 4096, 128
"""Texts in Huffman code that are decoded once, and their length."""

# RFC 7541, Appendix A, by name: the values that it has one behind the other
_TABLE = (
    (":authority", ""), (":method", "GET", "POST"), (":path", "/", "/index.html"), (":scheme", "http", "https"),
    (":status", "200", "204", "206", "304", "400", "404", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
)  # fmt: skip
STATIC: tuple[Field, ...] = tuple((name.encode(), value.encode()) for name, *values in _TABLE for value in values)
"""Index 1 is the first."""

_versions = count(1)
_huffman = Huffman()
_texts: Recent[bytes, bytes] = Recent(_REMEMBERED)


class Malformed(Exception):
    """What cannot be a header block; never leaves this module."""


class Table:
    """The dynamic table of one direction of a connection.

    version: of what it holds; equal versions decode equal blocks alike. 0: it is new. size: octets that it holds, as
    RFC 7541 §4.1 counts. errors: blocks that were none.

    >>> table = Table()
    >>> table.decode(bytes.fromhex("828684 410f7777772e6578616d706c652e636f6d".replace(" ", "")))[-1]
    (b':authority', b'www.example.com')
    """

    __slots__ = ("_complete", "_entries", "_limit", "errors", "size", "version")

    def __init__(self, fresh: bool = True) -> None:
        """fresh: nothing has been said before."""
        self._entries: list[Field] = []
        self._limit = INITIAL
        self._complete = fresh
        self.size = 0
        self.version = 0 if fresh else next(_versions)
        self.errors = 0

    def __len__(self) -> int:
        return len(self._entries)

    def forget(self) -> None:
        """Something was said that is not known."""
        self._entries.clear()
        self._limit = INITIAL
        self._complete = False
        self.size = 0
        self.version = next(_versions)

    def decode(self, block: bytes, cut: bool = False) -> tuple[Field, ...]:
        """The fields of a whole block. cut: what follows behind it is missing; the table is unknown from there on."""
        fields: list[Field] = []
        try:
            self._decode(block, fields)
        except Malformed:
            self.errors += not cut
            self.forget()
        if cut:
            self.forget()
        return tuple(fields)

    def _decode(self, block: bytes, fields: list[Field]) -> None:
        at, end, static = 0, len(block), len(STATIC)
        while at < end:
            first = block[at]
            if first & 0x80:  # §6.1: indexed
                index = first & 0x7F
                at += 1
                if index == 0x7F:
                    index, at = _integer(block, at, index)
                fields.append(STATIC[index - 1] if 0 < index <= static else self._at(index))
                continue
            if first & 0xE0 == 0x20:  # §6.3, §4.2: the table's size changes, before the first field
                if fields:
                    raise Malformed
                limit, at = _integer(block, at + 1, 0x1F) if first & 0x1F == 0x1F else (first & 0x1F, at + 1)
                self._resize(limit)
                continue
            inserted = bool(first & 0x40)  # §6.2.1; else §6.2.2, §6.2.3
            prefix = 0x3F if inserted else 0x0F
            index = first & prefix
            at += 1
            if index == prefix:
                index, at = _integer(block, at, index)
            name: bytes | None
            if index:
                name = (STATIC[index - 1] if index <= static else self._at(index))[0]
            else:
                name, at = _text(block, at)
            value, at = _text(block, at)
            field = (name, value)
            fields.append(field)
            if inserted:
                self._insert(field)

    def _at(self, index: int) -> Field:
        """An entry of the dynamic table."""
        place = index - len(STATIC)
        if 0 < place <= len(self._entries):
            return self._entries[-place]
        if self._complete or not index:
            raise Malformed
        return UNKNOWN

    def _insert(self, field: Field) -> None:
        self._entries.append(field)
        self.size += OVERHEAD + len(field[0] or b"") + len(field[1] or b"")
        self.version = next(_versions)
        if self.size > self._limit:
            self._evict()

    def _resize(self, limit: int) -> None:
        # The larger one was in force until now, so an index beyond what is kept may be right, and is not known.
        self._complete &= limit <= LARGEST
        limit = min(limit, LARGEST)
        if limit != self._limit:
            self._limit = limit
            self.version = next(_versions)
        if self.size > limit:
            self._evict()

    def _evict(self) -> None:
        """The oldest go, until what is left fits; an entry that is larger than the table leaves nothing (§4.4)."""
        entries, gone = self._entries, 0
        while self.size > self._limit:
            self.size -= _size(entries[gone])
            gone += 1
        del entries[:gone]


def _size(field: Field) -> int:
    """Of an entry; the least that it can be, where the name is not known."""
    return OVERHEAD + len(field[0] or b"") + len(field[1] or b"")


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """§5.1: a number that its prefix had no room for, and where it ends."""
    shift = 0
    for byte in block[at : at + _MOST_BYTES]:
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """§5.2: a string, and where it ends."""
    if at >= len(block):
        raise Malformed
    first = block[at]
    length = first & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _integer(block, at, length)
    end = at + length
    if end > len(block):
        raise Malformed
    raw = block[at:end]
    return (_plain(raw) if first & 0x80 else raw), end


def _plain(raw: bytes) -> bytes:
    """The text of this Huffman code; the same object for what comes again."""
    if len(raw) > _LONGEST:
        text = _huffman.decode(raw)
    else:
        text = _texts.get(raw)
        if text is None and (text := _huffman.decode(raw)) is not None:
            _texts[raw] = text
    if text is None:
        raise Malformed
    return text
