"""DNS messages: header, question and address records out of bytes (RFC 1035 §4, RFC 6891 for EDNS, RFC 6762 for mDNS).

Hostile input: a compression pointer must lead to an earlier place than the piece of the name that holds it (§4.1.4 "a
prior occurrence"), so no name is endless; counts in the header are believed only as far as records follow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct

HEADER = Struct("!6H")
RECORD = Struct("!HHIH")
"""TYPE, CLASS, TTL, RDLENGTH (§4.1.3)"""
MAX_MESSAGES = 16
"""Most messages that are read from one side of an exchange: clients send A and AAAA at once, few send more."""
MAX_QUESTIONS = 64
MAX_RECORDS = 4096
"""Records of a section: 64 KiB hold few more of the smallest that say anything."""
MAX_JUMPS = 127
"""Compression pointers of a name, which has at most that many labels."""
MAX_NAME = 255
"""Octets of a name (§2.3.4)."""
CUT = -1

A, CNAME, AAAA, OPT, QUERY, IN = 1, 5, 28, 41, 0, 1
RESPONSE, RESERVED = 0x8000, 0x0040
PLAIN = re.compile(rb"[!#-\[\]-~]+")
"""A name that is written as it is: printable ASCII, without quote and backslash; the dots are counted apart."""


@dataclass(slots=True)
class Record:
    """One resource record of the answer section, of type A, AAAA or CNAME. data: address, or the canonical name."""

    name: str
    type: int
    data: str
    ttl: int


@dataclass(slots=True)
class Message:
    """What was read of one message.

    name, type: of the first question; name is "" if there is none or it is cut. rcode: with EDNS's upper bits.
    answers: those that are there; end: offset after the message, CUT if it is not whole.
    """

    id: int
    is_response: bool
    opcode: int
    rcode: int
    name: str
    type: int
    questions: int
    answers: list[Record] = field(default_factory=list)
    end: int = CUT


def messages(data: bytes) -> list[Message]:
    """The messages of one side: datagrams, or a TCP stream where each follows its length; at most MAX_MESSAGES.

    Which of them follows from the bytes: a message fills its length exactly (RFC 1035 §4.2.2).

    >>> query = bytes.fromhex("1a2b01000001000000000000 03777777 0474657374 00 0001 0001")
    >>> [(message.name, message.type) for message in messages(query)]
    [('www.test', 1)]
    """
    found: list[Message] = []
    at = 0
    while at < len(data) and len(found) < MAX_MESSAGES:
        message = _framed(data, at) or read(data, at)
        if message is None:
            break
        found.append(message)
        if message.end == CUT:
            break
        at = message.end
    return found


def _framed(data: bytes, at: int) -> Message | None:
    """The message that follows its two bytes of length at `at`; None if it does not look like that."""
    stop = at + 2 + int.from_bytes(data[at : at + 2], "big")
    is_cut = stop > len(data)
    if stop - at < 2 + HEADER.size or (is_cut and plausible(data, at)):
        return None
    message = read(data if is_cut else data[:stop], at + 2)
    if message is None or (message.end != stop and plausible(data, at)):
        return None
    message.end = CUT if is_cut else stop
    return message


def plausible(data: bytes, at: int = 0) -> bool:
    """Whether a message's header may begin here. Bytes of something else pass once in thousands of times."""
    if len(data) - at < HEADER.size:
        return False
    _, flags, questions, answers, authorities, additional = HEADER.unpack_from(data, at)
    opcode = flags >> 11 & 15
    if flags & RESERVED or opcode > 6 or opcode == 3 or questions > MAX_QUESTIONS:
        return False
    if flags & RESPONSE:
        return bool(questions or answers or flags & 15) and max(answers, authorities, additional) < MAX_RECORDS
    # A question may bring records: answers that an mDNS client knows (RFC 6762 §7.1), the changes of an UPDATE, EDNS.
    return questions > 0 and not flags & 15 and max(answers, authorities, additional) < MAX_RECORDS


