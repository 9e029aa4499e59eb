"""Redis (and Valkey, KeyDB, Dragonfly, Sentinel: whatever speaks RESP2 or RESP3) → database spans.

Theory of operation. A client may send many commands before it reads the first reply, so what capture calls one exchange
can be k commands and k replies; they are paired in order, and each pair is a Reading. Three things come down the same
connection that are no replies, and must not shift the pairing: pushes (RESP3 `>`; in RESP2 arrays that start with
"message", which only a subscribed connection receives), the lines of MONITOR, and empty commands, which get no reply.
SUBSCRIBE gets one confirmation a channel, CLIENT REPLY OFF and SKIP none at all. The session remembers, by connection:

    b"db"      the database that SELECT chose: `db.namespace`. Absent until a SELECT was seen to succeed, because a
               connection that is older than the agent may have any. RESET goes back to 0.
    b"queued"  the database of a SELECT that waits for EXEC
    b"reply"   "off" or "skip" (CLIENT REPLY): the next command gets no reply

Conventions: span.db.redis.client of the OpenTelemetry registry. The operation's name is upper-case (clients differ in
case, and it names metrics), with its subcommand ("CONFIG GET"), as Redis's documentation names its commands. Status and
`error.type` are the error's prefix; an error without one (modules write such) has `error.type` "_OTHER".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from otel_ebpf.model import AttributeValue
from otel_ebpf.protocols import redis_commands as table
from otel_ebpf.protocols.base import Fields, Options, Reading, Session, Side, Slot
from otel_ebpf.protocols.extras import Batch, Readings
from otel_ebpf.protocols.redis_columns import RedisColumns
from otel_ebpf.protocols.redis_replies import (
    OTHER,
    WHILE_SUBSCRIBED,
    WHOLE,
    batch_size,
    error_of,
    find,
    is_aside,
    next_line,
)
from otel_ebpf.protocols.resp import CUT, MALFORMED, Command, commands, skip

MAX_COMMANDS = 256
"""Most Readings of one exchange; the largest record (1024 bytes) holds 170 of the shortest commands."""
CACHE_LIMIT = 4096
"""Most entries of each of the instance's caches, which start afresh beyond it."""

NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_.:-]{0,39}")
SUBCOMMAND = re.compile(rb"[A-Za-z][A-Za-z-]{0,24}")
DATABASE = re.compile(rb"\d{1,9}")
MAX_ARGUMENTS = 8
ARITY = {b"*%d" % (count + 1): 2 * count + 3 for count in range(MAX_ARGUMENTS + 1)}
"""How many lines a command with so many arguments has; those with more take the slow path."""
PLAIN = table.PLAIN.fullmatch
quoted = table.quoted
REQUEST_HEAD = re.compile(rb"\*[1-9]\d{0,6}\r\n\$([1-9]\d?)\r\n([A-Za-z][A-Za-z0-9_.:-]*)(\r\n|\Z)")
RESPONSE_HEAD = re.compile(
    rb"(?:[+-][ -~\x80-\xff]*|:[+-]?\d{1,19}|[$!=*~>%|](?:-1|\d{1,10})|_|#[tf]|,[-+.\deEinfa]{1,32}|\([+-]?\d+)"
    rb"(?:\r\n|\r?\Z)"
)
STATEFUL = frozenset({"SELECT", "RESET", "EXEC", "DISCARD", "CLIENT REPLY"})
"""Commands that change what the session remembers."""
INVOLVED = STATEFUL | WHILE_SUBSCRIBED | {"REPLCONF"}
"""Commands that the fast path leaves alone, beside those with subcommands or patterns of their own."""
UNCOLUMNED = INVOLVED - {"EXEC"}  # which without a SELECT before it changes nothing

T = TypeVar("T")
V = TypeVar("V")

SYSTEM = ("db.system.name", "redis")
TEXT = Slot("db.query.text", 0)
PROCEDURE = Slot("db.stored_procedure.name", 1)


