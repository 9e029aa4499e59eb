"""What has gone by is answered with: all of the traces that were asked for, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.foreign.asked import KEEP_NS, MOST, SOUGHT, Recent


def spans_of(traces: Iterable[int], note: str = "") -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    for trace in traces:
        scope.spans.add(trace_id=trace.to_bytes(16, "big"), name=note)
    return made


def told(answer: bytes) -> list[int]:
    request = ExportTraceServiceRequest.FromString(answer)
    spans = (s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
    return sorted(int.from_bytes(span.trace_id, "big") for span in spans)


@pytest.mark.parametrize("asked", [1, SOUGHT, SOUGHT + 1, 1000], ids=str)
def test_however_many_traces_are_asked_for_theirs_are_answered_with(asked: int) -> None:
    recent = Recent()
    for first in range(0, 2000, 100):
        recent.keep(spans_of(range(first, first + 100)).SerializeToString(), 1)
    assert told(recent.beside(spans_of(range(asked)))) == sorted([*range(asked), *range(asked)])


def test_what_was_kept_is_bounded_in_bytes_and_in_time() -> None:
    recent = Recent()
    message = spans_of([7], "x" * 1_000_000).SerializeToString()
    for _ in range(20):
        recent.keep(message, 1)
    assert len(recent.beside(spans_of([7]))) <= MOST + 100
    recent.keep(spans_of([8]).SerializeToString(), 2 + KEEP_NS)
    assert told(recent.beside(spans_of([7]))) == [7]
