"""Searching for traces, one trace whole, logs, attributes; and what wrong questions are told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_ebpf.viewer.api import trace as trace_module
from otel_ebpf.viewer.api.window import SECOND, Window
from otel_ebpf.viewer.store.database import Database
from tests.unit.viewer_api_world import CLIENT, SERVER, World


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    world = World(tmp_path_factory.mktemp("store"))
    for number in range(1, 21):
        world.checkout(number, ago=60 + number, took=number / 10, failed=number == 4)
    world.span("odd", "odd", SERVER, trace=50, ago=20, text='a"b\\c\u2028é', yes=True, half=0.5, a__b="x", slash="1/2")
    world.span("odd", "nested", SERVER, trace=51, ago=20, port=80801, long="x" * 2000)
    world.span("odd", "child", SERVER, trace=52, parent=12345, ago=10)
    world.span("odd", "later child", SERVER, trace=52, parent=54321, ago=9, failed=True)
    world.join()
    world.log("cart", "out of Apples", trace=1, severity=17)
    world.log("cart", "hello", ago=50)
    with world.served() as client:
        yield client


def get(api: httpx.Client, path: str, **parameters: object) -> Any:  # noqa: ANN401
    answer = api.get(f"/api/v1/{path}", params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.json()


def numbers(found: dict[str, Any]) -> list[int]:
    """The traces' ids."""
    return [int(one["trace_id"], 16) for one in found["traces"]]


def test_the_newest_traces_come_first_and_whole(shop: httpx.Client) -> None:
    found = get(shop, "traces", service="cart", limit=2)
    assert numbers(found) == [1, 2]
    assert not found["complete"]
    first = found["traces"][0]
    assert (first["service"], first["name"], first["spans"], first["duration"]) == (
        "frontend",
        "POST /checkout",
        5,
        100,
    )
    assert first["services"] == [{"name": "frontend", "spans": 3}, {"name": "cart", "spans": 2}]
    assert (first["matched"]["service"], first["matched"]["name"]) == ("cart", "GET /cart/{id}")


def test_a_search_that_found_all_says_so(shop: httpx.Client) -> None:
    assert get(shop, "traces", service="cart", limit=20)["complete"]
    assert get(shop, "traces", service="cart", limit=20, order="slowest")["complete"]


def test_the_slowest_come_first_if_asked_for(shop: httpx.Client) -> None:
    assert numbers(get(shop, "traces", order="slowest", limit=3)) == [20, 19, 18]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"status": "error", "service": "frontend"}, [4]),
        ({"operation": "POST /checkout", "min_ms": "1850"}, [19, 20]),
        ({"operation": "POST /checkout", "max_ms": "250.5"}, [1, 2]),
        ({"kind": "client", "service": "cart", "min_ms": 240}, [20]),
        ({"attr": "http.response.status_code=500"}, [4]),
        ({"attr": ["host.name=beta", "db.system.name=redis"], "min_ms": 240}, [20]),
        ({"client": "frontend", "server": "cart", "min_ms": 950}, [19, 20]),
        ({"client": "cart", "server": "10.0.0.5:6379", "min_ms": 240}, [20]),
        ({"client": "203.0.113.7", "server": "frontend", "min_ms": 1850}, [19, 20]),
        ({"server": "orders-db", "status": "error"}, [4]),
        ({"client": "frontend", "server": "10.0.0.5:6379"}, []),
        ({"service": "nobody"}, []),
        ({"attr": "http.route=/nowhere"}, []),
    ],
)
def test_what_fits_is_found(shop: httpx.Client, question: dict[str, Any], expected: list[int]) -> None:
    assert sorted(numbers(get(shop, "traces", **question))) == expected


