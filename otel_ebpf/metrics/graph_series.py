"""The series of the service graph: rows of a few arrays, one for each edge.

Names are those that the metrics have in Prometheus: whoever adds units and `_total` to names (the Collector's
exporters, Prometheus's OTLP receiver) does not add what is there, and who does not, finds them as Tempo writes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.metrics.durations import OVERFLOW
from otel_ebpf.metrics.instruments import GRAPH_BOUNDS, Counter, Instrument
from otel_ebpf.metrics.points import Collection, HistogramPoint, SumPoint, Temporality
from otel_ebpf.model import Attributes, Resource

CLIENT, SERVER = 0, 1
"""Whose durations: index into the arrays of histograms."""
TOTAL = Counter("traces_service_graph_request_total", "Total count of requests between two nodes", "{request}")
FAILED = Counter("traces_service_graph_request_failed_total", "Total count of failed requests", "{request}")
HISTOGRAMS = (
    Instrument(
        "traces_service_graph_request_client_seconds", "Time for a request as seen from the client", GRAPH_BOUNDS
    ),
    Instrument(
        "traces_service_graph_request_server_seconds", "Time for a request as seen from the server", GRAPH_BOUNDS
    ),
)

_BOUNDS_NS = np.array([round(bound * 1e9) for bound in GRAPH_BOUNDS], np.uint64)
_BUCKETS = len(GRAPH_BOUNDS) + 1
_NOWHERE = -1


class EdgeSeries:
    """Counts and histograms by edge. overflowed: edges that were counted in the overflow series."""

    def __init__(self, temporality: Temporality, max_series: int, idle_ns: int, now: Callable[[], int]) -> None:
        self.overflowed = 0
        self._temporality = temporality
        self._max_series, self._idle_ns, self._now = max_series, idle_ns, now
        self._since = now()
        self._rows: dict[Attributes, int] = {}
        self._start: dict[int, int] = {}
        self._free: list[int] = []
        self._total = np.zeros(0, np.int64)
        self._failed = np.zeros(0, np.int64)
        self._counts = np.zeros((0, 2, _BUCKETS), np.int64)
        self._sum = np.zeros((0, 2), np.float64)
        self._used = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, attributes: Attributes) -> int:
        """The row of the edge with these attributes, made if it is new; the overflow's when there are too many."""
        known = self._rows.get(attributes)
        if known is not None:
            return known
        if len(self._rows) - (OVERFLOW in self._rows) >= self._max_series and attributes != OVERFLOW:
            return self.row(OVERFLOW)
        if not self._free:
            self._grow()
        row = self._rows[attributes] = self._free.pop()
        self._start[row] = self._since
        self._used[row] = self._now()
        self._reset(np.array([row]))
        return row

    def add(
        self, rows: NDArray[np.intp], failed: NDArray[np.bool_], of: NDArray[np.intp], counts: NDArray[np.intp]
    ) -> None:
        """Count edges. rows, failed, counts: (k,) by combination; a row of -1 is none. of: (n,) their combinations."""
        held = rows != _NOWHERE
        np.add.at(self._total, rows[held], counts[held])
        failed = failed & held
        if failed.any():
            np.add.at(self._failed, rows[failed], counts[failed])
        self._used[rows[held]] = self._now()
        overflow = self._rows.get(OVERFLOW)
        if overflow is not None:
            self.overflowed += int(counts[rows == overflow].sum())

    def observe(self, end: int, rows: NDArray[np.intp], of: NDArray[np.intp], duration: NDArray[np.uint64]) -> None:
        """Durations of one end of n edges, ns. rows: (k,) by combination; of: (n,) their combinations."""
        k = len(rows)
        held = rows != _NOWHERE
        # bucket i holds bound[i-1] < duration <= bound[i] (metrics.proto, HistogramDataPoint.explicit_bounds)
        cell = of * _BUCKETS
        cell += np.searchsorted(_BOUNDS_NS, duration, side="left")
        counts = np.bincount(cell, minlength=k * _BUCKETS).reshape(k, _BUCKETS)
        np.add.at(self._counts[:, end], rows[held], counts[held])
        np.add.at(self._sum[:, end], rows[held], np.bincount(of, duration, k)[held])

    def collect(self, observer: Resource) -> tuple[Collection, int]:
        """All series as points, and how many idle ones were dropped; with delta temporality they begin anew."""
        now = max(self._now(), self._since + 1)
        delta = self._temporality is Temporality.DELTA
        totals: list[SumPoint] = []
        failures: list[SumPoint] = []
        histograms: tuple[list[HistogramPoint], list[HistogramPoint]] = ([], [])
        for attributes, row in self._rows.items():
            total = int(self._total[row])
            if not total:
                continue
            start = self._since if delta else self._start[row]
            totals.append(SumPoint(attributes, start, now, total))
            # Also where there are none: a rate needs to see the series before the first failure.
            failures.append(SumPoint(attributes, start, now, int(self._failed[row])))
            for end, points in enumerate(histograms):
                buckets = tuple(self._counts[row, end].tolist())
                if any(buckets):
                    seconds = float(self._sum[row, end]) / 1e9
                    points.append(
                        HistogramPoint(attributes, start, now, sum(buckets), seconds, None, None, buckets, ())
                    )
        if delta:
            self._reset(np.array(list(self._rows.values()), np.intp))
        self._since = now
        collection = Collection(
            self._temporality,
            {observer: {of: points for of, points in zip(HISTOGRAMS, histograms, strict=True) if points}},
            {observer: {TOTAL: totals, FAILED: failures} if totals else {}},
        )
        return collection, self._drop_idle(now)

    def _drop_idle(self, now: int) -> int:
        idle = [(edge, row) for edge, row in self._rows.items() if self._used[row] + self._idle_ns < now]
        for edge, row in idle:
            del self._rows[edge]
            del self._start[row]
            self._free.append(row)
        return len(idle)

    def _reset(self, rows: NDArray[np.intp]) -> None:
        for column in (self._total, self._failed, self._counts, self._sum):
            column[rows] = 0

    def _grow(self) -> None:
        old = len(self._total)
        more = max(64, old)
        for name in ("_total", "_failed", "_counts", "_sum", "_used"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)]))
        self._free += range(old + more - 1, old - 1, -1)
