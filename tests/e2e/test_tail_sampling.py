"""Keep-tail sampling by the real agent, of real services: client → front → back, each a process of its own."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.agent import Agent, running_agent
from tests.e2e.peers import Process
from tests.processes import answers, free_port, running, scratch
from tests.sink import Sink
from tests.spans import SeenSpan, from_protobuf

SHAKY = Path(__file__).parent / "programs" / "shaky.py"
SPANS = 4
"""Of a whole trace: both ends of two hops."""


@contextmanager
def two_services() -> Iterator[tuple[int, int]]:
    """The ports of front and back."""
    front, back = free_port(), free_port()
    with scratch() as folder, ExitStack() as stack:
        for name, port, upstream in (("back", back, []), ("front", front, [f"http://127.0.0.1:{back}"])):
            command = [sys.executable, str(SHAKY), str(port), *upstream]
            log, environment = folder / f"{name}.log", {"OTEL_SERVICE_NAME": name}
            stack.enter_context(running(command, answers(port), log=log, environment=environment))
        yield front, back


def ask(port: int, paths: Sequence[str], **headers: str) -> None:
    """One after the other, over one connection, by a process of its own."""

    def all_of_them() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for path in paths:
            connection.request("GET", path, headers=headers)
            connection.getresponse().read()

    Process(all_of_them).end()


def tail(ports: tuple[int, int], **keys: object) -> list[str]:
    """Arguments of an agent that observes these services."""
    settings = {"enabled": "true", "wait": "3s", "slowest": 0, "ratio": 0, **keys}
    found = ["--set", f"filter.include=[{{port: '{ports[0]},{ports[1]}'}}]"]
    for name, value in settings.items():
        found += ["--set", f"sampling.tail.{name}={value}"]
    return found


def by_path(spans: Sequence[SeenSpan]) -> dict[str, list[SeenSpan]]:
    found = defaultdict(list)
    for span in spans:
        url = urlsplit(str(span.get("url.path") or span.get("url.full") or ""))
        found[url.path].append(span)
    return dict(found)


def counted(agent: Agent, name: str) -> dict[tuple[str, str], float]:
    """By outcome and reason."""
    labels = ("otel_ebpf_outcome", "otel_ebpf_reason")
    return {
        (sample.labels[labels[0]], sample.labels[labels[1]]): sample.value
        for sample in agent.metrics()
        if sample.name == f"otel_ebpf_sampling_{name}_total" and sample.value
    }


def settled(agent: Agent, traces: int) -> dict[tuple[str, str], float]:
    """What became of so many traces, by outcome and reason."""
    until = time.monotonic() + 30
    while sum((found := counted(agent, "traces")).values()) < traces:
        assert time.monotonic() < until, found
        time.sleep(0.2)
    return found


def test_an_error_among_many_is_kept_whole_across_the_processes_and_the_rest_is_thinned(sink: Sink) -> None:
    paths = [f"/fail/{n}" if n % 20 == 7 else f"/fine/{n}" for n in range(100)]
    with two_services() as ports, running_agent(sink.endpoint, *tail(ports, ratio=0.2)) as agent:
        ask(ports[0], paths)
        traces = settled(agent, len(paths))
        spans_by_reason = counted(agent, "spans")
    found = by_path(sink.spans())

    failing = [path for path in paths if path.startswith("/fail")]
    assert set(failing) <= set(found)
    for path, spans in found.items():
        assert len(spans) == SPANS, path
        assert len({span.trace for span in spans}) == 1
        ends = {(span.service, span.kind) for span in spans}
        assert {("front", "server"), ("front", "client"), ("back", "server")} < ends, "and the client of all this"
    assert {span.status for path in failing for span in found[path] if span.kind == "server"} == {"error", "unset"}
    # Below the ratio by the low half of the trace id, as every other host, and every SDK, has it.
    chosen = {path for path in found if int(found[path][0].trace[16:], 16) < 0.2 * 2**64}
    assert set(found) == set(failing) | chosen
    thinned = len(paths) - len(found)
    assert 0 < thinned < len(paths) - len(failing)
    assert traces[("kept", "error")] == len(failing)
    assert traces[("dropped", "ratio")] == thinned
    assert spans_by_reason[("dropped", "ratio")] == thinned * SPANS
    assert sum(spans_by_reason.values()) == len(paths) * SPANS


def test_the_slowest_of_a_route_is_kept(sink: Sink) -> None:
    usual = [f"/fine/{n}" for n in range(400)]
    with two_services() as ports, running_agent(sink.endpoint, *tail(ports, slowest=1)) as agent:
        ask(ports[0], usual)
        settled(agent, len(usual))
        ask(ports[0], ["/fine/777?slow"])
        traces = settled(agent, len(usual) + 1)
    found = by_path(sink.spans())
    assert len(found["/fine/777"]) == SPANS
    assert {len(spans) for spans in found.values()} == {SPANS}
    assert traces[("kept", "slow")] == len(found) < len(usual) / 5


def test_over_the_budget_whole_traces_are_dropped_and_errors_are_kept_first(sink: Sink) -> None:
    paths = [f"/fail/{n}" if n % 50 == 7 else f"/fine/{n}" for n in range(200)]
    with two_services() as ports, running_agent(sink.endpoint, *tail(ports, ratio=1, budget=10)) as agent:
        ask(ports[0], paths)
        traces = settled(agent, len(paths))
    found = by_path(sink.spans())

    assert traces[("dropped", "over_budget_ratio")] > 0
    assert {path for path in paths if path.startswith("/fail")} <= set(found)
    assert {len(spans) for spans in found.values()} == {SPANS}


def test_what_is_held_is_decided_and_exported_at_the_end(sink: Sink) -> None:
    with two_services() as ports, running_agent(sink.endpoint, *tail(ports, ratio=1, wait="1m")) as agent:
        ask(ports[0], ["/fine/1"])
        assert agent.stop() == 0
    assert {path: len(spans) for path, spans in by_path(sink.spans()).items()} == {"/fine/1": SPANS}


def test_a_trace_that_its_caller_did_not_sample_is_not_kept_for_its_error(sink: Sink) -> None:
    unsampled = f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-00"
    with two_services() as ports, running_agent(sink.endpoint, *tail(ports)) as agent:
        ask(ports[0], ["/fail/1"], traceparent=unsampled)
        ask(ports[0], ["/fail/2"])
        settled(agent, 1)
    assert set(by_path(sink.spans())) == {"/fail/2"}


def test_metrics_count_all_and_their_exemplars_are_of_what_was_kept(sink: Sink) -> None:
    paths = [f"/fail/{n}" if n % 10 == 7 else f"/fine/{n}" for n in range(50)]
    environment = {"OTEL_METRIC_EXPORT_INTERVAL": "500"}
    with two_services() as ports:
        arguments = tail(ports)
        with running_agent(sink.endpoint, *arguments, environment=environment, signals="traces,metrics") as agent:
            ask(ports[0], paths)
            settled(agent, len(paths))
    points = [p for m in sink.metrics() if m.name == "http.server.request.duration" for p in m.histogram.data_points]
    newest: dict[str, int] = {}
    for point in points:
        series = str(sorted(map(str, point.attributes)))
        newest[series] = max(newest.get(series, 0), point.count)
    exemplars = {exemplar.trace_id.hex() for point in points for exemplar in point.exemplars}
    assert sum(newest.values()) >= len(paths)
    assert exemplars
    assert exemplars <= {span.trace for span in sink.spans()}


@pytest.mark.parametrize("kept", ["/fail/1", "/fine/1"])
def test_who_hands_spans_in_gets_ours_whatever_is_exported(sink: Sink, kept: str) -> None:
    trace, caller = os.urandom(16), os.urandom(8)
    arguments = ["--set", "traces.completion=fill-gaps"]
    with two_services() as ports, running_agent(sink.endpoint, *tail(ports), *arguments) as agent:
        ask(ports[0], [kept], traceparent=f"00-{trace.hex()}-{caller.hex()}-01")
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "foreign"
        resource.scope_spans.add().spans.add(
            trace_id=trace, span_id=caller, name="GET", start_time_unix_nano=1, end_time_unix_nano=2
        )
        answer = requests.post(
            f"http://{agent.admin}/v1/complete",
            request.SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
            timeout=30,
        )
    assert answer.status_code == 200, answer.text
    spans = list(from_protobuf(ExportTraceServiceRequest.FromString(answer.content)))
    assert {span.trace for span in spans} == {trace.hex()}
    assert len([span for span in spans if span.kind == "server"]) == 2
    assert bool(sink.spans()) == kept.startswith("/fail")
