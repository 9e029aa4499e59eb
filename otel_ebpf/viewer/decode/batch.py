"""Rows on their way into the store: lists that grow, one a column, until they become one Arrow table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from arro3.core import Array, DataType, Table, list_array

from otel_ebpf.viewer.decode.resources import Resource

TYPES = {
    "BIGINT": DataType.int64(),
    "UBIGINT": DataType.uint64(),
    "UTINYINT": DataType.uint8(),
    "DOUBLE": DataType.float64(),
    "BOOLEAN": DataType.bool(),
    "VARCHAR": DataType.string(),
}
"""DuckDB's names of the types that the store uses."""


ITEMS = 100_000
"""Spans, points or records of one request; senders' batches have 8192 at most, and one costs 1 KB on its way."""
_T = TypeVar("_T")


@dataclass(slots=True)
class Batch:
    """What some requests hold of one signal. rows: a tuple for each, in the order of the table's columns.

    rejected: by reason, how many items could not be kept. cut: by reason, what was left out of items that were kept.
    """

    signal: str
    rows: list[tuple[object, ...]] = field(default_factory=list)
    resources: dict[int, Resource] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)

    def reject(self, reason: str, count: int = 1) -> None:
        """Count items that are not kept."""
        self.rejected[reason] = self.rejected.get(reason, 0) + count

    def lose(self, reason: str, count: int = 1) -> None:
        """Count parts that are left out."""
        self.cut[reason] = self.cut.get(reason, 0) + count

    def some(self, items: Sequence[_T]) -> Iterator[_T]:
        """As many of them as the request may have; the others are rejected."""
        for number, item in enumerate(items):
            if len(self.rows) >= ITEMS:
                self.reject(f"beyond the {ITEMS:,} of one request", len(items) - number)
                return
            yield item

    def message(self) -> str:
        """Why items were rejected, in one line; "" if none was."""
        return "; ".join(f"{count} × {reason}" for reason, count in self.rejected.items())

    def extend(self, other: Batch) -> None:
        """Add the rows of another request."""
        self.rows += other.rows
        self.resources |= other.resources


def table(columns: Sequence[tuple[str, str]], rows: Sequence[tuple[object, ...]]) -> Table:
    """Rows as an Arrow table. columns: (name, DuckDB's type) of each.

    >>> table([("time", "BIGINT"), ("bounds", "DOUBLE[]")], [(1, [0.5, 1.0])]).num_rows
    1
    """
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return Table.from_pydict({name: _array(kind, v) for (name, kind), v in zip(columns, values, strict=True)})


def _array(kind: str, values: Sequence[object]) -> Array:
    if not kind.endswith("[]"):
        return Array(list(values), TYPES[kind])
    lists = [v if isinstance(v, list) else [] for v in values]
    offsets = [0]
    for one in lists:
        offsets.append(offsets[-1] + len(one))
    flat = [item for one in lists for item in one]
    return list_array(Array(offsets, DataType.int32()), Array(flat, TYPES[kind[:-2]]))
