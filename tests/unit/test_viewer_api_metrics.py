"""What the viewer makes of metrics: edges that agents count, gaps, agents, series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from otel_ebpf.viewer.api.quantiles import BUCKETS, of_bounds, quantile, summed
from tests.unit.viewer_api_world import CLIENT, SERVER, World

TOTAL, FAILED = "traces_service_graph_request_total", "traces_service_graph_request_failed_total"
SECONDS = "traces_service_graph_request_client_seconds"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def get(http: httpx.Client, path: str, **parameters: object) -> Any:  # noqa: ANN401
    answer = http.get(f"/api/v1/{path}", params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.json()


def edges(world: World) -> dict[tuple[str, str], Any]:
    with world.served() as client:
        return {(edge["client"], edge["server"]): edge for edge in get(client, "map")["edges"]}


def ends(client: str, server: str, connection_type: str = "") -> dict[str, Any]:
    return {"client": client, "server": server, "connection_type": connection_type}


def test_an_edge_has_the_metrics_numbers_where_these_count_more_than_the_spans(world: World) -> None:
    world.checkout(1, ago=100)
    world.join()
    world.counter(TOTAL, ends("frontend", "cart"), {950: 100, 500: 600, 50: 1100})
    world.counter(FAILED, ends("frontend", "cart"), {950: 10, 50: 30})
    world.histogram(SECONDS, ends("frontend", "cart"), [0.1, 0.2, 0.4], {950: [100, 0, 0, 0], 50: [100, 0, 1000, 0]})
    found = edges(world)
    counted = found["frontend", "cart"]
    assert (counted["calls"], counted["failed"], counted["system"]) == (1000, 20, "http")
    assert 200 <= counted["p50"] <= 400
    assert found["frontend", "orders-db"]["calls"] == 1, "an edge that only spans know stays"
    with world.served() as client:
        series = get(client, "red", client="frontend", server="cart", steps=5)
        nodes = {node["name"]: node for node in get(client, "map")["nodes"]}
    assert (sum(series["calls"]), sum(series["failed"])) == (1000, 20)
    assert nodes["cart"]["calls"] == 1000, "what a node serves is at least what its edges bring"
    assert nodes["frontend"]["calls"] == 1


def test_spans_that_count_as_much_are_believed(world: World) -> None:
    world.checkout(1, ago=100)
    world.join()
    world.counter(TOTAL, ends("frontend", "cart"), {950: 1, 50: 2})
    assert edges(world)["frontend", "cart"]["p50"] == pytest.approx(50, rel=0.2)


def test_a_counter_that_began_anew_counts_from_zero(world: World) -> None:
    world.counter(TOTAL, ends("a", "b"), {950: 1000, 600: 1010}, started=3600)
    world.counter(TOTAL, ends("a", "b"), {400: 5, 100: 7}, started=500)
    assert edges(world)["a", "b"]["calls"] == 17


def test_what_was_counted_before_the_first_report_is_not_of_this_window(world: World) -> None:
    """Given an agent that is older than the store, its first total says nothing of when."""
    world.counter(TOTAL, ends("a", "b"), {600: 1000, 100: 1007}, started=3600)
    assert edges(world)["a", "b"]["calls"] == 7


def test_deltas_are_added_up(world: World) -> None:
    world.counter(TOTAL, ends("a", "b"), {950: 7, 500: 30, 100: 20}, delta=True)
    assert edges(world)["a", "b"]["calls"] == 50
    with world.served() as client:
        assert sum(get(client, "red", client="a", server="b", steps=3)["calls"]) == 50
        series = get(client, f"metrics/{TOTAL}", steps=9)
    assert sum(value or 0 for value in series["series"][0]["values"]) * series["step"] / 1e3 == pytest.approx(50)


def test_several_agents_add_up(world: World) -> None:
    for host in ("one", "two"):
        world.counter(TOTAL, ends("a", "b"), {950: 0, 100: 50}, resource={"host.name": host})
    assert edges(world)["a", "b"]["calls"] == 100


@pytest.mark.parametrize(
    ("client", "server", "connection_type", "expected"),
    [
        ("frontend", "orders-db:5432", "database", ("frontend", "orders-db")),
        ("cart", "10.0.0.5:6379", "database", ("cart", "10.0.0.5:6379")),
        ("frontend", "cart.local:8080", "virtual_node", None),
        ("203.0.113.7", "frontend", "virtual_node", ("203.0.113.7", "frontend")),
        ("8.8.8.8", "cart", "virtual_node", ("internet", "cart")),
        ("frontend", "mail.example:25", "virtual_node", ("frontend", "mail.example")),
    ],
)
def test_an_end_that_an_agent_did_not_see_is_the_node_that_the_spans_made_of_it(
    world: World, client: str, server: str, connection_type: str, expected: tuple[str, str] | None
) -> None:
    """None: its spans have been joined with others, of another agent; the edge is another one."""
    world.checkout(1, ago=100)
    world.join()
    before = set(edges(world))
    world.counter(TOTAL, ends(client, server, connection_type), {950: 0, 50: 90})
    after = edges(world)
    if expected is None:
        assert set(after) == before
    else:
        assert set(after) == before | {expected}
        assert after[expected]["calls"] == 90


def test_without_any_span_the_metrics_alone_make_a_map(world: World) -> None:
    world.counter(TOTAL, ends("user", "shop", "virtual_node"), {950: 0, 50: 10})
    world.counter(
        TOTAL, {**ends("shop", "db:5432", "database"), "client_db.system.name": "postgresql"}, {950: 0, 50: 20}
    )
    with world.served() as client:
        nodes = {node["name"]: (node["kind"], node["system"]) for node in get(client, "map")["nodes"]}
    assert nodes == {"unknown": ("external", ""), "shop": ("service", ""), "db": ("database", "postgresql")}


def test_losses_of_viewer_and_agents_are_gaps(world: World) -> None:
    world.writer.write([], [("viewer", "queue is full", 3)], world.now - 10 * 10**9)
    losses = {"otel_ebpf.where": "kernel", "otel_ebpf.reason": "ring_full"}
    world.counter("otel_ebpf.losses", losses, {950: 5, 500: 5, 50: 12})
    world.counter("otel_ebpf.losses", {**losses, "otel_ebpf.reason": "none"}, {950: 5, 50: 5})
    with world.served() as client:
        found = get(client, "services")["gaps"]
        assert [(gap["what"], gap["reason"], gap["count"]) for gap in found] == [
            ("agent: kernel", "ring_full", 7),
            ("viewer", "queue is full", 3),
        ]
        assert get(client, "services", start="-2h", end="-1h")["gaps"] == []
    assert (found[0]["since"], found[0]["until"]) == (world.ago_ms(500), world.ago_ms(50)), "the reports around it"


def test_a_loss_is_told_with_its_time_and_what_it_means(world: World) -> None:
    """Given an agent that began in the window and whose counter of losses came later than its first report."""
    late = {"otel_ebpf.where": "tracing", "otel_ebpf.reason": "late_amendment"}
    world.counter("process.cpu.time", {"cpu.mode": "user"}, {90: 1, 60: 2, 30: 3}, started=100)
    world.counter("otel_ebpf.losses", late, {60: 35, 30: 35}, started=100)
    with world.served() as client:
        (gap,) = get(client, "map")["gaps"]
    assert (gap["reason"], gap["count"]) == ("late_amendment", 35)
    assert (gap["since"], gap["until"]) == (world.ago_ms(90), world.ago_ms(60))
    assert "shown shorter than they were" in gap["says"]


def test_agents_are_told_by_their_own_telemetry(world: World) -> None:
    host = {"host.name": "alpha", "service.instance.id": "i", "service.version": "1.0"}
    program = {"otel_ebpf.program": "on_read"}

    def count(name: str, values: dict[float, float], monotonic: bool = True, **attributes: str) -> None:
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        world.counter(name, named, values, monotonic=monotonic, resource=host)

    count("otel_ebpf.spans", {950: 0, 50: 9000}, otel_ebpf__protocol="http")
    count("otel_ebpf.exchanges", {950: 0, 50: 100}, otel_ebpf__record__size="small")
    count("process.cpu.time", {950: 0, 50: 90}, cpu__mode="user")
    count("process.memory.usage", {950: 1e6, 50: 5e7}, monotonic=False)
    count("otel_ebpf.ring.fill", {50: 0.25}, monotonic=False, otel_ebpf__ring="exchanges")
    count("otel_ebpf.attach.failures", {50: 1}, monotonic=False, otel_ebpf__program="on_exec")
    count("otel_ebpf.stage.time", {950: 0, 50: 9}, otel_ebpf__stage="parse")
    count("otel_ebpf.bpf.time", {950: 0, 50: 0.9}, otel_ebpf__program="on_read")
    count("otel_ebpf.bpf.runs", {950: 0, 50: 9000}, otel_ebpf__program="on_read")
    count("otel_ebpf.losses", {950: 0, 50: 18}, otel_ebpf__where="kernel", otel_ebpf__reason="ring_full")
    world.counter("process.cpu.time", {}, {950: 0, 50: 5}, resource={"service.name": "another"})
    with world.served() as client:
        (agent,) = get(client, "agents")["agents"]
    assert (agent["host"], agent["instance"], agent["version"], agent["exchanges"]) == ("alpha", "i", "1.0", 100)
    assert (agent["spans_per_second"], agent["cpu"], agent["rss_bytes"]) == (10.0, 0.1, 5e7)
    assert agent["ring_fill"] == [{"ring": "exchanges", "ratio": 0.25}]
    assert agent["failures"] == [{"what": "on_exec", "reason": "not attached", "count": 1}]
    assert agent["stages"] == [{"stage": "parse", "cpu": 0.01}]
    assert agent["programs"] == [
        {"program": program["otel_ebpf.program"], "cpu": 0.001, "runs_per_second": 10.0, "ns_per_run": 100_000.0}
    ]
    assert agent["losses"] == [
        {"metric": "otel_ebpf.losses kernel", "reason": "ring_full", "count": 18, "per_second": 0.02}
    ]


def test_figures_of_an_agent_are_over_the_time_between_its_reports(world: World) -> None:
    """Given one that began a minute ago and was busy until its first report, in a window of 15 minutes."""

    def count(name: str, values: dict[float, float], **attributes: str) -> None:
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        world.counter(name, named, values, started=60, resource={"host.name": "alpha"})

    count("process.cpu.time", {50: 8, 10: 12}, cpu__mode="user")
    count("otel_ebpf.stage.time", {50: 5, 10: 7}, otel_ebpf__stage="parse")
    count("otel_ebpf.exchanges", {50: 100, 10: 500}, otel_ebpf__record__size="small")
    count("otel_ebpf.exchanges", {30: 5, 10: 40}, otel_ebpf__record__size="large")
    count("otel_ebpf.losses", {50: 2, 10: 2}, otel_ebpf__where="kernel", otel_ebpf__reason="no_state")
    count("otel_ebpf.parse.failures", {50: 0, 10: 80}, otel_ebpf__protocol="unknown")
    count("otel_ebpf.export.errors", {50: 0, 10: 4}, otel_ebpf__signal="traces", error__type="UNAVAILABLE")
    with world.served() as client:
        (agent,) = get(client, "agents")["agents"]
        (before,) = get(client, "agents", end=world.ago_ms(49))["agents"]
    assert (agent["seconds"], agent["exchanges"], agent["cpu"]) == (40, 440, 0.1)
    assert agent["stages"] == [{"stage": "parse", "cpu": 0.05}]
    assert [(loss["count"], loss["per_second"]) for loss in agent["losses"]] == [(2, 0)]
    assert [(one["reason"], one["per_second"]) for one in agent["unread"]] == [("unknown", 2)]
    assert [one["metric"] for one in agent["retried"]] == ["otel_ebpf.export.errors traces"]
    assert (before["seconds"], before["exchanges"], before["cpu"]) == (0, 0, None), "one report tells no rate"


def test_series_are_rates_of_counters_levels_of_gauges_means_of_histograms(world: World) -> None:
    world.counter("requests", {"path": "/"}, {90: 100, 60: 160, 30: 220}, unit="{request}")
    world.counter("queue", {}, {90: 7, 30: 5}, monotonic=False)
    world.histogram("took", {}, [0.1], {90: [0, 0], 30: [3, 1]})
    with world.served() as client:
        names = {one["name"]: (one["type"], one["unit"], one["series"]) for one in get(client, "metrics")["metrics"]}
        found = {name: get(client, f"metrics/{name}", start="-100s", steps=10) for name in names}
    assert names == {"requests": ("sum", "{request}", 1), "queue": ("sum", "1", 1), "took": ("histogram", "s", 1)}

    def values(name: str) -> list[float]:
        (series,) = found[name]["series"]
        assert len(series["values"]) == len(found[name]["times"]) == 10
        return [value for value in series["values"] if value is not None]

    assert sum(values("requests")) * found["requests"]["step"] / 1e3 == pytest.approx(120)
    assert found["requests"]["series"][0]["attributes"] == {"path": "/"}
    assert values("queue") == [7.0, 5.0]
    assert values("took") == pytest.approx([0.1])


def test_quantiles_are_right_to_the_width_of_a_bucket() -> None:
    draws = np.random.default_rng(7).lognormal(16, 1.5, 20_000)
    buckets = np.floor(4 * np.log2(draws)).astype(int)
    found, sums = summed(buckets.tolist(), [1] * len(draws), draws.tolist()).reshape(2, 1, BUCKETS)
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        (value,) = quantile(found, share, sums)
        assert value == pytest.approx(np.quantile(draws, share) / 1e6, rel=0.19)
    assert quantile(np.zeros((2, BUCKETS)), 0.5) == [None, None]


def test_no_quantile_is_outside_of_what_was_measured(world: World) -> None:
    took = [0.0111, 0.0121, 0.0129, 0.0131, 0.0151]
    for number, seconds in enumerate(took, 1):
        world.span("shop", "GET /", SERVER, trace=number, took=seconds, client__address="203.0.113.7")
    world.span("shop", "GET /once", SERVER, trace=99, took=0.0151)
    world.join()
    with world.served() as client:
        detail = get(client, "services/shop")
        series = get(client, "red", service="shop")
        (many, once) = detail["serves"]
    for found in (detail["service"], many, *detail["callers"]):
        assert 11.1 <= found["p50"] <= found["p99"] <= 15.1
    assert max(value or 0 for value in series["p99"]) <= 15.1
    assert (once["p50"], once["p99"]) == (15.1, 15.1), "that of one call is its duration"


def test_explicit_buckets_keep_their_counts_and_places() -> None:
    spread = of_bounds([0.1, 0.2, 0.4], [10, 20, 30, 40])
    assert spread.sum() == pytest.approx(100)
    (middle,) = quantile(spread.reshape(1, BUCKETS), 0.5)
    assert middle is not None and 200 < middle < 400
    (high,) = quantile(spread.reshape(1, BUCKETS), 0.99)
    assert high == pytest.approx(400, rel=0.2), "what is above the last bound counts as being there"
    for bounds, counts in (([], []), ([], [5]), ([float("inf")], [1, 2]), ([0.0], [1, 0]), ([-1.0, 1e30], [1, 1, 1])):
        assert np.isfinite(of_bounds(bounds, counts)).all()


def test_kinds_of_spans_are_those_of_otlp() -> None:
    assert (SERVER, CLIENT) == (2, 3)
