"""The service graph that the agent makes is the one that the Collector's connectors make of the same traffic.

The agent, the Collector (service graph and span metrics connectors, Prometheus exporters) and Prometheus are real ones;
Prometheus has the metrics of both, and what it has is compared: the same edges, counts, failures and durations. And
outside peers have the names that are known of them.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.agent import running_agent
from tests.collector import collector
from tests.e2e.pairs import at, both_ends, run
from tests.processes import answers, free_port, program, running, scratch, wait_until
from tests.prometheus import Labels, Prometheus, prometheus
from tests.servers import Web, dnsmasq, make_certificate, nginx, redis
from tests.sink import Sink

PROGRAM = Path(__file__).parent / "programs" / "named.py"
_CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
connectors:
  service_graph:
    store: {{ttl: 3s, max_items: 10000}}
    store_expiration_loop: 500ms
    metrics_flush_interval: 300ms
    dimensions: [db.system.name]
    virtual_node_peer_attributes: [service.peer.name, server.address]
  span_metrics: {{metrics_flush_interval: 300ms}}
exporters:
  prometheus/agent: {{endpoint: "127.0.0.1:{agent}"}}
  prometheus/connectors: {{endpoint: "127.0.0.1:{connectors}"}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [service_graph, span_metrics]}}
    metrics/agent: {{receivers: [otlp], exporters: [prometheus/agent]}}
    metrics/connectors: {{receivers: [service_graph, span_metrics], exporters: [prometheus/connectors]}}
"""
TOTAL, FAILED = "traces_service_graph_request_total", "traces_service_graph_request_failed_total"
CLIENT, SERVER = "traces_service_graph_request_client_seconds", "traces_service_graph_request_server_seconds"
EDGE = ("client", "server", "connection_type", "client_db_system_name", "server_db_system_name")
Edge = tuple[str, ...]


