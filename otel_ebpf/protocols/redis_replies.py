"""Which part of what a Redis server sent answers which command, and whether with an error.

A reply is found by walking values in order; what the server sends by itself between them is stepped over (see
`is_aside`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from otel_ebpf.protocols.resp import CUT, MALFORMED, body, first_text, skip

BATCH_LIMIT = 1000
"""Largest `db.operation.batch.size` that is reported: each size is a shape of its own."""
OTHER = "_OTHER"
"""`error.type` of an error whose prefix is none (error.type of the registry: the fallback value)."""

WHOLE = {b"$%d" % size: size for size in range(1024)}
"""Length lines of strings that a record can hold: the fast way to check a length."""
ERROR_PREFIX = re.compile(rb"[A-Z][A-Z0-9_]{0,31}(?=[ \r\n])")
MONITOR_LINE = re.compile(rb"\+\d{9,}\.\d{6} \[")
SIMPLE_REPLY = re.compile(rb"[$:*_#%~,(]|\+[^\d]")
EXECUTED = re.compile(rb"\*(\d{1,9})\r\n")

SUBSCRIBES = frozenset(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"])
WHILE_SUBSCRIBED = SUBSCRIBES | {"PING", "QUIT", "RESET"}
"""All that a subscribed RESP2 connection may send; none is answered by an array that starts with "message"."""
MESSAGES = (b"message", b"pmessage", b"smessage")


def find(response: bytes, at: int, operation: str, arguments: int) -> tuple[int, int]:
    """(start of the operation's reply, offset after it); start is len(response) where it cannot be known.

    arguments: how many the command has, since SUBSCRIBE is confirmed once for each.
    """
    nothing = len(response)
    expected = max(arguments, 1) if operation in SUBSCRIBES else 1
    first = nothing
    while at < len(response):
        aside = is_aside(response, at, operation)
        if not aside and not expected:
            # UNSUBSCRIBE from everything is confirmed for each channel, and does not say how many there are.
            if (
                arguments
                or operation not in SUBSCRIBES
                or first_text(response, at).upper().decode("latin-1") != operation
            ):
                break
        elif not aside:
            expected -= 1
            if first == nothing:
                begin = body(response, at)
                if begin >= 0:
                    first = begin
                    expected *= response[begin] not in b"-!"
        elif not expected:
            break
        at = skip(response, at)
        if at < 0:
            return first, nothing
    return first, at


def is_aside(response: bytes, at: int, operation: str) -> bool:
    """Whether the value at `at` is no reply to the operation but something that the server sends by itself.

    Without an operation ("") only what cannot be a reply to any is.
    """
    kind = response[at : at + 1]
    if kind == b">":
        confirmed = first_text(response, at).decode("latin-1").upper()
        return confirmed not in SUBSCRIBES or operation not in ("", confirmed)
    if kind == b"+":
        return MONITOR_LINE.match(response, at) is not None
    return kind == b"*" and operation in WHILE_SUBSCRIBED and first_text(response, at) in MESSAGES


def error_of(response: bytes, start: int, operation: str) -> str:
    """The prefix of an error reply, OTHER if it has none, "" if the reply is no error (or not there).

    EXEC fails with the first of its commands that does.
    """
    kind = response[start : start + 1]
    head = EXECUTED.match(response, start) if operation == "EXEC" else None
    if head is not None:
        at = head.end()
        for _ in range(int(head[1])):
            start = body(response, at)
            if start < 0:
                return ""
            kind = response[start : start + 1]
            if kind in b"-!":
                break
            at = skip(response, start)
            if at < 0:
                return ""
    if kind == b"-":
        start += 1
    elif kind == b"!":
        start = response.find(b"\r\n", start) + 2
    else:
        return ""
    prefix = ERROR_PREFIX.match(response, start)
    return prefix[0].decode() if prefix else OTHER


def batch_size(response: bytes, start: int) -> int:
    """How many commands EXEC ran; -1 if it is not known, too many for a shape, or 1, which is no batch."""
    head = EXECUTED.match(response, start)
    size = int(head[1]) if head else -1
    return size if size != 1 and size <= BATCH_LIMIT else -1


def next_line(lines: Sequence[bytes], line: int, last: bool) -> int:
    """The index of the line after the plain reply at `line`; CUT if none is there, MALFORMED if it is not plain.

    Of the last reply only the beginning is looked at.
    """
    text = lines[line] if line < len(lines) else b""
    if not text and line >= len(lines) - 1:
        return CUT
    if not SIMPLE_REPLY.match(text):
        return MALFORMED
    if last or line == len(lines) - 1:  # what follows the last CRLF is no whole line
        return CUT
    if text[:1] in b"+:_#,(":
        return line + 1
    size = WHOLE.get(text)
    if size is None:
        return line + 1 if text == b"$-1" else MALFORMED
    if line + 2 >= len(lines):
        return CUT
    return line + 2 if len(lines[line + 1]) == size else MALFORMED
