"""What the kernel side tells of the bytes of an HTTP/2 connection: a plain twin of bpf/include/http2.h, for tests.

wire = Wire(conn=1, server=True)
wire.sent_by_client(client.data_to_send(), t=NOW)
streams.read(wire.frames(), NOW)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from otel_ebpf.model import Flag, Frames
from otel_ebpf.protocols.http2.frames import BEGINS, CLOSED, CUT, DATA, END_STREAM, ENDS, HEADERS, LOST, REQUEST, RESET
from tests.unit.exchanges import BTF

FRAME = BTF.dtype("frame")
EXCHANGE = BTF.dtype("exchange")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SMALL, LARGE = 128, 1024
"""`enum frame_block` of bpf/include/records.h."""
_DATA, _HEADERS, _RST, _PUSH, _CONTINUATION = 0, 1, 3, 5, 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 1, 4, 8, 32


@dataclass
class Side:
    """The bytes of one direction that do not make a frame yet."""

    request: bool
    rest: bytes = b""
    begun: bool = False


@dataclass
class Wire:
    """One end of a connection. tell: columns of all its records. piece: how much of a header block a record takes.

    n: the number of the next record in the direction of requests (True), of responses (False).
    """

    conn: int = 1
    server: bool = True
    flags: int = 0
    tgid: int = 4711
    piece: int = LARGE
    n: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    tell: dict[str, int] = field(default_factory=dict)
    records: list[tuple[dict[str, int], bytes]] = field(default_factory=list)
    requests: Side = field(default_factory=lambda: Side(True))
    responses: Side = field(default_factory=lambda: Side(False))

    def sent_by_client(self, data: bytes, t: int) -> None:
        self._said(self.requests, data, t)

    def sent_by_server(self, data: bytes, t: int) -> None:
        self._said(self.responses, data, t)

    def close(self, t: int, flags: int = 0) -> None:
        self.record(CLOSED, 0, t, flags=flags)

    def lose_sync(self, t: int, request: bool) -> None:
        self.record(LOST, 0, t, bits=REQUEST if request else 0)

    def record(self, kind: int, stream: int, t: int, block: bytes = b"", bits: int = 0, **columns: int) -> None:
        flags = self.flags | columns.pop("flags", 0) | (Flag.SERVER if self.server else 0)
        row = {"span_id": (self.conn << 32) + stream + 1, "conn": self.conn, "t": t, "t_end": t + 10, "tgid": self.tgid}
        row |= {
            "tid": self.tgid,
            "stream": stream,
            "n": self.n[bool(bits & REQUEST)],
            "flags": int(flags),
            "kind": kind,
            "bits": bits,
        }
        row |= {"cap": len(block), **self.tell, **columns}
        self.records.append((row, block))
        self.n[bool(bits & REQUEST)] += 1

    def frames(self) -> list[Frames]:
        """What was told since the last call, by size class as the rings are."""
        records, self.records = self.records, []
        sizes = {0: 0, SMALL: 1, LARGE: 2}
        parts: list[list[tuple[dict[str, int], bytes]]] = [[], [], []]
        for row, block in records:
            parts[next(i for size, i in sizes.items() if len(block) <= size)].append((row, block))
        return [batch(part, width) for part, width in zip(parts, sizes, strict=True) if part]

    def _said(self, side: Side, data: bytes, t: int) -> None:
        side.rest += data
        if side.request and not side.begun and side.rest.startswith(PREFACE[: len(side.rest)]):
            if len(side.rest) < len(PREFACE):
                return
            side.rest = side.rest[len(PREFACE) :]
        side.begun = True
        while len(side.rest) >= 9:
            length, kind, flags = int.from_bytes(side.rest[:3], "big"), side.rest[3], side.rest[4]
            stream = int.from_bytes(side.rest[5:9], "big") & 0x7FFFFFFF
            if len(side.rest) < 9 + length:
                break
            payload, side.rest = side.rest[9 : 9 + length], side.rest[9 + length :]
            self._frame(side, kind, flags, stream, payload, t)

    def _frame(self, side: Side, kind: int, flags: int, stream: int, payload: bytes, t: int) -> None:
        bits = REQUEST if side.request else 0
        if kind in (_DATA, _HEADERS) and flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            bits |= END_STREAM
        if kind == _DATA:
            self.record(DATA, stream, t, bits=bits, bytes=len(payload))
        elif kind == _RST:
            self.record(RESET, stream, t, bits=bits, error=int.from_bytes(payload, "big"))
        elif kind in (_HEADERS, _CONTINUATION, _PUSH):
            if kind == _HEADERS and flags & _PRIORITY:
                payload = payload[5:]
            if kind == _PUSH:
                stream, payload = int.from_bytes(payload[:4], "big"), payload[4:]
            pieces = [payload[i : i + self.piece] for i in range(0, len(payload), self.piece)] or [b""]
            for i, piece in enumerate(pieces):
                more = BEGINS if kind != _CONTINUATION and not i else 0
                if flags & _END_HEADERS and i == len(pieces) - 1:
                    more |= ENDS
                self.record(HEADERS, stream, t, piece, bits | more, bytes=len(piece))


def batch(records: list[tuple[dict[str, int], bytes]], width: int) -> Frames:
    """The records as one batch of a size class."""
    head, block = np.zeros(len(records), FRAME), np.zeros((len(records), width), np.uint8)
    for i, (row, piece) in enumerate(records):
        for name, value in row.items():
            head[name][i] = value
        block[i, : len(piece)] = np.frombuffer(piece, np.uint8)
    return Frames(head, block)


__all__ = ["CUT", "EXCHANGE", "FRAME", "Wire", "batch"]
