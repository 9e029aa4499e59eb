"""Chunks of what processes write to receivers of telemetry → the OTLP trace requests in them. Sans-I/O, bounded.

Theory of operation. The chunks of a connection are put together by their sequence numbers. What follows is HTTP/1.1
(RFC 9112: a head, and a body by Content-Length or in chunks) or HTTP/2 (RFC 9113: frames, of which DATA is kept by
stream until its end; gRPC messages are in that, each behind five bytes). Where bytes are missing, or another process
goes on writing, a connection begins anew with the next message that is recognised; what was lost is counted. Nothing
here raises on any bytes, and none is read again and again, in however small pieces they come.
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
HELD = 64 << 20
"""Bytes of unfinished requests on all connections: of more, the connection that has most of them is forgotten."""
HEAD = 16 << 10
PIECES = 4096
"""Chunks of one body: writers of HTTP make them of some KiB."""
TRIAL = 64 << 10
"""Bytes of whole messages on a connection, of which some are an export if it carries any."""
CHUNKS = 1024
"""At once: 4 MiB, of which some thousands of spans can be read in the time between two drains; and exports in them."""
STREAMS = 32
"""Unfinished streams of one HTTP/2 connection."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _WINDOW = 0, 1, 3, 4, 6, 8
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


@dataclass(frozen=True, slots=True)
class _Head:
    """Of an HTTP/1.1 request. length: of its body; -1: it comes in chunks."""

    exports: bool
    length: int
    coding: str
    json: bool


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
    head: _Head | None = None
    """HTTP/1.1: of the request whose body comes"""
    body: bytearray = field(default_factory=bytearray)
    """what has come of it, if it comes in chunks"""
    pieces: int = 0
    """of it"""
    bodies: dict[int, bytearray] = field(default_factory=dict)
    """HTTP/2: by stream"""
    held: int = 0
    """bytes, as `Streams` has counted them"""

    def clear(self) -> None:
        """What comes next is the beginning of a message."""
        self.data.clear()
        self.body.clear()
        self.bodies.clear()
        self.head, self.pieces = None, 0

    def size(self) -> int:
        """Bytes that wait for more."""
        return len(self.data) + len(self.body) + sum(map(len, self.bodies.values()))


