"""Recorded traffic as exchanges: classic pcap files, and what is known to be true about them, without a dependency.

The data set lies beside the repository (`../shared/pcaps`): `PROTOCOL/NAME.pcap` and `NAME.yaml` (its README tells the
format). The two things that a protocol's test wants:

    for truth, request, response in exchanges("redis"):   # every exchange that the yaml files know, with its bytes
        reading = Redis().parse(request, response, Session(), Options())[0]
        assert dict(reading.fields.client.attributes)["db.operation.name"] == truth["operation"]

    for conversation in conversations("mysql/mysql"):      # whole connections, for protocols that remember
        for request, response in conversation.turns():     # as the sides took turns; a greeting answers b""
            ...

TCP streams are put together by sequence number: retransmitted bytes count once, at their first arrival, and a lost
segment leaves its bytes out. A UDP datagram is a message of its own.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PCAPS = Path(__file__).resolve().parents[3] / "shared" / "pcaps"

# https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap: magic → (byte order, ns per unit, bytes of a packet's header).
# The last one is the "modified" format of A. Kuznetzov, which adds the interface to each packet.
FORMATS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24),
}
TCP, UDP = 6, 17
SYN, RST = 0x02, 0x04


@dataclass(frozen=True, slots=True)
class Packet:
    """One TCP segment or UDP datagram. source, destination: "10.0.0.1:80". time: Unix ns."""

    time: int
    protocol: int
    source: str
    destination: str
    sequence: int
    flags: int
    payload: bytes


@dataclass(slots=True)
class Stream:
    """What one side of a connection said: pieces (time, bytes) in the order of the stream."""

    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    cursors: dict[int, int] = field(default_factory=dict)
    """time of a packet → bytes from there on that exchanges have taken; several messages may lie in one packet"""

    @property
    def data(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    def take(self, start: int, end: int, size: int | None) -> bytes:
        """The next message among the pieces that arrived from `start` to `end`: `size` bytes, or all of them."""
        data = b"".join(piece for time, piece in self.pieces if start <= time <= end)
        taken = self.cursors.get(start, 0)
        message = data[taken:] if size is None else data[taken : taken + size]
        self.cursors[start] = taken + len(message)
        return message


@dataclass(slots=True)
class Conversation:
    """All that was said between two addresses ("10.0.0.1:80"); `protocol` is TCP or UDP."""

    client: str
    server: str
    protocol: int
    request: Stream = field(default_factory=Stream)
    response: Stream = field(default_factory=Stream)

    def turns(self) -> Iterator[tuple[bytes, bytes]]:
        """(request, response) as the sides alternate. What the server says first is answered to b""."""
        said = [(time, True, piece) for time, piece in self.request.pieces]
        said += [(time, False, piece) for time, piece in self.response.pieces]
        request, response = b"", b""
        for _, by_client, piece in sorted(said, key=lambda one: one[0]):
            if by_client and response:
                yield request, response
                request, response = b"", b""
            if by_client:
                request += piece
            else:
                response += piece
        if request or response:
            yield request, response


def exchanges(folder: str) -> Iterator[tuple[dict[str, Any], bytes, bytes]]:
    """(truth, request bytes, response bytes) of every exchange in the yaml files of `folder`, in their order.

    truth is the yaml entry, and `truth["capture"]` its file's name. A message that the server pushed (`sender: server`)
    is the request. Of an interleaved HTTP/2 connection the bytes are those of the right packets, from the first on.
    """
    files = sorted((PCAPS / folder).glob("*.yaml"))
    assert files, f"no recorded traffic in {PCAPS / folder}: the shared data set is not beside the repository"
    for file in files:
        by_addresses = {(c.client, c.server): c for c in conversations(f"{folder}/{file.stem}")}
        for truth in yaml.safe_load(file.read_text())["exchanges"]:
            ends = (truth["client"], truth["server"])
            conversation = by_addresses.get(ends) or by_addresses.get((ends[1], ends[0]))
            assert conversation is not None, f"{file.name}: no connection {ends}"
            asked, answered = conversation.request, conversation.response
            if (conversation.client == truth["client"]) == (truth.get("sender") == "server"):
                asked, answered = answered, asked
            start = truth["start"]
            request = asked.take(start, truth.get("request_end", start), truth.get("request_size"))
            response = b""
            if "response_start" in truth:
                begin = truth["response_start"]
                response = answered.take(begin, truth.get("response_end", begin), truth.get("response_size"))
            yield {**truth, "capture": file.stem}, request, response


def conversations(name: str) -> list[Conversation]:
    """The connections (and UDP flows) of the capture `PROTOCOL/NAME`, in the order of their first packets.

    The client is the one that sent the SYN; in a capture that begins later, the one that spoke first.
    """
    found: dict[tuple[str, str, int], Conversation] = {}
    segments: dict[tuple[str, str, int], list[Packet]] = {}
    for packet in packets(PCAPS / f"{name}.pcap"):
        forth = (packet.source, packet.destination, packet.protocol)
        back = (packet.destination, packet.source, packet.protocol)
        if forth not in found and back not in found and (packet.payload or packet.flags & SYN):
            found[forth] = Conversation(*forth)
        segments.setdefault(forth, []).append(packet)
    for ends, conversation in found.items():
        conversation.request = _stream(segments[ends])
        conversation.response = _stream(segments.get((ends[1], ends[0], ends[2]), []))
    return list(found.values())


def packets(path: Path) -> Iterator[Packet]:
    """All TCP segments and UDP datagrams over IPv4 and IPv6 of a capture of Ethernet frames; no IP fragments."""
    data = path.read_bytes()
    order, unit, header = FORMATS[data[:4]]
    link = struct.unpack_from(order + "I", data, 20)[0]
    assert link == 1, f"{path}: link type {link} is not Ethernet"
    at = 24
    while at + header <= len(data):
        seconds, fraction, captured = struct.unpack_from(order + "III", data, at)
        packet = _packet(seconds * 10**9 + fraction * unit, data[at + header : at + header + captured])
        if packet is not None:
            yield packet
        at += header + captured


def _packet(time: int, frame: bytes) -> Packet | None:
    at, ethertype = 14, frame[12:14]
    while ethertype == b"\x81\x00":  # IEEE 802.1Q: a VLAN tag precedes the type
        ethertype, at = frame[at + 2 : at + 4], at + 4
    if ethertype == b"\x08\x00":
        size = 4 * (frame[at] & 0x0F)
        protocol, total = frame[at + 9], int.from_bytes(frame[at + 2 : at + 4], "big")
        addresses = frame[at + 12 : at + 16], frame[at + 16 : at + 20]
    elif ethertype == b"\x86\xdd":
        size = 40
        protocol, total = frame[at + 6], 40 + int.from_bytes(frame[at + 4 : at + 6], "big")
        addresses = frame[at + 8 : at + 24], frame[at + 24 : at + 40]
    else:
        return None
    source, destination = (str(ipaddress.ip_address(address)) for address in addresses)
    # The IP length, since short frames are padded to 60 bytes; 0 where the network card segments (TSO).
    datagram = frame[at + size : at + total if total else None]
    ports = struct.unpack_from("!HH", datagram)
    ends = f"{source}:{ports[0]}", f"{destination}:{ports[1]}"
    if protocol == UDP:
        return Packet(time, UDP, *ends, 0, 0, datagram[8:])
    if protocol == TCP:
        sequence = int.from_bytes(datagram[4:8], "big")
        return Packet(time, TCP, *ends, sequence, datagram[13], datagram[4 * (datagram[12] >> 4) :])
    return None


def _stream(segments: list[Packet]) -> Stream:
    """One direction. TCP bytes are placed by sequence number relative to the first one seen (RFC 9293 §3.4)."""
    carrying = [segment for segment in segments if segment.payload]
    if not carrying:
        return Stream()
    if carrying[0].protocol == UDP:
        return Stream([(datagram.time, datagram.payload) for datagram in carrying])
    origin = carrying[0].sequence
    pieces: list[tuple[int, int, bytes]] = []
    seen: list[tuple[int, int]] = []
    for segment in carrying:
        begin = (segment.sequence - origin + 2**31) % 2**32 - 2**31
        for start, end in _unseen(begin, begin + len(segment.payload), seen):
            pieces.append((start, segment.time, segment.payload[start - begin : end - begin]))
            seen.append((start, end))
    return Stream([(time, piece) for _, time, piece in sorted(pieces)])


def _unseen(begin: int, end: int, seen: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of [begin, end) is in none of the intervals `seen`."""
    left = [(begin, end)]
    for start, stop in seen:
        left = [part for a, b in left for part in ((a, min(b, start)), (max(a, stop), b)) if part[0] < part[1]]
    return left
