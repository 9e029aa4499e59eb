"""Virtual threads of JVMs: those that were made together with others of a request are for the same request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Link, Unit
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.carriers import Carriers
from otel_ebpf.tracing.marks import CLIENT, NOWHERE, SENDS, TORN
from tests.unit.tracing_world import MS, Host, Process, Row, parents_by, spans

BTF = Btf.of_object(object_path("requests"))
MARK, LINEAGE = BTF.dtype("heap_mark"), BTF.dtype("lineage")
OPEN = (np.zeros(0, np.uint32), None)
SHIFT = 50_000.0
"""Of all times: what tests tell begins at 0."""
ROOM = 1 << 20
SIZE = 448
"""Bytes from one virtual thread to the next, with what is made beside it."""


@dataclass
class Buffer:
    start: int
    top: int


@dataclass
class Vm:
    """A JVM whose virtual threads run on carriers, which allocate each in a buffer of its own. Times in ms."""

    shown: int = 120
    """pairs of calls by which the process has shown how it works"""
    host: Host = field(default_factory=Host)
    rows: list[Row] = field(default_factory=list)
    marks: list[dict[str, int]] = field(default_factory=list)
    births: list[tuple[int, int, int]] = field(default_factory=list)
    collections: int = 3
    _last: int = 0xF000_0000
    _units: int = 30

    def __post_init__(self) -> None:
        self.process = self.host.process()
        self.buffers: dict[int, Buffer] = {}
        self.one, self.two = self.carrier(1), self.carrier(2)
        for i in range(self.shown):
            self.pair(100 * i - 40_000)

    def pair(self, at: float, intruder: bool = False) -> None:
        """A request that waits for both of its calls; intruder: the second one is somebody else's, who was not seen."""
        parent, request = self.request(self.two, at, at + 90)
        first, second = self.make(self.two), self.make(self.two)
        stranger = self.unit()
        self.call(first, at + 10, at + 30, waits=parent)
        self.call(second, at + 11, at + 40, waits=stranger if intruder else parent)
        self.answer(self.two, parent, request)

    def carrier(self, n: int) -> Process:
        carrier = self.process.thread(n)
        self.refill(carrier)
        return carrier

    def refill(self, carrier: Process) -> None:
        """It gets another buffer."""
        self._last += ROOM
        self.buffers[carrier.tid] = Buffer(self._last, self._last)

    def collect(self) -> None:
        """A collection: all objects move, all buffers are others."""
        self.collections += 1
        for tid in self.buffers:
            self._last += ROOM
            self.buffers[tid] = Buffer(self._last, self._last)

    def unit(self) -> int:
        self._units += 1
        return int(Unit.VIRTUAL) << 56 | self._units

    def make(self, carrier: Process) -> tuple[int, int]:
        """Allocate a virtual thread: its unit, and the address of its object."""
        buffer = self.buffers[carrier.tid]
        buffer.top += SIZE
        return self.unit(), buffer.top - SIZE

    def mark(self, carrier: Process, unit: int, at: float, bits: int, conn: int, address: int = 0) -> None:
        """It is seen on its carrier, which allocates a little for that."""
        buffer = self.buffers[carrier.tid]
        buffer.top += 64
        self.marks.append(
            {
                "t": round((at + SHIFT) * MS) + 500,
                "conn": conn,
                "unit": unit,
                "start": buffer.start,
                "top": buffer.top,
                "end": buffer.start + ROOM,
                "tgid": carrier.pid,
                "tid": carrier.tid,
                "collections": self.collections,
                "bits": bits,
                "count": int(address != 0),
                "objects": address,
            }
        )

    def request(self, carrier: Process, start: float, end: float) -> tuple[int, Row]:
        """It is read, by a virtual thread of its own; `answer` is to be called when all was made for it."""
        unit = self.unit()
        columns: Row = {"unit_req": unit, "unit_rsp": unit}
        row = self.host.request(carrier, start + SHIFT, end + SHIFT, columns=columns)
        self.rows.append(row)
        self.mark(carrier, unit, start, 0, row["conn"])
        return unit, row

    def answer(self, carrier: Process, unit: int, row: Row) -> None:
        self.mark(carrier, unit, row["first_byte"] / MS - SHIFT, SENDS, row["conn"])

    def call(self, who: tuple[int, int], start: float, end: float, waits: int | None = None) -> Row:
        """By a virtual thread that runs on another carrier than those that make threads. waits: who is known to wait
        for it; 0: it is known that this is not clear."""
        unit, address = who
        carrier = self.process.thread(9)
        if carrier.tid not in self.buffers:
            self.refill(carrier)
        columns: Row = {"unit_req": unit, "unit_rsp": unit}
        row = self.host.call(carrier, start + SHIFT, end + SHIFT, columns=columns)
        self.rows.append(row)
        self.mark(carrier, unit, start, SENDS | CLIENT, row["conn"], address)
        self.mark(carrier, unit, end, CLIENT, row["conn"])
        if waits is not None:
            self.births.append((unit, waits, row["end"]))
        return row

    def records(self) -> np.ndarray:
        records = np.zeros(len(self.marks), MARK)
        for record, mark in zip(records, self.marks, strict=True):
            for name, value in mark.items():
                if name == "objects":
                    record[name][0] = value
                else:
                    record[name] = value
        return records

    def lineages(self) -> np.ndarray:
        records = np.zeros(len(self.births), LINEAGE)
        for record, (unit, parent, t) in zip(records, self.births, strict=True):
            record["unit"], record["parent"], record["t"], record["tgid"] = unit, parent, t, self.process.pid
        return records

    def parents(self) -> dict[int, int]:
        """Call → the span id of its parent, 0: undecided."""
        assembler, given, since = Assembler(), [], -1
        marks, births = self.records(), self.lineages()
        for late in range(0, 20_000, 250):
            now = round(SHIFT + late) * MS
            marked = marks[(since < marks["t"]) & (marks["t"] <= now)]
            told = births[(since < births["t"]) & (births["t"] <= now)]
            assembler.hear(told, OPEN, now, heap_marks=marked)
            given.append(assembler.feed(spans([row for row in self.rows if since < row["end"] <= now]), now))
            since = now
        given.append(assembler.flush())
        return parents_by(given, Link.UNIT, Link.ALLOCATION)


