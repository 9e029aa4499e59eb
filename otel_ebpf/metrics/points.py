"""What a collection of histograms gives: plain points, ready for any encoder."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from otel_ebpf.metrics.instruments import Instrument
from otel_ebpf.model import Attributes, Resource


class Temporality(Enum):
    """Since when a point counts: since the last collection, or since its series began."""

    DELTA = "delta"
    CUMULATIVE = "cumulative"

    @classmethod
    def preferred(cls, preference: str) -> Temporality:
        """What a preference means for histograms (metrics/sdk_exporters/otlp.md): "lowmemory" is delta for them.

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
    """One series at one time. start, time: Unix ns; buckets: one more than the instrument's bounds."""

    attributes: Attributes
    start: int
    time: int
    count: int
    sum: float
    min: float
    max: float
    buckets: tuple[int, ...]
    exemplars: tuple[Exemplar, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """All points of one collection, by resource and instrument."""

    temporality: Temporality
    points: dict[Resource, dict[Instrument, list[HistogramPoint]]]

    def __len__(self) -> int:
        return sum(len(points) for by in self.points.values() for points in by.values())
