"""Calls and requests by unit of execution: who writes the response handles the request; children ask their parents."""

from __future__ import annotations

import numpy as np
import pytest

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Flag, Link, Unit
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.lineage import Lineage
from otel_ebpf.tracing.openings import Openings
from tests.unit.tracing_world import MS, Host, Process, Row, parents_by, spans

LINEAGE = Btf.of_object(object_path("requests")).dtype("lineage")
OPEN = Btf.of_object(object_path("requests")).dtype("open_since")
NONE_OPEN = (np.zeros(0, np.uint32), None)
LATE = 10_000 * MS


def context(number: int, kind: Unit = Unit.CONTEXT) -> int:
    return int(kind) << 56 | number


def told(process: Process, *births: tuple[int, int, float]) -> np.ndarray:
    """Records of (unit, its parent, born at ms)."""
    records = np.zeros(len(births), LINEAGE)
    for record, (unit, parent, born) in zip(records, births, strict=True):
        record["unit"], record["parent"], record["t"], record["tgid"] = unit, parent, round(born * MS), process.pid
    return records


class Site:
    """One process with one thread, an event loop; its calls and requests differ in their units only."""

    def __init__(self) -> None:
        self.host = Host()
        self.process = self.host.process()
        self.rows: list[Row] = []

    def request(self, start: float, end: float, unit: int, reader: int = 0, conn: int | None = None) -> Row:
        columns: Row = {"unit_rsp": unit, "unit_req": reader, "flags": int(Flag.SERVER | Flag.EPOLL)}
        if conn is not None:
            columns["conn"] = columns["pair"] = conn
        row = self.host.request(self.process, start, end, columns=columns)
        self.rows.append(row)
        return row

    def call(self, start: float, end: float, unit: int, at_response: int = 0) -> Row:
        columns: Row = {"unit_req": unit, "unit_rsp": at_response, "flags": int(Flag.EPOLL | Flag.MANY)}
        row = self.host.call(self.process, start, end, columns=columns)
        self.rows.append(row)
        return row

    def parents(self, *births: tuple[int, int, float]) -> dict[int, int]:
        """Call → the span id of its parent, 0: undecided."""
        assembler = Assembler()
        assembler.hear(told(self.process, *births), NONE_OPEN, 0)
        assembler.feed(spans(self.rows), 1)
        given = []
        for now in (LATE, LATE + 5000 * MS):
            assembler.hear(None, NONE_OPEN, now)
            given.append(assembler.feed(spans([]), now))
        given.append(assembler.flush())
        return parents_by(given, Link.UNIT, Link.CONNECTION)


@pytest.fixture
def site() -> Site:
    return Site()


def test_two_requests_at_once_each_with_its_own_unit(site: Site) -> None:
    one, two = site.request(0, 100, context(1)), site.request(10, 90, context(2))
    first, second = site.call(20, 30, context(1)), site.call(21, 31, context(2))
    found = site.parents((context(1), context(9), 1), (context(2), context(9), 11))
    assert (found[first["span_id"]], found[second["span_id"]]) == (one["span_id"], two["span_id"])


def test_a_child_task_belongs_to_the_request_of_its_ancestor(site: Site) -> None:
    one, _ = site.request(0, 100, context(1)), site.request(10, 90, context(2))
    call = site.call(20, 30, context(5))
    births = ((context(1), context(9), 1), (context(2), context(9), 11), (context(5), context(4), 19))
    assert site.parents(*births, (context(4), context(1), 15))[call["span_id"]] == one["span_id"]


def test_the_writer_may_be_a_child_that_was_made_for_the_request(site: Site) -> None:
    one, _ = site.request(0, 100, context(3)), site.request(10, 90, context(2))
    call = site.call(20, 30, context(1))
    births = ((context(3), context(1), 40), (context(1), context(9), 1), (context(2), context(9), 11))
    assert site.parents(*births)[call["span_id"]] == one["span_id"]


