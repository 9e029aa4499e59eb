"""Requests that put several calls at once into the line of a pool whose library gives each an id, or none."""

from __future__ import annotations

import random

import numpy as np
import pytest

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Flag, Link, Unit
from otel_ebpf.tracing.assemble import Assembler
from tests.unit.test_tracing_async_ids import NONE_OPEN, SEGMENT, Site, ids
from tests.unit.test_tracing_counted import Truth, happened
from tests.unit.tracing_world import MS, Row, spans

OPEN = Btf.of_object(object_path("requests")).dtype("open_since")
STEP = 500 * MS
NO_ID = int(Unit.ASYNC) << 56
OF_REQUEST, OF_RESPONSE, OF_ANSWER, OF_SENDING = 1, 13, 9, 2
"""Ids that a loop gives for what happens, besides those of calls that are asked for."""
LEARNING = 150
"""Requests after which a process has shown what it is."""


def rows(truth: Truth, of_call: int = 1, strangers: float = 0.0) -> tuple[Site, list[tuple[Row, Row, bool]]]:
    """A site at which this happened; (call, its request, whether it waited). of_call: ids for each that is asked for.

    strangers: share of the calls that no request has made, as far as anybody sees (their requests are not told).
    """
    site, numbers, count = Site(), random.Random(7), 1000
    asked = [sum(call[0] == r for call in truth.calls) for r in range(len(truth.start))]
    sent_again = {(conn, sent) for _, sent, _, conn, waited in truth.calls if waited}
    events: list[tuple[int, int, int | None]] = [(start, r, None) for r, start in enumerate(truth.start)]
    events += [(call[2], call[0], n) for n, call in enumerate(truth.calls)]
    first_id: dict[tuple[int, int | None], int] = {}
    for when, request, call in sorted(events):
        first_id[request, call] = count
        if call is None:
            count += OF_REQUEST + of_call * asked[request]
            continue
        count += OF_RESPONSE + OF_ANSWER * (truth.answered[request] == when)
        count += OF_SENDING * ((truth.calls[call][3], when) in sent_again)
    requests = [
        site.request(start / MS, truth.answered[r] / MS, first_id[r, None]) for r, start in enumerate(truth.start)
    ]
    made: list[tuple[Row, Row, bool]] = []
    before: dict[int, tuple[Row, int]] = {}
    for n, (r, sent, answer, conn, waited) in sorted(enumerate(truth.calls), key=lambda one: one[1][1]):
        after, given = before[conn] if waited else (requests[r], 0)
        unit = ids(given + 4, given) if waited else NO_ID
        row = site.call(sent / MS, answer / MS, unit, after, first_id[r, n], 500 + conn)
        before[conn] = row, first_id[r, n]
        if answer == truth.answered[r]:
            requests[r]["after"] = row["span_id"]
        made.append((row, requests[r], waited))
    gone = {id(request) for request in requests if numbers.random() < strangers}
    site.rows = [row for row in site.rows if id(row) not in gone]
    return site, made


def parents(site: Site) -> dict[int, tuple[int, int]]:
    """As `Site.parents`, of an agent that looks twice a second while it happens."""
    assembler, told, given = Assembler(), set[int](), []
    pids = np.array([site.process.pid], np.uint32)
    records = np.zeros(len(site.segments), SEGMENT)
    for record, (first, after) in zip(records, sorted(site.segments), strict=True):
        record["tgid"] = record["tid"] = site.process.pid
        record["first_id"], record["after"] = first, after
    assembler.hear(None, NONE_OPEN, 0, records)
    last = max(row["end"] for row in site.rows)
    for now in range(STEP, last + 8 * STEP, STEP):
        open_then = [row["start"] for row in site.rows if row["start"] <= now < row["end"] and serves(row)]
        sweep = np.zeros(1, OPEN)
        sweep["t"] = sweep["recent"] = min(open_then, default=0)
        assembler.hear(None, (pids, sweep) if open_then else NONE_OPEN, now)
        ended = [row for row in site.rows if row["end"] <= now and id(row) not in told]
        told |= {id(row) for row in ended}
        given.append(assembler.feed(spans(ended), now))
    given.append(assembler.flush())
    return {
        int(span): (int(parent), int(link))
        for batch in given
        for span, parent, link in zip(batch.span_id, batch.parent, batch.link, strict=True)
    }


def serves(row: Row) -> bool:
    return bool(row["flags"] & int(Flag.SERVER))


def judge(site: Site, made: list[tuple[Row, Row, bool]]) -> tuple[float, int]:
    """Share of the calls behind those of the first requests that have the right parent; how many have a wrong one."""
    found = parents(site)
    right = [found[call["span_id"]][0] == request["span_id"] for call, request, _ in made]
    wrong = sum(found[call["span_id"]][0] not in (0, request["span_id"]) for call, request, _ in made)
    late = right[2 * LEARNING :]
    return sum(late) / len(late), wrong


@pytest.mark.parametrize("seed", range(5))
def test_what_a_request_puts_into_the_line_is_told_by_the_ids_that_it_takes(seed: int) -> None:
    truth = happened(seed, every=40, many=600)
    assert len(truth.waited) > 300
    site, made = rows(truth)
    share, wrong = judge(site, made)
    assert wrong == 0
    assert share >= 0.95
    found = parents(site)
    assert Link.ORDER in {Link(found[call["span_id"]][1]) for call, _, waited in made if waited}


@pytest.mark.parametrize("seed", range(5))
def test_a_library_without_ids_is_followed_by_its_answers(seed: int) -> None:
    site, made = rows(happened(seed, every=50, many=600), of_call=0)
    share, wrong = judge(site, made)
    assert wrong == 0
    assert share >= 0.6, "those upon which the requests were answered, and more"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("of_call", [0, 1])
def test_calls_of_which_nobody_saw_the_requests_are_not_given_to_others(seed: int, of_call: int) -> None:
    site, made = rows(happened(seed, every=30, many=400), of_call, strangers=0.1)
    told = {id(row) for row in site.rows}
    found = parents(site)
    assert all(
        found[call["span_id"]][0] in (0, request["span_id"] if id(request) in told else 0) for call, request, _ in made
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("connections", "every"), [(1, 60), (1, 120), (2, 60)])
@pytest.mark.parametrize("pick", ["first", "last"])
def test_whatever_order_a_pool_keeps_nothing_wrong_is_said(seed: int, connections: int, every: int, pick: str) -> None:
    """Given requests that put up to three calls at once into a line, where a place in it, or the response that came
    before, is right for most calls by chance."""
    site, made = rows(happened(50 + seed, connections, every, pick, many=400), of_call=0)
    assert judge(site, made)[1] == 0
