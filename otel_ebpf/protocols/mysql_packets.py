"""MySQL's and MariaDB's packets: walking them, decompressing them, and judging whether bytes are such packets.

A packet is a little-endian int24 length, a sequence number and a payload. The sequence begins at 0 with each command;
the answer goes on with it. With compression, packets travel inside others whose header has a third field.
Sources: MySQL Internals Manual / dev.mysql.com "Client/Server Protocol"; MariaDB "Client/Server Protocol".
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from otel_ebpf.protocols.sql_fields import FINE, Outcome

INFLATED_LIMIT = 2048
"""Bytes that are taken out of compressed packets, whatever they claim to hold."""

COMMANDS = {
    0x01: "COM_QUIT",
    0x02: "COM_INIT_DB",
    0x03: "COM_QUERY",
    0x04: "COM_FIELD_LIST",
    0x05: "COM_CREATE_DB",
    0x06: "COM_DROP_DB",
    0x07: "COM_REFRESH",
    0x08: "COM_SHUTDOWN",
    0x09: "COM_STATISTICS",
    0x0A: "COM_PROCESS_INFO",
    0x0C: "COM_PROCESS_KILL",
    0x0D: "COM_DEBUG",
    0x0E: "COM_PING",
    0x11: "COM_CHANGE_USER",
    0x12: "COM_BINLOG_DUMP",
    0x13: "COM_TABLE_DUMP",
    0x15: "COM_REGISTER_SLAVE",
    0x16: "COM_STMT_PREPARE",
    0x17: "COM_STMT_EXECUTE",
    0x18: "COM_STMT_SEND_LONG_DATA",
    0x19: "COM_STMT_CLOSE",
    0x1A: "COM_STMT_RESET",
    0x1B: "COM_SET_OPTION",
    0x1C: "COM_STMT_FETCH",
    0x1E: "COM_BINLOG_DUMP_GTID",
    0x1F: "COM_RESET_CONNECTION",
    0xFA: "COM_STMT_BULK_EXECUTE",
}

PROTOCOL_41, CONNECT_WITH_DB, SSL, SECURE_CONNECTION, PLUGIN_AUTH_LENENC = 1 << 9, 1 << 3, 1 << 11, 1 << 15, 1 << 21
CLIENT_MYSQL = 1
"""Set in all clients' capabilities, but not when a MariaDB client speaks to a MariaDB server."""


class Packet(NamedTuple):
    """One packet; cut: its payload goes on beyond what is there."""

    sequence: int
    payload: bytes
    cut: bool


def packets(data: bytes) -> Iterator[Packet]:
    """The packets from the beginning on, until one whose header is cut off."""
    at, size = 0, len(data)
    while at + 4 <= size:
        end = at + 4 + int.from_bytes(data[at : at + 3], "little")
        yield Packet(data[at + 3], data[at + 4 : end], end > size)
        at = end


# --- compression -----------------------------------------------------------------------------------------------------

_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_ZSTD = b"\x28\xb5\x2f\xfd"


def plain(data: bytes) -> bytes:
    """The packets themselves: those inside compressed ones, else `data`. Empty if they cannot be had (zstd)."""
    if len(data) < 11:
        return data
    size = int.from_bytes(data[:3], "little")
    inflated = int.from_bytes(data[4:7], "little")
    if inflated:
        if data[7:9] not in _ZLIB and data[7:11] != _ZSTD:
            return data
    else:
        inner = int.from_bytes(data[7:10], "little") + 4
        if inner > size or data[10] != data[3] or (size + 7 > len(data) and inner != size):
            return data
    return _inflate(data)


def _inflate(data: bytes) -> bytes:
    out = b""
    at = 0
    while at + 7 <= len(data) and len(out) < INFLATED_LIMIT:
        size = int.from_bytes(data[at : at + 3], "little")
        body = data[at + 7 : at + 7 + size]
        if data[at + 4 : at + 7] == b"\0\0\0":
            out += body
        else:
            try:
                out += zlib.decompressobj().decompress(body, INFLATED_LIMIT - len(out))
            except zlib.error:
                break
        at += 7 + size
    return out[:INFLATED_LIMIT]


# --- parts of packets ------------------------------------------------------------------------------------------------