def test_an_ancestor_that_was_there_before_the_request_owns_nothing(site: Site) -> None:
    site.request(10, 100, context(3))
    call = site.call(20, 30, context(1))
    assert site.parents((context(3), context(1), 40), (context(1), context(9), 1))[call["span_id"]] == 0


def test_a_unit_that_gets_another_number_within_a_request_is_not_taken_for_what_it_owned_before(site: Site) -> None:
    """Its runtime has just been recognised: the request is read under one number and answered under another."""
    old, new = context(1, Unit.GREENLET), context(2, Unit.GREENLET)
    one = site.request(0, 20, old, old)
    site.request(30, 60, new, old)
    before, after = site.call(10, 15, old), site.call(40, 50, old)
    found = site.parents()
    assert (found[before["span_id"]], found[after["span_id"]]) == (one["span_id"], 0)


def test_what_was_done_for_a_request_that_its_client_gave_up_is_not_for_the_one_before(site: Site) -> None:
    connection, task = context(1), context(5)
    one = site.request(0, 20, connection, connection, conn=7)
    site.request(30, 60, 0, connection, conn=7)
    before, after, child = site.call(10, 15, connection), site.call(40, 50, connection), site.call(70, 80, task)
    found = site.parents((task, connection, 40), (connection, context(9), 0.5))
    assert [found[c["span_id"]] for c in (before, after, child)] == [one["span_id"], 0, 0]


def test_what_a_task_left_behind_is_for_the_request_in_which_it_was_made(site: Site) -> None:
    connection, task = context(1), context(5)
    one = site.request(0, 20, connection, connection)
    site.request(30, 60, connection, connection)
    during, between = site.call(40, 50, task), site.call(70, 80, task)
    found = site.parents((task, connection, 10), (connection, context(9), 0.5))
    assert found[during["span_id"]] == found[between["span_id"]] == one["span_id"]


def test_a_task_from_before_all_requests_works_for_none(site: Site) -> None:
    connection, ticker = context(1), context(5)
    site.request(10, 60, connection, connection)
    call = site.call(40, 50, ticker)
    assert site.parents((ticker, connection, 5), (connection, context(9), 1))[call["span_id"]] == 0


def test_a_unit_that_answers_two_requests_at_once_says_nothing(site: Site) -> None:
    site.request(0, 100, context(7)), site.request(10, 90, context(7))
    call = site.call(20, 30, context(7))
    assert site.parents()[call["span_id"]] == 0


def test_work_after_the_response_belongs_to_the_last_request_of_its_unit(site: Site) -> None:
    site.request(0, 20, context(7), context(7))
    two = site.request(30, 60, context(7), context(7))
    call = site.call(70, 80, context(7))
    assert site.parents()[call["span_id"]] == two["span_id"]


def test_who_waits_for_a_pooled_connection_may_be_known_at_the_response_only(site: Site) -> None:
    one, _ = site.request(0, 100, context(1, Unit.GOROUTINE)), site.request(10, 90, context(2, Unit.GOROUTINE))
    call = site.call(20, 30, context(0, Unit.OPAQUE), at_response=context(1, Unit.GOROUTINE))
    assert site.parents()[call["span_id"]] == one["span_id"]


def test_the_context_that_receives_on_a_pooled_connection_says_nothing(site: Site) -> None:
    site.request(0, 100, context(1)), site.request(10, 90, context(2))
    call = site.call(20, 30, context(0, Unit.OPAQUE), at_response=context(1))
    assert site.parents((context(1), context(9), 1))[call["span_id"]] == 0


def test_units_of_two_processes_with_the_same_number_are_two() -> None:
    host = Host()
    here, there = host.process(), host.process()
    request = host.request(here, 0, 100, columns={"unit_rsp": context(1), "unit_req": context(1)})
    call = host.call(there, 10, 20, columns={"unit_req": context(1)})
    assembler = Assembler()
    assembler.feed(spans([request, call]), 1)
    given = assembler.flush()
    assert not given.parent.any()