@pytest.mark.parametrize(
    ("pair", "fits"),
    [
        ('text=a"b\\c\u2028é', True),
        ('text=a"b', False),
        ("yes=true", True),
        ("half=0.5", True),
        ("a.b=x", True),
        ("slash=1/2", True),
        ("port=8080", False),
        ("port=80801", True),
        ("'; DROP TABLE spans; --=1", False),
        ("a/b~c=1", False),
        ("service.name=odd", True),
    ],
)
def test_attributes_are_compared_whole_whatever_is_in_them(shop: httpx.Client, pair: str, fits: bool) -> None:
    assert bool(numbers(get(shop, "traces", attr=pair))) == fits


def test_a_trace_has_all_its_spans_with_resources_events_and_logs(shop: httpx.Client) -> None:
    found = get(shop, "traces/1")
    assert len(found["spans"]) == 5
    root, call = found["spans"][:2]
    assert (root["parent_id"], call["parent_id"]) == (None, root["span_id"])
    assert (root["kind"], root["status"], root["scope"]) == ("server", "unset", "test")
    assert root["resource"]["service.namespace"] == "shop"
    assert root["attributes"]["http.response.status_code"] == 200
    assert root["events"][0] == {"time": pytest.approx(root["start"], abs=0.01), "name": "seen", "attributes": {"n": 1}}
    assert [log["body"] for log in found["logs"]] == ["out of Apples"]
    assert get(shop, f"traces/1/spans/{root['span_id']}") == root


def test_a_trace_whose_root_is_not_there_begins_with_its_first_span(shop: httpx.Client) -> None:
    found = get(shop, "traces", operation="later child")["traces"][0]
    assert (found["name"], found["spans"], found["errors"], found["failed"]) == ("child", 2, 1, False)
    assert get(shop, "traces/34")["spans"][0]["parent_id"] == f"{12345:016x}"


def test_a_trace_that_begins_with_a_call_is_told_by_what_was_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    call = world.span("customers", "GET", CLIENT, trace=1, ago=30, took=0.1)
    first = world.span("nginx", "GET /products/{id}", SERVER, trace=1, parent=call, ago=29.99)
    world.span("shop", "GET /inner", SERVER, trace=1, parent=first, ago=29.98)
    world.span("customers", "GET", CLIENT, trace=2, ago=20)
    world.span("nginx", "GET /cart", SERVER, trace=3, ago=10)
    world.join()
    with world.served() as client:
        entries = [one["entry"] for one in get(client, "traces")["traces"]]
    assert entries == [None, None, {"service": "nginx", "name": "GET /products/{id}"}]


def test_a_trace_is_found_whole_also_where_it_is_longer_than_the_window(tmp_path: Path) -> None:
    world = World(tmp_path)
    root = world.span("batch", "nightly", SERVER, trace=7, ago=6 * 3600, took=6 * 3600)
    world.span("batch", "last step", CLIENT, trace=7, parent=root, ago=30)
    world.join()
    with world.served() as client:
        found = get(client, "traces", start="-1m")["traces"]
    assert [(one["name"], one["spans"], one["duration"]) for one in found] == [("nightly", 2, 6 * 3600 * 1e3)]


def test_a_trace_of_too_many_spans_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "SPANS", 10)
    world = World(tmp_path)
    for number in range(13):
        world.span("loop", "again", SERVER, trace=8, ago=60 - number)
    world.flush()
    with world.served() as client:
        found = get(client, "traces/8")
        monkeypatch.setattr(trace_module, "BYTES", 300)
        shorter = get(client, "traces/8")
    assert 0 < len(shorter["spans"]) < 10
    assert shorter["gaps"][0]["count"] == 13 - len(shorter["spans"])
    assert len(found["spans"]) == 10
    assert [(gap["reason"], gap["count"]) for gap in found["gaps"]] == [("only the first 10 are shown", 3)]


