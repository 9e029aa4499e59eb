"""All rows, in the order of the table."""

from __future__ import annotations

from tests.fidelity import (
    rows_chains,
    rows_go,
    rows_http2,
    rows_jvm,
    rows_native,
    rows_node,
    rows_proxies,
    rows_python,
    rows_script,
)
from tests.fidelity.row import Row

ROWS: tuple[Row, ...] = (
    *rows_python.ROWS,
    *rows_script.ROWS,
    *rows_go.ROWS,
    *rows_http2.ROWS,
    *rows_node.ROWS,
    *rows_jvm.ROWS,
    *rows_native.ROWS,
    *rows_proxies.ROWS,
    *rows_chains.ROWS,
)


def named(patterns: str) -> list[Row]:
    """Rows whose name contains one of the comma-separated `patterns`; all of "".

    >>> [row.name for row in named("python-threading")]
    ['python-threading']
    """
    wanted = [pattern for pattern in patterns.split(",") if pattern]
    return [row for row in ROWS if not wanted or any(pattern in row.name for pattern in wanted)]