def test_what_was_told_later_holds_and_the_oldest_is_forgotten() -> None:
    lineage = Lineage(limit=1000)
    process = Process(5, 5)
    lineage.tell(told(process, *((n, n + 1, n) for n in range(1, 400))))
    lineage.tell(told(process, (7, 70, 7)))
    from otel_ebpf.tracing.keys import unit_keys

    def keys(*units: int) -> np.ndarray:
        return unit_keys(np.full(len(units), 5, np.uint32), np.array(units, np.uint64))

    parent, born = lineage.origin(keys(7, 8, 999))
    assert (parent == np.where([True, True, False], keys(70, 9, 0), 0)).all()
    assert born.tolist() == [7 * MS, 8 * MS, 0]
    for begin in range(1000, 5000, 100):
        lineage.tell(told(process, *((n, n + 1, n) for n in range(begin, begin + 100))))
    assert len(lineage) <= 1000
    assert lineage.origin(keys(8))[0][0] == 0


def test_a_call_waits_while_an_older_request_of_its_process_is_open() -> None:
    openings = Openings(settle_ns=200)
    pids, start = np.array([1, 1, 2], np.uint32), np.array([50, 5, 50], np.uint64)

    def waiting(now: int) -> list[bool]:
        openings.settle(now)
        return [bool(waits) for waits in openings.waiting(pids, start)]

    assert waiting(1000) == [True, True, True]  # nobody has told anything
    open_since = np.zeros(1, OPEN)
    open_since["t"], open_since["recent"] = 10, 60
    openings.swept(100, np.array([1], np.uint32), open_since)
    assert waiting(299) == [True, True, True]
    assert waiting(300) == [True, False, False]
    assert openings.waiting_recently(pids, start).tolist() == [False, False, False]
    assert openings.waiting(pids, np.array([100, 100, 100], np.uint64)).all()  # sent after that sweep
    openings.swept(200, *NONE_OPEN)
    assert waiting(399) == [True, False, False]
    assert waiting(400) == [False, False, False]


def test_what_ended_while_the_sweep_was_under_way_is_waited_for_until_it_is_handed_over() -> None:
    """On a busy host a sweep may take long: it does not see the request that ended meanwhile."""
    openings = Openings(200)
    openings.swept(100, *NONE_OPEN, until=350)
    pid, start = np.array([1], np.uint32), np.array([50], np.uint64)
    openings.settle(549)
    assert openings.waiting(pid, start).all()
    openings.settle(550)
    assert not openings.waiting(pid, start).any()
    assert openings.waiting(pid, np.array([100], np.uint64)).all()  # the sweep may have been there before it


def test_the_last_requests_are_remembered_whatever_their_units_are_called() -> None:
    host = Host()
    process = host.process()
    assembler = Assembler()
    decided: dict[int, int] = {}
    asked: list[tuple[int, int]] = []
    late: list[Row] = []
    for n in range(60):
        rows, late = late, []
        for i in range(1000):
            unit, at = context(1 + n * 1000 + i), n * 100.0
            columns: Row = {"unit_rsp": unit, "unit_req": unit, "flags": int(Flag.SERVER | Flag.EPOLL)}
            rows.append(host.request(process, at, at + 50, columns=columns))
            if i % 100 == 0:
                call = host.call(process, at + 10, at + 20, columns={"unit_req": unit, "flags": int(Flag.EPOLL)})
                asked.append((call["span_id"], rows[-1]["span_id"]))
                late.append(call)
        given = assembler.feed(spans(rows), round((n + 1) * 100 * MS))
        decided |= dict(zip(given.span_id.tolist(), given.parent.tolist(), strict=True))
    given = assembler.feed(spans(late), round(6100 * MS))
    decided |= dict(zip(given.span_id.tolist(), given.parent.tolist(), strict=True))
    given = assembler.flush()
    decided |= dict(zip(given.span_id.tolist(), given.parent.tolist(), strict=True))
    assert all(decided[call] == request for call, request in asked)
