"""The DuckDB file: made, opened, checked, and asked.

Every thread has a cursor of its own, so that readers see whole transactions and never wait for the writer.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

import duckdb

from otel_ebpf.errors import OtelEbpfError, UnsupportedError
from otel_ebpf.viewer.contract import Columns

FILE = "otel-ebpf.duckdb"
VERSION = 1
"""Of the schema. A change of schema.sql is a new one."""
SECONDS = 10.0
"""The longest that a question may take."""
LOG = 16 << 20
"""Bytes of the log from which on it is written into the file."""
_MEMORY = "128MB"
"""For DuckDB's own buffers; what needs more goes through a file beside the store."""


class Slow(OtelEbpfError):
    """The question took too long and was given up: ask for less."""


class Database:
    """The store in one folder.

    >>> database = Database(Path("/var/lib/otel-ebpf"))
    >>> database.rows("SELECT count(*) AS spans FROM spans")
    [{'spans': 0}]

    Raises UnsupportedError where the folder cannot be used: no rights, another viewer has it, a newer version made it.
    """

    def __init__(self, folder: Path, *, seconds: float = SECONDS) -> None:
        self.path = folder / FILE
        self._seconds = seconds
        self._local = threading.local()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = self._open()
        except OSError as error:
            raise UnsupportedError(f"store {folder}: {error.strerror or error}: choose another folder") from error

    def _open(self) -> duckdb.DuckDBPyConnection:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "threads": 2,
            "autoinstall_known_extensions": False,
            # Not within a COMMIT: one that is on disk could then fail, and what it holds would be sent again.
            "checkpoint_threshold": "1TB",
        }
        try:
            connection = duckdb.connect(self.path, config=settings)
            # What is asked comes from us, but its values from strangers: nothing beside the store is ever read.
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            self._check(connection)
        except duckdb.Error as error:
            raise UnsupportedError(self._reason(str(error))) from error
        return connection

    def _check(self, connection: duckdb.DuckDBPyConnection) -> None:
        tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        if not tables:
            schema = (resources.files(__package__) / "schema.sql").read_text()
            connection.execute("BEGIN")
            connection.execute(schema)
            connection.execute("INSERT INTO meta VALUES ('version', ?)", [str(VERSION)])
            connection.execute("COMMIT")
            return
        found = (
            connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone() if "meta" in tables else None
        )
        version = int(found[0]) if found and str(found[0]).isdecimal() else None
        if version == VERSION:
            return
        connection.close()
        if version is None:
            raise UnsupportedError(f"store {self.path}: not a store of otel-ebpf: choose another folder")
        age = "a newer" if version > VERSION else "an older"
        raise UnsupportedError(
            f"store {self.path}: made by {age} otel-ebpf (schema {version}, this one has {VERSION}): "
            "choose another folder, or move the file away"
        )

    def _reason(self, said: str) -> str:
        holder = re.search(r"\(PID (\d+)\)", said)
        if "lock" in said.lower():
            by = f" (pid {holder[1]})" if holder else ""
            another = "choose another folder (view --store, run --set viewer.store=)"
            return f"store {self.path}: in use by another viewer{by}: stop it, or {another}"
        if "newer" in said.lower() or "storage version" in said.lower():
            return f"store {self.path}: written by a newer DuckDB: choose another folder, or move the file away"
        return f"store {self.path}: cannot be opened ({said.splitlines()[0]}): move it away, or choose another folder"

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """This thread's own connection."""
        found: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if found is None:
            found = self._local.cursor = self._connection.cursor()
        return found

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """All of what is done within, or nothing."""
        cursor = self.cursor()
        cursor.execute("BEGIN")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):
                cursor.execute("ROLLBACK")
            raise

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, object]]:
        """See `Reader.rows`. Raises `Slow`."""
        with self._bounded() as cursor:
            found = cursor.execute(sql, list(parameters))
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def columns(self, sql: str, parameters: Sequence[object] = ()) -> Columns:
        """See `Reader.columns`. Raises `Slow`."""
        with self._bounded() as cursor:
            found: Columns = cursor.execute(sql, list(parameters)).fetchnumpy()
            return found

    @contextmanager
    def _bounded(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self.cursor()
        timer = threading.Timer(self._seconds, cursor.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield cursor
        except duckdb.InterruptException as error:
            raise Slow(f"not answered within {self._seconds:g} s: ask for a shorter time or fewer services") from error
        finally:
            timer.cancel()

    def bytes(self) -> int:
        """Bytes of the file that hold data, and of its log."""
        size = self.rows("SELECT used_blocks * block_size AS used FROM pragma_database_size()")[0]["used"]
        return int(str(size)) + self._log_bytes()

    def _log_bytes(self) -> int:
        try:
            return self.path.with_name(self.path.name + ".wal").stat().st_size
        except FileNotFoundError:
            return 0

    def tidy(self) -> None:
        """Write the log into the file, when that is long: it takes several times the room, and time at a start."""
        if self._log_bytes() > LOG:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write the log into the file."""
        self.cursor().execute("CHECKPOINT")

    def reopen(self) -> None:
        """After an error that DuckDB takes for the end of the database (a full disk): what was committed is there."""
        with suppress(duckdb.Error):
            self._connection.close()
        self._local = threading.local()
        self._connection = self._open()

    def close(self) -> None:
        """Write all into the file; nothing can be asked any more."""
        with suppress(duckdb.Error):
            self._connection.close()
