"""How an operation on an SQL database is reported: `Fields` by the OpenTelemetry database conventions.

Sources: docs/db/database-spans.md (span name, batches), docs/db/sql.md, docs/db/database-metrics.md. Choices made where
they leave one:

- `db.operation.name` is set for one statement or one protocol command, never for a text of several statements.
- `db.collection.name` is not taken out of the text (the conventions advise against it: a statement may name several);
  it is set where the protocol names the table itself. `db.query.summary` bears the targets.
- `error.type` is `db.response.status_code`: the server's code is the most specific that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from otel_ebpf.model import AttributeValue
from otel_ebpf.protocols.base import Fields, Reading, Side, Slot
from otel_ebpf.protocols.sql import Statement
from otel_ebpf.protocols.sql_summary import LIMIT

TEXT_LIMIT = 4096
"""Characters of the `db.query.text` of a batch of different statements, which is the only text that can grow."""


class Outcome(NamedTuple):
    """failed, and the server's code for it ("42P01", "1049"; "" if it was cut off)."""

    failed: bool = False
    code: str = ""


FINE = Outcome()


class Operation(NamedTuple):
    """One database operation as far as it goes into `Fields`: the attributes of the same names.

    batch: number of operations in a batch; 1 = no batch, 0 = a batch whose end was not captured.
    """

    protocol: str
    system: str
    namespace: str = ""
    summary: str = ""
    name: str = ""
    collection: str = ""
    procedure: str = ""
    outcome: Outcome = FINE
    batch: int = 1
    text: bool = False


@lru_cache(4096)
def fields_of(operation: Operation) -> Fields:
    """The same object for equal operations.

    >>> fields_of(Operation("postgresql", "postgresql", "shop", "SELECT users", "SELECT")).client.name
    'SELECT users'
    """
    failed, code = operation.outcome.failed, operation.outcome.code
    optional = (
        ("db.namespace", operation.namespace),
        ("db.collection.name", operation.collection),
        ("db.operation.name", operation.name),
        ("db.query.summary", operation.summary),
        ("db.stored_procedure.name", operation.procedure),
        ("db.response.status_code", code),
        ("error.type", (code or "_OTHER") if failed else ""),
    )
    metric: list[tuple[str, AttributeValue]] = [("db.system.name", operation.system)]
    metric += [(key, value) for key, value in optional if value]
    attributes = metric + ([("db.operation.batch.size", operation.batch)] if operation.batch > 1 else [])
    target = operation.collection or operation.procedure or operation.namespace
    name = operation.summary or f"{operation.name} {target}".strip() or operation.system
    slots = (Slot("db.query.text", 0),) if operation.text else ()
    return Fields(
        operation.protocol,
        server=Side(name, tuple(attributes), (), failed, slots),
        client=Side(name, tuple(attributes), tuple(metric), failed, slots),
        status=code,
    )


class Database(NamedTuple):
    """One server as one connection knows it; makes its readings.

    >>> Database("postgresql", "postgresql", "shop").query(Sql(Dialect.POSTGRESQL).read("SELECT 1"), "SELECT ?", FINE)
    Reading(fields=Fields(protocol='postgresql', ...), texts=('SELECT ?',))
    """

    protocol: str
    system: str
    namespace: str = ""

    def query(self, statement: Statement, text: str, outcome: Outcome, command: str = "") -> Reading:
        """A statement that was executed; or, with `command`, what else was done with it ("PREPARE")."""
        return Reading(_query(self, statement, outcome, command), (text,))

    def batch(self, statements: Sequence[Statement], texts: Sequence[str], outcome: Outcome, size: int) -> Reading:
        """Several operations that were submitted as one; `size` as `Operation.batch`."""
        first = statements[0]
        alike = len({statement.text for statement in statements}) == 1
        same_summary = len({statement.summary for statement in statements}) == 1
        same_name = len({statement.operation for statement in statements}) == 1
        text = texts[0] if alike else "; ".join(text for text in texts if text)[:TEXT_LIMIT]
        operation = Operation(
            *self,
            summary=_fitting(f"BATCH {first.summary}") if same_summary else "BATCH",
            name=f"BATCH {first.operation}".strip() if same_name else "BATCH",
            procedure=first.procedure if alike else "",
            outcome=outcome,
            batch=size,
            text=True,
        )
        return Reading(fields_of(operation), (text,))

    def command(self, name: str, outcome: Outcome, target: str = "", collection: str = "") -> Reading:
        """What the protocol can do without any SQL (FunctionCall, COM_INIT_DB), or SQL that was never seen."""
        summary = _fitting(f"{name} {target}") if target else ""
        return Reading(fields_of(Operation(*self, summary, name, collection, outcome=outcome)))


@lru_cache(4096)
def _query(database: Database, statement: Statement, outcome: Outcome, command: str) -> Fields:
    summary = _fitting(f"{command} {statement.summary}")
    name = command or statement.operation
    return fields_of(Operation(*database, summary, name, procedure=statement.procedure, outcome=outcome, text=True))


def _fitting(summary: str) -> str:
    """As many whole words as the conventions allow."""
    summary = summary.strip()
    return summary if len(summary) <= LIMIT else summary[: LIMIT + 1].rpartition(" ")[0]
