"""Chunks of what processes write to receivers of telemetry → the OTLP trace requests in them. Sans-I/O, bounded.

Theory of operation. The chunks of a connection are put together by their sequence numbers. What follows is HTTP/1.1
(RFC 9112: a head, and a body by Content-Length or in chunks) or HTTP/2 (RFC 9113: frames, of which DATA is kept by
stream until its end; gRPC messages are in that, each behind five bytes). Where bytes are missing, a connection begins
anew with the next message that is recognised; what was lost is counted. Nothing here raises on any bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CONNECTIONS = 256
"""What was used longest ago is forgotten."""
MOST = 4 << 20
"""Bytes of one request, as it is on the wire."""
HEAD = 16 << 10
TRIAL = 64 << 10
"""Bytes of whole messages on a connection, of which some are an export if it carries any."""
CHUNKS = 1024
"""At once: 4 MiB, of which some thousands of spans can be read in the time between two drains."""
STREAMS = 32
"""Unfinished streams of one HTTP/2 connection."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW, _CONTINUATION = 0, 1, 4, 6, 8, 9
_END_STREAM, _PADDED = 0x1, 0x8
_KNOWN_FRAMES = 10
_FRAME = 1 << 14
"""Longest frame that receivers take unless they say otherwise (RFC 9113 §4.2)."""
_PATH = b"/v1/traces"


@dataclass(frozen=True, slots=True)
class Export:
    """One request to a trace receiver. tgid: of the sender. t: when it was written, CLOCK_MONOTONIC ns.

    coding: content coding ("" or gzip …). json: else protobuf. conn: the sender's end, 0: it came by another way.
    """

    tgid: int
    t: int
    body: bytes
    coding: str = ""
    json: bool = False
    conn: int = 0


@dataclass(slots=True)
class _Connection:
    conn: int
    tgid: int
    t: int = 0
    other: int = 0
    """bytes of messages of which none was seen to be an export"""
    next: int = -1
    """sequence number that is to follow; -1: any"""
    data: bytearray = field(default_factory=bytearray)
    frames: bool | None = None
    """HTTP/2; None: not known yet"""
    bodies: dict[int, bytearray] = field(default_factory=dict)
    """by stream"""