@dataclass(frozen=True, slots=True)
class Simple:
    """A command that the fast path may read. shape: the letters of its first two arguments; "" if it takes a look."""

    name: str
    operation: str
    shape: str


class Redis:
    """The `Protocol` of Redis; see the module's docstring.

    >>> request = b"*3\\r\\n$3\\r\\nset\\r\\n$1\\r\\na\\r\\n$2\\r\\n42\\r\\n"
    >>> [reading] = Redis().parse(request, b"+OK\\r\\n", Session(), Options())
    >>> reading.fields.client.name, reading.texts
    ('SET', ('set a ?',))
    """

    name = "redis"
    duration_metric = ("", "db.client.operation.duration")

    def __init__(self) -> None:
        self._simple: dict[bytes, Simple | None] = {}
        self._answered: dict[tuple[bytes, str | None], Fields] = {}
        self._fields: dict[tuple[str, str | None, str, int], Fields] = {}
        self._columns = RedisColumns(self._plain, self._describe)

    def detect(self, request: bytes, response: bytes) -> float:
        """An array of bulk strings that starts with a name is Redis; an inline command only beside a RESP reply."""
        answered = RESPONSE_HEAD.match(response) is not None and skip(response, 0) != MALFORMED
        head = REQUEST_HEAD.match(request)
        if head is not None and (len(head[2]) == int(head[1]) if head[3] else len(head[2]) <= int(head[1])):
            return (0.98 if answered else 0.3) if response else 0.9
        if not request:
            # A simple line ("+OK", "-ERR …") is what POP3 and NATS say as well.
            return 0.0 if not answered else 0.4 if response[:1] in b"+-" else 0.5
        if not answered or b" HTTP/1." in request:
            return 0.0
        if b"\r\n$" in request or b"\r\n*" in request:
            return 0.3  # the rest of a command that began earlier
        first = next(commands(request), None)
        if first is None or request[:1] in b"*$" or not table.known(first.arguments[0].upper().decode("latin-1")):
            return 0.0
        return 0.0 if response.startswith(b"+OK ") else 0.6

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        """One Reading a command, in order: at most MAX_COMMANDS; a cut last one only if its name is whole."""
        if options.redact and b"reply" not in session.remembered:
            readings = self._simply(request, response, session)
            if readings is not None:
                return readings
        return self._pipeline(request, response, session, options)

    def read(self, batch: Batch, sessions: Mapping[int, Session], options: Options) -> Readings:
        """Exchanges of plain commands, whole batches at once."""
        return self._columns.read(batch, sessions, options.redact)

    def split(self, request: bytes) -> list[int]:
        """End offsets of the whole commands in `request`; the n-th is answered by the n-th of `replies`.

        >>> Redis().split(b"*1\\r\\n$4\\r\\nPING\\r\\n*1\\r\\n$4\\r\\nPI")
        [14]
        """
        return [command.end for command in commands(request) if command.end != CUT]

    def replies(self, response: bytes) -> list[int]:
        """End offsets of the whole replies in `response`; pushes and MONITOR's lines belong to the reply after them.

        A confirmation of SUBSCRIBE counts as a reply; there is one a channel.

        >>> Redis().replies(b">2\\r\\n+invalidate\\r\\n_\\r\\n+OK\\r\\n:1\\r\\n")
        [25, 29]
        """
        ends = []
        at = 0
        while at < len(response):
            aside = is_aside(response, at, "")
            at = skip(response, at)
            if at < 0:
                break
            if not aside:
                ends.append(at)
        return ends

    def _simply(self, request: bytes, response: bytes, session: Session) -> list[Reading] | None:
        """The common case in a third of the time: whole commands of few arguments, no error, nothing to follow.

        None wherever anything is not as plain as that; nothing has been remembered then.
        """
        parts = request.split(b"\r\n", 3 * MAX_COMMANDS)
        lines = response.split(b"\r\n", 2 * MAX_COMMANDS)
        size, line = len(parts) - 1, 0
        if not size or parts[size]:
            return None
        database = session.remembered.get(b"db")
        readings = []
        at = 0
        while at < size:
            after = at + ARITY.get(parts[at], size + 1)
            if after > size:
                return None
            name = parts[at + 2]
            simple = self._simple[name] if name in self._simple else self._learn(name)
            if simple is None or WHOLE.get(parts[at + 1]) != len(name):
                return None
            if after - at <= 7 and simple.shape:  # up to two arguments, hidden by position alone
                text = simple.name
                if after - at >= 5:
                    value = parts[at + 4]
                    if WHOLE.get(parts[at + 3]) != len(value):
                        return None
                    text += (
                        " " + (value.decode() if PLAIN(value) else quoted(value)) if simple.shape[0] == "k" else " ?"
                    )
                if after - at == 7:
                    value = parts[at + 6]
                    if WHOLE.get(parts[at + 5]) != len(value):
                        return None
                    text += (
                        " " + (value.decode() if PLAIN(value) else quoted(value)) if simple.shape[1] == "k" else " ?"
                    )
            else:
                values = parts[at + 4 : after : 2]
                if list(map(WHOLE.get, parts[at + 3 : after : 2])) != list(map(len, values)):
                    return None
                text = table.text([name], values, table.letters(simple.operation, values), False, False)
            if len(text) > table.TEXT_LIMIT:
                return None
            if line >= 0:
                line = next_line(lines, line, after == size)
                if line == MALFORMED:
                    return None
            fields = self._answered.get((name, database))
            if fields is None:
                _make_room(self._answered)
                fields = self._answered[name, database] = self._describe(name.decode().upper(), database, "", -1)
            readings.append(Reading(fields, (text,)))
            at = after
        return readings

    def _plain(self, name: bytes) -> str | None:
        """The operation of a command that may be read by columns."""
        operation = name.decode().upper() if NAME.fullmatch(name) else ""
        return None if not operation or operation in table.CONTAINERS or operation in UNCOLUMNED else operation

    def _learn(self, name: bytes) -> Simple | None:
        """What the fast path may know of a command; None if its reading takes more than one look."""
        simple = None
        operation = name.decode().upper() if NAME.fullmatch(name) else ""
        if operation and not (operation in INVOLVED or operation in table.CONTAINERS or operation in table.PROCEDURES):
            shape = "" if operation in table.SPECIAL else table.expanded(table.pattern_of(operation), 2)
            simple = Simple(name.decode(), operation, shape if table.PURE.fullmatch(shape) else "")
        _make_room(self._simple)
        self._simple[name] = simple
        return simple

    def _pipeline(self, request: bytes, response: bytes, session: Session, options: Options) -> list[Reading]:
        if session.remembered.get(b"reply") == "off" and response and b"reply" not in request.lower():
            _remember(session, b"reply", None)  # it answers: the command that switched replies on was not seen
        readings: list[Reading] = []
        at = 0
        for command in commands(request):
            words, operation = _operation(command)
            start = len(response)
            if not _silent(session, operation, command.arguments[words:]):
                start, at = find(response, at, operation, command.count - words)
            error = error_of(response, start, operation)
            if operation:
                readings.append(self._reading(command, words, operation, response, start, error, session, options))
                if operation in STATEFUL:
                    _follow(session, operation, command.arguments[words:], response[start : start + 3], error)
            if len(readings) == MAX_COMMANDS:
                break
        return readings

    def _reading(
        self,
        command: Command,
        words: int,
        operation: str,
        response: bytes,
        start: int,
        error: str,
        session: Session,
        options: Options,
    ) -> Reading:
        arguments = command.arguments[words:]
        letters = table.letters(operation, arguments) if options.redact else "k" * len(arguments)
        missing = len(command.arguments) < command.count
        text = table.text(command.arguments[:words], arguments, letters, missing, command.cut)
        size = batch_size(response, start) if operation == "EXEC" else -1
        fields = self._describe(operation, session.remembered.get(b"db"), error, size)
        if operation in table.PROCEDURES:
            return Reading(fields, (text, quoted(arguments[0]) if command.whole(1) else ""))
        return Reading(fields, (text,))

    def _describe(self, operation: str, database: str | None, error: str, size: int) -> Fields:
        key = (operation, database, error, size)
        fields = self._fields.get(key)
        if fields is None:
            _make_room(self._fields)
            fields = self._fields[key] = _fields(operation, database, error, size)
        return fields


