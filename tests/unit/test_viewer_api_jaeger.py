"""Jaeger's query API, asked in the forms of Jaeger's UI and of Grafana's Jaeger data source."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.unit.viewer_api_world import SERVER, World


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    world = World(tmp_path_factory.mktemp("store"))
    for number in range(1, 6):
        world.checkout(number, ago=60 + number, took=number / 10, failed=number == 4)
    world.span("odd/name", "half", SERVER, trace=50, parent=999, ago=20, half=0.5, yes=True)
    world.join()
    with world.served() as client:
        yield client


def get(api: httpx.Client, path: str, **parameters: object) -> Any:  # noqa: ANN401
    answer = api.get(f"/api/{path}", params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"data", "total", "limit", "offset", "errors"}
    return found["data"]


def tags(of: dict[str, Any]) -> dict[str, tuple[str, object]]:
    return {tag["key"]: (tag["type"], tag["value"]) for tag in of["tags"]}


def test_services_and_their_operations(shop: httpx.Client) -> None:
    assert get(shop, "services") == ["cart", "frontend", "odd/name"]
    assert get(shop, "services/cart/operations") == ["GET", "GET /cart/{id}"]
    assert get(shop, "services/odd%2Fname/operations") == ["half"]
    assert get(shop, "operations", service="cart", spanKind="server") == [
        {"name": "GET /cart/{id}", "spanKind": "server"}
    ]


def test_a_trace_has_the_form_of_jaegers_json(shop: httpx.Client) -> None:
    (trace,) = get(shop, "traces/4")
    assert trace["traceID"] == f"{4:032x}"
    root, call, served = trace["spans"][:3]
    assert root["references"] == []
    assert call["references"] == [{"refType": "CHILD_OF", "traceID": trace["traceID"], "spanID": root["spanID"]}]
    assert root["duration"] == 400_000
    assert abs(root["startTime"] / 1e6 - (time.time() - 64)) < 60, "microseconds"
    assert tags(root)["http.response.status_code"] == ("int64", 500)
    assert tags(root)["span.kind"] == ("string", "server")
    assert tags(root)["error"] == ("bool", True)
    assert tags(root)["otel.status_code"] == ("string", "ERROR")
    assert tags(root)["otel.scope.name"] == ("string", "test")
    assert "error" not in tags(call)
    assert [field["key"] for field in root["logs"][0]["fields"]] == ["event", "n"]
    processes = trace["processes"]
    assert processes[root["processID"]]["serviceName"] == "frontend"
    assert processes[served["processID"]]["serviceName"] == "cart"
    assert tags(processes[root["processID"]])["host.name"] == ("string", "alpha")


def test_a_span_without_its_parent_bears_a_warning(shop: httpx.Client) -> None:
    (trace,) = get(shop, "traces/32")
    assert trace["spans"][0]["warnings"] == ["the parent span is not stored"]
    assert tags(trace["spans"][0])["half"] == ("float64", 0.5)
    assert tags(trace["spans"][0])["yes"] == ("bool", True)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"limit": "2"}, [1, 2]),
        ({"operation": "POST /checkout", "minDuration": "350ms"}, [4, 5]),
        ({"operation": "POST /checkout", "minDuration": "0.35s", "maxDuration": "450000us"}, [4]),
        ({"tags": json.dumps({"error": "true"})}, [4]),
        ({"tags": json.dumps({"http.response.status_code": "500"})}, [4]),
        ({"tag": "host.name:alpha", "limit": "1"}, [1]),
        ({"tags": json.dumps({"span.kind": "server", "otel.status_code": "ERROR"})}, [4]),
        ({"tags": json.dumps({"http.route": "/nowhere"})}, []),
        ({"lookback": "1h", "start": "1", "end": "2"}, []),
        ({"lookback": "custom", "prettyPrint": "true"}, [1, 2, 3, 4, 5]),
    ],
)
def test_search(shop: httpx.Client, question: dict[str, str], expected: list[int]) -> None:
    found = get(shop, "traces", service="frontend", **question)
    assert sorted(int(trace["traceID"], 16) for trace in found) == expected
    assert all(len(trace["spans"]) == 5 for trace in found)


def test_traces_by_their_ids(shop: httpx.Client) -> None:
    answer = shop.get("/api/traces?traceID=1&traceID=2&traceID=abc").json()
    assert [int(trace["traceID"], 16) for trace in answer["data"]] == [1, 2]
    assert answer["errors"] == [{"msg": "trace not found", "traceID": f"{0xABC:032x}"}]


def test_dependencies(shop: httpx.Client) -> None:
    found = get(shop, "dependencies", endTs=round(time.time() * 1e3), lookback=3_600_000)
    assert {"parent": "frontend", "child": "cart", "callCount": 5} in found
    assert get(shop, "dependencies", endTs=1_000_000, lookback=1000) == []


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("traces/abc", 404, "trace not found"),
        ("traces/xyz", 400, "cannot parse traceID param: 'xyz' is not a trace id"),
        ("traces", 400, "parameter 'service' is required"),
        ("operations", 400, "parameter 'service' is required"),
        ("traces?service=a&start=x", 400, "unable to parse param 'start'"),
        ("traces?service=a&minDuration=fast", 400, "unable to parse param 'minDuration'"),
        ("traces?service=a&minDuration=2s&maxDuration=1s", 400, "'maxDuration' should be greater than 'minDuration'"),
        ("traces?service=a&tags=[1]", 400, "malformed 'tags' parameter"),
        ("traces?service=a&tag=x", 400, "malformed 'tag' parameter"),
    ],
)
def test_errors_have_jaegers_form(shop: httpx.Client, path: str, code: int, message: str) -> None:
    answer = shop.get(f"/api/{path}")
    assert answer.status_code == code
    body = answer.json()
    assert body["data"] is None
    (error,) = body["errors"]
    assert error["code"] == code
    assert error["msg"].startswith(message)
