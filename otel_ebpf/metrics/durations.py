"""Duration histograms of all spans, whatever the sampling.

Theory of operation: a series is a row of a few arrays (bucket counts, sum, least, greatest, exemplars). Which series a
span belongs to depends on its side, endpoint and resource only (`Combinations`); each distinct combination is resolved
once, in Python, and remembered. A batch is then counted by `bincount` over (combination, bucket) and its few rows are
added to the series. Buckets are those of all instruments together; what an instrument exports are sums of neighbours.

The number of series per instrument is bounded: what comes beyond is counted in one more series per resource, with
`otel.metric.overflow=true` (metrics SDK specification, "Cardinality limits"); where there are too many resources, too
(each run of a short-lived program is one), in that of the resource without attributes. So an instrument has at most
`max_series` + 257 series, of 1.2 KB each. A series that nothing was recorded in for `idle_ns` is dropped; if it comes
back, it starts anew with a new start time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.combinations import Combinations
from otel_ebpf.metrics.instruments import ALL_BOUNDS, Instrument, instrument
from otel_ebpf.metrics.points import Collection, Exemplar, HistogramPoint, Temporality
from otel_ebpf.model import Attributes, Endpoint, Intern, Resource, Spans
from otel_ebpf.protocols.base import Fields, Side

OVERFLOW: Attributes = (("otel.metric.overflow", True),)
MAX_SERIES = 2000
"""Per instrument: the default of the metrics SDK specification."""
OVERFLOWS = 256
"""Resources with an overflow series of their own, per instrument."""
IDLE_NS = 15 * 60 * 10**9
EXEMPLARS = 4
"""Per point: those of the slowest buckets that have one."""

_BOUNDS_NS = np.array([round(bound * 1e9) for bound in ALL_BOUNDS], np.uint64)
_BUCKETS = len(ALL_BOUNDS) + 1
_REMEMBERED = 1 << 14
"""Combinations of side, endpoint and resource that are remembered; then all are resolved again."""
_NOWHERE = -1
_NAMELESS = Resource("", ())
_NO_INSTRUMENTS: tuple[Instrument | None, Instrument | None] = (None, None)

_EXEMPLAR = np.dtype([("time", np.uint64), ("value", np.uint64), ("span_id", np.uint64), ("trace_id", np.uint64, 2)])


@dataclass(frozen=True, slots=True)
class _Series:
    instrument: Instrument
    resource: Resource
    attributes: Attributes
    start: int


def _cells(spans: Spans, found: Combinations) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """(n,) durations in ns, and (n,) combination and bucket as one number."""
    duration = np.maximum(spans.end, spans.start) - spans.start
    # bucket i holds bound[i-1] < duration <= bound[i] (metrics.proto, HistogramDataPoint.explicit_bounds)
    cell = found.of * _BUCKETS
    cell += np.searchsorted(_BOUNDS_NS, duration, side="left")
    return duration, cell


class DurationMetrics:
    """Histograms of span durations.

    names: protocol → instrument names of the server's and of the client's end, "" for none
    (`Protocol.duration_metric`). now: Unix ns, for start times.

    >>> metrics = DurationMetrics(shapes, endpoints, resources, {"redis": ("", "db.client.operation.duration")})
    >>> metrics.record(spans)
    >>> metrics.collect(offset_ns)
    """

    def __init__(
        self,
        shapes: Intern[Fields],
        endpoints: Intern[Endpoint],
        resources: Intern[Resource],
        names: Mapping[str, tuple[str, str]],
        *,
        temporality: Temporality = Temporality.CUMULATIVE,
        max_series: int = MAX_SERIES,
        idle_ns: int = IDLE_NS,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.temporality = temporality
        self.overflowed = 0
        """Spans that were counted in an overflow series."""
        self._shapes, self._endpoints, self._resources = shapes, endpoints, resources
        self._instruments = {
            protocol: (instrument(server) if server else None, instrument(client) if client else None)
            for protocol, (server, client) in names.items()
        }
        self._max_series, self._idle_ns, self._now = max_series, idle_ns, now
        self._since = now()
        self._rows: dict[tuple[Instrument, Resource, Attributes], int] = {}
        self._per_instrument: dict[Instrument, int] = {}
        self._overflows: dict[Instrument, int] = {}
        self._remembered: dict[tuple[int, int, int], int] = {}
        self._located: dict[int, bool] = {}
        self._series: list[_Series | None] = []
        self._free: list[int] = []
        self._counts = np.zeros((0, _BUCKETS), np.int64)
        self._sum = np.zeros(0, np.float64)
        self._least = np.zeros(0, np.uint64)
        self._greatest = np.zeros(0, np.uint64)
        self._used = np.zeros(0, np.int64)
        self._overflow = np.zeros(0, np.bool_)
        self._exemplars = np.zeros((0, _BUCKETS), _EXEMPLAR)

    def __len__(self) -> int:
        return len(self._rows)

    def record(self, spans: Spans, sampled: NDArray[np.bool_] | None = None, found: Combinations | None = None) -> None:
        """Count all rows whose protocol has an instrument.

        sampled: (n,) the rows that will be exported, which exemplars are taken from; None: all that have a trace id.
        found: the batch's combinations, if they are known already.
        """
        if not len(spans):
            return
        found = found or Combinations.among(spans)
        series = self._resolve(found)
        held = series != _NOWHERE
        if not held.any():
            return
        duration, cell = _cells(spans, found)
        n = len(found)
        rows = series[held]
        counts = np.bincount(cell, minlength=n * _BUCKETS).reshape(n, _BUCKETS)[held]
        np.add.at(self._counts, rows, counts)
        np.add.at(self._sum, rows, np.bincount(found.of, duration, n)[held])
        least, greatest = np.full(n, np.iinfo(np.uint64).max, np.uint64), np.zeros(n, np.uint64)
        np.minimum.at(least, found.of, duration)
        np.maximum.at(greatest, found.of, duration)
        np.minimum.at(self._least, rows, least[held])
        np.maximum.at(self._greatest, rows, greatest[held])
        self._used[rows] = self._now()
        self.overflowed += int(counts[self._overflow[rows]].sum())
        if sampled is None:
            sampled = (spans.trace[:, 0] | spans.trace[:, 1]) != 0
        self._keep_exemplars(spans, sampled, duration, cell, series)

    def exemplify(self, spans: Spans, found: Combinations) -> None:
        """Take exemplars from spans that were recorded before, and of which it is known only now that they are kept."""
        if len(spans):
            duration, cell = _cells(spans, found)
            self._keep_exemplars(spans, np.ones(len(spans), np.bool_), duration, cell, self._resolve(found))

    def _keep_exemplars(
        self,
        spans: Spans,
        sampled: NDArray[np.bool_],
        duration: NDArray[np.uint64],
        cell: NDArray[np.intp],
        series: NDArray[np.intp],
    ) -> None:
        """The last sampled span of each bucket of each combination; of several for one series, one of them stays."""
        rows = np.arange(len(spans)) if sampled.all() else sampled.nonzero()[0]
        last = np.full(len(series) * _BUCKETS, _NOWHERE, np.intp)
        last[cell if len(rows) == len(spans) else cell[rows]] = rows  # of an item written several times the last stays
        at = (last != _NOWHERE).nonzero()[0]
        combination, bucket = np.divmod(at, _BUCKETS)
        target, picked = series[combination], last[at]
        counted = target != _NOWHERE
        target, bucket, picked = target[counted], bucket[counted], picked[counted]
        taken = np.empty(len(picked), _EXEMPLAR)
        taken["time"] = np.maximum(spans.end[picked], spans.start[picked])
        taken["value"] = duration[picked]
        taken["span_id"] = spans.span_id[picked]
        taken["trace_id"] = spans.trace[picked]
        self._exemplars[target, bucket] = taken

    def _resolve(self, found: Combinations) -> NDArray[np.intp]:
        """(k,) the series of each combination; _NOWHERE: not counted."""
        if len(self._remembered) > _REMEMBERED:
            self._remembered.clear()
        series = np.empty(len(found), np.intp)
        for i, (side, endpoint, resource) in enumerate(zip(found.side, found.endpoint, found.resource, strict=True)):
            combination = (side, endpoint if self._is_located(side) else -1, resource)
            known = self._remembered.get(combination)
            if known is None:
                known = self._remembered[combination] = self._find(*combination)
            series[i] = known
        return series

    def _end(self, side: int) -> tuple[Side, Instrument] | None:
        """The side of that number (shape * 2 + 1 for the client's end) and what it is counted by; None: by nothing."""
        try:
            shape = self._shapes[side >> 1]
        except KeyError:  # -1, -2, or forgotten while its rows were held
            return None
        of = self._instruments.get(shape.protocol, _NO_INSTRUMENTS)[side & 1]
        return None if of is None else (shape.client if side & 1 else shape.server, of)

    def _is_located(self, side: int) -> bool:
        """The endpoint's address is among the series' attributes."""
        known = self._located.get(side)
        if known is None:
            end = self._end(side)
            known = end is not None and end[1].addressed and not end[0].addressed
            if len(self._located) > _REMEMBERED:
                self._located.clear()
            self._located[side] = known
        return known

    def _find(self, side: int, endpoint: int, resource: int) -> int:
        """The row of the series that a combination belongs to, made if it is new."""
        found = self._end(side)
        if found is None:
            return _NOWHERE
        end, of = found
        attributes = end.metric
        if endpoint >= 0:
            try:
                address = self._endpoints[endpoint].unless_addressed
            except KeyError:
                address = ()
            attributes += tuple(pair for pair in address if pair[0] in ("server.address", "server.port"))
        try:
            who = self._resources[resource]
        except KeyError:
            who = _NAMELESS
        known = self._rows.get((of, who, attributes))
        if known is not None:
            return known
        if self._per_instrument.get(of, 0) >= self._max_series:
            attributes = OVERFLOW
            if (of, who, attributes) not in self._rows and self._overflows.get(of, 0) >= OVERFLOWS:
                who = _NAMELESS
            known = self._rows.get((of, who, attributes))
            if known is not None:
                return known
        return self._add(_Series(of, who, attributes, self._since))

    def _add(self, series: _Series) -> int:
        if not self._free:
            self._grow()
        row = self._free.pop()
        self._series[row] = series
        self._rows[series.instrument, series.resource, series.attributes] = row
        counted = self._overflows if series.attributes is OVERFLOW else self._per_instrument
        counted[series.instrument] = counted.get(series.instrument, 0) + 1
        self._overflow[row] = series.attributes is OVERFLOW
        self._reset(np.array([row]))
        return row

    def collect(self, offset_ns: int) -> Collection:
        """All series as points; with delta temporality they begin anew.

        offset_ns: what turns CLOCK_MONOTONIC into Unix time, for the exemplars.
        """
        now = max(self._now(), self._since + 1)
        delta = self.temporality is Temporality.DELTA
        totals = self._counts.sum(axis=1)
        by_instrument: dict[Instrument, list[int]] = {}
        for (of, _, _), row in self._rows.items():
            if totals[row]:
                by_instrument.setdefault(of, []).append(row)
        points: dict[Resource, dict[Instrument, list[HistogramPoint]]] = {}
        for of, rows in by_instrument.items():
            for series, point in self._points(of, np.array(rows), now, offset_ns):
                points.setdefault(series.resource, {}).setdefault(of, []).append(point)
            if delta:
                self._reset(np.array(rows))
        self._exemplars[...] = 0
        self._since = now
        self._drop_idle(now)
        return Collection(self.temporality, points)

    def _points(
        self, of: Instrument, rows: NDArray[np.intp], now: int, offset_ns: int
    ) -> Iterator[tuple[_Series, HistogramPoint]]:
        """The points of some series of one instrument."""
        edges = [0, *(ALL_BOUNDS.index(bound) + 1 for bound in of.bounds)]
        buckets = np.add.reduceat(self._counts[rows], edges, axis=1)
        columns = zip(
            rows.tolist(),
            buckets.tolist(),
            (self._sum[rows] / 1e9).tolist(),
            (self._least[rows] / 1e9).tolist(),
            (self._greatest[rows] / 1e9).tolist(),
            (self._exemplars["time"][rows] != 0).any(axis=1).tolist(),
            strict=True,
        )
        since = self._since if self.temporality is Temporality.DELTA else None
        for row, counts, total, least, greatest, has_exemplars in columns:
            series = self._series[row]
            if series is None:
                continue
            yield (
                series,
                HistogramPoint(
                    attributes=series.attributes,
                    start=series.start if since is None else since,
                    time=now,
                    count=sum(counts),
                    sum=total,
                    min=least,
                    max=greatest,
                    buckets=tuple(counts),
                    exemplars=self._exemplars_of(row, offset_ns) if has_exemplars else (),
                ),
            )

    def _exemplars_of(self, row: int, offset_ns: int) -> tuple[Exemplar, ...]:
        held = self._exemplars[row]
        return tuple(
            Exemplar(
                int(one["time"]) + offset_ns,
                int(one["value"]) / 1e9,
                one["span_id"].tobytes(),
                one["trace_id"].tobytes(),
            )
            for one in held[held["time"].nonzero()[0][::-1][:EXEMPLARS]]
        )

    def _drop_idle(self, now: int) -> None:
        idle = [(key, row) for key, row in self._rows.items() if self._used[row] + self._idle_ns < now]
        for key, row in idle:
            series = self._series[row]
            if series is not None:
                counted = self._overflows if series.attributes is OVERFLOW else self._per_instrument
                counted[series.instrument] -= 1
            del self._rows[key]
            self._series[row] = None
            self._free.append(row)
        if idle:
            self._remembered.clear()

    def _reset(self, rows: NDArray[np.intp]) -> None:
        self._counts[rows] = 0
        self._sum[rows] = 0
        self._least[rows] = np.iinfo(np.uint64).max
        self._greatest[rows] = 0
        self._exemplars[rows] = 0

    def _grow(self) -> None:
        old = len(self._series)
        more = max(64, old)
        for name in ("_counts", "_sum", "_least", "_greatest", "_used", "_overflow", "_exemplars"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)]))
        self._series += [None] * more
        self._free += range(old + more - 1, old - 1, -1)
