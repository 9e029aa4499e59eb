"""Jobs of executors: a call is for the request whose thread made the job that the caller works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Kind, Link
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.marks import CLIENT, JOB, SEEN, SENDS, TORN, Marks
from tests.unit.tracing_world import MS, Host, Process, Row, parents_by, spans

MARK = Btf.of_object(object_path("requests")).dtype("heap_mark")
OPEN = (np.zeros(0, np.uint32), None)
SHIFT = 5000.0
"""Of all times: what tests tell begins at 0."""
LATE = 60_000 * MS
ROOM = 1 << 16
OLD = [0xF000_0040, 0xF000_0080]
"""What lies on the stack of a pool's thread as long as it lives: the thread, its worker."""


@dataclass
class Buffer:
    start: int
    top: int

    def take(self, size: int = 24) -> int:
        self.top += size
        return self.top - size


@dataclass
class Heap:
    """A JVM with threads that allocate, each in a buffer of its own. Times in ms."""

    host: Host = field(default_factory=Host)
    rows: list[Row] = field(default_factory=list)
    marks: list[dict[str, int | list[int]]] = field(default_factory=list)
    buffers: dict[int, Buffer] = field(default_factory=dict)
    collections: int = 3
    last: int = 0xF100_0000

    def __post_init__(self) -> None:
        self.process = self.host.process()
        veteran, giver = self.thread(50), self.thread(51)
        for i in range(20):  # by which the process has shown where its jobs lie
            one = self.request(giver, 100 * i - 4000, 100 * i - 3950)
            self.call(veteran, 100 * i - 3990, 100 * i - 3980, *OLD, self.make(giver))
            self.answer(giver, one)

    def thread(self, n: int) -> Process:
        thread = self.process.thread(n)
        self.refill(thread)
        return thread

    def refill(self, thread: Process) -> None:
        """It gets another buffer."""
        self.last += ROOM
        self.buffers[thread.tid] = Buffer(self.last, self.last)

    def collect(self) -> None:
        """A collection: all objects move, all buffers are others."""
        self.collections += 1
        self.last = 0xF100_0000 + 8 * self.collections
        for tid in self.buffers:
            self.last += ROOM
            self.buffers[tid] = Buffer(self.last, self.last)

    def make(self, thread: Process) -> int:
        """Allocate an object."""
        return self.buffers[thread.tid].take()

    def mark(
        self,
        thread: Process,
        at: float,
        bits: int,
        conn: int = 0,
        objects: tuple[int, ...] = (),
    ) -> None:
        buffer = self.buffers[thread.tid]
        placed = [(700 + 10 * i) << 48 | address for i, address in enumerate(objects)]
        self.marks.append(
            {
                "t": round((at + SHIFT) * MS) + 500,
                "conn": conn,
                "start": buffer.start,
                "top": buffer.top,
                "end": buffer.start + ROOM,
                "tgid": thread.pid,
                "tid": thread.tid,
                "collections": self.collections,
                "bits": bits,
                "count": len(objects),
                "objects": [*placed, *[0] * (16 - len(placed))],
            }
        )

    def request(self, thread: Process, start: float, end: float, writer: Process | None = None) -> Row:
        """It arrives; `answer` is to be called when all was allocated for it. writer: who will answer it."""
        row = self.host.request(thread, start + SHIFT, end + SHIFT, writer=writer)
        self.rows.append(row)
        self.mark(thread, start, 0, row["conn"])
        return row

    def answer(self, thread: Process, row: Row) -> None:
        self.mark(thread, row["first_byte"] / MS - SHIFT, SENDS, row["conn"])

    def call(self, thread: Process, start: float, end: float, *objects: int, bits: int = 0) -> Row:
        """By a thread without a request, with these objects on its stack, outermost first."""
        row = self.host.call(thread, start + SHIFT, end + SHIFT)
        self.rows.append(row)
        self.mark(thread, start, SENDS | CLIENT | JOB | bits, row["conn"], objects)
        return row

    def records(self) -> np.ndarray:
        records = np.zeros(len(self.marks), MARK)
        for record, mark in zip(records, self.marks, strict=True):
            for name, value in mark.items():
                record[name] = np.array(value)
        return records

    def parents(self, steps: int = 1) -> dict[int, int]:
        """Call → the span id of its parent, 0: undecided. steps: it is told bit by bit, so that what went before is
        judged."""
        assembler = Assembler()
        records, given = self.records(), []
        ends = sorted(row["end"] for row in self.rows if row["kind"] == Kind.SERVER)
        cuts = [ends[len(ends) * (i + 1) // steps - 1] + 5 * MS for i in range(steps)]
        for since, until in pairwise([-1, *cuts]):
            last = until == cuts[-1]
            told = records[(since < records["t"]) & ((records["t"] <= until) | last)]
            rows = [row for row in self.rows if since < row["end"] and (row["end"] <= until or last)]
            now = until + 5000 * MS if steps > 1 else 1
            assembler.hear(None, OPEN, now if steps > 1 else 0, heap_marks=told)
            given.append(assembler.feed(spans(rows), now))
        for now in (LATE, LATE + 5000 * MS):
            assembler.hear(None, OPEN, now)
            given.append(assembler.feed(spans([]), now))
        given.append(assembler.flush())
        return parents_by(given, Link.ALLOCATION)


@pytest.fixture
def heap() -> Heap:
    return Heap()


@pytest.fixture
def worker(heap: Heap) -> Process:
    """A thread of a pool that has made a call before."""
    worker = heap.thread(9)
    heap.call(worker, 1, 2, *OLD, 0xF000_0100)
    return worker


def test_the_job_was_made_by_the_requests_thread(heap: Heap, worker: Process) -> None:
    first, second = heap.thread(1), heap.thread(2)
    one, two = heap.request(first, 10, 100), heap.request(second, 11, 90)
    job, other = heap.make(first), heap.make(second)
    another = heap.thread(8)
    heap.call(another, 1, 2, *OLD, 0xF000_0200)
    calls = heap.call(worker, 20, 30, *OLD, job), heap.call(another, 21, 31, *OLD, other)
    heap.answer(first, one)
    heap.answer(second, two)
    found = heap.parents()
    assert [found[call["span_id"]] for call in calls] == [one["span_id"], two["span_id"]]


def test_what_was_made_before_the_request_or_after_it_is_not_for_it(heap: Heap, worker: Process) -> None:
    thread = heap.thread(1)
    before = heap.make(thread)
    one = heap.request(thread, 10, 100)
    heap.answer(thread, one)
    after = heap.make(thread)
    two = heap.request(thread, 200, 300)
    heap.answer(thread, two)
    calls = heap.call(worker, 20, 30, *OLD, before), heap.call(worker, 40, 50, *OLD, after)
    found = heap.parents()
    assert [found[call["span_id"]] for call in calls] == [0, 0]


def test_a_job_that_nobody_is_known_to_have_made_is_nobodys(heap: Heap, worker: Process) -> None:
    """Even if something further in was made by a request's thread: it may be shared."""
    thread = heap.thread(1)
    one = heap.request(thread, 10, 100)
    shared = heap.make(thread)
    call = heap.call(worker, 20, 30, *OLD, 0xF0AA_0000, shared)
    heap.answer(thread, one)
    assert heap.parents()[call["span_id"]] == 0


def test_new_objects_of_two_requests_decide_nothing(heap: Heap, worker: Process) -> None:
    first, second = heap.thread(1), heap.thread(2)
    one, two = heap.request(first, 10, 100), heap.request(second, 11, 90)
    call = heap.call(worker, 20, 30, *OLD, heap.make(first), heap.make(second))
    heap.answer(first, one)
    heap.answer(second, two)
    assert heap.parents()[call["span_id"]] == 0


def test_a_job_makes_several_calls(heap: Heap, worker: Process) -> None:
    first, second = heap.thread(1), heap.thread(2)
    one, two = heap.request(first, 10, 100), heap.request(second, 11, 90)
    job, shared = heap.make(first), heap.make(second)
    calls = [heap.call(worker, 20 + 10 * i, 25 + 10 * i, *OLD, job, heap.make(worker)) for i in range(3)]
    with_another = heap.call(worker, 60, 65, *OLD, job, shared)
    heap.answer(first, one)
    heap.answer(second, two)
    found = heap.parents()
    assert [found[call["span_id"]] for call in calls] == [one["span_id"]] * 3
    assert found[with_another["span_id"]] == 0, "it may be another job by now"


def test_a_job_that_is_over_is_not_the_next_one(heap: Heap, worker: Process) -> None:
    """What is left of it deeper in the stack says nothing once the outer frames have changed."""
    first, second = heap.thread(1), heap.thread(2)
    one = heap.request(first, 10, 100)
    job = heap.make(first)
    known = heap.call(worker, 20, 30, *OLD, job)
    unknown = heap.call(worker, 40, 50, *OLD, 0xF0AA_0000, job)
    heap.answer(first, one)
    heap.request(second, 11, 90)
    found = heap.parents()
    assert (found[known["span_id"]], found[unknown["span_id"]]) == (one["span_id"], 0)


def test_after_a_collection_the_job_lies_where_the_one_before_lay(heap: Heap, worker: Process) -> None:
    thread = heap.thread(1)
    one = heap.request(thread, 10, 100)
    known = heap.call(worker, 20, 30, *OLD, heap.make(thread))
    heap.collect()
    moved = [0xF200_0040, 0xF200_0080]
    job = heap.make(thread)
    heap.mark(thread, 39, CLIENT | SEEN)
    again = heap.call(worker, 40, 50, *moved, job)
    elsewhere = heap.thread(8)
    heap.call(elsewhere, 41, 42, *moved, heap.make(thread))
    heap.collect()
    deeper = heap.call(elsewhere, 60, 70, *moved, 0xF0AA_0000, heap.make(thread))
    heap.answer(thread, one)
    found = heap.parents()
    assert [found[call["span_id"]] for call in (known, again, deeper)] == [one["span_id"], one["span_id"], 0]


def test_the_same_address_after_a_collection_is_another_object(heap: Heap, worker: Process) -> None:
    thread = heap.thread(1)
    one = heap.request(thread, 10, 100)
    heap.call(worker, 20, 30, *OLD, heap.make(thread))
    job = heap.make(thread)
    heap.answer(thread, one)
    heap.collect()
    heap.call(worker, 32, 33, *OLD, 0xF000_0300)
    late = heap.call(worker, 40, 50, *OLD, job)
    assert heap.parents()[late["span_id"]] == 0


def test_the_first_call_of_a_thread_says_nothing(heap: Heap) -> None:
    """Nor of one that began for a request: a ForkJoinPool makes it when there is work, and it takes what it finds."""
    thread = heap.thread(1)
    one = heap.request(thread, 10, 100)
    call = heap.call(heap.thread(8), 20, 30, heap.make(thread), heap.make(thread))
    heap.answer(thread, one)
    assert heap.parents()[call["span_id"]] == 0


def test_a_place_where_requests_seldom_make_something_holds_no_jobs(heap: Heap, worker: Process) -> None:
    """As the queue that a ForkJoinPool's thread takes from: some request made it, the job is another one's."""
    first, second = heap.thread(1), heap.thread(2)
    calls = []
    for i in range(30):
        one, two = heap.request(first, 100 * i + 10, 100 * i + 80), heap.request(second, 100 * i + 11, 100 * i + 82)
        queue = heap.make(first) if i % 5 == 0 else 0xF000_4000 + 64 * i
        calls.append(heap.call(worker, 100 * i + 20, 100 * i + 30, *OLD, 0xF000_00C0, queue, 0xF000_9000 + 64 * i))
        heap.answer(first, one)
        heap.answer(second, two)
    found = heap.parents(steps=30)
    assert not any(found[call["span_id"]] for call in calls)


def test_a_buffer_that_came_and_went_was_seen_by_another_thread(heap: Heap, worker: Process) -> None:
    thread = heap.thread(1)
    one = heap.request(thread, 10, 100)
    heap.refill(thread)
    job = heap.make(thread)
    heap.mark(thread, 19, CLIENT | SEEN)
    call = heap.call(worker, 20, 30, *OLD, job)
    heap.refill(thread)
    heap.answer(thread, one)
    assert heap.parents()[call["span_id"]] == one["span_id"]


def test_what_is_now_and_then_made_for_a_request_is_no_job(heap: Heap, worker: Process) -> None:
    """Jobs that nobody is known to have made, and what they share."""
    thread = heap.thread(1)
    asked = []
    for i in range(30):
        one = heap.request(thread, 10 + 100 * i, 80 + 100 * i)
        shared = heap.make(thread) if i % 3 == 0 else 0xF000_9000 + 64 * i
        asked.append(heap.call(worker, 20 + 100 * i, 30 + 100 * i, *OLD, 0xF000_4000 + 64 * i, shared))
        heap.answer(thread, one)
    found = heap.parents(steps=30)
    assert not any(found[call["span_id"]] for call in asked)


def test_what_was_read_during_a_collection_says_nothing(heap: Heap, worker: Process) -> None:
    thread = heap.thread(1)
    one = heap.request(thread, 10, 100)
    call = heap.call(worker, 20, 30, *OLD, heap.make(thread), bits=TORN)
    heap.answer(thread, one)
    assert heap.parents()[call["span_id"]] == 0


def test_a_thread_with_several_requests_at_a_time_makes_nothing_for_one(heap: Heap, worker: Process) -> None:
    """As event loops have."""
    loop = heap.thread(1)
    one, two = heap.request(loop, 10, 100), heap.request(loop, 11, 90)
    first = heap.call(worker, 20, 30, *OLD, heap.make(loop))
    heap.answer(loop, two)
    three = heap.request(loop, 92, 98)
    second = heap.call(worker, 93, 95, *OLD, heap.make(loop))
    heap.answer(loop, three)
    heap.answer(loop, one)
    found = heap.parents()
    assert [found[call["span_id"]] for call in (first, second)] == [0, 0]


def handed_over(heap: Heap, worker: Process, leaves: bool) -> list[bool]:
    """Of the last 20 of 150 requests that one thread reads and another answers: whether the call for each is below it.

    leaves: the other one gives away a job after each tenth response, whose call is made before the next request comes.
    """
    reader, writer = heap.thread(1), heap.thread(2)
    asked = []
    for i in range(150):
        if leaves and i % 10 == 9:
            heap.call(worker, 100 * i + 2, 100 * i + 3, *OLD, heap.make(writer))
        one = heap.request(reader, 100 * i + 10, 100 * i + 80, writer)
        heap.make(reader)
        asked.append((heap.call(worker, 100 * i + 20, 100 * i + 30, *OLD, heap.make(writer)), one))
        heap.answer(writer, one)
    found = heap.parents(steps=30)
    assert all(found[call["span_id"]] in (0, one["span_id"]) for call, one in asked)
    return [found[call["span_id"]] == one["span_id"] for call, one in asked][130:]


def test_a_request_that_was_handed_over(heap: Heap, worker: Process) -> None:
    """Whoever answers made the job, if the process has shown that nothing is done after responses."""
    assert all(handed_over(heap, worker, leaves=False))


def test_a_process_whose_threads_give_jobs_away_after_their_responses(heap: Heap, worker: Process) -> None:
    assert not any(handed_over(heap, worker, leaves=True))


def test_a_call_that_outlasts_the_response_was_not_waited_for(heap: Heap, worker: Process) -> None:
    thread = heap.thread(1)
    one = heap.request(thread, 10, 100)
    call = heap.call(worker, 20, 130, *OLD, heap.make(thread))
    heap.answer(thread, one)
    assert heap.parents()[call["span_id"]] == 0


def test_marks_of_a_process_that_ended_are_forgotten(heap: Heap, worker: Process) -> None:
    marks = Marks()
    marks.tell(heap.records())
    assert marks.forget(np.array([1], np.uint32)) is False
    assert len(marks) == 61
    assert marks.forget(np.array([worker.pid], np.uint32)) is True
    assert len(marks) == 0


@given(st.binary(max_size=40 * MARK.itemsize), st.integers(0, 3))
def test_any_bytes_are_taken(data: bytes, alike: int) -> None:
    """A process may write what it likes into its own memory."""
    heap = Heap()
    worker = heap.thread(9)
    one = heap.request(worker, 10, 100)
    heap.call(heap.thread(3), 20, 30, *OLD)
    wild = np.frombuffer(data[: len(data) // MARK.itemsize * MARK.itemsize], MARK).copy()
    if alike:
        wild["tgid"], wild["conn"] = worker.pid, one["conn"]
        wild["bits"] &= 15
        wild["tid"] = worker.tid + wild["tid"] % alike
        wild["t"] = 10 * MS + wild["t"] % (100 * MS)
    assembler = Assembler()
    assembler.hear(None, OPEN, 0, heap_marks=np.concatenate([heap.records(), wild]))
    assembler.feed(spans(heap.rows), 1)
    assembler.feed(spans([]), LATE)
    assembler.flush()
