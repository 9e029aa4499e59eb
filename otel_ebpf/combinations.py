"""What the rows of a batch have in common, found once: metrics count by it, and the encoder writes it as constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Kind, Spans
from otel_ebpf.otlp.columns import Index, factorize

_CLIENT = np.uint8(Kind.CLIENT)


@dataclass(frozen=True, slots=True)
class Combinations:
    """The k combinations of side, endpoint, resource and link that occur among n rows.

    of: (n,) which one each row has. The others have k items. side: shape * 2 + (1 for the client's end).
    endpoint, resource: ids of the tables. link: `Link`, the confidence in it << 8, the number of candidates << 16.
    """

    of: Index
    side: list[int]
    endpoint: list[int]
    resource: list[int]
    link: list[int]

    def __len__(self) -> int:
        return len(self.side)

    @classmethod
    def among(cls, spans: Spans) -> Combinations:
        """Those of a batch.

        >>> found = Combinations.among(spans)
        >>> found.resource[found.of[0]] == spans.resource[0]
        True
        """
        client = spans.kind == _CLIENT
        columns = [client.view(np.uint8), spans.shape, spans.endpoint, spans.resource, spans.link]
        of, first = distinct_rows([*columns, spans.confidence, spans.candidates])
        return cls(
            of,
            (spans.shape[first].astype(np.int64) * 2 + client[first]).tolist(),
            spans.endpoint[first].tolist(),
            spans.resource[first].tolist(),
            _links(spans, first).tolist(),
        )

    def take(self, rows: NDArray[np.bool_] | slice) -> Combinations:
        """Those of some of the rows (mask or slice); none is left out, even if no row has it any more."""
        return Combinations(self.of[rows], self.side, self.endpoint, self.resource, self.link)


def _links(spans: Spans, rows: Index) -> NDArray[np.int32]:
    weight = spans.confidence[rows].astype(np.int32) | spans.candidates[rows].astype(np.int32) << 8
    return spans.link[rows] | weight << 8


def distinct_rows(columns: Sequence[NDArray[np.uint8] | NDArray[np.int32]]) -> tuple[Index, Index]:
    """(n,) number of each row's combination of values, and (k,) a row that has it; k > 0 if n > 0."""
    n = len(columns[0])
    code, size = np.zeros(n, np.int64), 1
    for column in columns if n else ():
        low = int(np.minimum.reduce(column))
        width = int(np.maximum.reduce(column)) - low + 1
        if width == 1:
            continue
        if size * width > 1 << 62:
            found, code = factorize(code)
            size = len(found)
        if size > 1:
            code *= width
        code += column
        code -= low
        size *= width
    distinct, of = factorize(code)
    first = np.empty(len(distinct), np.intp)
    first[of] = np.arange(n)
    return of, first
