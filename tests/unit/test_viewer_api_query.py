"""`otel-ebpf query`: tables for people, JSON for scripts, one line for what is wrong."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from otel_ebpf.errors import ConfigError, UnsupportedError
from otel_ebpf.viewer import query
from otel_ebpf.viewer.api.endpoints import ENDPOINTS
from otel_ebpf.viewer.query_text import _SHOW, _tree
from tests.unit.viewer_api_world import SERVER, World

Run = Callable[..., str]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    world = World(tmp_path_factory.mktemp("store"))
    for number in range(1, 6):
        world.checkout(number, ago=60 + number, took=number / 10, failed=number == 4)
    world.span("\x1b[2J[bold]evil", "GET /\u202e", SERVER, trace=50, ago=20)
    world.join()
    world.log("cart", "hello", trace=1)
    world.counter("requests", {}, {90: 1, 30: 5})
    world.writer.write([], [("viewer", "queue is full", 3)], world.now)
    with world.served() as client:
        yield client


@pytest.fixture
def run(shop: httpx.Client, capsys: pytest.CaptureFixture[str]) -> Run:
    def ask(*arguments: str) -> str:
        parser = argparse.ArgumentParser()
        query.add_arguments(parser)
        address = f"{shop.base_url.host}:{shop.base_url.port}"
        assert query.main(parser.parse_args([*arguments, "--address", address])) == 0
        return capsys.readouterr().out

    return ask


def test_services_as_a_table_with_what_is_missing(run: Run) -> None:
    lines = run("services", "--start", "-15m").splitlines()
    assert lines[0].split() == ["SERVICE", "KIND", "SYSTEM", "CALLS", "PER", "S", "ERRORS", "P50", "P99", "REQUESTS"]
    (cart,) = (line for line in lines if line.startswith("cart"))
    assert cart.split()[:4] == ["cart", "service", "http", "5"]
    assert lines[-1].startswith("! viewer: queue is full: 3 (")


def test_a_trace_as_a_tree_with_durations_and_links(run: Run) -> None:
    lines = run("trace", "1").splitlines()
    assert [line[:20].rstrip() for line in lines[1:6]] == [
        "POST /checkout",
        "  GET",
        "    GET /cart/{id}",
        "      GET",
        "  SELECT orders",
    ]
    assert "100ms" in lines[1] and "traceparent" in lines[1]
    assert any("hello" in line for line in lines)


def test_failed_spans_and_severities_are_told_by_words(run: Run) -> None:
    failed = [line for line in run("trace", "4").splitlines() if " error " in line]
    assert [line.split()[0] for line in failed] == ["POST", "SELECT"]
    assert " INFO " in run("logs", "--text", "hello")
    assert re.search(r"store oldest +20[0-9]{2}-[01][0-9]-[0-3][0-9] ", run("status"))


def test_an_empty_answer_says_what_was_asked_for_in_vain(run: Run) -> None:
    parser = argparse.ArgumentParser()
    query.add_arguments(parser)
    said = query._nothing(parser.parse_args(["traces", "--service", "nosuch"]))
    assert said.startswith("nothing fits --service nosuch in this time: try a longer one (--start -24h), or")
    with pytest.raises(ConfigError, match="red: takes 0 names or ids, got 1: use --service nginx"):
        query._url(parser.parse_args(["red", "nginx"]))
    with pytest.raises(UnsupportedError, match="an id has 32 digits, is it whole"):
        run("trace", "311c07d1")


def test_parents_in_a_circle_do_not_hide_or_repeat_spans() -> None:
    spans: list[dict[str, object]] = [
        {"span_id": "a", "parent_id": "b", "start": 1},
        {"span_id": "b", "parent_id": "a", "start": 2},
        {"span_id": "c", "parent_id": "c", "start": 3},
        {"span_id": "d", "parent_id": None, "start": 4},
        {"span_id": "d", "parent_id": "d", "start": 5},
    ]
    assert sorted(str(one["start"]) for _, one in _tree(spans)) == ["1", "2", "3", "4", "5"]


def test_texts_from_strangers_do_nothing_to_the_terminal(run: Run) -> None:
    said = run("services") + run("traces") + run("trace", "32")
    assert "\x1b" not in said and "\u202e" not in said
    assert "\\x1b[2J[bold]evil" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["map", "--group-by", "host.name"], "alpha"),
        (["services", "cart"], "GET /cart/{id}"),
        (["red", "--client", "frontend", "--server", "cart", "--steps", "3"], "P99"),
        (["traces", "--attr", "db.system.name=redis", "--attr", "host.name=beta", "--limit", "1"], f"{1:032x}"),
        (["traces", "--min-ms", "450"], f"{5:032x}"),
        (["span", "1", "1"], "http.route"),
        (["attributes"], "http.route"),
        (["attributes", "http.route"], "/checkout"),
        (["logs", "--text", "HELL"], "hello"),
        (["metrics"], "requests"),
        (["metrics", "requests"], "otel-ebpf"),
        (["agents"], "HOST"),
        (["status"], "Full."),
    ],
)
def test_everything_can_be_asked(run: Run, arguments: list[str], expected: str) -> None:
    assert expected in run(*arguments)


def test_json_is_the_apis_answer(run: Run, shop: httpx.Client) -> None:
    assert json.loads(run("trace", "1", "--json")) == shop.get("/api/v1/traces/1").json()


def test_it_can_ask_whatever_the_api_can_answer() -> None:
    known = {parameter.name for endpoint in ENDPOINTS for parameter in endpoint.parameters if not parameter.in_path}
    assert set(query.PARAMETERS) == known - {"q"}
    paths = {re.sub(r"{[^}]*}", "{}", endpoint.path) for endpoint in ENDPOINTS if endpoint.answer is not None}
    asked = [(what, names, path) for what, several in query.WHAT.items() for names, path in enumerate(several) if path]
    assert {f"/{path}" for _, _, path in asked} == paths
    assert set(_SHOW) == {f"{what} NAME" if names else what for what, names, _ in asked}


@pytest.mark.parametrize(
    ("arguments", "error", "line"),
    [
        (["trace"], ConfigError, "query trace: takes 1 names or ids, got 0"),
        (["map", "x"], ConfigError, "query map: takes 0 names or ids, got 1"),
        (["trace", "abc"], UnsupportedError, "query: trace 00000000000000000000000000000abc: not found"),
        (["traces", "--limit", "many"], UnsupportedError, "query: limit: 'many' is not a whole number"),
        (["map", "--service", "x"], UnsupportedError, "query: 'service': unknown parameter; there are start, end"),
        (["map", "--token-file", "/nowhere"], ConfigError, "--token-file: '/nowhere' cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, arguments: list[str], error: type[Exception], line: str) -> None:
    with pytest.raises(error) as caught:
        run(*arguments)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_no_viewer_at_the_address() -> None:
    parser = argparse.ArgumentParser()
    query.add_arguments(parser)
    for address, line in (
        ("127.0.0.1:1", "query: no viewer answers at http://127.0.0.1:1 "),
        ("127.0.0.1:x", "query: no viewer answers at http://127.0.0.1:x "),
        ("a b", "--address: 'a b' is not host:port"),
    ):
        with pytest.raises((UnsupportedError, ConfigError)) as caught:
            query.main(parser.parse_args(["status", "--address", address]))
        assert str(caught.value).startswith(line)


def test_the_token_is_read_from_a_file_and_shown_to_the_viewer(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert query._token(str(file)) == "secret"
