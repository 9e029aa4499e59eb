"""What is on the wire: TCP segments as a network device of a namespace sees them, with their options.

with sniffing(hosts.router, "pa") as seen:
    …
[segment for segment in seen() if segment.options.get(253)]
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.hosts import Host

_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_PACKET_RCVBUF = 64 << 20
_SETTLE_S = 0.3


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment over IPv4. size: of the IP packet. options: kind → what follows its length."""

    source: tuple[str, int]
    target: tuple[str, int]
    seq: int
    flags: int
    options: dict[int, bytes]
    payload: bytes
    size: int


def parse(frame: bytes) -> Segment | None:
    """An Ethernet frame; None: no TCP over IPv4."""
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return None
    size = int.from_bytes(frame[16:18], "big")
    packet = frame[14 : 14 + size]
    tcp = packet[(packet[0] & 15) * 4 :]
    source, target, seq, _, offset, flags = struct.unpack_from(">HHIIBB", tcp)
    begin = (offset >> 4) * 4
    ends = [socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16)]
    return Segment((ends[0], source), (ends[1], target), seq, flags, _options(tcp[20:begin]), tcp[begin:], size)


def _options(data: bytes) -> dict[int, bytes]:
    """RFC 9293 §3.1: kind 0 ends them, kind 1 is one byte of padding, all others have a length."""
    found = {}
    while data and data[0]:
        length = 1 if data[0] == 1 else data[1]
        found[data[0]] = data[2:length]
        data = data[length:]
    return found


@contextmanager
def sniffing(host: Host, device: str) -> Iterator[Callable[[], list[Segment]]]:
    """Yields what gives the segments so far, of both directions."""
    opened: list[socket.socket] = []

    def open_there() -> None:
        host.enter()
        opened.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)))
        opened[0].bind((device, 0))

    entering = threading.Thread(target=open_there)
    entering.start()
    entering.join()
    wire = opened[0]
    wire.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _PACKET_RCVBUF)
    wire.settimeout(0.1)
    frames: list[bytes] = []
    stopping = threading.Event()

    def read() -> None:
        while not stopping.is_set():
            try:
                frames.append(wire.recv(1 << 17))
            except TimeoutError:
                continue

    reader = threading.Thread(target=read)
    reader.start()

    def seen() -> list[Segment]:
        time.sleep(_SETTLE_S)
        return [segment for segment in map(parse, list(frames)) if segment is not None]

    try:
        yield seen
    finally:
        stopping.set()
        reader.join()
        wire.close()