def _make_room(cache: dict[T, V]) -> None:
    if len(cache) >= CACHE_LIMIT:
        cache.clear()


def _fields(operation: str, database: str | None, error: str, size: int) -> Fields:
    """Both ends report the same; the convention's metric is the client's. error: prefix, "_OTHER", or "" = none."""
    attributes: list[tuple[str, AttributeValue]] = [SYSTEM, ("db.operation.name", operation)]
    if database is not None:
        attributes.append(("db.namespace", database))
    status = "" if error == OTHER else error
    if status:
        attributes.append(("db.response.status_code", status))
    if error:
        attributes.append(("error.type", error))
    metric = tuple(attributes)
    if size >= 0:
        attributes.append(("db.operation.batch.size", size))
    slots = (TEXT, PROCEDURE) if operation in table.PROCEDURES else (TEXT,)
    server = Side(operation, tuple(attributes), (), bool(error), slots)
    return Fields("redis", server, Side(operation, tuple(attributes), metric, bool(error), slots), status)


def _operation(command: Command) -> tuple[int, str]:
    """(number of words, upper-case name) of a command; (1, "") if the name is not whole or none."""
    name = command.arguments[0]
    if not command.whole(0) or not NAME.fullmatch(name):
        return 1, ""
    operation = name.decode().upper()
    if operation not in table.CONTAINERS or command.count < 2:
        return 1, operation
    if not command.whole(1):
        return 1, ""
    subcommand = command.arguments[1]
    if not SUBCOMMAND.fullmatch(subcommand):
        return 1, operation
    return 2, f"{operation} {subcommand.decode().upper()}"


