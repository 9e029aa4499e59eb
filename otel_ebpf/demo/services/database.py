"""PostgreSQL as the shop's services use it: a few connections that their threads share."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import DictRow, dict_row

if TYPE_CHECKING:
    from typing_extensions import LiteralString


class Database:
    """Connections of one service; they are made when needed, and the one used last is used next.

    >>> Database("postgresql://shop@127.0.0.1/shop").rows("SELECT name FROM products WHERE id = %s", (7,))
    [{'name': 'Walnut desk'}]
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: queue.LifoQueue[psycopg.Connection[DictRow]] = queue.LifoQueue()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[DictRow]]:
        """A connection of its own; one that failed is not used again."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = psycopg.connect(self._url, autocommit=True, row_factory=dict_row, connect_timeout=5)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def rows(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """All rows of one statement."""
        with self.connection() as connection:
            return connection.execute(sql, parameters).fetchall()
