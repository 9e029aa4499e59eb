"""The viewer's query API on a small shop: the map, services, and rates over time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, is_typeddict

import httpx
import pytest

from otel_ebpf.viewer.api import answers
from otel_ebpf.viewer.api.endpoints import ENDPOINTS
from otel_ebpf.viewer.api.openapi import document, openapi_path
from otel_ebpf.viewer.api.reference import table
from tests.unit.viewer_api_world import CLIENT, SERVER, World

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    world = World(tmp_path_factory.mktemp("store"))
    for number in range(1, 21):
        world.checkout(number, ago=60 + number, took=number / 10, failed=number == 4)
    world.span('<script>alert("x")</script>', "GET /'; DROP TABLE spans; --", SERVER, trace=99, ago=30)
    world.join()
    with world.served() as client:
        yield client


def get(api: httpx.Client, path: str, **parameters: object) -> Any:  # noqa: ANN401
    answer = api.get(f"/api/v1/{path}", params=parameters or None)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.json()


def by(items: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {one[key]: one for one in items}


def test_a_peer_that_nobody_says_the_system_of_is_guessed_by_its_port_and_marked(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.span("batch", "call", CLIENT, trace=1, server__address="10.0.0.0", server__port=5432)
    world.span(
        "batch", "GET", CLIENT, trace=2, server__address="10.0.0.1", server__port=6379, http__request__method="GET"
    )
    world.span("batch", "call", CLIENT, trace=3, server__address="10.0.0.2", server__port=7777)
    world.join()
    with world.served() as api:
        nodes = by(get(api, "map")["nodes"], "name")
    told = {name: (node["system"], node["guessed"]) for name, node in nodes.items() if node["kind"] == "external"}
    assert told == {
        "10.0.0.0:5432": ("postgresql", True),
        "10.0.0.1:6379": ("http", False),
        "10.0.0.2:7777": ("", False),
    }


def test_the_map_tells_services_databases_and_outside_peers_apart(shop: httpx.Client) -> None:
    nodes = by(get(shop, "map")["nodes"], "name")
    kinds = {name: (nodes[name]["kind"], nodes[name]["system"]) for name in ("frontend", "cart", "orders-db")}
    assert kinds == {
        "frontend": ("service", "http"),
        "cart": ("service", "http"),
        "orders-db": ("database", "postgresql"),
    }
    assert nodes["10.0.0.5:6379"]["kind"] == "database"
    assert "external" in {node["kind"] for node in nodes.values()}


def test_an_edge_has_calls_failures_and_the_durations_that_its_client_saw(shop: httpx.Client) -> None:
    edges = {(edge["client"], edge["server"]): edge for edge in get(shop, "map")["edges"]}
    database = edges["frontend", "orders-db"]
    assert (database["calls"], database["failed"], database["connection_type"]) == (20, 1, "database")
    # Of durations from 50 ms to 1 s in steps of 50 ms; a bucket is 19 % wide.
    assert edges["frontend", "cart"]["p50"] == pytest.approx(500, rel=0.2)
    assert edges["frontend", "cart"]["p99"] == pytest.approx(1000, rel=0.2)


def test_a_node_has_the_durations_of_what_it_served(shop: httpx.Client) -> None:
    nodes = by(get(shop, "map")["nodes"], "name")
    assert (nodes["frontend"]["calls"], nodes["frontend"]["failed"]) == (20, 1)
    assert nodes["cart"]["p50"] == pytest.approx(250, rel=0.2)


def test_nodes_are_grouped_by_a_resource_attribute(shop: httpx.Client) -> None:
    answer = get(shop, "map", group_by="host.name")
    assert {node["name"]: node["group"] for node in answer["nodes"] if node["kind"] == "service"} == {
        "frontend": "alpha",
        "cart": "beta",
        '<script>alert("x")</script>': None,
    }
    assert answer["groupings"] == ["host.name", "service.namespace"]


def test_rates_are_those_of_the_time_that_there_are_data_for(shop: httpx.Client) -> None:
    """20 calls, the first a good minute ago: not 20 in a day."""
    services = by(get(shop, "services", start="-24h")["services"], "name")
    assert services["cart"]["rate"] == pytest.approx(20 / 80, rel=0.5)


def test_sparks_count_what_was_served_by_step(shop: httpx.Client) -> None:
    services = by(get(shop, "services")["services"], "name")
    for name in ("frontend", "cart", "orders-db"):
        assert sum(services[name]["spark"]) == 20
    assert sum(services["frontend"]["spark_failed"]) == 1
    assert services["frontend"]["resources"][0]["host.name"] == "alpha"


def test_a_service_serves_operations_calls_others_and_is_called(shop: httpx.Client) -> None:
    cart = get(shop, "services/cart")
    assert [(one["name"], one["kind"], one["calls"]) for one in cart["serves"]] == [("GET /cart/{id}", "server", 20)]
    assert [(one["name"], one["system"]) for one in cart["calls"]] == [("GET", "redis")]
    assert [edge["client"] for edge in cart["callers"]] == ["frontend"]
    assert [edge["server"] for edge in cart["callees"]] == ["10.0.0.5:6379"]


def test_a_database_serves_the_queries_of_its_callers(shop: httpx.Client) -> None:
    assert [one["name"] for one in get(shop, "services/orders-db")["serves"]] == ["SELECT orders"]


def test_hostile_names_are_data(shop: httpx.Client) -> None:
    found = get(shop, "services/%3Cscript%3Ealert(%22x%22)%3C%2Fscript%3E")
    assert found["serves"][0]["name"] == "GET /'; DROP TABLE spans; --"


def test_a_service_that_nobody_saw_is_not_found(shop: httpx.Client) -> None:
    answer = shop.get("/api/v1/services/nobody")
    assert (answer.status_code, answer.json()) == (404, {"error": "service 'nobody': nothing was seen of it"})


@pytest.mark.parametrize(
    "which",
    [
        {"service": "cart"},
        {"service": "cart", "operation": "GET /cart/{id}"},
        {"service": "orders-db"},
        {"client": "frontend", "server": "cart"},
        {"server": "10.0.0.5:6379"},
        {"operation": "SELECT orders", "kind": "client"},
    ],
)
def test_red_counts_every_call_once_in_steps_and_in_the_heat_map(shop: httpx.Client, which: dict[str, str]) -> None:
    found = get(shop, "red", steps=20, **which)
    assert sum(found["calls"]) == 20
    assert len({len(found[name]) for name in ("times", "calls", "failed", "p50", "p99")}) == 1
    assert [sum(row) for row in found["heat"]["counts"]] == found["calls"]
    assert found["heat"]["bounds"] == sorted(found["heat"]["bounds"])
    for calls, p50, p99 in zip(found["calls"], found["p50"], found["p99"], strict=True):
        assert (p50 is None) == (p99 is None) == (calls == 0)


def test_old_sums_are_shown_in_steps_of_whole_minutes(shop: httpx.Client) -> None:
    found = get(shop, "red", start="-2h", steps=500)
    assert found["step"] == 60_000
    assert all(time % 60_000 == 0 for time in found["times"])


def test_status_tells_of_the_process_and_of_what_is_stored(shop: httpx.Client) -> None:
    found = get(shop, "status")
    assert found["store"]["spans"] == 101
    assert found["listen"]["grpc"] == "127.0.0.1:4317"
    assert found["problems"] == ["Full."]


def test_an_empty_store_has_an_empty_answer_to_everything(tmp_path: Path) -> None:
    with World(tmp_path).served() as client:
        for endpoint in ENDPOINTS:
            if "{" not in endpoint.path and endpoint.answer is not None:
                assert get(client, endpoint.path[1:])


def test_a_window_may_be_as_wide_as_time_itself(shop: httpx.Client) -> None:
    for path in ("map", "services", "services/cart", "red", "red?client=frontend&server=cart", "traces", "logs",
                 "traces?order=slowest", "attributes", "metrics", "agents"):  # fmt: skip
        joint = "&" if "?" in path else "?"
        assert get(shop, f"{path}{joint}start=0&end=9223372036854")
    calls = get(shop, "red?service=cart&start=0&end=9223372036854&steps=500")["calls"]
    assert (sum(calls), len(calls)) == (20, 500)


def test_answers_hold_what_the_document_says(shop: httpx.Client) -> None:
    """Given real answers, each has exactly the properties of its schema, all the way down."""
    schemas: Any = document()["components"]["schemas"]  # type: ignore[index]
    for path in ("status", "map", "services", "services/cart", "red", "traces", "traces/1", "traces/1/spans/1",
                 "attributes", "attributes/http.route", "logs", "metrics", "agents"):  # fmt: skip
        endpoint = next(one for one in ENDPOINTS if re.fullmatch(re.sub(r"{[^}]*}", "[^/]+", one.path), f"/{path}"))
        check(get(shop, path), {"$ref": f"#/components/schemas/{endpoint.type.__name__}"}, schemas, path)


def check(value: object, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> None:
    if "anyOf" in schema:
        schema = next((one for one in schema["anyOf"] if (one.get("type") == "null") == (value is None)), {})
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    types: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list}
    types |= {"object": dict, "null": type(None)}
    if "type" in schema:
        assert isinstance(value, types[schema["type"]]), where
    if "enum" in schema:
        assert value in schema["enum"], where
    if isinstance(value, list) and "items" in schema:
        for one in value:
            check(one, schema["items"], schemas, f"{where}[]")
    if isinstance(value, dict) and "properties" in schema:
        assert value.keys() == schema["properties"].keys(), where
        for key, one in value.items():
            check(one, schema["properties"][key], schemas, f"{where}.{key}")


def test_the_document_names_every_endpoint_and_parameter(shop: httpx.Client) -> None:
    found = get(shop, "openapi.json")
    assert found["openapi"] == "3.1.0"
    assert found["paths"].keys() == {openapi_path(endpoint) for endpoint in ENDPOINTS}
    for endpoint in ENDPOINTS:
        described = found["paths"][openapi_path(endpoint)]["get"]["parameters"]
        assert [one["name"] for one in described] == [one.name for one in endpoint.parameters]
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(found)))
    assert used <= found["components"]["schemas"].keys()


def test_the_page_expects_what_is_answered() -> None:
    """api.ts, which the page is written against, and the answers have the same interfaces with the same members."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", (ROOT / "otel_ebpf/viewer/page/src/api.ts").read_text(), flags=re.DOTALL)
    ours = {name: set(one.__annotations__) for name, one in vars(answers).items() if is_typeddict(one)}
    found = dict(re.findall(r"export interface (\w+)[^{]*{((?:[^{}]|{(?:[^{}]|{[^{}]*})*})*)}", text))
    assert len(found) > 20
    for name, body in found.items():
        flat = re.sub(r"{(?:[^{}]|{[^{}]*})*}", "", body)
        members = set(re.findall(r"(\w+)\??:", flat))
        inherited = {key for key in ours[name] if key not in members}
        assert members <= ours[name], name
        assert inherited <= {*answers.Red.__annotations__, *answers.Window.__annotations__}, name


