"""What a collection gives: plain points of histograms and sums, ready for any encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from otel_ebpf.metrics.instruments import Counter, Instrument
from otel_ebpf.model import Attributes, Resource


class Temporality(Enum):
    """Since when a point counts: since the last collection, or since its series began."""

    DELTA = "delta"
    CUMULATIVE = "cumulative"

    @classmethod
    def preferred(cls, preference: str) -> Temporality:
        """What a preference means for histograms and counters (metrics/sdk_exporters/otlp.md): "lowmemory" is delta.

        >>> Temporality.preferred("lowmemory")
        <Temporality.DELTA: 'delta'>
        """
        return cls.CUMULATIVE if preference == "cumulative" else cls.DELTA


PREFERENCES = ("cumulative", "delta", "lowmemory")
"""Values of OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One sampled span that fell into a point. time: Unix ns; value: seconds; ids as on the wire."""

    time: int
    value: float
    span_id: bytes
    trace_id: bytes


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    """One series at one time. start, time: Unix ns; buckets: one more than the instrument's bounds; min and max: None
    where nobody keeps them."""

    attributes: Attributes
    start: int
    time: int
    count: int
    sum: float
    min: float | None
    max: float | None
    buckets: tuple[int, ...]
    exemplars: tuple[Exemplar, ...]


@dataclass(frozen=True, slots=True)
class SumPoint:
    """One series of a counter at one time. start, time: Unix ns."""

    attributes: Attributes
    start: int
    time: int
    value: int


@dataclass(frozen=True, slots=True)
class Collection:
    """All points of one collection, by resource and instrument."""

    temporality: Temporality
    points: dict[Resource, dict[Instrument, list[HistogramPoint]]]
    sums: dict[Resource, dict[Counter, list[SumPoint]]] = field(default_factory=dict)

    def __len__(self) -> int:
        histograms = sum(len(points) for by in self.points.values() for points in by.values())
        return histograms + sum(len(points) for by in self.sums.values() for points in by.values())