def integer(data: bytes, at: int) -> tuple[int, int] | None:
    """A length-encoded integer and where it ends; None if it is cut or is none (NULL, an error's mark)."""
    if at >= len(data):
        return None
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if width is None or at + 1 + width > len(data):
        return None
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def text_of_query(payload: bytes) -> bytes:
    """The SQL of a COM_QUERY, behind the query attributes if there are any (CLIENT_QUERY_ATTRIBUTES, MySQL 8.0.23).

    They are two integers, number of attributes and 1, of which the second cannot begin an SQL text. b"" if the
    attributes could not be read to their end.
    """
    if payload[2:3] != b"\x01" or payload[1] > 64:
        return payload[1:]
    count, at = payload[1], 3
    if count:
        at += (count + 7) // 8
        nulls = payload[3:at]
        if payload[at : at + 1] != b"\x01":  # new_params_bind_flag
            return b""
        at += 1
        types = []
        for _ in range(count):
            name = integer(payload, at + 2)
            if name is None:
                return b""
            types.append(payload[at])
            at = name[1] + name[0]
        for number, kind in enumerate(types):
            if not nulls[number // 8] >> (number % 8) & 1:
                end = _value_end(payload, at, kind)
                if end is None:
                    return b""
                at = end
    return payload[at:]


_WIDTHS = {0x01: 1, 0x02: 2, 0x0D: 2, 0x03: 4, 0x09: 4, 0x04: 4, 0x08: 8, 0x05: 8, 0x06: 0}


def _value_end(data: bytes, at: int, kind: int) -> int | None:
    """Where a binary value of the type `kind` ends (enum_field_types)."""
    width = _WIDTHS.get(kind)
    if width is None:
        length = integer(data, at)
        if length is None:
            return None
        at, width = length[1], length[0]
    return at + width if at + width <= len(data) else None


def bulk_rows(payload: bytes, parameters: int) -> int:
    """How many rows a whole COM_STMT_BULK_EXECUTE holds; 0 if that cannot be told."""
    flags = int.from_bytes(payload[5:7], "little")
    if not flags & 128 or not parameters:  # SEND_TYPES_TO_SERVER
        return 0
    at = 7 + 2 * parameters
    types = payload[7:at:2]
    rows = 0
    while at < len(payload):
        for kind in types:
            if at >= len(payload):
                return 0
            indicator = payload[at]
            end = _value_end(payload, at + 1, kind) if indicator == 0 else at + 1
            if end is None:
                return 0
            at = end
        rows += 1
    return rows


class Login(NamedTuple):
    """A HandshakeResponse41. tls: it is only the request to begin with TLS. mariadb: the server said that it is one."""

    database: bytes
    tls: bool
    mariadb: bool


def login(payload: bytes) -> Login | None:
    """What the client logs in with; None if the packet is none."""
    capabilities = int.from_bytes(payload[:4], "little")
    if len(payload) < 32 or not capabilities & PROTOCOL_41 or any(payload[9:28]):
        return None
    mariadb = not capabilities & CLIENT_MYSQL
    if len(payload) == 32:
        return Login(b"", bool(capabilities & SSL), mariadb)
    at = payload.find(b"\0", 32) + 1
    if not at:
        return None
    if not capabilities & CONNECT_WITH_DB:
        return Login(b"", False, mariadb)
    if capabilities & (PLUGIN_AUTH_LENENC | SECURE_CONNECTION):
        length = integer(payload, at)
        at = length[1] + length[0] if length else len(payload)
    else:
        at = payload.find(b"\0", at) + 1
    return Login(payload[at:].partition(b"\0")[0], False, mariadb)


# --- answers ---------------------------------------------------------------------------------------------------------

_GREETING = re.compile(rb"\x0a(\d[\x21-\x7e]*)\0.{12}\0", re.DOTALL)
SESSION_STATE_CHANGED, TRACK_SCHEMA = 0x4000, 1


def greeting(payload: bytes) -> str:
    """The server's version from the first packet of a connection ("5.5.5-10.11.19-MariaDB"); "" if it is none."""
    match = _GREETING.match(payload)
    return match[1].decode("ascii") if match else ""


class Answer(NamedTuple):
    """What the server said to one command. first: the payload of its first packet. schema: what it says that the
    default database is now; None if nothing."""

    outcome: Outcome
    first: bytes
    schema: bytes | None


NO_ANSWER = Answer(FINE, b"", None)


def answers(response: bytes) -> list[Answer]:
    """One entry for each command that is answered; the sequence number begins at 1 with each."""
    found: list[Answer] = []
    for packet in packets(response):
        payload = packet.payload
        if packet.sequence == 0 and greeting(payload):
            continue
        if packet.sequence == 1 or not found:
            found.append(Answer(FINE, payload, _schema(payload)))
        if payload[:1] == b"\xff" and payload[1:3] != b"\xff\xff":  # 65535: a progress report of MariaDB
            found[-1] = found[-1]._replace(outcome=error(payload))
    return found


def error(payload: bytes) -> Outcome:
    """ERR: 0xff, the error's number."""
    return Outcome(True, str(int.from_bytes(payload[1:3], "little")) if len(payload) >= 3 else "")


def _schema(payload: bytes) -> bytes | None:
    """The schema that an OK packet's session tracking names (CLIENT_SESSION_TRACK)."""
    if payload[:1] != b"\0" or len(payload) < 10:
        return None
    affected = integer(payload, 1)
    inserted = affected and integer(payload, affected[1])
    if not inserted:
        return None
    at = inserted[1]
    if not int.from_bytes(payload[at : at + 2], "little") & SESSION_STATE_CHANGED:
        return None
    info = integer(payload, at + 4)
    changes = info and integer(payload, info[1] + info[0])
    if not changes:
        return None
    at = changes[1]
    end = at + changes[0]
    while at < min(end, len(payload)):
        size = integer(payload, at + 1)
        if size is None:
            return None
        if payload[at] == TRACK_SCHEMA:
            name = integer(payload, size[1])
            return payload[name[1] : name[1] + name[0]] if name else None
        at = size[1] + size[0]
    return None


# --- are these MySQL's packets? --------------------------------------------------------------------------------------

_SQL = re.compile(rb"(?:[\s(;]|--|#|/\*)*[A-Za-z({][^\0-\x08\x0e-\x1a\x1c-\x1f]*\Z")
_FORMS = {
    **dict.fromkeys((0x01, 0x09, 0x0A, 0x0D, 0x0E, 0x1F), re.compile(rb"\Z")),
    **dict.fromkeys((0x19, 0x1A, 0x0C), re.compile(rb".{4}\Z", re.DOTALL)),
    **dict.fromkeys((0x02, 0x05, 0x06), re.compile(rb"[^\0-\x1f]{1,256}\Z")),
    0x04: re.compile(rb"[^\0-\x1f]{1,256}\0"),
    0x11: re.compile(rb"[^\0-\x1f]{0,256}\0"),
    0x16: _SQL,
    0x17: re.compile(rb".{4}[\0-\x0f]\x01\0\0\0", re.DOTALL),
    0x18: re.compile(rb".{6}", re.DOTALL),
    0x1B: re.compile(rb"[\0\1]\0\Z"),
    0x1C: re.compile(rb".{8}\Z", re.DOTALL),
    0xFA: re.compile(rb".{4}[\0\x40\x80\xc0]\0", re.DOTALL),
}


def is_tls(data: bytes) -> bool:
    """A TLS record (RFC 8446 §5.1), as follows a login that asks for TLS; as a packet it would be 197 kB long."""
    return data[1:2] == b"\x03" and data[:1] in (b"\x14", b"\x15", b"\x16", b"\x17") and data[2:3] <= b"\x04"


def asks(data: bytes) -> float:
    """How sure it is that `data` is what a MySQL client sends: 0 to 0.95."""
    if is_tls(data):
        return 0.0
    data = plain(data)
    doubt, whole, first = 1.0, True, True
    for packet in packets(data):
        payload, whole = packet.payload, not packet.cut
        if packet.sequence:
            return _asks_later(packet) if first else max(0.0, 1 - doubt)
        if not payload or payload[0] not in COMMANDS:
            return 0.0
        body = text_of_query(payload) if payload[0] == 0x03 else payload[1:]
        form = _SQL if payload[0] == 0x03 else _FORMS.get(payload[0])
        if form is not None and not form.match(body) and (whole or form is _SQL):
            return 0.0
        doubt *= 0.1 if whole and form is not None else 0.4 if form is _SQL else 0.7
        first = False
    return 0.0 if first or (whole and _trailing(data)) else 1 - max(doubt, 0.05)


def _asks_later(packet: Packet) -> float:
    """Sent within a login, or the data of LOAD DATA LOCAL."""
    if packet.sequence < 4 and login(packet.payload) is not None:
        return 0.95
    return 0.0 if packet.cut else 0.2


def _trailing(data: bytes) -> bool:
    """Bytes behind the last packet that are no packet's header."""
    at = 0
    while at + 4 <= len(data):
        at += 4 + int.from_bytes(data[at : at + 3], "little")
    return at < len(data)


_ERROR = re.compile(rb"\xff.[\x03-\xff]#[0-9A-Z]{5}", re.DOTALL)


def says(data: bytes) -> float:
    """How sure it is that `data` is what a MySQL server sends: 0 to 0.95."""
    if is_tls(data):
        return 0.0
    data = plain(data)
    following = packets(data)
    packet = next(following, None)
    if packet is None or not packet.payload:
        return 0.0
    payload = packet.payload
    if packet.sequence == 0:
        return 0.95 if greeting(payload) else 0.0
    if _ERROR.match(payload):
        return 0.95
    second = next(following, None)
    # 1: the answer to another command; two on: a login, in which the client said something in between
    in_turn = second is None or second.sequence == 1 or (second.sequence - packet.sequence) % 256 in (1, 2)
    if packet.cut or not in_turn:
        return 0.0
    if payload[0] == 0:
        return 0.8 if len(payload) >= 7 else 0.3  # a row that is fetched may be short
    count = integer(payload, 0)
    # MariaDB may add a byte: whether the definitions of the columns follow
    if second is not None and second.payload[:4] == b"\x03def" and count and len(payload) - count[1] in (0, 1):
        return 0.95
    if payload[:4] == b"\x03def":  # COM_FIELD_LIST
        return 0.9
    return 0.3 if payload[0] in (0x01, 0xFB, 0xFE, 0xFF) or len(data) < 9 else 0.0
