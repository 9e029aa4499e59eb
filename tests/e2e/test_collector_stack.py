"""The stack of collector-config/, of real parts: agent → Collector → Prometheus and Jaeger. Grafana's part, to ask what
the dashboards ask, is done here.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.agent import running_agent
from tests.collector import build
from tests.dashboards import CONFIG, NAMES, expand, panels, queries, variables
from tests.e2e.pairs import run
from tests.e2e.test_http2 import CALLS, grpc_server
from tests.jaeger import Jaeger, jaeger
from tests.processes import answers, free_port, running, scratch
from tests.prometheus import Prometheus, prometheus
from tests.servers import Server, Web, dnsmasq, nginx, postgresql, redis

HOST = "127.0.0.78"
"""A loopback address of its own: the ports of the configuration are the well-known ones."""
BPF_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
ROUNDS = 8
"""Of traffic, one a second: a rate needs several values of every counter."""
EMPTY_WHEN_ALL_IS_WELL = {
    "BPF programs that are not attached",
    "Runtimes that are not as expected",
    "Requests from other hosts",
    "Traces with another name",
    "Requests whose context travels in TCP options",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What has seen the traffic."""

    metrics: Prometheus
    traces: Jaeger


@contextmanager
def bpf_statistics() -> Iterator[None]:
    """The kernel counts the time of BPF programs."""
    before = BPF_STATISTICS.read_text()
    BPF_STATISTICS.write_text("1")
    try:
        yield
    finally:
        BPF_STATISTICS.write_text(before)


def scraping(address: str) -> str:
    """Our prometheus.yaml, with the Collector at another address, every second."""
    configuration = yaml.safe_load((CONFIG / "prometheus.yaml").read_text())
    configuration["global"]["scrape_interval"] = "1s"
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [address]}]
    return yaml.safe_dump(configuration)


def traffic(front: Web, store: Server, database: Server, names: Server, calls: Server) -> None:
    """Some requests of each protocol, some of which fail."""
    for path in ("/hello.txt", "/hello.txt", "/users/17", "/broken"):
        run("curl", "-s", f"{front.url}{path}")
    for command in (("set", "key", "value"), ("get", "key"), ("lpush", "key", "no list")):
        run("redis-cli", "-p", str(store.port), *command)
    psql = ("psql", "-X", "-h", "127.0.0.1", "-p", str(database.port), "-U", "postgres", "-c")
    for statement in ("SELECT relname FROM pg_class LIMIT 3", "SELECT * FROM nowhere"):
        run(*psql, statement)
    for name in ("www.test", "nowhere.test"):
        run("dig", "@127.0.0.1", "-p", str(names.port), "+tries=1", name)
    run(sys.executable, CALLS, "call", str(calls.port), "OK", "INTERNAL")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """All parts, after the traffic. The Collector comes last, so that the agent's first exports fail."""
    scrape = f"127.0.0.1:{free_port()}"
    broken = "location /broken { return 503; }"
    with ExitStack() as parts:
        enter = parts.enter_context
        enter(bpf_statistics())
        folder, traces, measured = enter(scratch()), enter(jaeger()), enter(prometheus(scraping(scrape)))
        behind = enter(nginx(files={"hello.txt": b"hello\n", "users/17": b"{}"}, locations=broken))
        front = enter(nginx(upstream=behind.url))
        store, database, names, calls = enter(redis()), enter(postgresql()), enter(dnsmasq()), enter(grpc_server())
        enter(
            running_agent(
                f"http://{HOST}:4317",
                *("--set", "sampling.tail.enabled=true", "--set", "sampling.tail.ratio=1"),
                protocol="grpc",
                signals="traces,metrics",
                environment={"OTEL_METRIC_EXPORT_INTERVAL": "1000"},
            )
        )
        time.sleep(2)  # an export fails, and is counted
        environment = {"OTLP_HOST": HOST, "JAEGER_ENDPOINT": traces.otlp, "PROMETHEUS_LISTEN": scrape}
        command = [str(build()), "--config", str(CONFIG / "collector.yaml")]
        ready = answers(int(scrape.partition(":")[2]))
        enter(running(command, ready, log=folder / "log", environment=environment))
        for _ in range(ROUNDS):
            traffic(front, store, database, names, calls)
            time.sleep(1)
        for metric in (
            "http_server_request",
            "http_client_request",
            "db_client_operation",
            "dns_lookup",
            "rpc_server_call",
        ):
            measured.wait(f"sum(rate({metric}_duration_seconds_count[1m])) > 0")
        yield Stack(measured, traces)


