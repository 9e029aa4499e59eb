"""MySQL and MariaDB: text and prepared statements, errors with their number, whole sessions.

What is one reading: each command that an application gives. Commands of drivers (ping, reset, closing a statement) and
logins are none, but a refused login is: operation CONNECT. A COM_STMT_PREPARE is a reading of its own, unless its
execution lies in the same write (MariaDB's statement id -1). LOAD DATA LOCAL is one reading, at its end.

`db.operation.name` is the statement's verb, or the command's own name where there is no statement or it is not executed
(COM_INIT_DB, COM_STMT_PREPARE). `db.system.name` is "mariadb" if the server's greeting, or the client's login, said so;
a connection that is older than the observer counts as "mysql". `db.namespace` is the default database as of the login,
COM_INIT_DB, USE, or the server's session tracking.

What the session remembers, by key: `S`id, the text of a statement (-1 is the last that was prepared), and `N`id, its
number of parameters; the 256 last; `infile`, the text of a LOAD DATA LOCAL that waits for data; `db`; `system`. A text
that was cut ends in NUL.

Sources: dev.mysql.com "MySQL Client/Server Protocol"; mariadb.com "Client/Server Protocol"; OpenTelemetry
docs/db/mysql.md and mariadb.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from otel_ebpf.protocols.base import Options, Reading, Session
from otel_ebpf.protocols.extras import Leave
from otel_ebpf.protocols.mysql_packets import (
    COMMANDS,
    NO_ANSWER,
    Answer,
    answers,
    asks,
    bulk_rows,
    greeting,
    is_tls,
    login,
    packets,
    plain,
    says,
    text_of_query,
)
from otel_ebpf.protocols.sql import Dialect, Sql
from otel_ebpf.protocols.sql_fields import Database, Outcome
from otel_ebpf.protocols.sql_session import CUT, NAMESPACE, SYSTEM, forget, recall, remember

_INFILE = b"infile"
_LAST = b"\xff\xff\xff\xff"
_CHANGES = re.compile(rb"\b(?:use|load)\b", re.IGNORECASE)
_NO_ANSWER_TO = frozenset({0x01, 0x18, 0x19})
"""COM_QUIT, COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE: the next command follows at once."""
_NOT_THE_APPLICATIONS = _NO_ANSWER_TO | {0x09, 0x0A, 0x0D, 0x0E, 0x15, 0x1A, 0x1B}
_QUERY, _INIT_DB, _FIELD_LIST, _CREATE_DB, _DROP_DB = 0x03, 0x02, 0x04, 0x05, 0x06
_PREPARE, _EXECUTE, _BULK, _FETCH, _CLOSE = 0x16, 0x17, 0xFA, 0x1C, 0x19
_CHANGE_USER, _RESET_CONNECTION = 0x11, 0x1F


class MySQL:
    """See the module."""

    name = "mysql"
    duration_metric = ("", "db.client.operation.duration")

    def __init__(self) -> None:
        self._sql = Sql(Dialect.MYSQL)

    def detect(self, request: bytes, response: bytes) -> float:
        """See `Protocol.detect`."""
        asked = asks(request) if request else -1.0
        said = says(response) if response else -1.0
        if asked > 0 and said > 0:
            return min(0.99, 1 - (1 - asked) * (1 - said))
        if asked < 0 or said < 0:
            return max(asked, said, 0.0)
        if asked >= 0.95 and response[:2] == b"\x16\x03":
            return 0.98  # a login that goes on with TLS
        return 0.0

    def stateful(self, request: bytes) -> bool:
        """The reading depends on what the connection remembers beside its namespace, or changes it."""
        return request[3:5] != b"\0\x03" or _CHANGES.search(request) is not None

    def complete(self, request: bytes, response: bytes, req_bytes: int, rsp_bytes: int) -> bool | None:
        """See `Completing.complete`."""
        last = first = None
        if rsp_bytes == len(response) and plain(response) is response:
            for packet in packets(response):
                first, last = first or packet, packet
        if first is None or last is None:
            return None
        if last.cut:
            return False
        return True if first is last and first.payload[:1] in (b"\0", b"\xff") else None

    def leaves(self, request: bytes, response: bytes) -> Leave:
        """See `Leaving.leaves`: after the client's request for TLS its plain text may come, or nothing readable."""
        tls = request[3:4] == b"\1" and request[:3] == b"\x20\0\0" and login(request[4:36])
        return Leave.UNDECIDED if tls and tls.tls else Leave.NO

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        """See `Protocol.parse`."""
        request, response = plain(request), plain(response)
        _greeted(response, session)
        if len(request) < 4 or is_tls(request):
            return ()
        if request[3]:
            return self._continued(request, response, session, options)
        said = answers(response)
        readings: list[Reading] = []
        at = 0
        pending: tuple[str, Outcome] | None = None
        for packet in packets(request):
            payload = packet.payload
            if packet.sequence or not payload or payload[0] not in COMMANDS:
                break
            command = payload[0]
            answer = said[at] if at < len(said) else NO_ANSWER
            at += command not in _NO_ANSWER_TO
            if pending is not None and command in (_EXECUTE, _BULK) and payload[1:5] == _LAST:
                readings.pop()
                if pending[1].failed:
                    answer = answer._replace(outcome=pending[1])
            pending = None
            reading = self._command(command, payload, packet.cut, answer, session, options)
            if reading is not None:
                readings.append(reading)
                if command == _PREPARE:
                    pending = (_text(payload[1:], packet.cut), answer.outcome)
            if answer.schema is not None:
                remember(session, NAMESPACE, _name(answer.schema))
        return readings

    def _command(
        self, command: int, payload: bytes, cut: bool, answer: Answer, session: Session, options: Options
    ) -> Reading | None:
        database, outcome = _database(session), answer.outcome
        name = COMMANDS[command]
        match command:
            case 0x03:  # COM_QUERY
                text = _text(text_of_query(payload), cut)
                if answer.first[:1] == b"\xfb":  # the server waits for the file of a LOAD DATA LOCAL
                    remember(session, _INFILE, text)
                    return None
                return self._query(text, outcome, session, options)
            case 0x16:  # COM_STMT_PREPARE
                text = _text(payload[1:], cut)
                _prepared(text, answer, session)
                return self._query(text, outcome, session, options, name)
            case 0x17 | 0x1C:  # COM_STMT_EXECUTE, COM_STMT_FETCH
                known = recall(session, b"S" + payload[1:5])
                if known is None:
                    return database.command(name, outcome)
                return self._query(known, outcome, session, options, "" if command == _EXECUTE else name)
            case 0xFA:  # COM_STMT_BULK_EXECUTE
                return self._bulk(payload, cut, outcome, session, options)
            case 0x02:  # COM_INIT_DB
                asked = _name(payload[1:])
                if not outcome.failed:
                    remember(session, NAMESPACE, asked)
                return Database(database.protocol, database.system, asked).command(name, outcome, asked)
            case 0x05 | 0x06:
                return database.command(name, outcome, _name(payload[1:]))
            case 0x04:
                table = _name(payload[1:].partition(b"\0")[0])
                return database.command(name, outcome, table, table)
            case 0x19:
                forget(session, b"S" + payload[1:5])
                forget(session, b"N" + payload[1:5])
                return None
            case 0x11 | 0x1F:  # COM_CHANGE_USER, COM_RESET_CONNECTION
                return _begun_again(command, payload, outcome, session)
        return None if command in _NOT_THE_APPLICATIONS else database.command(name, outcome)

    def _query(
        self, text: str, outcome: Outcome, session: Session, options: Options, command: str = ""
    ) -> Reading | None:
        shown = text.rstrip(CUT)
        statement = self._sql.read(shown, text.endswith(CUT))
        if not statement.text and not outcome.failed:
            return None
        reading = _database(session).query(statement, statement.text if options.redact else shown, outcome, command)
        if statement.database and not command and not outcome.failed:
            remember(session, NAMESPACE, statement.database)
        return reading

    def _bulk(self, payload: bytes, cut: bool, outcome: Outcome, session: Session, options: Options) -> Reading | None:
        database = _database(session)
        text = recall(session, b"S" + payload[1:5])
        if text is None:
            return database.command(COMMANDS[_BULK], outcome)
        rows = 0 if cut else bulk_rows(payload, int(recall(session, b"N" + payload[1:5]) or 0))
        if rows == 1:
            return self._query(text, outcome, session, options)
        statement = self._sql.read(text.rstrip(CUT), text.endswith(CUT))
        shown = statement.text if options.redact else text.rstrip(CUT)
        return database.batch([statement], [shown], outcome, rows)

    def _continued(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        """What begins with a later sequence number: a login, what authentication asks for, or a file's content."""
        said = answers(response)
        answer = said[0] if said else NO_ANSWER
        text = recall(session, _INFILE)
        if text is not None:
            forget(session, _INFILE)
            reading = self._query(text, answer.outcome, session, options)
            return () if reading is None else [reading]
        packet = next(packets(request))
        given = login(packet.payload)
        if given is not None:
            if given.mariadb:
                remember(session, SYSTEM, "mariadb")
            if given.database:
                remember(session, NAMESPACE, _name(given.database))
            if given.tls:
                return ()
        if not answer.outcome.failed:
            return ()
        return [_database(session).command("CONNECT", answer.outcome)]


def _database(session: Session) -> Database:
    remembered = session.remembered
    return Database("mysql", remembered.get(SYSTEM, "mysql"), remembered.get(NAMESPACE, ""))


def _text(text: bytes, cut: bool) -> str:
    decoded = text.decode("utf-8", "replace")
    return decoded + CUT if cut else decoded


def _name(name: bytes) -> str:
    return name[:256].decode("utf-8", "replace")


def _greeted(response: bytes, session: Session) -> None:
    if response[3:5] == b"\0\x0a" and "MariaDB" in greeting(response[4:]):
        remember(session, SYSTEM, "mariadb")


def _prepared(text: str, answer: Answer, session: Session) -> None:
    """COM_STMT_PREPARE_OK: 0, id (4 bytes), columns (2), parameters (2), 0, warnings (2)."""
    first = answer.first
    if first[:1] != b"\0" or len(first) < 9:
        return
    parameters = str(int.from_bytes(first[7:9], "little"))
    for number in (first[1:5], _LAST):
        remember(session, b"S" + number, text)
        if session.remembered.get(SYSTEM) == "mariadb":  # only that has COM_STMT_BULK_EXECUTE
            remember(session, b"N" + number, parameters)


def _begun_again(command: int, payload: bytes, outcome: Outcome, session: Session) -> Reading | None:
    """All prepared statements are gone; COM_CHANGE_USER logs in: user, password, database."""
    for key in [key for key in session.remembered if key[:1] in (b"S", b"N")]:
        forget(session, key)
    if command == _RESET_CONNECTION:
        return None
    after = payload.find(b"\0", 1) + 1
    if after and after < len(payload):
        at = after + 1 + payload[after]
        remember(session, NAMESPACE, _name(payload[at:].partition(b"\0")[0]) or None)
    return _database(session).command("CONNECT", outcome) if outcome.failed else None
