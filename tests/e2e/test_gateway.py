"""The real command, `otel-ebpf gateway`: by both transports, alone and as several; nothing is lost when it ends."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.gateway import Gateway, gateway
from tests.processes import free_port
from tests.sink import Sink
from tests.spans import SeenSpan, from_protobuf
from tests.unit.test_gateway import Hosts, request_of

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def post(at: Gateway, path: str, body: bytes) -> int:
    request = urllib.request.Request(at.http + path, body, {"content-type": "application/x-protobuf"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def assert_one_trace(spans: list[SeenSpan], chain: Hosts) -> None:
    """All spans of the chain, each host's server span the child of the call to it."""
    ids = {one.span_id.hex(): one for batch in chain.batches for one in batch}
    found = {span.id: span for span in spans if span.id in ids}
    assert len(found) == len(ids)
    assert {span.trace for span in found.values()} == {chain.batches[0][0].trace_id.hex()}
    fronts = [found[batch[0].span_id.hex()].parent for batch in chain.batches]
    assert fronts == ["", *(batch[2].span_id.hex() for batch in chain.batches[:-1])]


def test_what_came_by_both_transports_leaves_joined_when_the_gateway_ends(sink: Sink) -> None:
    """SIGTERM long before the window is over; the block's end demands exit code 0."""
    chain = Hosts.chain(2)
    first, second = (request_of(*batch) for batch in chain.batches)
    with gateway(sink.endpoint, "--window", "10m") as running:
        assert post(running, "/v1/traces", second.SerializeToString()) == 200
        with grpc.insecure_channel(running.grpc.removeprefix("http://")) as channel:
            export = channel.unary_unary(_METHOD)
            assert export(first.SerializeToString(), timeout=20) == b""
        assert sink.spans() == []
    assert_one_trace(sink.wait(lambda spans: len(spans) == 6), chain)


def test_spans_of_another_tracer_come_back_with_what_went_through_of_their_trace(sink: Sink) -> None:
    """Handed in with the trace that began on the second host, which goes on in the first one's."""
    chain = Hosts.chain(2)
    first, second = (request_of(*batch) for batch in chain.batches)
    foreign = ExportTraceServiceRequest()
    began = chain.batches[1][0]
    foreign.resource_spans.add().scope_spans.add().spans.add(
        trace_id=began.trace_id, span_id=b"foreign!", parent_span_id=began.span_id, name="cache"
    )
    admin = f"127.0.0.1:{free_port()}"
    with gateway(sink.endpoint, "--window", "1s", "--admin-address", admin) as running:
        for batch in (second, first):
            assert post(running, "/v1/traces", batch.SerializeToString()) == 200
        asked = urllib.request.Request(
            f"http://{admin}/v1/complete", foreign.SerializeToString(), {"content-type": "application/x-protobuf"}
        )
        with urllib.request.urlopen(asked, timeout=20) as response:
            spans = list(from_protobuf(ExportTraceServiceRequest.FromString(response.read())))
    assert_one_trace(spans, chain)
    (cache,) = [span for span in spans if span.id == b"foreign!".hex()]
    assert (cache.trace, cache.parent) == (chain.batches[0][0].trace_id.hex(), began.span_id.hex())
    assert len(spans) == 7


def test_other_signals_pass(sink: Sink) -> None:
    chain = Hosts.chain(2)
    metrics = ExportMetricsServiceRequest()
    metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge.data_points.add(as_int=1)
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(trace_id=chain.batches[1][0].trace_id)
    with gateway(sink.endpoint, "--window", "10m") as running:
        assert post(running, "/v1/logs", logs.SerializeToString()) == 200
        assert post(running, "/v1/metrics", metrics.SerializeToString()) == 200
        assert post(running, "/v1/traces", request_of(*chain.batches[0]).SerializeToString()) == 200
        assert post(running, "/v1/traces", b"\xff\xff") == 400
    assert [metric.name for metric in sink.metrics()] == ["m"]
    assert [record.trace_id for record in sink.logs()] == [chain.batches[0][0].trace_id]


def test_three_gateways_are_one(sink: Sink) -> None:
    """Whichever of them a host sends to, in whatever order."""
    chains = [Hosts.chain(3) for _ in range(12)]
    ports = [free_port() for _ in range(3)]
    peers = [option for port in ports for option in ("--peer", f"http://127.0.0.1:{port}")]
    with ExitStack() as stack:
        cluster = [
            stack.enter_context(
                gateway(
                    sink.endpoint,
                    *("--window", "2s", "--otlp-http", f"127.0.0.1:{port}", "--shard", f"{i}/3", *peers),
                )
            )
            for i, port in enumerate(ports)
        ]
        batches = [batch for chain in chains for batch in chain.batches]
        for i, batch in enumerate(reversed(batches)):
            assert post(cluster[i % 3], "/v1/traces", request_of(*batch).SerializeToString()) == 200
        spans = sink.wait(lambda spans: len(spans) >= 12 * 9, 40)
    assert len(spans) == 12 * 9
    for chain in chains:
        assert_one_trace(spans, chain)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "nowhere to send"),
        (("--otlp-endpoint", "http://c:4318", "--shard", "3/3"), "not I/N"),
        (("--otlp-endpoint", "http://c:4318", "--shard", "0/2", "--peer", "http://a:4318"), "give --peer 2 times"),
        (("--otlp-endpoint", "http://c:4318", "--window", "soon"), "--window"),
        (("--otlp-endpoint", "http://c:4318", "--otlp-http", "0.0.0.0:0"), "--token-file"),
    ],
)
def test_wrong_usage_is_one_line(options: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "otel_ebpf.cli", "gateway", "--otlp-grpc", "none", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_empty_request_is_taken() -> None:
    with Sink() as sink, gateway(sink.endpoint) as running:
        assert post(running, "/v1/traces", ExportTraceServiceRequest().SerializeToString()) == 200
