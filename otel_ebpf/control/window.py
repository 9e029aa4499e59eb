"""Rates, errors and latencies by service over the last ten seconds, for the live view.

Theory of operation: time is cut into seconds, and each second has a logarithmic histogram per service and kind. A batch
is added by counting (service, kind, bucket) triples, so its cost does not depend on what the spans are; quantiles are
read from the sum of the seconds. Eight buckets an octave: a quantile is right within ±6 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.control.per_id import Failed
from otel_ebpf.control.tables import Tables, known
from otel_ebpf.model import Kind, Spans
from otel_ebpf.otlp.columns import factorize

SECONDS = 10
MAX_SERVICES = 64
OTHERS = "(others)"

_SUB = 3  # bits of the mantissa: 2**3 buckets an octave
_LEAST, _MOST = 10, 37  # 2**10 ns = 1 µs … 2**37 ns = 137 s
_BUCKETS = (_MOST - _LEAST) << _SUB
_BASE = (1023 + _LEAST) << _SUB  # IEEE 754 binary64: bias of the exponent
_KINDS = 2  # 0: server (in), 1: client (out)


def bucket_of(ns: NDArray[np.uint64]) -> NDArray[np.intp]:
    """(n,) the bucket of each duration: exponent and first bits of the mantissa of the number as a float."""
    bits = ns.astype(np.float64).view(np.int64) >> (52 - _SUB)
    buckets: NDArray[np.intp] = np.clip(bits - _BASE, 0, _BUCKETS - 1).astype(np.intp)
    return buckets


def middle_of(bucket: int) -> float:
    """The duration in the middle of a bucket, ns."""
    exponent, part = divmod(bucket, 1 << _SUB)
    return float(2 ** (_LEAST + exponent) * (1 + (part + 0.5) / (1 << _SUB)))


@dataclass(frozen=True, slots=True)
class Direction:
    """What a service received, or what it sent. rate: per second. errors: part from 0 to 1. p50, p99: ns."""

    rate: float
    errors: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One service in the last seconds; None: nothing in that direction."""

    service: str
    inward: Direction | None
    outward: Direction | None

    @property
    def rate(self) -> float:
        """Both directions together."""
        return sum(d.rate for d in (self.inward, self.outward) if d is not None)


class Window:
    """The last ten seconds. All times are seconds on one steady clock.

    At most MAX_SERVICES services have a row of their own; the places of those that fell silent are used again.
    """

    def __init__(self) -> None:
        slots = SECONDS + 1  # the second that is not over yet is one more
        self._counts = np.zeros((slots, MAX_SERVICES, _KINDS, _BUCKETS), np.uint32)
        self._errors = np.zeros((slots, MAX_SERVICES, _KINDS), np.uint32)
        self._services: dict[str, int] = {OTHERS: 0}
        self._failed = Failed()
        self._started: float | None = None
        self._second = 0

    def add(self, spans: Spans, tables: Tables, now: float) -> None:
        """Count a batch that was decided at `now`."""
        self._advance(now)
        if not len(spans):
            return
        distinct, inverse = factorize(spans.resource)
        names = [_service_of(tables, number) for number in distinct]
        if len(self._services.keys() | set(names)) > MAX_SERVICES:
            self._forget_silent()
        rows = np.array([self._row(name) for name in names], np.intp)
        lane = rows[inverse] * _KINDS + (spans.kind == Kind.CLIENT)
        bucket = bucket_of(np.maximum(spans.start, spans.end) - spans.start)
        slot = self._second % len(self._counts)
        np.add.at(self._counts[slot].reshape(-1), lane * _BUCKETS + bucket, 1)
        np.add.at(self._errors[slot].reshape(-1), lane[self._failed.of(spans, tables)], 1)

    def rows(self, now: float) -> list[ServiceRow]:
        """Services with any span in the window, the busiest first; they change places only for good reason."""
        self._advance(now)
        used = max(self._services.values()) + 1
        counts = self._counts[:, :used].sum(axis=0, dtype=np.int64)
        errors = self._errors[:, :used].sum(axis=0, dtype=np.int64)
        seconds = self._seconds(now)
        totals = counts.sum(axis=2)
        found = [
            ServiceRow(name, *(_direction(counts[row, k], int(errors[row, k]), seconds) for k in range(_KINDS)))
            for name, row in self._services.items()
            if totals[row].any()
        ]
        return sorted(found, key=lambda r: (r.service == OTHERS, -round(math.log2(r.rate)), r.service))

    def _seconds(self, now: float) -> float:
        began = max(self._started if self._started is not None else now, int(now) - SECONDS)
        return max(now - began, 0.5)

    def _advance(self, now: float) -> None:
        second = int(now)
        if self._started is None:
            self._started, self._second = now, second
        for passed in range(max(self._second, second - len(self._counts)) + 1, second + 1):
            slot = passed % len(self._counts)
            self._counts[slot] = 0
            self._errors[slot] = 0
        self._second = max(self._second, second)

    def _row(self, name: str) -> int:
        row = self._services.get(name)
        if row is None:
            if len(self._services) >= MAX_SERVICES:
                return 0
            used = set(self._services.values())
            row = self._services[name] = next(i for i in range(MAX_SERVICES) if i not in used)
        return row

    def _forget_silent(self) -> None:
        alive = self._counts.sum(axis=(0, 2, 3), dtype=np.int64)
        self._services = {name: row for name, row in self._services.items() if alive[row] or row == 0}


def _service_of(tables: Tables, number: int) -> str:
    who = known(tables.resources, number)
    return who.service if who else "-"


def _direction(counts: NDArray[np.int64], errors: int, seconds: float) -> Direction | None:
    total = int(counts.sum())
    if not total:
        return None
    p50, p99 = quantiles(counts, (0.5, 0.99))
    return Direction(total / seconds, errors / total, p50, p99)


def quantiles(counts: NDArray[np.int64], wanted: tuple[float, ...]) -> Iterator[float]:
    """The durations (ns) below which these parts of all lie; counts: (buckets,), not all zero."""
    ranks = np.cumsum(counts)
    for q in wanted:
        yield middle_of(int(np.searchsorted(ranks, max(math.ceil(q * int(ranks[-1])), 1))))
