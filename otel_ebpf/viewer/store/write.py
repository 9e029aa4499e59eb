"""The one writer of the store: batches in, each transaction with the sums of what it adds.

Theory of operation: spans are stored and, in the same transaction, added up by operation, and their ends put aside.
`join` pairs ends into edges of the service graph, now and then; an end whose other half does not come makes an edge to
what it calls its peer. Since ends are in the store as well, neither SIGKILL nor a restart loses or doubles an edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources

from arro3.core import Table
from duckdb import DuckDBPyConnection

from otel_ebpf.viewer.decode import logs, metrics, traces
from otel_ebpf.viewer.decode.batch import Batch, table
from otel_ebpf.viewer.decode.resources import Resource
from otel_ebpf.viewer.store.database import Database
from otel_ebpf.viewer.store.names import Operations

WAIT_NS = 10 * 10**9
"""How long an end waits for the other one, from its arrival on: agents hold spans for 2 s, exporters send every 5 s."""
REMEMBERED = 1 << 16
"""Resources that are known to be in the store; beyond, they are told to it again."""
_RESOURCE = (("id", "UBIGINT"), ("service", "VARCHAR"), ("attributes", "VARCHAR"))
_COLUMNS = {"traces": traces.COLUMNS, "metrics": metrics.COLUMNS, "logs": logs.COLUMNS}
_TABLES = {"traces": "spans", "metrics": "points", "logs": "logs"}
_ONLY_FOR_SUMS = ("peer", "system", "family", "operation")


def statements(text: str) -> dict[str, str]:
    """The statements of a file by the names in it.

    >>> statements("-- name: all\\nSELECT 1;")
    {'all': 'SELECT 1;'}
    """
    parts = text.split("-- name: ")[1:]
    return {name.strip(): sql.strip() for name, _, sql in (part.partition("\n") for part in parts)}


class Writer:
    """Writes batches; used by one thread.

    >>> writer.write([batch], losses=[("viewer", "queue is full", 3)], now=time.time_ns())
    >>> writer.join(time.time_ns())
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements((resources.files(__package__) / "sums.sql").read_text())
        self._operations = Operations()
        self._written: set[int] = set()
        """Resources that are known to be in the store."""

    def write(self, batches: Iterable[Batch], losses: Sequence[tuple[str, str, int]], now: int) -> None:
        """All of it, or nothing. losses: (what, reason, count)."""
        with self._database.transaction() as cursor:
            fresh: dict[int, Resource] = {}
            for batch in batches:
                fresh |= {number: one for number, one in batch.resources.items() if number not in self._written}
                if batch.rows:
                    self._insert(cursor, batch, now)
            if fresh:
                rows = [(one.id, one.service, one.attributes) for one in fresh.values()]
                _with(cursor, table(_RESOURCE, rows), "INSERT OR IGNORE INTO resources SELECT * FROM batch")
            if losses:
                cursor.executemany("INSERT INTO losses VALUES (?, ?, ?, ?)", [(now, *loss) for loss in losses])
        if len(self._written) > REMEMBERED:
            self._written.clear()
        self._written |= fresh.keys()

    def _insert(self, cursor: DuckDBPyConnection, batch: Batch, now: int) -> None:
        columns = _COLUMNS[batch.signal]
        if batch.signal != "traces":
            _with(cursor, table(columns, batch.rows), f"INSERT INTO {_TABLES[batch.signal]} SELECT * FROM batch")
            return
        rows = [(*row, self._operations.bounded(row)) for row in batch.rows]
        excluded = ", ".join(_ONLY_FOR_SUMS)
        spans = f"INSERT INTO spans SELECT * EXCLUDE ({excluded}) FROM batch"
        named = table((*columns, ("operation", "VARCHAR")), rows)
        _with(cursor, named, spans, self._sql["operations"])
        cursor.register("batch", named)
        cursor.execute(self._sql["ends"], [now])
        cursor.unregister("batch")

    def join(self, now: int) -> None:
        """Make edges of the ends that are there."""
        with self._database.transaction() as cursor:
            cursor.execute(self._sql["pairs"])
            cursor.execute(self._sql["paired_edges"])
            cursor.execute(self._sql["paired_done"])
            before = {"before": now - WAIT_NS}
            cursor.execute(self._sql["lonely_edges"], before)
            cursor.execute(self._sql["lonely_done"], before)

    def forget(self) -> None:
        """After resources were removed: what is met again is written again."""
        self._written.clear()


def _with(cursor: DuckDBPyConnection, batch: Table, *statements: str) -> None:
    cursor.register("batch", batch)
    try:
        for statement in statements:
            cursor.execute(statement)
    finally:
        cursor.unregister("batch")
