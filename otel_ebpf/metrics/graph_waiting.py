"""Client ends whose server's end, on this host, may come in a later batch: so nobody knows yet of which edge they are.

Filed by the batch, asked for by the span id of the client, bounded in rows and in time. Look-ups are the exception: a
batch is sorted when somebody asks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Callers:
    """n client ends. nanoseconds: their durations; the others are ids as in `Spans`."""

    span_id: NDArray[np.uint64]
    resource: NDArray[np.int32]
    shape: NDArray[np.int32]
    endpoint: NDArray[np.int32]
    nanoseconds: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.span_id)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Callers:
        """The given rows (index array or mask)."""
        return Callers(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @staticmethod
    def concat(parts: list[Callers]) -> Callers:
        """All rows of all parts (at least one), in order."""
        return Callers(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Callers)})


@dataclass(slots=True)
class _Run:
    """Ends that came at the same time. order: by span id, None: not sorted yet. there: (n,) nobody has asked for it."""

    rows: Callers
    until: int
    there: NDArray[np.bool_]
    order: NDArray[np.intp] | None = None


class Waiting:
    """At most `limit` ends, each for `wait_ns`. hurried: those that had to make room for others."""

    def __init__(self, wait_ns: int, limit: int = 1 << 16) -> None:
        self.hurried = 0
        self._wait_ns = wait_ns
        self._limit = limit
        self._runs: deque[_Run] = deque()
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def put(self, rows: Callers, now: int) -> None:
        """These wait from now on."""
        if len(rows):
            self._runs.append(_Run(rows, now + self._wait_ns, np.ones(len(rows), np.bool_)))
            self._rows += len(rows)

    def take(self, span_ids: NDArray[np.uint64]) -> tuple[NDArray[np.intp], Callers | None]:
        """Which of the ids wait, and those rows in the same order; they wait no longer."""
        which, found = [], []
        for run in self._runs:
            if run.order is None:
                run.order = np.argsort(run.rows.span_id)
            ids = run.rows.span_id[run.order]
            at = np.minimum(np.searchsorted(ids, span_ids), len(ids) - 1)
            row = run.order[at]
            hit = ((ids[at] == span_ids) & run.there[row]).nonzero()[0]
            if len(hit):
                run.there[row[hit]] = False
                which.append(hit)
                found.append(run.rows.take(row[hit]))
        if not found:
            return np.zeros(0, np.intp), None
        return np.concatenate(which), Callers.concat(found)

    def give_up(self, now: int) -> Callers | None:
        """Those that have waited long enough, or have to make room; None: nobody."""
        gone = []
        while self._runs and (self._runs[0].until <= now or self._rows > self._limit):
            run = self._runs.popleft()
            self._rows -= len(run.rows)
            left = run.rows.take(run.there)
            if run.until > now:
                self.hurried += len(left)
            gone.append(left)
        return Callers.concat(gone) if gone else None

    def flush(self) -> Callers | None:
        """All of them."""
        gone = [run.rows.take(run.there) for run in self._runs]
        self._runs.clear()
        self._rows = 0
        return Callers.concat(gone) if gone else None