@contextmanager
def tls_server() -> Iterator[int]:
    """A server that answers HTTP over TLS, whatever is asked; the port."""
    with scratch() as folder:
        port, certificate, key = free_port(), folder / "cert.pem", folder / "key.pem"
        make_certificate(certificate, key)
        command = [program("openssl", "openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-quiet"]
        with running([*command, "-cert", str(certificate), "-key", str(key)], answers(port), log=folder / "log"):
            yield port


def edges(measured: Prometheus, metric: str, job: str) -> dict[Edge, float]:
    """Edge → value; the connector's series of failed and other requests added up."""
    found = measured.query(f'sum by ({", ".join(EDGE)}) ({metric}{{job="{job}"}})')
    return {edge(labels): value for labels, value in found.items()}


def edge(labels: Labels) -> Edge:
    return tuple(dict(labels).get(name, "") for name in EDGE)


def counted(measured: Prometheus, job: str, requests: dict[Edge, int]) -> bool:
    """For `wait_until`: exactly these edges are there, with these counts."""
    return edges(measured, TOTAL, job) == requests


def without_zero(values: dict[Edge, float]) -> dict[Edge, float]:
    return {edge: value for edge, value in values.items() if value}


def traffic(front: Web, behind: Web, secure: Web, redis_port: int, tls_port: int) -> dict[Edge, tuple[int, int]]:
    """A fixed number of requests; what is to be counted: edge → requests, failed ones."""
    run("curl", "-s", *[f"{front.url}/hello.txt" for _ in range(20)])
    run("curl", "-s", *[f"{front.url}/missing" for _ in range(5)])
    for _ in range(8):  # of TLS both ends have the bytes
        run("curl", "-sk", f"{secure.url}/hello.txt")
    cli = ("redis-cli", "-p", str(redis_port))
    run(*cli, "-r", "10", "set", "key", "value")
    run(*cli, "-r", "3", "lpush", "key", "no list")
    for _ in range(7):  # by this process, which is excluded: a client that nobody sees
        connection = http.client.HTTPConnection("127.0.0.1", behind.port)
        connection.request("GET", "/hello.txt")
        assert connection.getresponse().read() == b"hello\n"
        connection.close()
    for _ in range(6):  # to openssl, which is excluded: a server that nobody sees
        run("curl", "-sk", f"https://127.0.0.1:{tls_port}/")
    return {
        ("curl", "nginx", "", "", ""): (33, 5),
        ("nginx", "nginx", "", "", ""): (25, 5),
        ("redis-cli", "redis-server", "", "redis", "redis"): (13, 3),
        ("user", "nginx", "virtual_node", "", ""): (7, 0),
        ("curl", "billing", "virtual_node", "", ""): (6, 0),
    }


def test_the_agents_edges_are_the_collectors() -> None:
    agent_port, connectors_port = free_port(), free_port()
    with (
        collector(_CONFIG, agent=agent_port, connectors=connectors_port) as receiver,
        prometheus(agent=agent_port, connectors=connectors_port) as measured,
        nginx() as behind,
        nginx(upstream=behind.url) as front,
        nginx(tls=True) as secure,
        redis() as store,
        tls_server() as tls_port,
    ):
        ports = ",".join(str(port) for port in (front.port, behind.port, secure.port, store.port, tls_port))
        environment = {
            "OTEL_EBPF_FILTER_INCLUDE": f'[{{port: "{ports}"}}]',
            "OTEL_EBPF_FILTER_EXCLUDE": f"[{{executable: {Path(sys.executable).resolve()}}}, {{executable: openssl}}]",
            "OTEL_EBPF_PEERS_ALIASES": f'[{{address: "127.0.0.1:{tls_port}", name: billing}}]',
            "OTEL_EBPF_PEERS_ADDRESSES": "0",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        with running_agent(receiver.grpc, protocol="grpc", signals="traces,metrics", environment=environment):
            expected = traffic(front, behind, secure, store.port, tls_port)
            requests = {edge: count for edge, (count, _) in expected.items()}
            for job in ("agent", "connectors"):
                wait_until(partial(counted, measured, job, requests), f"{job}'s edges", 30)
            failed = {edge: count for edge, (_, count) in expected.items() if count}
            for job in ("agent", "connectors"):
                assert without_zero(edges(measured, FAILED, job)) == failed
            assert_durations_agree(measured)
            assert_spans_agree(measured)
        assert receiver.complaints() == []


def test_a_client_calls_its_server_as_it_asked_dns(sink: Sink) -> None:
    """Given a program that asked for db.test, when it calls that address, then its span says both."""
    environment = {"OTEL_EBPF_PEERS_ALIASES": "[{address: db.test, name: orders}]"}
    with (
        redis() as store,
        dnsmasq({"db.test": "127.0.0.1"}) as resolver,
        running_agent(sink.endpoint, environment=environment),
    ):
        run(sys.executable, str(PROGRAM), "db.test", str(resolver.port), str(store.port))
        run("redis-cli", "-p", str(store.port), "get", "other")
        clients = sink.wait(both_ends(store, 2))
    spans = [span for span in clients if at(store, "client")(span)]
    named = [span for span in spans if span["server.address"] == "db.test"]
    assert [(span["network.peer.address"], span["service.peer.name"]) for span in named] == [("127.0.0.1", "orders")]
    assert {span["server.address"] for span in spans} == {"db.test", "127.0.0.1"}


def assert_durations_agree(measured: Prometheus) -> None:
    """Sums of all edges; counts and buckets of those of which both ends were seen: of the others the connector counts
    a request of no time for the end that is not there."""
    for metric in (CLIENT, SERVER):
        ours, theirs = edges(measured, f"{metric}_sum", "agent"), edges(measured, f"{metric}_sum", "connectors")
        assert without_zero(ours) == pytest.approx(without_zero(theirs), rel=1e-6)
        both = f'{metric}_bucket{{connection_type="",job="%s"}}'
        by = f"sum by (le, {', '.join(EDGE)})"
        buckets = measured.query(f"{by} ({both % 'agent'})")
        assert len(buckets) == 3 * 17
        assert buckets == measured.query(f"{by} ({both % 'connectors'})")


def assert_spans_agree(measured: Prometheus) -> None:
    """The duration metrics count the spans that the span metrics connector counts."""
    for kind, metric in (("SERVER", "http_server_request_duration"), ("CLIENT", "http_client_request_duration")):
        ours = measured.query(f'sum(label_replace({metric}_seconds_count, "n", "", "", "")) by (n)')
        theirs = measured.query(
            f'sum(traces_span_metrics_calls_total{{span_kind="SPAN_KIND_{kind}",service_name!~"redis.*"}})'
        )
        assert list(ours.values()) == list(theirs.values())