@pytest.mark.parametrize(("name", "panel"), [(name, panel["title"]) for name in NAMES for panel in panels(name)])
def test_every_panel_has_data(stack: Stack, name: str, panel: str) -> None:
    for query in queries(name):
        if query.panel == panel:
            found = stack.metrics.query(query.expr)
            assert found or panel in EMPTY_WHEN_ALL_IS_WELL, query.expr
            assert not any(map(math.isnan, found.values())), query.expr


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_has_values_to_choose(stack: Stack, name: str) -> None:
    for selector, label in variables(name).values():
        assert stack.metrics.label_values(label, selector), (selector, label)


def test_what_failed_is_shown_as_failed(stack: Stack) -> None:
    asked = {(query.panel, query.ref): query.expr for name in NAMES for query in queries(name)}
    codes = stack.metrics.query(asked["Errors by status code", "A"])
    assert {dict(labels).get("db_response_status_code") for labels in codes} >= {"42P01", "WRONGTYPE"}
    routes = stack.metrics.query('http_server_request_duration_seconds_count{error_type="503"}')
    assert {dict(labels)["http_response_status_code"] for labels in routes} == {"503"}
    lookups = stack.metrics.query(asked["Failures by code", "A"])
    assert {dict(labels)["error_type"] for labels in lookups} >= {"NXDOMAIN"}


def test_both_ends_of_every_edge_are_nodes(stack: Stack) -> None:
    """Grafana draws nothing at all otherwise."""
    (panel,) = [panel for panel in panels("service-graph.json") if panel["type"] == "nodeGraph"]
    now = time.time()
    found = {target["refId"]: stack.metrics.query(expand(target["expr"]), now) for target in panel["targets"]}
    nodes = {dict(labels)["id"] for labels in found["nodes_mainstat"]}
    edges = [dict(labels) for labels in found["edges_mainstat"]]
    pairs = {(edge["source"], edge["target"]) for edge in edges}
    assert {("curl", "nginx"), ("nginx", "nginx"), ("redis-cli", "redis-server"), ("psql", "postgres")} <= pairs
    assert {end for pair in pairs for end in pair} <= nodes
    assert len({edge["id"] for edge in edges}) == len(edges)
    arcs = [found[ref] for ref in ("nodes_arc__ok", "nodes_arc__failed")]
    assert [sum(arc[node] for arc in arcs) for node in arcs[0]] == pytest.approx([1.0] * len(nodes))


def test_jaeger_has_the_traces_whole(stack: Stack) -> None:
    assert {"curl", "nginx", "redis-cli", "redis-server", "psql", "dig"} <= set(stack.traces.services())
    trace_id = stack.traces.wait("curl", lambda spans: len(spans) == 4)
    spans = {span.id: span for span in stack.traces.trace(trace_id)}
    (root,) = [span for span in spans.values() if not span.parent]
    path = [root]
    while below := [span for span in spans.values() if span.parent == path[-1].id]:
        (child,) = below
        path.append(child)
    assert [(span.service, span.tags["span.kind"]) for span in path] == [
        ("curl", "client"),
        ("nginx", "server"),
        ("nginx", "client"),
        ("nginx", "server"),
    ]
    assert [span.duration for span in path] == sorted((span.duration for span in path), reverse=True)


def test_exemplars_lead_to_traces_that_jaeger_has(stack: Stack) -> None:
    (expr,) = [query.expr for query in queries("red.json") if query.panel == "Durations" and "_bucket" in query.text]
    exemplars = stack.metrics.exemplars(expr)
    assert exemplars
    for labels in exemplars[:5]:
        assert labels["span_id"] in {span.id for span in stack.traces.trace(labels["trace_id"])}