@pytest.fixture
def vm() -> Vm:
    return Vm()


def test_a_call_that_nobody_waited_for_yet_is_for_the_request_of_those_beside_it(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    two, other = vm.request(vm.two, 11, 100)
    siblings, others = [vm.make(vm.one) for _ in range(3)], [vm.make(vm.two) for _ in range(3)]
    calls = [vm.call(who, 20, 60 - 10 * i, waits=None if i else one) for i, who in enumerate(siblings)]
    more = [vm.call(who, 20, 60 - 10 * i, waits=None if i else two) for i, who in enumerate(others)]
    vm.answer(vm.one, one, request)
    vm.answer(vm.two, two, other)
    found = vm.parents()
    assert [found[call["span_id"]] for call in calls] == [request["span_id"]] * 3
    assert [found[call["span_id"]] for call in more] == [other["span_id"]] * 3


def test_so_it_is_if_the_buffer_was_full_in_between(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    first = vm.make(vm.one)
    vm.refill(vm.one)
    second, third = vm.make(vm.one), vm.make(vm.one)
    vm.call(first, 20, 30)
    calls = vm.call(second, 20, 60, waits=one), vm.call(third, 20, 30)
    vm.answer(vm.one, one, request)
    found = vm.parents()
    assert [found[call["span_id"]] for call in calls] == [request["span_id"]] * 2


def test_where_it_is_known_of_none_beside_it_who_waits_it_is_nobodys(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    calls = [vm.call(vm.make(vm.one), 20, 30) for _ in range(2)]
    vm.answer(vm.one, one, request)
    found = vm.parents()
    assert [found[call["span_id"]] for call in calls] == [0, 0]


def test_those_beside_it_must_agree(vm: Vm) -> None:
    """Somebody else has run in between: whose the one between theirs is cannot be told."""
    one, request = vm.request(vm.one, 10, 100)
    two, other = vm.request(vm.two, 11, 100)
    first, between, last = (vm.make(vm.one) for _ in range(3))
    vm.call(first, 20, 60, waits=one)
    call = vm.call(between, 20, 30)
    vm.call(last, 20, 60, waits=two)
    vm.answer(vm.one, one, request)
    vm.answer(vm.two, two, other)
    assert vm.parents()[call["span_id"]] == 0


def test_nobody_else_may_have_been_seen_on_the_carrier_meanwhile(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    first = vm.make(vm.one)
    two, other = vm.request(vm.one, 15, 100)
    second = vm.make(vm.one)
    vm.call(first, 20, 60, waits=one)
    call = vm.call(second, 20, 30)
    vm.answer(vm.one, one, request)
    vm.answer(vm.one, two, other)
    assert vm.parents()[call["span_id"]] == 0


def test_a_process_has_to_show_that_the_conclusion_holds() -> None:
    vm = Vm(shown=20)
    one, request = vm.request(vm.one, 10, 100)
    first, second = vm.make(vm.one), vm.make(vm.one)
    known, call = vm.call(first, 20, 60, waits=one), vm.call(second, 20, 30)
    vm.answer(vm.one, one, request)
    found = vm.parents()
    assert (found[known["span_id"]], found[call["span_id"]]) == (request["span_id"], 0)


def test_where_others_make_threads_in_between_nothing_is_concluded(vm: Vm) -> None:
    vm.pair(-1000, intruder=True)
    one, request = vm.request(vm.one, 10, 100)
    first, second = vm.make(vm.one), vm.make(vm.one)
    vm.call(first, 20, 60, waits=one)
    call = vm.call(second, 20, 30)
    vm.answer(vm.one, one, request)
    assert vm.parents()[call["span_id"]] == 0


def test_what_a_request_did_not_wait_for_is_not_concluded(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    first, second = vm.make(vm.one), vm.make(vm.one)
    vm.call(first, 20, 60, waits=one)
    call = vm.call(second, 20, 130)
    vm.answer(vm.one, one, request)
    assert vm.parents()[call["span_id"]] == 0


def test_one_of_which_it_is_not_clear_who_waits_is_nobodys(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    first, second = vm.make(vm.one), vm.make(vm.one)
    vm.call(first, 20, 60, waits=one)
    call = vm.call(second, 20, 50, waits=0)
    vm.answer(vm.one, one, request)
    assert vm.parents()[call["span_id"]] == 0


def test_an_address_says_nothing_once_objects_have_moved(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    first, second = vm.make(vm.one), vm.make(vm.one)
    vm.call(first, 20, 60, waits=one)
    vm.collect()
    call = vm.call(second, 20, 30)
    vm.answer(vm.one, one, request)
    assert vm.parents()[call["span_id"]] == 0


def share(vm: Vm, at: float, times: int = 1) -> None:
    """Requests that wait for the same call, which is seen."""
    for i in range(times):
        one, request = vm.request(vm.one, at + i, at + i + 0.9)
        vm.call(vm.make(vm.one), at + i + 0.1, at + i + 0.5, waits=0)
        vm.answer(vm.one, one, request)


def test_who_waits_alone_for_a_thread_that_another_one_made_is_not_taken_for_its_maker(vm: Vm) -> None:
    """The request that began the call waits for something else meanwhile."""
    share(vm, -500)
    one, request = vm.request(vm.one, 10, 100)
    two, other = vm.request(vm.two, 11, 100)
    call = vm.call(vm.make(vm.one), 20, 30, waits=two)
    own = vm.call(vm.make(vm.two), 20, 30, waits=two)
    vm.answer(vm.one, one, request)
    vm.answer(vm.two, two, other)
    found = vm.parents()
    assert (found[call["span_id"]], found[own["span_id"]]) == (0, other["span_id"])


def test_where_threads_are_waited_for_by_one_only_it_need_not_have_been_seen_before(vm: Vm) -> None:
    """It had stopped, and went on where another one was seen last."""
    one, request = vm.request(vm.one, 10, 100)
    two, other = vm.request(vm.two, 11, 100)
    call = vm.call(vm.make(vm.one), 20, 30, waits=two)
    vm.answer(vm.one, one, request)
    vm.answer(vm.two, two, other)
    assert vm.parents()[call["span_id"]] == other["span_id"]


def test_who_waits_and_who_made_those_beside_it_must_not_contradict_each_other(vm: Vm) -> None:
    one, request = vm.request(vm.one, 10, 100)
    two, other = vm.request(vm.two, 11, 100)
    first, second = vm.make(vm.one), vm.make(vm.one)
    vm.call(first, 20, 60, waits=one)
    call = vm.call(second, 20, 30, waits=two)
    vm.answer(vm.one, one, request)
    vm.answer(vm.two, two, other)
    assert vm.parents()[call["span_id"]] == 0


def test_a_process_that_is_young_is_waited_for() -> None:
    """What it shows in the seconds after the call counts for that as well."""
    vm = Vm(shown=40)
    one, request = vm.request(vm.one, 10, 100)
    first, second = vm.make(vm.one), vm.make(vm.one)
    vm.call(first, 20, 60, waits=one)
    call = vm.call(second, 20, 30)
    vm.answer(vm.one, one, request)
    for i in range(80):
        vm.pair(2000 + 10 * i)
    assert vm.parents()[call["span_id"]] == request["span_id"]


def test_what_is_marked_while_objects_move_is_not_kept() -> None:
    vm, carriers = Vm(shown=1), Carriers()
    records = vm.records()
    records["bits"] |= TORN
    carriers.tell(records)
    assert not len(carriers)


def test_processes_that_ended_are_forgotten_and_no_more_is_kept_than_said() -> None:
    vm, carriers = Vm(shown=40), Carriers(limit=100)
    for part in np.array_split(vm.records(), 7):
        carriers.tell(part)
    assert len(carriers) == 100 and (carriers.made_after != NOWHERE).any()
    carriers.forget(np.array([vm.process.pid], np.uint32))
    assert not len(carriers)