class Streams:
    """Puts requests together. lost: times that bytes of a connection were missing. refused: requests that were too long
    or could not be understood."""

    def __init__(self) -> None:
        self.lost = 0
        self.refused = 0
        self._connections: OrderedDict[int, _Connection] = OrderedDict()

    def take(self, chunks: NDArray[np.void]) -> list[Export]:
        """(n,) `struct export_chunk` in, what became whole by them out."""
        found: list[Export] = []
        if len(chunks) > CHUNKS:  # what is left out is missed by the numbers of what follows
            self.refused += 1
            chunks = chunks[:CHUNKS]
        for chunk in chunks:
            number = int(chunk["conn"])
            connection = self._connections.get(number)
            if connection is None:
                connection = self._connections[number] = _Connection(number, int(chunk["tgid"]))
                if len(self._connections) > CONNECTIONS:
                    self._connections.popitem(last=False)
            else:
                self._connections.move_to_end(number)
            length = min(int(chunk["len"]), chunk["data"].shape[0])
            self._append(connection, int(chunk["seq"]), chunk["data"][:length].tobytes())
            connection.t = int(chunk["t"])
            self._read(connection, found)
        return found

    def prove(self, conns: Iterable[int]) -> None:
        """What came on these was an export."""
        for number in conns:
            if number in self._connections:
                self._connections[number].other = 0

    def others(self) -> list[int]:
        """Connections that carried TRIAL bytes of something else since their last export; they are forgotten."""
        found = [number for number, one in self._connections.items() if one.other > TRIAL]
        for number in found:
            del self._connections[number]
        return found

    def _append(self, connection: _Connection, seq: int, data: bytes) -> None:
        if connection.next not in (-1, seq):
            self.lost += 1
            connection.data.clear()
            connection.bodies.clear()
        connection.next = (seq + len(data)) & 0xFFFFFFFF
        connection.data += data

    def _read(self, connection: _Connection, found: list[Export]) -> None:
        """All that is whole; what is no beginning of anything is dropped."""
        if connection.frames is None or not connection.data:
            connection.frames = _frames(connection.data, connection.frames)
        reader = self._frame if connection.frames else self._request
        while connection.data:
            used = reader(connection, found)
            if used == 0:
                if len(connection.data) > MOST + HEAD:
                    self._drop(connection)
                return
            if used < 0:
                self._drop(connection)
                connection.frames = None
                return
            del connection.data[:used]

    def _drop(self, connection: _Connection) -> None:
        self.refused += 1
        connection.other += len(connection.data)
        connection.data.clear()
        connection.bodies.clear()

    # ---- HTTP/1.1: how many bytes were used, 0: more are needed, -1: it is none ----

    def _request(self, connection: _Connection, found: list[Export]) -> int:
        data = connection.data
        end = data.find(b"\r\n\r\n", 0, HEAD)
        if end < 0:
            return -1 if len(data) > HEAD or not data[:1].isalpha() else 0
        first, *lines = bytes(data[:end]).split(b"\r\n")
        words = first.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return -1
        headers = {n.strip().lower(): v.strip().lower() for n, _, v in (line.partition(b":") for line in lines)}
        begin = end + 4
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            body, used = _chunked(data, begin)
        else:
            length = headers.get(b"content-length", b"0")
            if not length.isdigit() or len(length) > 9 or int(length) > MOST:
                return -1
            used = begin + int(length)
            body = bytes(data[begin:used]) if len(data) >= used else None
        if body is None:
            return min(used, 0)
        if words[0] == b"POST" and words[1].partition(b"?")[0].endswith(_PATH):
            coding = headers.get(b"content-encoding", b"").decode("latin-1")
            coding = "" if coding == "identity" else coding
            json = headers.get(b"content-type", b"").startswith(b"application/json")
            found.append(Export(connection.tgid, connection.t, body, coding, json, connection.conn))
        connection.other += used
        return used

    # ---- HTTP/2 ----

    def _frame(self, connection: _Connection, found: list[Export]) -> int:
        data = connection.data
        if data[:1] == b"P" and _PREFACE.startswith(data[: len(_PREFACE)]):
            return len(_PREFACE) if len(data) >= len(_PREFACE) else 0
        if len(data) < 9:
            return 0
        length, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
        stream = int.from_bytes(data[5:9], "big") & 0x7FFFFFFF
        if kind >= _KNOWN_FRAMES or length > MOST:
            return -1
        if len(data) < 9 + length:
            return 0
        connection.other += 9
        if kind == _DATA:
            self._data(connection, stream, flags, bytes(data[9 : 9 + length]), found)
        return 9 + length

    def _data(self, connection: _Connection, stream: int, flags: int, payload: bytes, found: list[Export]) -> None:
        if flags & _PADDED and payload:
            payload = payload[1 : max(len(payload) - payload[0], 1)]
        body = connection.bodies.setdefault(stream, bytearray())
        body += payload
        if len(body) > MOST or len(connection.bodies) > STREAMS:
            self.refused += 1
            connection.other += len(body)
            del connection.bodies[stream]
            return
        # gRPC over HTTP/2, "Length-Prefixed-Message". The end of the stream may come in a frame of its own.
        while len(body) >= 5:
            length = int.from_bytes(body[1:5], "big")
            if body[0] > 1 or length > MOST:
                self.refused += 1
                connection.other += len(body)
                body.clear()
                break
            if len(body) < 5 + length:
                break
            coding = "gzip" if body[0] else ""
            found.append(
                Export(connection.tgid, connection.t, bytes(body[5 : 5 + length]), coding, conn=connection.conn)
            )
            connection.other += length
            del body[: 5 + length]
        if not body or flags & _END_STREAM:
            connection.bodies.pop(stream, None)


def _frames(data: bytearray, before: bool | None) -> bool | None:
    """Whether the bytes are HTTP/2; None: nothing tells. before: what they were when all of them were read."""
    if data[:3] == _PREFACE[:3]:
        return True
    if before is not None or data[:1].isalpha() or len(data) < 9:
        return before
    # In the middle of a connection: a message begins with HEADERS or DATA, or with what keeps it alive.
    plausible = data[3] in (_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW) and int.from_bytes(data[:3], "big") <= _FRAME
    return plausible and data[5] < 0x80


def _chunked(data: bytearray, at: int) -> tuple[bytes | None, int]:
    """The body, and where it ends (RFC 9112 §7.1); (None, 0): more is needed, (None, -1): it is none."""
    pieces: list[bytes] = []
    total = 0
    while True:
        end = data.find(b"\r\n", at, at + 64)
        if end < 0:
            return None, 0 if len(data) < at + 64 else -1
        try:
            size = int(bytes(data[at:end]).partition(b";")[0], 16)
        except ValueError:
            return None, -1
        total += size
        if size < 0 or total > MOST:
            return None, -1
        at = end + 2
        if len(data) < at + size + 2:
            return None, 0
        if size == 0:  # trailers are not sent by anybody who exports
            return b"".join(pieces), at + 2
        pieces.append(bytes(data[at : at + size]))
        at += size + 2
