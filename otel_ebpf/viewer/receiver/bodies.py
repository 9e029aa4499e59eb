"""Request bodies: decompressed piece by piece, so that no more than the limit is ever made of them."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping

from otel_ebpf.viewer.contract import Malformed
from otel_ebpf.viewer.receiver.asgi import Receive
from otel_ebpf.viewer.receiver.reception import Incomplete, Stay, TooLarge, TooSlow

BODY_S = 30.0
"""Longest time for a whole body."""
PAUSE_S = 5.0
"""Longest time without a byte of it."""
MEMBERS = 16
"""A gzip stream may be several, one after the other (RFC 1952 §2.2); each costs time whatever its size."""

_GZIP = zlib.MAX_WBITS | 16
_ZLIB = zlib.MAX_WBITS
WINDOW_BITS: Mapping[str, int] = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
"""Content codings that are understood, besides identity (RFC 9110 §8.4.1: deflate is the zlib format)."""
GZIP_MAGIC = b"\x1f\x8b"


class Inflater:
    """Decompresses a stream up to a limit of bytes.

    >>> Inflater("gzip", limit=100).feed(gzip.compress(b"abc"))
    b'abc'
    """

    def __init__(self, coding: str, limit: int) -> None:
        self._bits = WINDOW_BITS[coding]
        self._limit = self._left = limit
        self._members = 1
        self._stream = zlib.decompressobj(self._bits)

    def feed(self, piece: bytes) -> bytes:
        """What the next piece holds. Malformed: it is not of this coding. TooLarge: more than the limit in all."""
        made = []
        while piece:
            if self._stream.eof:
                piece = self._next_member(piece)
                if not piece:
                    break
            try:
                data = self._stream.decompress(piece, self._left + 1)
            except zlib.error as error:
                raise Malformed(f"cannot be decompressed: {error}") from None
            self._left -= len(data)
            if self._left < 0:
                raise TooLarge(f"more than {self._limit} bytes when decompressed")
            made.append(data)
            piece = self._stream.unused_data
        return b"".join(made)

    def end(self) -> None:
        """Malformed if the stream is not whole."""
        if not self._stream.eof:
            raise Malformed("cannot be decompressed: the stream ends early")

    def _next_member(self, piece: bytes) -> bytes:
        self._members += 1
        if self._bits != _GZIP or self._members > MEMBERS:
            raise Malformed("cannot be decompressed: bytes after the end of the stream")
        # gzip(1) pads with zeros
        piece = piece.lstrip(b"\0")
        if piece:
            self._stream = zlib.decompressobj(self._bits)
        return piece


def inflate(coding: str, data: bytes, limit: int) -> bytes:
    """The whole of a compressed message; Malformed or TooLarge if it cannot be had."""
    inflater = Inflater(coding, limit)
    inflated = inflater.feed(data)
    inflater.end()
    return inflated


async def read_body(receive: Receive, coding: str, limit: int, stay: Stay) -> bytes:
    """The decompressed body of an HTTP request; what is kept of it is taken from the room.

    coding: "" or a key of WINDOW_BITS. TooLarge, TooSlow, Malformed, Refused, Incomplete.
    """
    inflater = Inflater(coding, limit) if coding else None
    until = time.monotonic() + BODY_S
    pieces: list[bytes] = []
    wire = 0
    more = True
    while more:
        try:
            event = await asyncio.wait_for(receive(), min(PAUSE_S, until - time.monotonic()))
        except asyncio.TimeoutError:
            raise TooSlow("the body did not come in time") from None
        if event["type"] != "http.request":
            raise Incomplete("the client went before its request was whole")
        piece: bytes = event.get("body", b"")
        more = event.get("more_body", False)
        wire += len(piece)
        if wire > limit:
            raise TooLarge(f"more than {limit} bytes")
        if inflater is not None:
            piece = inflater.feed(piece)
        stay.take(len(piece))
        pieces.append(piece)
    if inflater is not None and wire:
        inflater.end()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
