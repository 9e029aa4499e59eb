"""The live view: right numbers over the last ten seconds, on a terminal of any size, losses never hidden."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.control.console import Console, open_console
from otel_ebpf.control.lines import Lines, line_width, plain
from otel_ebpf.control.sinks import TextSink
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.control.view import View, frame
from otel_ebpf.control.window import MAX_SERVICES, OTHERS, SECONDS, ServiceRow, Window, bucket_of, middle_of
from otel_ebpf.errors import KernelError
from otel_ebpf.model import Kind, Resource, Spans
from tests.unit.control_batch import CART, CART_FAILED, MS, batch, eventually, exchange, tables, terminal, typical


def quiet() -> Statistics:
    return Statistics()


def lossy() -> Statistics:
    found = Statistics()
    found.add("otel_ebpf.losses", 12, "kernel", "ring_full_exchange")
    found.add("otel_ebpf.losses", 0, "kernel", "no_state")
    found.add("otel_ebpf.losses", 3, "tracing", "held_too_many")
    found.notes.append("on_exec is not attached: Permission denied \x1b[2J")
    return found


def rows_of(window: Window, now: float) -> dict[str, ServiceRow]:
    return {row.service: row for row in window.rows(now)}


@given(st.integers(1 << 10, (1 << 37) - 1))
def test_a_bucket_holds_what_is_within_seven_percent_of_its_middle(ns: int) -> None:
    middle = middle_of(int(bucket_of(np.array([ns], np.uint64))[0]))
    assert abs(middle - ns) / ns < 0.07


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=50))
def test_buckets_are_in_the_order_of_durations(durations: list[int]) -> None:
    buckets = bucket_of(np.array(sorted(durations), np.uint64)).tolist()
    assert buckets == sorted(buckets)


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(1, 5_000)), min_size=1, max_size=60))
def test_rates_errors_and_quantiles_agree_with_plain_counting(seen: list[tuple[int, bool, int]]) -> None:
    window, found = Window(), tables()
    spans = batch(
        *(
            exchange(CART_FAILED if failed else CART, "/a", took=ms * MS, resource=resource, kind=Kind.SERVER)
            for resource, failed, ms in seen
        )
    )
    window.add(spans, found, 100.0)
    rows = rows_of(window, 104.0)
    for number, service in enumerate(("shop", "billing")):
        own = sorted(ms for resource, _, ms in seen if resource == number)
        if not own:
            assert service not in rows
            continue
        inward = rows[service].inward
        assert inward is not None
        assert rows[service].outward is None
        assert inward.rate == pytest.approx(len(own) / 4)
        assert inward.errors == pytest.approx(sum(f for r, f, _ in seen if r == number) / len(own))
        for quantile, value in ((0.5, inward.p50), (0.99, inward.p99)):
            exact = own[max(int(np.ceil(quantile * len(own))), 1) - 1]
            assert value / MS == pytest.approx(exact, rel=0.07)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window, found = Window(), tables()
    window.add(batch(exchange(CART, "/a")), found, 100.2)
    assert rows_of(window, 100.2 + SECONDS)
    assert not rows_of(window, 102.0 + SECONDS)
    window.add(batch(exchange(CART, "/a")), found, 5_000.0)
    assert rows_of(window, 5_001.0)["shop"].rate == pytest.approx(1 / SECONDS, rel=0.1)


def test_the_rate_is_that_of_the_window_while_traffic_goes_on() -> None:
    window, found = Window(), tables()
    spans = batch(*[exchange(CART, "/a", kind=Kind.SERVER) for _ in range(20)])
    for tenth in range(300):
        window.add(spans, found, 100 + tenth / 10)
    assert rows_of(window, 130.0)["shop"].rate == pytest.approx(200, rel=0.02)


def test_services_beyond_the_limit_are_counted_together_and_places_are_used_again() -> None:
    window, found = Window(), tables()

    def one_each(first: int, count: int) -> Spans:
        ids = [found.resources.id(Resource(f"s{n}", ())) for n in range(first, first + count)]
        return batch(*[exchange(CART, "/a", resource=number, kind=Kind.SERVER) for number in ids])

    window.add(one_each(0, 100), found, 100.0)
    rows = rows_of(window, 101.0)
    assert len(rows) == MAX_SERVICES
    assert rows[OTHERS].rate == pytest.approx(100 - (MAX_SERVICES - 1))
    window.add(one_each(200, 30), found, 200.0)
    assert set(rows_of(window, 201.0)) == {f"s{n}" for n in range(200, 230)}


def a_view(services: int = 5, exchanges: int = 20) -> View:
    window, found = Window(), tables()
    for n in range(services):
        resource = found.resources.id(Resource(f"service-{n}", ()))
        window.add(batch(exchange(CART, "/a", resource=resource, kind=Kind.SERVER)), found, 1.0)
    lines = list(Lines(100).format(typical(), found, np.arange(exchanges) % 5))
    return View(window.rows(2.0), lines, 1_234, lossy())


@given(st.integers(1, 250), st.integers(1, 80), st.integers(0, 70), st.integers(0, 60))
def test_a_frame_fits_every_terminal(columns: int, rows: int, services: int, exchanges: int) -> None:
    lines = frame(a_view(services, exchanges), columns, rows)
    assert len(lines) <= rows
    assert all(line_width(line) <= columns for line in lines)
    if columns >= 12:
        assert any("LOST 15" in plain(line) for line in lines), "however small the terminal is"


def test_a_frame_shows_services_above_and_the_newest_exchanges_below() -> None:
    text = [plain(line) for line in frame(a_view(services=2, exchanges=20), 100, 16)]
    assert text[0].split() == ["SERVICE", "IN/s", "ERR", "P50", "P99", "OUT/s", "ERR", "P50", "P99"]
    assert [line.split()[0] for line in text[1:3]] == ["service-0", "service-1"]
    assert text[3].startswith("── 1,234 more since the start ──")
    assert "A shop.example" in text[12], "the newest is the last"
    assert text[13] == "LOST 15: kernel ring_full_exchange 12, tracing held_too_many 3"
    assert text[14] == "on_exec is not attached: Permission denied \\x1b[2J"
    assert text[15].endswith("spans/s, 2 services. Ctrl-C ends")


def test_more_services_than_there_is_room_for_are_counted() -> None:
    text = [plain(line) for line in frame(a_view(services=30), 100, 24)]
    shown = sum(line.startswith("service-") for line in text)
    assert f"{30 - shown} more services" in text


def test_a_narrow_table_keeps_what_matters_most() -> None:
    text = [plain(line) for line in frame(a_view(services=1), 60, 20)]
    assert text[0].split() == ["SERVICE", "IN/s", "ERR", "P99", "OUT/s"]
    assert text[1].split() == ["service-0", "1.0", "0%", "1.02ms", "-"]


def test_before_the_first_exchange_the_view_says_what_it_waits_for() -> None:
    text = [plain(line) for line in frame(View(), 120, 10)]
    assert any(line.startswith("waiting: the next HTTP, Redis") for line in text)


@pytest.fixture(autouse=True)
def colour_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_on_a_terminal_exchanges_services_and_losses_are_drawn_and_the_terminal_is_given_back() -> None:
    with terminal(120, 20) as screen:
        console = open_console(screen.stream, lossy)
        assert isinstance(console, Console)
        found = tables()
        console.show(typical(), found)
        eventually(lambda: any("LOST 15" in line for f in screen.frames() for line in f), "a frame")
        console.close()
        eventually(lambda: "lost: tracing held_too_many 3" in screen.text(), "the farewell")
        last = screen.frames()[-1]
        assert len(last) == 20
        assert any(line.startswith("shop") for line in last)
        assert any("GET /cart/7?page=2" in line for line in last)
        text = screen.text()
        assert text.startswith("\x1b[?1049h\x1b[?25l\x1b[?7l")
        restored = text.index("\x1b[?7h\x1b[?25h\x1b[?1049l")
        assert "shop" in text[restored:], "what the services did stays on the terminal"


def test_the_view_follows_the_size_of_the_terminal() -> None:
    with terminal(120, 30) as screen:
        console = open_console(screen.stream, quiet)
        console.show(typical(), tables())
        eventually(lambda: any(len(f) == 30 for f in screen.frames()), "a frame of 30 rows")
        screen.resize(50, 12)
        eventually(lambda: any(len(f) == 12 for f in screen.frames()), "a frame of 12 rows")
        console.close()
        assert all(len(line) <= 50 for line in screen.frames()[-1])


def test_statistics_that_cannot_be_read_are_a_note_and_no_end() -> None:
    def broken() -> Statistics:
        raise KernelError("bpf_map_lookup_elem: Bad file descriptor")

    with terminal() as screen:
        console = open_console(screen.stream, broken)
        console.show(typical(), tables())
        eventually(lambda: "Bad file descriptor" in screen.text(), "the note")
        console.close()


def test_a_terminal_that_takes_nothing_holds_up_nobody() -> None:
    master, slave = os.openpty()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as stream:
            console = Console(stream, quiet)
            found, spans = tables(), batch(*[exchange(CART, f"/{n}") for n in range(100)])
            for _ in range(2_000):  # nobody reads the master: its buffer fills, and writes block
                console.show(spans, found)
            assert len(console._waiting) <= 64
            os.close(master)  # the terminal goes away
            master = -1
            console.close()
    finally:
        if master >= 0:
            os.close(master)


def test_a_terminal_that_goes_away_ends_the_view_and_not_the_agent() -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        console = Console(stream, quiet)
        console.show(typical(), tables())
        os.close(master)
        thread = console._thread
        assert thread is not None
        eventually(lambda: not thread.is_alive(), "the thread's end")
        console.show(typical(), tables())
        console.close()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_where_there_is_no_terminal_lines_are_plain(tmp_path: Path, term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    with terminal() as screen, (tmp_path / "out").open("w", encoding="utf-8") as out:
        for stream in (screen.stream, out):
            sink = open_console(stream, quiet)
            assert isinstance(sink, TextSink)
            sink.show(typical(), tables())
            sink.close()
        assert "\x1b" not in screen.text()
    assert len((tmp_path / "out").read_text(encoding="utf-8").splitlines()) == 5