def test_logs_are_searched_by_text_severity_service_and_trace(shop: httpx.Client) -> None:
    def bodies(**question: object) -> list[str]:
        return [log["body"] for log in get(shop, "logs", **question)["logs"]]

    assert bodies() == ["hello", "out of Apples"]
    assert bodies(text="APPLES") == ["out of Apples"]
    assert bodies(severity=17) == bodies(trace_id=1) == bodies(span_id=1) == ["out of Apples"]
    assert bodies(service="frontend") == []
    assert not get(shop, "logs", limit=1)["complete"]


def test_attribute_keys_and_values_are_those_of_spans_and_their_resources(shop: httpx.Client) -> None:
    keys = {one["key"]: one["spans"] for one in get(shop, "attributes", service="frontend")["keys"]}
    assert keys["http.route"] == 20
    assert keys["host.name"] == 60
    values = get(shop, "attributes/http.response.status_code")["values"]
    assert values == [{"value": 200, "spans": 19}, {"value": 500, "spans": 1}]
    assert get(shop, "attributes/host.name", prefix="AL")["values"] == [{"value": "alpha", "spans": 60}]
    assert get(shop, "attributes/yes")["values"] == [{"value": True, "spans": 1}]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("map?start=yesterday", "start: 'yesterday' is not a time like -15m (s, m, h, d), now or Unix milliseconds"),
        ("map?start=now&end=-1m", "start: not before end"),
        ("map?start=99999999999999999999", "start: '99999999999999999999' is not a time like"),
        ("map?color=red", "'color': unknown parameter; there are start, end, group_by"),
        ("map?start=-1m&start=-2m", "start: given more than once"),
        ("red?steps=501", "steps: '501' is not a whole number from 1 to 500"),
        ("red?client=a&service=b", "client, server: not together with service, operation or kind"),
        ("traces?attr=x", "attr: 'x' is not KEY=VALUE"),
        ("traces?limit=-1", "limit: '-1' is not a whole number from 1 to 1000"),
        ("traces?min_ms=5&max_ms=1", "min_ms: more than max_ms"),
        ("traces?min_ms=nan", "min_ms: 'nan' is not a number of milliseconds"),
        ("traces?status=bad", "status: 'bad' is not one of ok, error"),
        ("traces/xyz", "id: 'xyz' is not a trace id"),
        ("traces/" + "f" * 33, "id: 'fffffffffffffffffffffffffffffffff' is not a trace id"),
        ("traces/1?id=2", "'id': unknown parameter"),
        ("live?q=duration", "filter: 'duration' is not KEY OPERATOR VALUE"),
        ("live?x=1", "'x': unknown parameter; there are q"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong_in_one_line(shop: httpx.Client, path: str, line: str) -> None:
    answer = shop.get(f"/api/v1/{path}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(line)


def test_what_is_not_there_is_not_found_in_the_same_form(shop: httpx.Client) -> None:
    for path in ("traces/abc", "traces/1/spans/abc", "metrics/none", "nowhere"):
        answer = shop.get(f"/api/v1/{path}")
        assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_a_question_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.flush()
    world.database.close()
    world.database = Database(tmp_path, seconds=0.3)
    # A view in the place of the table stands for a store that is too large.
    world.database.cursor().execute(
        "DROP TABLE losses; CREATE VIEW losses AS SELECT 'x' AS what, 'y' AS reason, a.range + b.range AS count,"
        " a.range AS time FROM range(1000000) a, range(1000000) b"
    )
    with world.served() as client:
        answer = client.get("/api/v1/map", params={"start": "0"})
    assert answer.status_code == 503
    assert answer.json() == {"error": "not answered within 0.3 s: ask for a shorter time or fewer services"}


def test_slices_of_time_grow_from_the_newest_on_and_cover_the_window() -> None:
    from otel_ebpf.viewer.api.traces import slices

    found = list(slices(Window(0, 24 * 3600 * SECOND)))
    assert found[0] == ((24 * 3600 - 10) * SECOND, 24 * 3600 * SECOND)
    assert found[-1][0] == 0
    assert all(newer[0] == older[1] for newer, older in pairwise(found))
    assert len(found) < 20
