"""Lines for people and for machines: what they say, that they fit, and that no stranger can forge them."""

from __future__ import annotations

import io
import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.control.filter import Filter
from otel_ebpf.control.jsonlines import JsonLines
from otel_ebpf.control.lines import Lines, ansi, line_width, plain
from otel_ebpf.control.pace import Pace, worth_showing
from otel_ebpf.control.sinks import JsonSink, TextSink
from otel_ebpf.control.tables import Tables
from otel_ebpf.control.text import clean, duration, fit, rate, size, width
from otel_ebpf.model import Endpoint, Kind, Resource, Spans
from otel_ebpf.protocols.base import Fields, Side, Slot
from tests.unit.control_batch import CART, MS, QUERY, batch, eventually, exchange, tables, terminal, typical
from tests.unit.otlp_twin import OFFSET

KEYS = {
    *("time", "duration_ns", "first_byte_ns", "service", "pid", "kind", "peer", "peer_port", "protocol", "name"),
    *("status", "error", "request_bytes", "response_bytes", "tls", "answered", "trace_id", "span_id", "parent_id"),
    *("link", "attributes"),
}


def lines_of(spans: Spans, found: Tables, columns: int = 160) -> list[str]:
    return [plain(line) for line in Lines(columns).format(spans, found, np.arange(len(spans)))]


def words(line: str) -> str:
    return " ".join(line.split()[1:])  # without the time, which is local


def test_each_protocol_reads_as_a_person_would_say_it() -> None:
    assert [words(line) for line in lines_of(typical(), tables())] == [
        "shop ← 10.1.2.3:51000 http GET /cart/7?page=2 200 1.00ms 120B/4.5k",
        "billing → cart.example:80 http GET /cart/8 503 250ms 120B/4.5k",
        "shop → 10.0.0.5:6379 redis GET cart:7 ok 1.00ms 120B/4.5k alone",
        "shop → /run/pg.sock postgresql SELECT * FROM users WHERE id = ? ok 1.00ms 120B/4.5k",
        "shop → [::1]:53 dns A shop.example none 1.00ms 120B/4.5k",
    ]


def test_the_time_is_that_of_the_request_with_milliseconds() -> None:
    line = lines_of(typical(), tables())[0]
    milliseconds = (5_000 * MS + OFFSET) // MS % 1000
    assert re.match(rf"\d\d:\d\d:\d\d\.{milliseconds:03d} ", line)


@pytest.mark.parametrize("columns", [1, 10, 20, 40, 59, 60, 79, 80, 119, 120, 140, 200])
def test_a_line_fills_the_terminal_and_never_wraps(columns: int) -> None:
    for line in Lines(columns).format(typical(), tables(), np.arange(5)):
        assert line_width(line) == columns


def test_on_a_terminal_without_unicode_lines_are_ascii() -> None:
    spans = batch(exchange(CART, "/straße/漢字"))
    line = plain(next(Lines(120, unicode=False).format(spans, tables(), np.arange(1))))
    assert line.isascii()
    assert " < " in line


def test_errors_are_red_and_slow_answers_stand_out() -> None:
    found = tables()
    spans = batch(exchange(1, took=2_000 * MS), exchange(CART, took=200 * MS), exchange(CART, took=MS))
    failed, slow, fine = (ansi(line) for line in Lines(120).format(spans, found, np.arange(3)))
    assert re.search(r"\x1b\[31m503 *\x1b\[0m \x1b\[31m2\.00s", failed)
    assert re.search(r"\x1b\[32m200 *\x1b\[0m \x1b\[33m200ms", slow)
    assert re.search(r"\x1b\[32m200 *\x1b\[0m 1\.00ms", fine)


def test_ids_that_the_tables_have_forgotten_leave_blanks_and_no_error() -> None:
    spans = batch(exchange(CART, "/a"))
    spans.shape[:], spans.resource[:], spans.endpoint[:] = 900, 900, 900
    assert words(lines_of(spans, tables())[0]).startswith("- ← -:40000 unknown")
    assert json.loads(next(JsonLines().format(spans, tables(), np.arange(1))))["service"] == ""


ATTACKS = [
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b]0;owned\x07",  # retitle the window
    "\x1b]52;c;cm0gLXJm\x1b\\",  # write the clipboard
    "\x9b31m",  # CSI as one C1 character
    "\x90q\x9c",  # device control string
    "\r14:03:21.000 shop → forged",
    "\n14:03:21.000 shop → forged",
    "\b\b\b\b",
    "\x7f",
    "\u202egnp.exe",  # right-to-left override
    "\u2066\u2069\u200b\u200d\ufeff",
    "\u2028\u2029\x85\x0b\x0c",
    "\U000e0041\U000e007f",  # tag characters
    "é" * 5000 + "́" * 5000,
]