def read(data: bytes, at: int) -> Message | None:
    """The message that begins at `at`; None if these bytes are none."""
    if not plausible(data, at):
        return None
    number, flags, questions, answers, authorities, additional = HEADER.unpack_from(data, at)
    message = Message(number, bool(flags & RESPONSE), flags >> 11 & 15, flags & 15, "", 0, questions)
    place = at + HEADER.size
    for question in range(questions):
        labels, place = name_at(data, place, at)
        if place == CUT:
            return message
        if labels is None or place + 4 > len(data):
            return None if labels is None else message
        if question == 0:
            message.name = text_of(labels)
            message.type = int.from_bytes(data[place : place + 2], "big")
            if not _known_class(data, place + 2):
                return None
        place += 4
    for index in range(answers + authorities + additional):
        labels, place = name_at(data, place, at)
        if labels is None or place == CUT or place + RECORD.size > len(data):
            return message
        kind, _, ttl, size = RECORD.unpack_from(data, place)
        begin = place + RECORD.size
        place = begin + size
        if kind == OPT and index >= answers + authorities:
            message.rcode |= ttl >> 24 << 4  # RFC 6891 §6.1.3: the upper eight bits of the extended RCODE
        if place > len(data):
            return message
        if index < answers:
            content = _content(data, kind, begin, size, at)
            if content:
                message.answers.append(Record(text_of(labels), kind, content, ttl))
    message.end = place
    return message


def name_at(data: bytes, place: int, base: int) -> tuple[list[bytes] | None, int]:
    """(labels, offset after the name) of the name at `place` in the message that begins at `base`.

    (None, CUT) if it goes on behind the last byte, (None, place) if it is malformed.
    """
    labels: list[bytes] = []
    after = CUT
    begin = place
    size = jumps = 0
    end = len(data)
    while place < end:
        length = data[place]
        if length == 0:
            return labels, place + 1 if after == CUT else after
        if length < 64:
            label = data[place + 1 : place + 1 + length]
            if len(label) < length:
                return None, CUT
            labels.append(label)
            size += length + 1
            if size >= MAX_NAME:
                return None, begin
            place += length + 1
        elif length >= 192:
            if place + 1 >= end:
                return None, CUT
            target = base + ((length & 63) << 8 | data[place + 1])
            if after == CUT:
                after = place + 2
            jumps += 1
            if target >= begin or jumps > MAX_JUMPS:
                return None, begin
            place = begin = target
        else:
            return None, begin
    return None, CUT


def text_of(labels: list[bytes]) -> str:
    """A name as people write it: lower case, because resolvers randomise it ("0x20") and names do not differ by it.

    What is no printable character is escaped as in master files (RFC 1035 §5.1, RFC 4343 §2.1), so that different names
    stay different; UTF-8, which mDNS allows, is shown; punycode (IDNA) stays as it is asked for.

    >>> text_of([b"WwW", b"xn--bcher-kva", b"TEST"]), text_of([b"a.b", b"c\\x00"]), text_of([])
    ('www.xn--bcher-kva.test', 'a\\\\.b.c\\\\000', '.')
    """
    joined = b".".join(labels)
    if PLAIN.fullmatch(joined) and joined.count(b".") == len(labels) - 1:
        return joined.decode("ascii").lower()
    return ".".join(map(_label, labels)) or "."


def _label(label: bytes) -> str:
    label = label.lower()
    try:
        text = label.decode()
    except UnicodeDecodeError:
        text = label.decode("latin-1")
        return "".join(_escaped(character, "\\") for character in text)
    return "".join(_escaped(character, "") for character in text)


def _escaped(character: str, foreign: str) -> str:
    """foreign: "" keeps printable characters beyond ASCII."""
    if character in '.\\"':
        return "\\" + character
    if character.isprintable() and character != " " and not (foreign and character > "~"):
        return character
    octets = character.encode("latin-1" if foreign else "utf-8")
    return "".join(f"\\{octet:03d}" for octet in octets)


def _known_class(data: bytes, place: int) -> bool:
    """IN, CH, HS, NONE or ANY; mDNS uses the top bit for something else (RFC 6762 §5.4)."""
    return int.from_bytes(data[place : place + 2], "big") & 0x7FFF in (1, 3, 4, 254, 255)


def _content(data: bytes, kind: int, begin: int, size: int, base: int) -> str:
    """The address or canonical name that a record gives; "" for others."""
    if kind == A and size == 4:
        return inet_ntop(AF_INET, data[begin : begin + 4])
    if kind == AAAA and size == 16:
        return inet_ntop(AF_INET6, data[begin : begin + 16])
    if kind == CNAME:
        labels, _ = name_at(data, begin, base)
        return text_of(labels) if labels is not None else ""
    return ""
