"""Spans as they come in: server-sent events, filters, limits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from otel_ebpf.viewer.api.feed import LISTENERS, QUEUED_ROWS, Feed
from otel_ebpf.viewer.api.live import ROWS, fitting, live_span
from otel_ebpf.viewer.api.match import compiled
from otel_ebpf.viewer.api.sources import Busy, Row
from otel_ebpf.viewer.decode.traces import decode_traces
from tests.unit.viewer_api_world import CLIENT, SERVER, World


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def listening(lines: Iterator[str]) -> None:
    """Wait until the server has taken the listener."""
    assert next(lines).startswith(":")


def test_spans_come_as_they_are_stored(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.served() as client, client.stream("GET", "/api/v1/live", params={"q": "service=cart"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        listening(lines)
        world.checkout(1)
        world.flush()
        name, spans = next(events(lines))
    assert name == "spans"
    assert [(span["service"], span["kind"], span["what"], span["peer"]) for span in spans] == [
        ("cart", "server", "GET /cart/7", "unknown"),
        ("cart", "client", "GET cart:7", "10.0.0.5:6379"),
    ]
    assert spans[1]["system"] == "redis"
    assert spans[0]["trace_id"] == f"{1:032x}"


def test_a_listener_that_has_gone_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.served() as client:
        with client.stream("GET", "/api/v1/live") as answer:
            lines = answer.iter_lines()
            listening(lines)
            assert world.feed.wanted
        until = time.monotonic() + 20
        while world.feed.wanted and time.monotonic() < until:
            time.sleep(0.02)
        assert not world.feed.wanted


def test_what_is_too_much_for_a_page_is_counted(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.served() as client, client.stream("GET", "/api/v1/live") as answer:
        lines = answer.iter_lines()
        listening(lines)
        for number in range(ROWS + 50):
            world.span("busy", "GET", SERVER, trace=number + 1)
        world.flush()
        found = events(lines)
        _, spans = next(found)
        name, missed = next(found)
    assert len(spans) == ROWS
    assert (name, missed) == ("missed", {"count": 50})


def test_a_listener_that_does_not_take_in_time_is_told_how_many_it_missed() -> None:
    feed = Feed()
    with closing(feed.subscribe()) as listener:
        for _ in range(3):
            feed.publish([(0,)] * (QUEUED_ROWS // 2))
        rows, missed = listener.take()
        assert (len(rows), missed) == (QUEUED_ROWS, QUEUED_ROWS // 2)
        assert listener.take() == ([], 0)
    assert not feed.wanted


def test_there_are_only_so_many_listeners() -> None:
    feed = Feed()
    listeners = [feed.subscribe() for _ in range(LISTENERS)]
    with pytest.raises(Busy):
        feed.subscribe()
    listeners[0].close()
    feed.subscribe()


@pytest.fixture
def row(tmp_path: Path) -> Row:
    world = World(tmp_path)
    world.span(
        "shop", "GET /cart/{id}", SERVER, took=0.25, failed=True, client__address="10.0.0.9",
        http__request__method="GET", url__path="/cart/7", url__query="x=1", http__response__status_code=503,
        otel_ebpf__link__method="thread-alone",
    )  # fmt: skip
    (found,) = decode_traces(world._request.SerializeToString(), world.context).rows
    return found


def test_a_line_says_who_asked_for_what_and_how_it_went(row: Row) -> None:
    span = live_span(row)
    assert (span["service"], span["kind"], span["peer"], span["system"]) == ("shop", "server", "10.0.0.9", "http")
    assert (span["what"], span["status"], span["failed"]) == ("GET /cart/7?x=1", "503", True)
    assert (span["duration"], span["link"]) == (250.0, "thread-alone")


@pytest.mark.parametrize(
    ("q", "fits"),
    [
        ("", True),
        ("service=SHOP", True),
        ("service=sh*", True),
        ("service!=shop", False),
        ("protocol=http,redis", True),
        ("peer=10.0.0.0/8", True),
        ("peer=10.0.0.9", True),
        ("peer=10.1.0.0/16", False),
        ('name~"/cart/{"', True),
        ("text~x=1", True),
        ("text~x=2", False),
        ("status>=500 status<504", True),
        ("status=404,503", True),
        ("kind=client", False),
        ("error=true", True),
        ("duration>200ms duration<=250ms", True),
        ("duration>1s", False),
    ],
)
def test_the_filter_is_that_of_tap(row: Row, q: str, fits: bool) -> None:
    assert bool(fitting([row], compiled(q))[0]) == fits


def test_the_newest_that_fit_are_shown_in_their_order(row: Row) -> None:
    rows = [(number, *row[1:]) for number in range(ROWS + 3)]
    spans, more = fitting(rows, compiled(""))
    assert more == 3
    assert [span["time"] for span in spans] == [number / 1e6 for number in range(3, ROWS + 3)]


def test_what_happens_inside_of_a_service_is_no_line(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.span("shop", "compute", 1)
    world.span("shop", "ask", CLIENT)
    rows = decode_traces(world._request.SerializeToString(), world.context).rows
    assert [span["what"] for span in fitting(rows, compiled(""))[0]] == ["ask"]


def test_a_wrong_filter_is_told_before_anything_streams(tmp_path: Path) -> None:
    with World(tmp_path).served() as client:
        answer = client.get("/api/v1/live", params={"q": "colour=red"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("filter: 'colour': unknown key")