def attacked(text: str) -> tuple[Spans, Tables]:
    """The text at every place that a stranger can reach: path, name, status, service, peer."""
    found = tables()
    side = Side(f"GET {text}", (("server.address", text),), (), False, (Slot("url.path", 0),))
    shape = found.shapes.id(Fields("http", side, side, text))
    resource = found.resources.id(Resource(text, ()))
    endpoint = found.endpoints.id(Endpoint((("network.peer.address", text),), ()))
    encoded = text.encode("utf-8", "replace").decode()
    rows = [exchange(shape, encoded, resource=resource, endpoint=endpoint, kind=k) for k in (Kind.SERVER, Kind.CLIENT)]
    return batch(*rows), found


def only_printable(line: str) -> bool:
    return all(unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in ("Zl", "Zp") for c in line)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_strangers_send_cannot_reach_the_terminal(attack: str) -> None:
    spans, found = attacked(attack)
    for columns in (40, 100, 160):
        for line in Lines(columns).format(spans, found, np.arange(2)):
            assert only_printable(plain(line))
            assert line_width(line) == columns
            assert not re.sub(r"\x1b\[(0|1|2|3[1-6])m", "", ansi(line)).count("\x1b")
    for text in JsonLines().format(spans, found, np.arange(2)):
        assert text.isascii()
        assert text.isprintable()
        assert json.loads(text)["service"] == attack


@given(st.text(max_size=300), st.integers(1, 60))
def test_any_text_is_made_printable_and_fits(text: str, columns: int) -> None:
    safe = clean(text)
    assert only_printable(safe)
    assert width(fit(safe, columns)) == columns


@given(st.binary(max_size=64), st.sampled_from([40, 100, 160]))
def test_any_bytes_in_a_slot_make_one_printable_line(data: bytes, columns: int) -> None:
    spans = batch(exchange(QUERY, "x" * len(data)))
    spans.text = np.concatenate([spans.text[: spans.slot_start[0, 0]], np.frombuffer(data, np.uint8)])
    line = plain(next(Lines(columns).format(spans, tables(), np.arange(1))))
    assert only_printable(line)


def test_a_text_of_a_megabyte_costs_no_more_than_what_is_shown() -> None:
    spans = batch(exchange(CART, "/" + "a" * 1_000_000))
    assert width(lines_of(spans, tables(), 120)[0]) <= 120


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        *((0, "0µs"), (999_499, "999µs"), (999_500, "1.00ms"), (9_994_999, "9.99ms"), (9_995_000, "10.0ms")),
        *((999_499_999, "999ms"), (999_500_000, "1.00s"), (3_600_000_000_000, "3600s")),
    ],
)
def test_durations_have_three_digits(ns: int, text: str) -> None:
    assert duration(ns) == text


@given(st.integers(0, 2**63))
def test_sizes_and_rates_stay_narrow(number: int) -> None:
    assert len(size(number)) <= 5
    assert len(rate(min(number, 10**9))) <= 7


def test_json_keys_are_the_documented_ones_and_values_have_their_types() -> None:
    spans, found = typical(), tables()
    spans.parent[2] = 7
    rows = [json.loads(text) for text in JsonLines().format(spans, found, np.arange(5))]
    assert all(set(row) == KEYS for row in rows)
    first, failed, redis, query, lookup = rows
    assert first["time"].endswith("Z")
    assert (first["kind"], first["peer"], first["peer_port"], first["status"]) == ("server", "10.1.2.3", 51000, "200")
    assert (first["duration_ns"], first["error"], first["parent_id"]) == (MS, False, "")
    assert first["attributes"]["url.query"] == "page=2"
    assert failed["error"]
    assert failed["attributes"]["url.full"] == "http://cart.example/cart/8"
    assert failed["attributes"]["server.address"] == "cart.example", "the protocol's name wins over the connection's"
    assert (redis["link"], redis["parent_id"], len(redis["trace_id"])) == ("thread-alone", "0700000000000000", 32)
    assert query["peer_port"] is None
    assert query["attributes"]["db.query.text"] == "SELECT * FROM users\n WHERE id = ?"
    assert (lookup["answered"], lookup["error"]) == (False, True)


