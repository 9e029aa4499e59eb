"""Contexts that came beside requests, and the evidence on which they are sent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Flag, Kind, Link, Spans
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.ids import traces_of
from otel_ebpf.tracing.processes import Processes, Trait
from otel_ebpf.tracing.wire import AGREED, Arrived, Evidence

CONTEXT = Btf.of_object(object_path("propagate")).dtype("arrived_context")
EVENT = Btf.of_object(object_path("requests")).dtype("process_event")
PID, OTHER = 71, 72


def contexts(*requests: int) -> NDArray[np.void]:
    """What came with these requests: trace (n, n + 1), span n + 2."""
    found = np.zeros(len(requests), CONTEXT)
    found["request"] = requests
    found["trace"] = [(n, n + 1) for n in requests]
    found["span"] = np.array(requests) + 2
    return found


def requests(*ids: int) -> Spans:
    spans = Spans.empty(len(ids))
    spans.kind[:] = Kind.SERVER
    spans.span_id[:] = ids
    spans.pair = spans.conn = np.arange(1, len(ids) + 1, dtype=np.uint64)
    spans.start[:], spans.end[:], spans.first_byte[:] = 10, 20, 15
    return spans


def calls(*parents: int, cause: int = 5, flags: int = 0, pid: int = PID, start: int = 100) -> Spans:
    """Decided calls of one process whose thread had the request `cause` open."""
    spans = Spans.empty(len(parents))
    spans.kind[:], spans.cause[:], spans.flags[:], spans.tgid[:] = Kind.CLIENT, cause, flags, pid
    spans.start[:] = start
    spans.parent[:] = parents
    return spans


def judged(evidence: Evidence, spans: Spans, now: int = 0, covered: bool = False) -> tuple[list[int], list[int]]:
    return evidence.judge(spans, np.full(len(spans), covered), now)


def test_a_request_is_the_child_of_what_came_with_it() -> None:
    arrived = Arrived()
    arrived.hear(contexts(40, 50))
    spans = requests(50, 60)
    arrived.apply(spans)
    assert spans.remote_link.tolist() == [Link.TCP_OPTION, Link.NONE]
    decided = Assembler(random=None)
    decided.feed(spans, 10**12)
    out = decided.flush() if decided.counters.held else decided.feed(requests(), 10**12)
    assert len(out) == 0  # both went at once
    later = requests(40)
    arrived.apply(later)
    (row,) = Assembler(random=None).feed(later, 10**12).parent.tolist()
    assert row == 42


def test_its_trace_is_the_callers_and_sampling_is_decided_by_that() -> None:
    arrived = Arrived()
    arrived.hear(contexts(50))
    spans = requests(50)
    arrived.apply(spans)
    out = Assembler(random=None).feed(spans, 10**12)
    assert out.trace.tolist() == [[50, 51]]
    assert out.link.tolist() == [Link.TCP_OPTION]
    assert out.remote_link.tolist() == [Link.NONE]


def test_what_its_own_bytes_say_comes_first() -> None:
    arrived = Arrived()
    arrived.hear(contexts(50))
    spans = requests(50)
    spans.remote_link[:], spans.remote_parent[:], spans.remote_trace[:] = Link.TRACEPARENT, 7, 8
    arrived.apply(spans)
    assert spans.remote_link.tolist() == [Link.TRACEPARENT]
    assert spans.remote_parent.tolist() == [7]


def test_contexts_of_requests_that_never_end_are_forgotten_and_counted() -> None:
    arrived = Arrived()
    arrived.hear(contexts(*range(1, 1 << 16)))
    arrived.hear(contexts(*range(1 << 16, (1 << 16) + 100)))
    assert arrived.forgotten == 99


def test_traces_follow_from_spans_where_the_kernel_must_know_them() -> None:
    out = Assembler(random=None).feed(requests(50, 60), 10**12)
    assert out.trace.tolist() == traces_of(np.array([50, 60], np.uint64)).tolist()


def test_a_process_is_proven_by_calls_that_came_out_as_the_kernel_said() -> None:
    evidence = Evidence(Processes(), patience_ns=0)
    assert judged(evidence, calls(*[5] * (AGREED - 1))) == ([], [])
    assert judged(evidence, calls(5)) == ([PID], [])
    assert judged(evidence, calls(5)) == ([], [])  # told once


def test_not_before_an_sdk_would_have_shown_itself() -> None:
    evidence = Evidence(Processes(), patience_ns=10)
    assert judged(evidence, calls(*[5] * AGREED), now=100) == ([], [])
    assert judged(evidence, calls(5), now=110) == ([PID], [])


def test_one_that_came_out_otherwise_ends_it_for_good() -> None:
    evidence = Evidence(Processes(), patience_ns=0)
    judged(evidence, calls(*[5] * AGREED))
    assert judged(evidence, calls(6, flags=Flag.CARRIED)) == ([], [PID])
    assert evidence.wrong == 1
    assert judged(evidence, calls(*[5] * 100)) == ([], [])


class Loops(Processes):
    """Processes that all queue their work."""

    def traits(self, tgid: NDArray[np.uint32]) -> NDArray[np.uint8]:
        return np.full(len(tgid), Trait.DISPATCHES, np.uint8)


def test_so_does_a_root_an_sdk_and_a_loop_that_queues_its_work() -> None:
    for spans, covered in ((calls(0), False), (calls(5), True), (calls(5, flags=Flag.EPOLL), False)):
        evidence = Evidence(Loops(), patience_ns=0)
        judged(evidence, calls(*[5] * AGREED))
        assert judged(evidence, spans, covered=covered) == ([], [PID])


def test_calls_of_which_the_kernel_says_nothing_are_no_evidence() -> None:
    evidence = Evidence(Processes(), patience_ns=0)
    doubtful = [calls(*[5] * 50, flags=flag) for flag in (Flag.MANY, Flag.ANSWERING)]
    for spans in (*doubtful, calls(*[0] * 50, cause=0), calls(*[9] * 50, cause=0)):
        assert judged(evidence, spans) == ([], [])


def test_a_process_that_has_ended_proves_nothing_of_the_next_with_its_number() -> None:
    evidence = Evidence(Processes(), patience_ns=0)
    judged(evidence, calls(*[5] * AGREED))
    ended = np.zeros(1, EVENT)
    ended["tgid"], ended["t"] = PID, 200
    evidence.forget(ended)
    assert judged(evidence, calls(*[5] * AGREED, start=150)) == ([], [])  # rows that were held
    assert judged(evidence, calls(*[5] * AGREED, start=250)) == ([PID], [])
