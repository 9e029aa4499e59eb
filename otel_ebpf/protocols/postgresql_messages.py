"""PostgreSQL's messages: walking them in both directions, and judging whether bytes are such messages.

Every message but the first of a connection is a type byte, a big-endian int32 length (itself included), and a body.
Source: PostgreSQL manual, chapter 55 (Frontend/Backend Protocol), §55.7 Message Formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from otel_ebpf.protocols.sql_fields import FINE, Outcome

LENGTH_LIMIT = 0x3FFFFFFF
"""PQ_LARGE_MESSAGE_LIMIT: no server takes or sends more. It also keeps ASCII text from being taken for a length."""

STARTUP, CANCEL, TLS, GSSENC = range(4)
_STARTUP_CODES = {196608: STARTUP, 196610: STARTUP, 80877102: CANCEL, 80877103: TLS, 80877104: GSSENC}

FRONTEND = frozenset(b"QPBDECSHFdcfpX")
BACKEND = frozenset(b"123ACDEGHIKNRSTVWZcdnstv")


class Message(NamedTuple):
    """One message. `end` is where it ends in the data, which may be beyond what is there: then it is cut."""

    kind: int
    body: bytes
    end: int
    cut: bool


def messages(data: bytes, kinds: frozenset[int]) -> Iterator[Message]:
    """The messages from the beginning on, until one that cannot be one or whose header is cut off."""
    at, size = 0, len(data)
    while at + 5 <= size:
        kind = data[at]
        length = int.from_bytes(data[at + 1 : at + 5], "big")
        if kind not in kinds or not 4 <= length <= LENGTH_LIMIT:
            return
        end = at + 1 + length
        yield Message(kind, data[at + 5 : end], end, end > size)
        at = end


def startup(data: bytes) -> tuple[int, dict[bytes, bytes]] | None:
    """The first message of a connection, which has no type: what it is, and its parameters (user, database …)."""
    if len(data) < 8 or data[0] != 0:
        return None
    length = int.from_bytes(data[:4], "big")
    kind = _STARTUP_CODES.get(int.from_bytes(data[4:8], "big"))
    if kind is None or not 8 <= length <= 10000:  # MAX_STARTUP_PACKET_LENGTH
        return None
    if kind != STARTUP:
        return kind, {}
    values = data[8:length].split(b"\0")
    return kind, dict(zip(values[::2], values[1::2], strict=False))


class Answer(NamedTuple):
    """What the server said until one ReadyForQuery. tag: of its last CommandComplete ("INSERT 0 1").

    executed: something was executed (or suspended), not only prepared. copying: it waits for COPY's data.
    """

    outcome: Outcome
    tag: str
    executed: bool
    copying: bool


NO_ANSWER = Answer(FINE, "", False, False)


def answers(response: bytes) -> list[Answer]:
    """One entry for each ReadyForQuery that is seen, and one for what comes after the last."""
    found: list[Answer] = []
    outcome, tag, executed, copying = FINE, "", False, False
    seen = False
    for message in messages(response, BACKEND):
        seen = True
        match message.kind:
            case 0x45:  # ErrorResponse
                outcome = error(message.body) or outcome
            case 0x43:  # CommandComplete
                tag, executed = message.body.partition(b"\0")[0].decode("ascii", "replace"), True
            case 0x44 | 0x49 | 0x73 | 0x48 | 0x57:  # DataRow, EmptyQuery, PortalSuspended, CopyOut, CopyBoth
                executed = True
            case 0x47:  # CopyInResponse
                executed = copying = True
            case 0x5A:  # ReadyForQuery
                found.append(Answer(outcome, tag, executed, copying))
                outcome, tag, executed, copying = FINE, "", False, False
                seen = False
    if seen:
        found.append(Answer(outcome, tag, executed, copying))
    return found


def error(body: bytes) -> Outcome | None:
    """ErrorResponse: fields of a type byte and a string; `C` is the SQLSTATE. None: classes 00 and 01 are no errors."""
    for value in body.split(b"\0"):
        if value[:1] == b"C" and len(value) == 6 and value.isalnum():
            code = value[1:].decode("ascii")
            return None if code[:2] in {"00", "01"} else Outcome(True, code)
    return Outcome(True)


# --- are these PostgreSQL's messages? --------------------------------------------------------------------------------

_TEXT = rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]"
_EMPTY = re.compile(rb"\Z")
_STRING = re.compile(rb"[^\0]*\0\Z")
_STATE = rb"[^\x00-\x1f]"

_FRONTEND_BODIES = {
    ord("Q"): re.compile(rb"%s*\0\Z" % _TEXT),
    ord("P"): re.compile(rb"[^\0]*\0%s*\0\0[\0-\xff]" % _TEXT, re.DOTALL),
    ord("B"): re.compile(rb"[^\0]*\0[^\0]*\0[\0-\x7f].", re.DOTALL),
    ord("D"): re.compile(rb"[SP][^\0]*\0\Z"),
    ord("C"): re.compile(rb"[SP][^\0]*\0\Z"),
    ord("E"): re.compile(rb"[^\0]*\0[\0-\x7f].{3}\Z", re.DOTALL),
    ord("S"): _EMPTY,
    ord("H"): _EMPTY,
    ord("c"): _EMPTY,
    ord("X"): _EMPTY,
    ord("f"): _STRING,
    ord("F"): re.compile(rb".{4}\0.", re.DOTALL),
}
_FIELDS = re.compile(rb"(?:[A-Za-z][^\0]*\0)+\0\Z")
_COPY = re.compile(rb"[\0\1](..)(?:\0[\0\1])*\Z", re.DOTALL)
_BACKEND_BODIES = {
    **dict.fromkeys(b"123Icns", _EMPTY),
    ord("Z"): re.compile(rb"[ITE]\Z"),
    ord("C"): re.compile(rb"[A-Z][A-Z_ ]*(?: \d+)*\0\Z"),
    ord("E"): _FIELDS,
    ord("N"): _FIELDS,
    ord("S"): re.compile(rb"[A-Za-z_.]+\0[^\0]*\0\Z"),
    ord("K"): re.compile(rb".{8,260}\Z", re.DOTALL),
    ord("R"): re.compile(rb"\0\0\0[\0-\x0c]", re.DOTALL),
    ord("T"): re.compile(rb"..(?:[^\0]*\0.{18})*\Z", re.DOTALL),
    ord("D"): re.compile(rb"[\0-\x07].", re.DOTALL),
    ord("t"): re.compile(rb"..(?:.{4})*\Z", re.DOTALL),
    ord("A"): re.compile(rb".{4}[^\0]+\0[^\0]*\0\Z", re.DOTALL),
    ord("G"): _COPY,
    ord("H"): _COPY,
    ord("W"): _COPY,
}
_LONGEST = 1 << 24
"""Four characters of a text are a length beyond this."""
_VAGUE = frozenset(b"dpDRKvV")
"""Kinds whose bodies prove little."""


def looks(data: bytes, kinds: frozenset[int]) -> float:
    """How sure it is that `data` begins with messages of these kinds: 0 (no) to 0.95.

    Each whole message with a body of the right form counts, by how little chance there is that other bytes have it.
    """
    bodies = _FRONTEND_BODIES if kinds is FRONTEND else _BACKEND_BODIES
    doubt, end = 1.0, 0
    for message in messages(data, kinds):
        form = bodies.get(message.kind)
        end = message.end
        if message.cut:
            if form is _EMPTY or message.end >= _LONGEST:
                return 0.0
            if message.kind in b"QP" and kinds is FRONTEND:
                if not _starts_like_sql(message):
                    return 0.0
                doubt *= 0.3
            else:
                doubt *= 0.8
            break
        if form is not None and not form.match(message.body):
            return 0.0
        doubt *= 0.6 if message.kind in _VAGUE else 0.1
        if doubt < 0.05:
            return 0.95
    if end == 0 or (end < len(data) and len(data) - end >= 5):
        return 0.0
    return 1.0 - max(doubt, 0.05)


_SQL_START = re.compile(rb"[^\0]{0,64}\0?[\s(;]*(?:--|/\*|[A-Za-z]{2,})")


def _starts_like_sql(message: Message) -> bool:
    body = message.body
    if message.kind == 0x51 and b"\0" in body:
        return False
    return _SQL_START.match(body) is not None
