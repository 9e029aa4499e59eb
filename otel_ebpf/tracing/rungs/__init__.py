"""The ladder: the ways to find a call's request, best first. A new rung is a module here and an entry in `ladder`."""

from __future__ import annotations

from otel_ebpf.tracing.carriers import Carriers
from otel_ebpf.tracing.counters import Counters
from otel_ebpf.tracing.lineage import Lineage
from otel_ebpf.tracing.marks import Marks
from otel_ebpf.tracing.openings import Openings
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.rungs.allocation import Allocation
from otel_ebpf.tracing.rungs.base import Calls, Proposal, Requests, Rung
from otel_ebpf.tracing.rungs.event_loop import EventLoop
from otel_ebpf.tracing.rungs.forwarded import Forwarded
from otel_ebpf.tracing.rungs.request_id import RequestId
from otel_ebpf.tracing.rungs.siblings import Siblings
from otel_ebpf.tracing.rungs.thread_alone import ThreadAlone
from otel_ebpf.tracing.rungs.thread_response import ThreadResponse
from otel_ebpf.tracing.rungs.unit import Unit
from otel_ebpf.tracing.rungs.waited_for import WaitedFor
from otel_ebpf.tracing.segments import Segments

__all__ = [
    "Allocation",
    "Calls",
    "EventLoop",
    "Forwarded",
    "Proposal",
    "RequestId",
    "Requests",
    "Rung",
    "Siblings",
    "ThreadAlone",
    "ThreadResponse",
    "Unit",
    "ladder",
]


def ladder(
    lineage: Lineage,
    marks: Marks,
    carriers: Carriers,
    openings: Openings,
    segments: Segments,
    places: Places,
    counters: Counters,
    statistics: bool = False,
) -> list[Rung]:
    """The rungs in the order in which they are believed; each assembler has its own. statistics: the last one, too."""
    unit = Unit(lineage, WaitedFor(carriers, lineage, places))
    certain: list[Rung] = [
        Forwarded(),
        RequestId(places),
        unit,
        Siblings(carriers, lineage, unit, places),
        Allocation(marks, places),
        ThreadResponse(places),
        ThreadAlone(),
        EventLoop(openings, segments, places),
    ]
    if not statistics:
        return certain
    from otel_ebpf.tracing.rungs.statistics import Statistics  # many modules, which most agents do without

    return [*certain, Statistics(counters)]
