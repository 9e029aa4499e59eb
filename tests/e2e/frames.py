"""Frames of HTTP/2 (RFC 9113), as tests write them and as the kernel side tells of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np

from otel_ebpf.model import Flag
from tests.e2e.capture import WAIT_S, Capture

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
"""Flags (RFC 9113 §6)."""


class Type(IntEnum):
    """RFC 9113 §6."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def padded(payload: bytes, padding: int) -> bytes:
    """What stands in a frame with the flag PADDED."""
    return bytes([padding]) + payload + bytes(padding)


SETTINGS = frame(Type.SETTINGS, 0, 0, b"\0\3\0\0\0\x64")
SETTINGS_ACK = frame(Type.SETTINGS, ACK, 0)
PING = frame(Type.PING, 0, 0, b"12345678")
WINDOW = frame(Type.WINDOW_UPDATE, 0, 0, b"\0\1\0\0")
GET = b"\x82\x86\x84\x41\x01a"
"""A header block: GET http://a/."""
OK = b"\x88"
"""Another: 200."""


def get(stream: int, block: bytes = GET) -> bytes:
    """A request without a body."""
    return frame(Type.HEADERS, END_HEADERS | END_STREAM, stream, block)


def ok(stream: int, body: bytes = b"") -> bytes:
    """A response."""
    if not body:
        return frame(Type.HEADERS, END_HEADERS | END_STREAM, stream, OK)
    return frame(Type.HEADERS, END_HEADERS, stream, OK) + frame(Type.DATA, END_STREAM, stream, body)


class Kind(IntEnum):
    """`enum frame_kind` of bpf/include/records.h."""

    HEADERS = 1
    DATA = 2
    RESET = 3
    CLOSED = 4
    LOST = 5


class Bit(IntFlag):
    """`enum frame_bits` of bpf/include/records.h."""

    REQUEST = 1 << 0
    END_STREAM = 1 << 1
    BEGINS = 1 << 2
    ENDS = 1 << 3
    CUT = 1 << 4


WHOLE = Bit.BEGINS | Bit.ENDS


@dataclass(frozen=True, slots=True)
class Told:
    """One record."""

    head: dict[str, int]
    block: bytes

    def __getattr__(self, name: str) -> int:
        return self.head[name]

    def __str__(self) -> str:
        what = f"{self.head['n']}: {self.kind.name} {self.bits!r} stream {self.head['stream']} {self.head['bytes']} B"
        return f"{what} {self.flag!r} {self.block[:30]!r}"

    @property
    def kind(self) -> Kind:
        return Kind(self.head["kind"])

    @property
    def bits(self) -> Bit:
        return Bit(self.head["bits"])

    @property
    def flag(self) -> Flag:
        return Flag(self.head["flags"])

    @property
    def said(self) -> tuple[Kind, Bit, int, bytes | int]:
        """What it says of its stream: of headers their block, of DATA how much, of a reset why."""
        number = {Kind.DATA: self.head["bytes"], Kind.RESET: self.head["error"]}.get(self.kind, 0)
        return self.kind, self.bits, self.head["stream"], self.block if self.kind is Kind.HEADERS else number


def _all(capture: Capture) -> list[Told]:
    found = []
    for drain in capture.drains:
        for batch in drain.frames:
            for record, block in zip(batch.head, batch.block, strict=True):
                head = {name: int(record[name]) for name in record.dtype.names or ()}
                assert not block[head["cap"] :].any(), "what is not valid is zero"
                found.append(Told(head, block[: head["cap"]].tobytes()))
    return found


def told(capture: Capture, *pids: int, closed: int = 1) -> list[list[Told]]:
    """The records of each connection of these processes, in order, once so many of the connections have ended."""
    until = time.monotonic() + WAIT_S
    while True:
        capture.poll()
        mine = [one for one in _all(capture) if one.t >= capture.since and one.tgid in pids]
        if sum(one.kind is Kind.CLOSED for one in mine) >= closed or time.monotonic() > until:
            break
        time.sleep(0.01)
    by_connection: dict[int, list[Told]] = {}
    for one in sorted(mine, key=lambda one: (one.t_end, one.n)):
        by_connection.setdefault(one.conn, []).append(one)
    assert len(by_connection) == closed, f"{capture.source.losses()}\n" + "\n".join(map(str, mine))
    return list(by_connection.values())


def whole(records: Sequence[Told]) -> list[tuple[Kind, Bit, int, bytes | int]]:
    """What a connection's records say when the pieces of a block, and of a stream's DATA, are put together.

    AssertionError when one is missing.
    """
    for way in (Bit(0), Bit.REQUEST):
        numbers = [one.n for one in records if one.bits & Bit.REQUEST == way]
        assert numbers == list(range(len(numbers))), "\n".join(map(str, records))
    found: list[tuple[Kind, Bit, int, bytes | int]] = []
    for one in records:
        kind, bits, stream, detail = one.said
        if found and (kind, bits & Bit.REQUEST, stream) == (found[-1][0], found[-1][1] & Bit.REQUEST, found[-1][2]):
            before = found[-1][3]
            goes_on = not bits & Bit.BEGINS if kind is Kind.HEADERS else not found[-1][1] & Bit.END_STREAM
            if kind in (Kind.HEADERS, Kind.DATA) and goes_on:
                found[-1] = (kind, found[-1][1] | bits, stream, before + detail)  # type: ignore[operator]
                continue
        found.append((kind, bits, stream, detail))
    return found


def pieces(records: Sequence[Told]) -> np.ndarray:
    """The lengths of the blocks' pieces."""
    return np.array([one.cap for one in records if one.kind is Kind.HEADERS])
