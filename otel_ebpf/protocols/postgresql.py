"""PostgreSQL, protocol 3: simple and extended queries, COPY, errors with their SQLSTATE.

What is one reading: a simple Query; or all that the extended protocol does up to one Sync. Several executions before
one Sync are a batch (that is how drivers send `executemany`), several Syncs in one write (a libpq pipeline) are several
readings. A Parse that is not executed in the same write is a reading of its own, "PREPARE …". COPY FROM STDIN is one
reading, at its end: the answer to the data. Login, TLS negotiation, Sync and Close alone are none, but a refused login
is: operation CONNECT.

What the session remembers, by key: `S`name and `P`name, texts of statements and portals (the 256 used last);
`copy`, the text of a COPY that waits for data; `db`, the namespace. A text that was cut ends in NUL. Where a statement
was prepared before the connection was seen, its operation is that of the server's CommandComplete.

`db.namespace` is the database (by default it has the name of the user) and, if given in the startup message, the first
schema of its search_path, as of when the connection was opened; a connection that was older than the observer has none.

Source: PostgreSQL manual, chapter 55; OpenTelemetry docs/db/postgresql.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from otel_ebpf.protocols.base import Options, Reading, Session
from otel_ebpf.protocols.extras import Leave
from otel_ebpf.protocols.postgresql_messages import (
    BACKEND,
    FRONTEND,
    GSSENC,
    NO_ANSWER,
    STARTUP,
    TLS,
    Answer,
    answers,
    looks,
    messages,
    startup,
)
from otel_ebpf.protocols.sql import Dialect, Sql
from otel_ebpf.protocols.sql_fields import FINE, Database, Outcome
from otel_ebpf.protocols.sql_session import CUT, NAMESPACE, forget, recall, remember

_SEARCH_PATH = re.compile(r"search_path\s*=\s*(?:\\ )*\"?([^\s,\"\\]+)")
_SYNC = b"S\0\0\0\4"
_READY = (b"Z\0\0\0\5I", b"Z\0\0\0\5T", b"Z\0\0\0\5E")


@dataclass(slots=True)
class _Unit:
    """What one reading comes from. Texts are None where the statement was prepared before the connection was seen."""

    executed: list[str | None] = field(default_factory=list)
    prepared: str | None = None
    called: bool = False
    data: bool = False
    cut: bool = False

    def __bool__(self) -> bool:
        return bool(self.executed) or self.prepared is not None or self.called or self.data


class PostgreSQL:
    """See the module. Also speaks for what speaks like PostgreSQL: CockroachDB, Redshift, PgBouncer."""

    name = "postgresql"
    duration_metric = ("", "db.client.operation.duration")

    def __init__(self) -> None:
        self._sql = Sql(Dialect.POSTGRESQL)

    def detect(self, request: bytes, response: bytes) -> float:
        """See `Protocol.detect`."""
        if startup(request) is not None:
            return 0.98 if response[:1] in (b"", b"N", b"S", b"G", b"R", b"E", b"v") else 0.0
        asks = looks(request, FRONTEND) if request else -1.0
        says = looks(response, BACKEND) if response else -1.0
        if asks > 0 and says > 0:
            return min(0.99, 1 - (1 - asks) * (1 - says))
        if asks < 0 or says < 0:
            return max(asks, says, 0.0)
        if asks == 0 and says >= 0.9 and response.endswith(_READY):
            return 0.6  # the request was seen from its middle on
        return 0.0

    def stateful(self, request: bytes) -> bool:
        """The reading depends on what the connection remembers beside its namespace, or changes it."""
        return request[:1] != b"Q" or b"copy" in request[:1024].lower()

    def complete(self, request: bytes, response: bytes, req_bytes: int, rsp_bytes: int) -> bool | None:
        """See `Completing.complete`: ReadyForQuery is the end, where a Query or a Sync asks for one."""
        if req_bytes != len(request):
            return None
        if rsp_bytes != len(response):
            # An error and ReadyForQuery are sent by two calls; nothing else that can come last is as long as this one.
            return True if rsp_bytes - len(response) == len(_READY[0]) and _whole(response) else None
        if response.endswith(_READY):
            return True
        return False if request.endswith(_SYNC) or (request[:1] == b"Q" and b"G\0\0" not in response) else None

    def leaves(self, request: bytes, response: bytes) -> Leave:
        """See `Leaving.leaves`: after a yes to TLS or GSSAPI its plain text may come, or nothing readable."""
        opening = startup(request) if request[:1] == b"\0" else None
        encrypts = opening is not None and opening[0] in (TLS, GSSENC) and response[:1] in (b"S", b"G")
        return Leave.UNDECIDED if encrypts else Leave.NO

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        """See `Protocol.parse`."""
        if request[:1] == b"Q" and int.from_bytes(request[1:5], "big") + 1 >= len(request):
            return self._simple(request, response, session, options)
        if request[:1] == b"\0":
            return _login(request, response, session)
        units = _units(request, session)
        if not units:
            return _refused(request, response, session)
        database = _database(session)
        said = _said(units, response)
        readings = []
        for at, unit in enumerate(units):
            answer = said[at] if at < len(said) else NO_ANSWER
            reading = self._reading(database, unit, answer, session, options)
            if reading is not None:
                readings.append(reading)
        return readings

    def _simple(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        """A lone Query, which is most of what most connections say."""
        text = _text(request[5:], int.from_bytes(request[1:5], "big") + 1 > len(request))
        outcome = FINE
        if _may_matter(response):
            answer = next(iter(answers(response)), NO_ANSWER)
            if answer.copying:
                remember(session, _COPY, text)
                return ()
            outcome = answer.outcome
        if not text.strip(_NOTHING):
            return ()
        return (self._query(_database(session), text, outcome, options),)

    def _reading(
        self, database: Database, unit: _Unit, answer: Answer, session: Session, options: Options
    ) -> Reading | None:
        executed = unit.executed
        if unit.data:
            if not (answer.tag or answer.outcome.failed):
                return None  # more data follows
            executed = [session.remembered.get(_COPY)]
            forget(session, _COPY)
        elif answer.copying and executed[-1:] and executed[-1]:
            remember(session, _COPY, executed[-1])
            return None
        if not executed and unit.prepared is not None:
            if not (unit.cut and (answer.executed or answer.outcome.failed)):
                return self._query(database, unit.prepared, answer.outcome, options, "PREPARE")
            executed = [unit.prepared]
        if not executed:
            return database.command("FunctionCall", answer.outcome)
        executed = [text for text in executed if text is None or text.strip(_NOTHING)]
        if not executed:
            return None  # drivers ask whether the connection lives by executing nothing
        known = [text for text in executed if text is not None]
        if len(known) < len(executed) or len(executed) == 1:
            if not known:
                return database.command(_verb(answer.tag), answer.outcome)
            return self._query(database, known[-1], answer.outcome, options)
        return self._batch(database, known, answer.outcome, options, unit.cut)

    def _query(self, database: Database, text: str, outcome: Outcome, options: Options, command: str = "") -> Reading:
        cut = text.endswith(CUT)
        if cut:
            text = text[:-1]
        statement = self._sql.read(text, cut)
        return database.query(statement, statement.text if options.redact else text, outcome, command)

    def _batch(self, database: Database, texts: list[str], outcome: Outcome, options: Options, cut: bool) -> Reading:
        statements = [self._sql.read(text.rstrip(CUT), text.endswith(CUT)) for text in texts]
        # pgjdbc sends BEGIN along with the first statement of a transaction: that makes no batch.
        kept = [at for at, statement in enumerate(statements) if not statement.control] or [0]
        if len(kept) == 1:
            return self._query(database, texts[kept[0]], outcome, options)
        statements = [statements[at] for at in kept]
        shown = [statements[i].text if options.redact else texts[at].rstrip(CUT) for i, at in enumerate(kept)]
        return database.batch(statements, shown, outcome, 0 if cut else len(kept))


# --- the request -----------------------------------------------------------------------------------------------------


def _units(request: bytes, session: Session) -> list[_Unit]:
    """The request cut at each Query and Sync; what it names goes into the session."""
    units: list[_Unit] = []
    unit = _Unit()
    unnamed: dict[bytes, str | None] = {}
    for message in messages(request, FRONTEND):
        unit.cut = message.cut
        body = message.body
        match message.kind:
            case 0x51:  # Query
                unit.executed.append(_text(body, message.cut))
                units.append(unit)
                unit = _Unit()
            case 0x50:  # Parse: name, text
                name, _, rest = body.partition(b"\0")
                unit.prepared = _text(rest, message.cut and b"\0" not in rest)
                _name(session, unnamed, b"S" + name, unit.prepared)
            case 0x42:  # Bind: portal, statement
                portal, _, rest = body.partition(b"\0")
                text = _named(session, unnamed, b"S" + rest.partition(b"\0")[0])
                _name(session, unnamed, b"P" + portal, text)
                if message.cut:  # it is bound in order to be executed
                    unit.executed.append(text)
            case 0x45:  # Execute: portal
                unit.executed.append(_named(session, unnamed, b"P" + body.partition(b"\0")[0]))
            case 0x43:  # Close: S or P, name
                if body[:1] in (b"S", b"P"):
                    forget(session, body.partition(b"\0")[0])
            case 0x46:  # FunctionCall
                unit.called = True
            case 0x64 | 0x63 | 0x66:  # CopyData, CopyDone, CopyFail
                unit.data = True
            case 0x53:  # Sync
                units.append(unit)
                unit = _Unit()
    units.append(unit)
    executed = any(unit.executed for unit in units)
    for key, text in unnamed.items():
        remember(session, key, None if executed else text)
    return [unit for unit in units if unit]


# An unnamed statement or portal that is executed in the write that made it need not be remembered. Most drivers do
# just that for every query, and would change the session each time.


def _name(session: Session, unnamed: dict[bytes, str | None], key: bytes, text: str | None) -> None:
    if len(key) == 1:
        unnamed[key] = text
    else:
        remember(session, key, text)


def _named(session: Session, unnamed: dict[bytes, str | None], key: bytes) -> str | None:
    return unnamed[key] if key in unnamed else recall(session, key)


def _text(body: bytes, cut: bool) -> str:
    end = body.find(b"\0")
    text = (body if end < 0 else body[:end]).decode("utf-8", "replace")
    return text + CUT if cut else text


def _may_matter(response: bytes) -> bool:
    """There may be an ErrorResponse or a CopyInResponse. Walking all rows costs time: it is done only then."""
    return b"E\0\0" in response or b"G\0\0" in response


def _said(units: list[_Unit], response: bytes) -> list[Answer]:
    """One answer for each unit."""
    known = len(units) == 1 and units[0].executed and None not in units[0].executed
    return [NO_ANSWER] if known and not _may_matter(response) else answers(response)


# --- login -----------------------------------------------------------------------------------------------------------


def _whole(response: bytes) -> bool:
    """Whether it ends where a message ends."""
    *_, last = (0, *(message.end for message in messages(response, BACKEND)))
    return last == len(response) > 0


def _login(request: bytes, response: bytes, session: Session) -> Sequence[Reading]:
    opening = startup(request)
    if opening is None or opening[0] != STARTUP:
        return ()
    parameters = opening[1]
    path = parameters.get(b"search_path", b"")
    given = _SEARCH_PATH.search("search_path=" + path.decode("utf-8", "replace")) if path else None
    given = given or _SEARCH_PATH.search(parameters.get(b"options", b"").decode("utf-8", "replace"))
    name = parameters.get(b"database") or parameters.get(b"user", b"")
    parts = [name.decode("utf-8", "replace")[:63], given[1][:63] if given else ""]
    namespace = "|".join(part for part in parts if part)
    if namespace:
        remember(session, NAMESPACE, namespace)
    return _refused(b"p", response, session)


def _refused(request: bytes, response: bytes, session: Session) -> Sequence[Reading]:
    """The server's no to a startup message or to a password."""
    if request[:1] != b"p":
        return ()
    failed = [answer.outcome for answer in answers(response) if answer.outcome.failed]
    return [_database(session).command("CONNECT", failed[0])] if failed else ()


# --- what the session remembers --------------------------------------------------------------------------------------

_COPY = b"copy"
_NOTHING = " ;\t\r\n\0"


def _database(session: Session) -> Database:
    return Database("postgresql", "postgresql", session.remembered.get(NAMESPACE, ""))


def _verb(tag: str) -> str:
    """The operation of a CommandComplete tag: "INSERT 0 1" is INSERT, "CREATE TABLE" is itself."""
    return tag.rstrip("0123456789 ")[:64]
