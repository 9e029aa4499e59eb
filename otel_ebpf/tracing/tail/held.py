"""Traces that are not decided yet, and their rows: columns of traces sorted by key, and batches as they came.

A trace's place in the table is its number, which the rows bear. When traces come or go, numbers change, and those of
the rows are looked up in the old numbers' new ones: a gather, no search. Batches are kept as they came, without a copy,
until less than half of their rows are still held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans
from otel_ebpf.tracing.tail.decisions import KEPT, OPEN

Numbers = NDArray[np.intp]


@dataclass(slots=True)
class News:
    """What a batch says of k traces, none of them twice, keys ascending. evidence: bits. size: rows that are held.
    entered: a row is among them by which the trace came to this host, or began here."""

    key: NDArray[np.uint64]
    evidence: NDArray[np.uint8]
    size: Numbers
    entered: NDArray[np.bool_]

    def take(self, which: NDArray[np.bool_]) -> News:
        """Those of some of the traces."""
        return News(self.key[which], self.evidence[which], self.size[which], self.entered[which])


class Traces:
    """m traces, keys ascending. evidence, size: of all their rows so far. first, due: when the first row came, and when
    the trace is decided, monotonic ns."""

    def __init__(self) -> None:
        self.key: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.evidence: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.size: Numbers = np.zeros(0, np.intp)
        self.first: NDArray[np.int64] = np.zeros(0, np.int64)
        self.due: NDArray[np.int64] = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.key)

    def add(self, news: News, now: int, wait_ns: int, grace_ns: int) -> tuple[Numbers, Numbers]:
        """Returns the numbers of the traces in the news, and (m,) the new numbers of those that were there before."""
        at = np.searchsorted(self.key, news.key)
        known = at < len(self)
        known[known] = self.key[at[known]] == news.key[known]
        new = ~known
        moved = np.arange(len(self)) + np.searchsorted(news.key[new], self.key)
        numbers = at + np.cumsum(new) - new
        where = at[new]
        self.key = np.insert(self.key, where, news.key[new])
        self.evidence = np.insert(self.evidence, where, 0)
        self.size = np.insert(self.size, where, 0)
        self.first = np.insert(self.first, where, now)
        self.due = np.insert(self.due, where, now + wait_ns)
        self.evidence[numbers] |= news.evidence
        self.size[numbers] += news.size
        # Each further way in may be followed by another one, but not for longer than the trace waits at most.
        entered = numbers[news.entered]
        self.due[entered] = np.minimum(self.first[entered] + wait_ns, now + grace_ns)
        return numbers, moved

    def remove(self, gone: NDArray[np.bool_]) -> Numbers:
        """Returns (m,) the new numbers of the others."""
        stay = ~gone
        for name in ("key", "evidence", "size", "first", "due"):
            setattr(self, name, getattr(self, name)[stay])
        return np.cumsum(stay) - 1


class Held:
    """The rows: of which trace each is, of which batch, and which of it."""

    def __init__(self) -> None:
        self._batches: dict[int, Spans] = {}
        self._came = 0
        self._trace: Numbers = np.zeros(0, np.intp)
        self._batch: Numbers = np.zeros(0, np.intp)
        self._row: Numbers = np.zeros(0, np.intp)

    def __len__(self) -> int:
        return len(self._row)

    def add(self, spans: Spans, rows: Numbers, traces: Numbers) -> None:
        """Hold these rows of a batch; (len(rows),) the numbers of their traces."""
        if not len(rows):
            return
        if 2 * len(rows) < len(spans):
            spans, rows = spans.take(rows), np.arange(len(rows))
        self._batches[self._came] = spans
        self._trace = np.concatenate([self._trace, traces])
        self._batch = np.concatenate([self._batch, np.full(len(rows), self._came)])
        self._row = np.concatenate([self._row, rows])
        self._came += 1

    def renumber(self, moved: Numbers) -> None:
        """(m,) the new number of each trace."""
        self._trace = moved[self._trace]

    def release(self, verdict: NDArray[np.uint8]) -> list[Spans]:
        """Give up the rows of all traces whose verdict is not OPEN; returns copies of those that are KEPT, by batch."""
        of_row = verdict[self._trace]
        stay = of_row == OPEN
        if stay.all():
            return []
        kept = of_row == KEPT
        touched = _runs(self._batch[~stay])
        leaving = self._row[kept]
        released = [self._batches[batch].take(leaving[rows]) for batch, rows in _runs(self._batch[kept])]
        self._trace, self._batch, self._row = self._trace[stay], self._batch[stay], self._row[stay]
        for batch, _ in touched:
            self._tidy(batch)
        return released

    def _tidy(self, batch: int) -> None:
        """Let a batch go of which nothing is held any more; copy what is, if it is little."""
        here = slice(*np.searchsorted(self._batch, [batch, batch + 1]))
        count = here.stop - here.start
        if not count:
            del self._batches[batch]
        elif 2 * count < len(self._batches[batch]):
            self._batches[batch] = self._batches[batch].take(self._row[here])
            self._row[here] = np.arange(count)


def _runs(values: Numbers) -> list[tuple[int, slice]]:
    """The distinct values of an ascending column, each with where it stands."""
    if not len(values):
        return []
    begins = np.concatenate([[0], (values[1:] != values[:-1]).nonzero()[0] + 1, [len(values)]])
    ends = begins[1:].tolist()
    return [(int(values[a]), slice(a, b)) for a, b in zip(begins[:-1].tolist(), ends, strict=True)]
