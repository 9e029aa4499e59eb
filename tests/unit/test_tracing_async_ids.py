"""Node's calls by their asynchronous ids: to the segment in which an id was given, and to the request behind it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Flag, Link, Unit
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.keys import unit_keys
from otel_ebpf.tracing.segments import Segments
from tests.unit.tracing_world import MS, Host, Row, spans

SEGMENT = Btf.of_object(object_path("requests")).dtype("segment")
NONE_OPEN = (np.zeros(0, np.uint32), None)
LATE = 10_000 * MS
RING = 1 << 28


def told(*records: tuple[int, int, int]) -> np.ndarray:
    """(tid, first id, after), of process 7."""
    table = np.zeros(len(records), SEGMENT)
    for record, (tid, first, after) in zip(table, records, strict=True):
        record["tgid"], record["tid"], record["first_id"], record["after"] = 7, tid, first, after
    return table


def ids(execution: int, trigger: int) -> int:
    return int(Unit.ASYNC) << 56 | execution % RING << 28 | trigger % RING


def causes(segments: Segments, tid: int, execution: int, trigger: int) -> tuple[int, int]:
    thread = unit_keys(np.array([7], np.uint32), np.array([tid], np.uint32))
    found = segments.causes(thread, np.array([ids(execution, trigger)], np.uint64))
    return int(found[0][0]), int(found[1][0])


def test_an_id_leads_to_the_segment_in_which_it_was_given() -> None:
    segments = Segments()
    segments.tell(told((7, 20, 101), (8, 5, 901), (7, 30, 102)))
    segments.tell(told((7, 30, 103), (7, 44, 104)))
    assert causes(segments, 7, 20, 29) == (101, 101)
    assert causes(segments, 7, 30, 43) == (103, 103), "the segment of 102 is empty"
    assert causes(segments, 7, 1000, 19) == (104, 0)
    assert causes(segments, 8, 30, 4) == (901, 0)
    assert causes(segments, 9, 30, 30) == (0, 0)
    assert causes(segments, 7, 0, 0) == (0, 0)


def test_the_oldest_are_forgotten_whatever_their_thread() -> None:
    segments = Segments(limit=2)
    segments.tell(told((9, 5, 1), (7, 5, 2), (8, 5, 3)))
    assert [causes(segments, tid, 6, 0)[0] for tid in (7, 8, 9)] == [2, 3, 0]


@given(
    st.lists(st.integers(1, 1 << 30), min_size=1, max_size=20),
    st.integers(0, 5 * RING),
    st.lists(st.integers(1, 1 << 26), min_size=1, max_size=20),
)
def test_ids_are_known_by_their_lower_bits(steps: list[int], base: int, back: list[int]) -> None:
    firsts = [base + int(first) for first in np.cumsum(steps)]
    segments = Segments()
    segments.tell(told(*((7, first, 100 + i) for i, first in enumerate(firsts))))
    for step in back:
        wanted = firsts[-1] - step
        if wanted > 0 and wanted % RING:
            at = bisect.bisect(firsts, wanted)
            assert causes(segments, 7, wanted, 0)[0] == (100 + at - 1 if at else 0)


class Site:
    """A Node that answers; what its segments and ids say is written down by hand."""

    def __init__(self) -> None:
        self.host = Host()
        self.process = self.host.process()
        self.rows: list[Row] = []
        self.segments: list[tuple[int, int]] = []

    def request(self, start: float, end: float, first_id: int) -> Row:
        row = self.host.request(self.process, start, end, columns=self._columns(Flag.SERVER | Flag.EPOLL, 0))
        return self._add(row, first_id)

    def call(self, start: float, end: float, unit: int, after: Row, first_id: int, conn: int | None = None) -> Row:
        columns = self._columns(Flag.EPOLL | Flag.MANY, unit)
        columns["after"] = after["span_id"]
        if conn is not None:
            columns["conn"] = columns["pair"] = conn
        return self._add(self.host.call(self.process, start, end, columns=columns), first_id)

    def parents(self) -> dict[int, tuple[int, int]]:
        """Call → span id of its parent, 0: undecided; and by which link."""
        assembler = Assembler()
        records = np.zeros(len(self.segments), SEGMENT)
        for record, (first, after) in zip(records, sorted(self.segments), strict=True):
            record["tgid"] = record["tid"] = self.process.pid
            record["first_id"], record["after"] = first, after
        assembler.hear(None, NONE_OPEN, 0, records)
        assembler.feed(spans(self.rows), 1)
        given = []
        for now in (LATE, LATE + 5000 * MS):
            assembler.hear(None, NONE_OPEN, now)
            given.append(assembler.feed(spans([]), now))
        given.append(assembler.flush())
        return {
            int(span): (int(parent), int(link))
            for batch in given
            for span, parent, link in zip(batch.span_id, batch.parent, batch.link, strict=True)
        }

    def _columns(self, flags: Flag, unit: int) -> Row:
        return {"unit_req": unit, "unit_rsp": int(Unit.ASYNC) << 56, "flags": int(flags)}

    def _add(self, row: Row, first_id: int) -> Row:
        self.rows.append(row)
        self.segments.append((first_id, row["span_id"]))
        return row


def rounds(site: Site, count: int, agree: bool = True) -> Sequence[tuple[Row, Row]]:
    """(call, its request): two requests at a time, whose calls go out after both were received."""
    made = []
    for i in range(count):
        at, ids_at = 1000.0 * i, 1000 * (i + 1)
        one = site.request(at, at + 100, ids_at)
        two = site.request(at + 1, at + 101, ids_at + 10)
        given = (ids_at + 5, ids_at + 15) if agree else (ids_at + 15, ids_at + 5)
        calls = [
            site.call(at + 10 + k, at + 50 + 10 * k, ids(identity, 0), two, ids_at + 20 + 10 * k)
            for k, identity in enumerate(given)
        ]
        for request, call in zip((one, two), calls, strict=True):
            request["after"] = call["span_id"]
            made.append((call, request))
    return made


def test_calls_are_for_the_request_in_whose_segment_their_ids_were_given() -> None:
    """Given calls that go out when both requests have been received, so that the last one received says nothing."""
    site = Site()
    made = rounds(site, 10)
    found = site.parents()
    assert [found[call["span_id"]] for call, _ in made] == [
        (request["span_id"], int(Link.ASYNC_ID)) for _, request in made
    ]


def test_ids_that_contradict_what_is_seen_backwards_are_not_believed() -> None:
    site = Site()
    made = rounds(site, 10, agree=False)
    found = site.parents()
    assert all(found[call["span_id"]][0] in (0, request["span_id"]) for call, request in made)
    assert Link.ASYNC_ID not in {link for _, link in found.values()}
