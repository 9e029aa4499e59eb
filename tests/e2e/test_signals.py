"""Contexts that requests carry, sampling of whole traces, metrics of all exchanges, request logs."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.agent import running_agent
from tests.e2e.pairs import both_ends, ends, of, run
from tests.servers import Server, nginx
from tests.sink import Sink

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXTS = {
    "traceparent": f"traceparent: 00-{TRACE}-{PARENT}-01",
    "b3": f"b3: {TRACE}-{PARENT}-1",
    "jaeger": f"uber-trace-id: {TRACE}:{PARENT}:0:1",
}


def eventually(true: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until it is, or fail."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_in_the_request_is_continued_through_the_proxy(name: str, sink: Sink) -> None:
    """Everything is told: else who made the context is taken to have told of the client's end."""
    agent = running_agent(sink.endpoint, "--set", "traces.completion=everything")
    with agent, nginx() as backend, nginx(upstream=f"http://127.0.0.1:{backend.port}") as front:
        run("curl", "-s", "-H", CONTEXTS[name], f"{front.url}/hello.txt")
        spans = sink.wait(lambda spans: both_ends(front)(spans) and both_ends(backend)(spans))
    client, server = ends(spans, front)
    behind, backend_server = ends(spans, backend)

    assert {span.trace for span in (client, server, behind, backend_server)} == {TRACE}
    assert client.parent == PARENT
    assert client["otel_ebpf.link.method"] == name
    assert server.parent == client.id
    assert behind.parent == server.id


def _requests(sink: Sink, web: Server) -> int:
    """How many requests to this server the newest points of the clients' histogram count."""
    newest = 0
    for found in sink.metrics():
        if found.name != "http.client.request.duration":
            continue
        for point in found.histogram.data_points:
            if web.port in {a.value.int_value for a in point.attributes if a.key == "server.port"}:
                newest = max(newest, point.count)
    return newest


def test_metrics_count_what_sampling_leaves_out(sink: Sink) -> None:
    environment = {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    with running_agent(sink.endpoint, environment=environment, signals="traces,metrics"), nginx() as web:
        run("curl", "-s", *[f"{web.url}/hello.txt" for _ in range(7)])
        eventually(lambda: _requests(sink, web) == 7)

    assert "http.server.request.duration" in {metric.name for metric in sink.metrics()}
    assert not [span for span in sink.spans() if of(web)(span)]


def test_a_trace_is_sampled_as_its_parent_was(sink: Sink) -> None:
    unsampled = CONTEXTS["traceparent"][:-1] + "0"
    with running_agent(sink.endpoint), nginx() as web:
        run("curl", "-s", "-H", unsampled, f"{web.url}/unsampled")
        run("curl", "-s", f"{web.url}/sampled")
        spans = sink.wait(both_ends(web))

    assert {span.get("url.path") for span in spans if of(web)(span) and span.kind == "server"} == {"/sampled"}


def test_request_logs_name_their_span(sink: Sink) -> None:
    with running_agent(sink.endpoint, signals="traces,logs"), nginx() as web:
        run("curl", "-s", f"{web.url}/hello.txt")
        client, server = ends(sink.wait(both_ends(web)), web)
        eventually(lambda: {record.span_id.hex() for record in sink.logs()} >= {client.id, server.id})

    record = next(record for record in sink.logs() if record.span_id.hex() == server.id)
    assert record.trace_id.hex() == server.trace
    assert record.body.string_value.startswith("GET /hello.txt 200")
