"""RESP2 and RESP3, the serialisation protocol of Redis: where commands and replies begin and end in bytes.

https://redis.io/docs/latest/develop/reference/protocol-spec/ (types), and networking.c of Redis for what clients may
send: arrays of bulk strings, or inline commands. The streamed types of the RESP3 draft (`$?`, `*?`), which no server
uses, count as malformed.

Hostile input costs time in proportion to its length and nothing else: a value is skipped by counting what is left to
come, never by recursion, so an array of depth 10⁶ needs one integer, and a declared length is never allocated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

CUT = -1
"""The value goes on after the last byte that there is."""
MALFORMED = -2
"""No RESP value."""

INLINE_LIMIT = 64 * 1024  # networking.c: PROTO_INLINE_MAX_SIZE
LENGTH = re.compile(rb"-1|\d{1,18}")
COMMAND = re.compile(rb"\*(-1|\d{1,10})\r\n")
ARGUMENT = re.compile(rb"\$(\d{1,10})\r\n")
ARGUMENT_BEGUN = re.compile(rb"(?:\$\d{0,10}\r?)?")
WORD = re.compile(rb'\s*(?:"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|([^\s"\']+))', re.DOTALL)

LINES, BULKS, LISTS, MAP, ATTRIBUTE = b"+-:_#,(", b"$!=", b"*~>", b"%"[0], b"|"[0]


@dataclass(slots=True)
class Command:
    """A command as a client sent it. arguments[0] is its name; the last one may be incomplete if `cut`.

    count: how many arguments were announced; end: offset after the command, CUT if it is not whole.
    """

    arguments: list[bytes]
    count: int
    end: int
    cut: bool = False
    """the last of `arguments` is incomplete"""

    def whole(self, index: int) -> bool:
        """Whether all bytes of this argument are there."""
        return index < len(self.arguments) - self.cut


def skip(data: bytes, at: int, values: int = 1) -> int:
    """The offset after so many values from `at` on; CUT or MALFORMED.

    >>> skip(b"*2\\r\\n:1\\r\\n$3\\r\\nabc\\r\\n+OK\\r\\n", 0)
    17
    """
    while values > 0:
        line = data.find(b"\r\n", at)
        if line < 0:
            return CUT
        kind = data[at]
        after = line + 2
        if kind in LINES:
            values -= 1
            at = after
            continue
        if not LENGTH.fullmatch(data, at + 1, line):
            return MALFORMED
        length = int(data[at + 1 : line])
        if kind in BULKS:
            values -= 1
            at = after
            if length >= 0:
                at += length + 2
                if at > len(data):
                    return CUT
                if data[at - 2 : at] != b"\r\n":
                    return MALFORMED
        elif kind in LISTS:
            values += max(length, 0) - 1
            at = after
        elif kind == MAP:
            values += 2 * max(length, 0) - 1
            at = after
        elif kind == ATTRIBUTE:  # it precedes the value that it belongs to, and is none itself
            values += 2 * max(length, 0)
            at = after
        else:
            return MALFORMED
    return at


def body(data: bytes, at: int) -> int:
    """Where the value itself begins, after its attributes (`|`); CUT or MALFORMED."""
    while data[at : at + 1] == b"|":
        line = data.find(b"\r\n", at)
        if line < 0:
            return CUT
        if not LENGTH.fullmatch(data, at + 1, line):
            return MALFORMED
        at = skip(data, line + 2, 2 * max(int(data[at + 1 : line]), 0))
        if at < 0:
            return at
    return at if at < len(data) else CUT


def first_text(data: bytes, at: int) -> bytes:
    """The first element of the aggregate at `at` if it is a string (the kind of a push), else b""."""
    line = data.find(b"\r\n", at)
    if line < 0 or data[at + 1 : line] in (b"0", b"-1"):
        return b""
    begin = line + 2
    end = data.find(b"\r\n", begin)
    if end < 0:
        return b""
    if data[begin : begin + 1] == b"+":
        return data[begin + 1 : end]
    if data[begin : begin + 1] == b"$" and LENGTH.fullmatch(data, begin + 1, end):
        return data[end + 2 : end + 2 + max(int(data[begin + 1 : end]), 0)]
    return b""


def commands(data: bytes) -> Iterator[Command]:
    """The commands from the first byte on, up to the first one that is cut (it is given) or malformed (it is not).

    Empty commands (`*0`, an empty line) are left out: the server does not answer them.
    """
    at = 0
    while 0 <= at < len(data):
        if data[at] == b"*"[0]:
            head = COMMAND.match(data, at)
            if head is None:
                return
            command = _array(data, head.end(), int(head[1]))
        else:
            command = _inline(data, at)
        if command is None:
            return
        at = command.end
        if command.arguments:
            yield command


def _array(data: bytes, at: int, count: int) -> Command | None:
    arguments: list[bytes] = []
    while len(arguments) < count:
        head = ARGUMENT.match(data, at)
        if head is None:
            return Command(arguments, count, CUT) if ARGUMENT_BEGUN.fullmatch(data, at) else None
        begin = head.end()
        end = begin + int(head[1])
        arguments.append(data[begin:end])
        if end > len(data):
            return Command(arguments, count, CUT, cut=True)
        at = end + 2
        if data[end:at] != b"\r\n":
            return Command(arguments, count, CUT) if at > len(data) else None
    return Command(arguments, max(count, 0), at)


def _inline(data: bytes, at: int) -> Command | None:
    """One line of words; a quoted word may contain spaces (sds.c: sdssplitargs)."""
    line = data.find(b"\n", at, at + INLINE_LIMIT)
    text = data[at:line] if line >= 0 else data[at : at + INLINE_LIMIT]
    arguments = _words(text) if b'"' in text or b"'" in text else text.split()
    if line >= 0:
        return Command(arguments, len(arguments), line + 1)
    if not arguments:
        return None
    return Command(arguments, len(arguments), CUT, cut=not text[-1:].isspace())


def _words(text: bytes) -> list[bytes]:
    """Words and quoted words. What follows a quote that nobody closes is one word: each byte is looked at once."""
    words = []
    at = 0
    while word := WORD.match(text, at):
        words.append(word[1] or word[2] or word[3] or b"")
        at = word.end()
    rest = text[at:].strip()
    return [*words, rest] if rest else words