def test_spans_of_unknown_callers_do_not_make_a_service(tmp_path: Path) -> None:
    """Given a client whose server has no spans, when that has no address either, then no name is made up for it."""
    world = World(tmp_path)
    world.span("alone", "GET", CLIENT, http__request__method="GET")
    world.join()
    with world.served() as client:
        assert by(get(client, "map")["nodes"], "name")["unknown"]["kind"] == "external"


def test_a_service_that_nobody_calls_is_told_by_its_own_roots(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(1, 5):
        run = world.span("batch", "nightly", 1, trace=number, ago=60, took=2, failed=number == 4)
        world.span("batch", "step", 1, trace=number, parent=run, ago=59)
        world.span("batch", "SELECT", CLIENT, trace=number, parent=run, ago=59, db__system__name="postgresql")
    served = world.span("shop", "GET /", SERVER, trace=9, client__address="203.0.113.7")
    world.span("shop", "render", 1, trace=9, parent=served)
    world.span("shop", "cleanup", 1, trace=10)
    world.join()
    with world.served() as client:
        services = by(get(client, "services")["services"], "name")
        detail, series = get(client, "services/batch"), get(client, "red", service="batch")
    batch = services["batch"]
    assert (batch["calls"], batch["failed"], batch["p50"], sum(batch["spark"])) == (4, 1, 2000, 4)
    assert [(one["name"], one["kind"], one["calls"]) for one in detail["serves"]] == [("nightly", "internal", 4)]
    assert (sum(series["calls"]), sum(series["failed"])) == (4, 1)
    assert services["shop"]["calls"] == 1, "one that is called is told by its calls"


def test_the_documentation_lists_the_endpoints_as_they_are() -> None:
    """If not: python -m otel_ebpf.viewer.api.reference prints the table."""
    assert table() in (ROOT / "docs/query-api.md").read_text()
