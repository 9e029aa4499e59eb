"""Questions about interned things, asked once per distinct id and then answered for whole columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.control.tables import Tables, known, side_of
from otel_ebpf.model import Flag, Kind, Spans
from otel_ebpf.otlp.columns import factorize

A = TypeVar("A", bound=np.generic)

_REMEMBERED = 65536


class PerId(Generic[A]):
    """A function of ids. Ids are never used again, so no remembered answer grows wrong.

    >>> PerId(lambda tables, number: tables.resources[number].service == "shop", np.bool_).of(tables, spans.resource)
    array([ True, False])
    """

    def __init__(self, ask: Callable[[Tables, int], object], dtype: type[A]) -> None:
        self._ask = ask
        self._dtype = dtype
        self._answers: dict[int, object] = {}

    def of(self, tables: Tables, ids: NDArray[np.integer]) -> NDArray[A]:
        """(n,) the answer for each id."""
        distinct, inverse = factorize(ids)
        if len(self._answers) + len(distinct) > _REMEMBERED:
            self._answers.clear()
        answers = np.empty(len(distinct), self._dtype)
        for i, number in enumerate(distinct):
            if number not in self._answers:
                self._answers[number] = self._ask(tables, number)
            answers[i] = self._answers[number]
        return answers[inverse]


def shape_ids(spans: Spans) -> NDArray[np.int64]:
    """(n,) one number for shape and side."""
    ids: NDArray[np.int64] = spans.shape.astype(np.int64) * 2 + (spans.kind == Kind.CLIENT)
    return ids


def shape_and_kind(number: int) -> tuple[int, Kind]:
    """What `shape_ids` made the number of."""
    shape, client = divmod(number, 2)
    return shape, Kind.CLIENT if client else Kind.SERVER


class Failed:
    """Which spans failed: by the rules of their protocol, or for want of an answer."""

    def __init__(self) -> None:
        self._sides = PerId(_side_failed, np.bool_)

    def of(self, spans: Spans, tables: Tables) -> NDArray[np.bool_]:
        """(n,) bool."""
        failed = self._sides.of(tables, shape_ids(spans))
        failed |= spans.flags & np.uint32(Flag.UNANSWERED) != 0
        return failed


def _side_failed(tables: Tables, number: int) -> bool:
    shape, kind = shape_and_kind(number)
    fields = known(tables.shapes, shape)
    return fields is not None and side_of(fields, kind).error