def test_the_documentation_of_the_json_keys_is_complete() -> None:
    import otel_ebpf.control.jsonlines as module

    documented = re.findall(r"^\| ([\w, ]+) \|", module.__doc__ or "", re.MULTILINE)
    assert {key for row in documented for key in row.split(", ")} - {"key"} == KEYS


def test_the_pace_grants_what_the_bucket_holds_and_counts_the_rest() -> None:
    pace = Pace(10)
    assert [pace.take(8, 0.0), pace.take(8, 0.0), pace.take(8, 0.5)] == [8, 2, 5]
    assert pace.take(100, 100.0) == 10, "a quiet time saves up one second, not more"
    assert pace.told() == 6 + 3 + 90
    assert pace.told() == 0


def test_errors_are_shown_before_others_and_new_before_old() -> None:
    rows, error = np.array([3, 5, 8, 9, 12]), np.array([True, False, False, False, True])
    assert worth_showing(rows, error, 3).tolist() == [3, 9, 12]
    assert worth_showing(rows, error, 1).tolist() == [12]
    assert worth_showing(rows, error, 0).tolist() == []
    assert worth_showing(rows, error, 9).tolist() == rows.tolist()


def test_a_file_gets_plain_lines_of_what_the_filter_lets_through(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as out:
        sink = TextSink(out, Filter.parse("protocol=http"))
        sink.show(typical(), tables())
        sink.close()
    written = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert [words(line).split()[0] for line in written] == ["shop", "billing"]
    assert "\x1b" not in "".join(written)


def test_a_terminal_gets_colours_and_a_count_of_what_it_was_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with terminal(100) as screen:
        sink = TextSink(screen.stream, pace=Pace(4))
        sink.show(batch(*[exchange(CART, f"/{n}") for n in range(1_238)]), tables())
        sink.close()
        eventually(lambda: "1,234 more" in screen.text(), "the count")
        assert screen.text().count("\x1b[32m200") == 4
        shown = re.sub(r"\x1b\[\d*m", "", screen.text()).splitlines()
        assert all(width(line) <= 100 for line in shown)


def test_lines_stand_in_the_order_of_their_requests(tmp_path: Path) -> None:
    spans = batch(*[exchange(CART, f"/{n}") for n in range(3)])
    spans.start -= np.array([0, 2, 1], np.uint64)
    with (tmp_path / "out").open("w", encoding="utf-8") as out:
        sink = TextSink(out)
        sink.show(spans, tables())
        sink.close()
    shown = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert [words(line).split()[5] for line in shown] == ["/1", "/2", "/0"]


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as screen:
        sink = TextSink(screen.stream)
        sink.show(typical(), tables())
        sink.close()
        eventually(lambda: screen.text().count("\n") == 5, "five lines")
        assert "\x1b" not in screen.text()


def test_a_reader_that_does_not_read_holds_up_nobody_and_what_it_misses_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "w", encoding="utf-8") as out:
            sink = JsonSink(out, limit=200_000)
            for _ in range(50):
                sink.show(batch(*[exchange(CART, f"/{n}") for n in range(20)]), tables())
            dropped = sink.dropped
            assert dropped > 0
            got = io.BytesIO()
            while len(got.getvalue().splitlines()) < 1000 - dropped:
                got.write(os.read(reader, 65536))
            sink.close()
            assert all(json.loads(line)["name"] == "GET /cart/{id}" for line in got.getvalue().splitlines())
        assert f"{dropped:,} lines dropped" in capsys.readouterr().err
    finally:
        os.close(reader)


def test_a_reader_that_has_gone_ends_the_command() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as out:
        sink = TextSink(out)

        def gone() -> bool:
            try:
                sink.show(typical(), tables())
            except BrokenPipeError:
                return True
            return False

        eventually(gone, "BrokenPipeError")
        sink.show(typical(), tables())  # said once: what is handed in while everything ends is dropped
        assert sink.dropped >= 5
        sink.close()


def test_rows_that_nobody_could_read_have_no_line(tmp_path: Path) -> None:
    spans = batch(exchange(CART, "/a"), exchange(CART, "/b"))
    spans.shape[0] = -2
    with (tmp_path / "out").open("w", encoding="utf-8") as out:
        sink = TextSink(out)
        sink.show(spans, tables())
        sink.close()
    assert len((tmp_path / "out").read_text(encoding="utf-8").splitlines()) == 1