class Streams:
    """Puts requests together. lost: times that bytes of a connection were missing. refused: requests that were too long
    or could not be understood."""

    def __init__(self) -> None:
        self.lost = 0
        self.refused = 0
        self._connections: OrderedDict[int, _Connection] = OrderedDict()
        self._held = 0

    def take(self, chunks: NDArray[np.void]) -> list[Export]:
        """(n,) `struct export_chunk` in, what became whole by them out."""
        found: list[Export] = []
        if len(chunks) > CHUNKS:  # what is left out is missed by the numbers of what follows
            self.refused += 1
            chunks = chunks[:CHUNKS]
        for chunk in chunks:
            connection = self._connection(int(chunk["conn"]), int(chunk["tgid"]))
            length = min(int(chunk["len"]), chunk["data"].shape[0])
            self._append(connection, int(chunk["seq"]), chunk["data"][:length].tobytes())
            connection.t = int(chunk["t"])
            self._read(connection, found)
            self._hold(connection)
        if len(found) > CHUNKS:
            self.refused += len(found) - CHUNKS
            del found[CHUNKS:]
        return found

    def _connection(self, number: int, tgid: int) -> _Connection:
        connection = self._connections.get(number)
        if connection is None:
            connection = self._connections[number] = _Connection(number, tgid)
            if len(self._connections) > CONNECTIONS:
                self._forget(next(iter(self._connections)))
            return connection
        self._connections.move_to_end(number)
        if connection.tgid != tgid:  # inherited, or handed over: nobody answers for what another one began
            if connection.size() or connection.head:
                self._drop(connection)
            connection.tgid = tgid
        return connection

    def _hold(self, connection: _Connection) -> None:
        size = connection.size()
        self._held += size - connection.held
        connection.held = size
        while self._held > HELD:
            self.refused += 1
            self._forget(max(self._connections.values(), key=lambda one: one.held).conn)

    def _forget(self, number: int) -> None:
        self._held -= self._connections.pop(number).held

    def prove(self, conns: Iterable[int]) -> None:
        """What came on these was an export."""
        for number in conns:
            if number in self._connections:
                self._connections[number].other = 0

    def others(self) -> list[int]:
        """Connections that carried TRIAL bytes of something else since their last export; they are forgotten."""
        found = [number for number, one in self._connections.items() if one.other > TRIAL]
        for number in found:
            self._forget(number)
        return found

    def _append(self, connection: _Connection, seq: int, data: bytes) -> None:
        if connection.next not in (-1, seq):
            self.lost += 1
            connection.clear()
        connection.next = (seq + len(data)) & 0xFFFFFFFF
        connection.data += data

    def _read(self, connection: _Connection, found: list[Export]) -> None:
        """All that is whole; what is no beginning of anything is dropped."""
        if connection.frames is None and connection.head is None:
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
        connection.other += connection.size()
        connection.clear()

    # ---- HTTP/1.1: how many bytes were used, 0: more are needed, -1: it is none ----

    def _request(self, connection: _Connection, found: list[Export]) -> int:
        if connection.head is None:
            return self._begin(connection)
        if connection.head.length < 0:
            return self._piece(connection, connection.head, found)
        used = connection.head.length
        if len(connection.data) < used:
            return 0
        self._end(connection, connection.head, bytes(connection.data[:used]), found)
        return used

    def _begin(self, connection: _Connection) -> int:
        """The head."""
        data = connection.data
        end = data.find(b"\r\n\r\n", 0, HEAD)
        if end < 0:
            return -1 if len(data) > HEAD or not data[:1].isalpha() else 0
        first, *lines = bytes(data[:end]).split(b"\r\n")
        words = first.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return -1
        headers = {n.strip().lower(): v.strip().lower() for n, _, v in (line.partition(b":") for line in lines)}
        length = headers.get(b"content-length", b"0")
        chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
        if not chunked and (not length.isdigit() or len(length) > 9 or int(length) > MOST):
            return -1
        coding = headers.get(b"content-encoding", b"").decode("latin-1")
        connection.other += end + 4
        if chunked or int(length):
            connection.head = _Head(
                exports=words[0] == b"POST" and words[1].partition(b"?")[0].endswith(_PATH),
                length=-1 if chunked else int(length),
                coding="" if coding == "identity" else coding,
                json=headers.get(b"content-type", b"").startswith(b"application/json"),
            )
        return end + 4

    def _piece(self, connection: _Connection, head: _Head, found: list[Export]) -> int:
        """The next chunk of the body (RFC 9112 §7.1)."""
        data = connection.data
        end = data.find(b"\r\n", 0, 64)
        if end < 0:
            return 0 if len(data) < 64 else -1
        try:
            size = int(bytes(data[:end]).partition(b";")[0], 16)
        except ValueError:
            return -1
        if size < 0 or len(connection.body) + size > MOST or connection.pieces >= PIECES:
            return -1
        begin, used = end + 2, end + 2 + size + 2
        if len(data) < used:
            return 0
        if size == 0:  # trailers are not sent by anybody who exports
            self._end(connection, head, bytes(connection.body), found)
            return used
        connection.pieces += 1
        connection.body += data[begin : used - 2]
        return used

    def _end(self, connection: _Connection, head: _Head, body: bytes, found: list[Export]) -> None:
        if head.exports:
            found.append(Export(connection.tgid, connection.t, body, head.coding, head.json, connection.conn))
        connection.other += len(body)
        connection.head, connection.pieces = None, 0
        connection.body.clear()

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
        elif kind == _RESET:
            connection.bodies.pop(stream, None)
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
            if length:
                message = bytes(body[5 : 5 + length])
                found.append(Export(connection.tgid, connection.t, message, coding, conn=connection.conn))
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