def _silent(session: Session, operation: str, arguments: Sequence[bytes]) -> bool:
    """Whether the server sends no reply to this command."""
    first = arguments[0].upper() if arguments else b""
    if operation == "CLIENT REPLY":
        return first in (b"OFF", b"SKIP")
    if session.remembered.get(b"reply") == "skip":
        _remember(session, b"reply", None)
        return True
    # A replica that reports its offset gets no answer (replication.c: replconfCommand).
    return session.remembered.get(b"reply") == "off" or (operation == "REPLCONF" and first == b"ACK")


def _follow(session: Session, operation: str, arguments: Sequence[bytes], reply: bytes, error: str) -> None:
    """What a command changes for those after it. reply: its first bytes; b"" if it was not seen."""
    if operation == "CLIENT REPLY":
        mode = arguments[0].lower() if arguments else b""
        _remember(session, b"reply", mode.decode() if mode in (b"off", b"skip") else None)
    elif operation == "SELECT" and not error:
        database = arguments[0].decode() if arguments and DATABASE.fullmatch(arguments[0]) else None
        if reply == b"+QU":
            _remember(session, b"queued", database)
        else:
            _remember(session, b"db", database if reply else None)
    elif operation == "EXEC" or operation == "DISCARD":
        queued = session.remembered.get(b"queued")
        if operation == "EXEC" and queued is not None and reply[:1] == b"*" and reply[1:2] != b"-":
            _remember(session, b"db", queued)
        _remember(session, b"queued", None)
    elif operation == "RESET" and not error:
        _remember(session, b"db", "0")
        _remember(session, b"queued", None)


def _remember(session: Session, key: bytes, value: str | None) -> None:
    """Sets or (None) forgets, and counts a new version only where something changes."""
    if session.remembered.get(key) == value:
        return
    if value is None:
        del session.remembered[key]
    else:
        session.remembered[key] = value
    session.version += 1
