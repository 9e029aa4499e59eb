"""The service graph of recorded conversations, by all stages of the agent, each told by its server's and its client's
end as if these were on different hosts."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otel_ebpf.config import load
from otel_ebpf.metrics.graph_series import FAILED, TOTAL
from otel_ebpf.model import Resource
from otel_ebpf.pipeline import Pipeline
from tests.processes import program
from tests.unit.emitted import PORTS, PROTOCOLS, emitted, recorded_drain
from tests.unit.exchanges import CONNECTION

AGENT = Resource("otel-ebpf", ())
DATABASES = ("redis", "postgresql", "mysql")


@contextmanager
def observed(protocol: str, **flags: str) -> Iterator[Pipeline]:
    """The agent's stages after they have seen all recordings of a protocol. flags: keys, with __ for their dots."""
    given = {"otlp.endpoint": "http://127.0.0.1:4318", "signals": "traces,metrics"} | {
        name.replace("__", "."): text for name, text in flags.items()
    }
    pipeline = Pipeline(load(flags={k: (v, "test") for k, v in given.items()}), CONNECTION, lambda *_: None)
    with subprocess.Popen([program("sleep", "coreutils"), "infinity"]) as bystander:
        try:
            drain = recorded_drain(protocol, bystander.pid)
            pipeline.process(drain, drain.swept)
            pipeline.finish()
            yield pipeline
        finally:
            bystander.kill()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_span_of_a_recording_is_one_request_of_an_edge(protocol: str) -> None:
    with observed(protocol) as pipeline:
        sums = pipeline.graph.collect(AGENT).sums[AGENT]
    spans = list(emitted(protocol).spans())
    assert sum(point.value for point in sums[TOTAL]) == len(spans)
    assert sum(point.value for point in sums[FAILED]) == len(
        [s for s in spans if s.status.code == s.status.STATUS_CODE_ERROR]
    )
    kinds = Counter[str]()
    for point in sums[TOTAL]:
        kinds[str(dict(point.attributes)["connection_type"])] += point.value
    half = len(spans) // 2
    assert kinds == ({"database": half, "virtual_node": half} if protocol in DATABASES else {"virtual_node": 2 * half})


@pytest.mark.parametrize("protocol", DATABASES)
def test_a_database_is_called_by_address_and_port_and_says_what_it_is(protocol: str) -> None:
    with observed(protocol) as pipeline:
        edges = [dict(point.attributes) for point in pipeline.graph.collect(AGENT).sums[AGENT][TOTAL]]
    called = [edge for edge in edges if edge["connection_type"] == "database"]
    assert {edge["server"] for edge in called} == {f"10.0.0.1:{PORTS[protocol]}"}
    assert {str(edge["client_db.system.name"]) for edge in called} <= {protocol, "mariadb"}
    assert {edge["client"] for edge in edges if edge not in called} == {"10.0.0.2"}


@pytest.mark.parametrize("flags", [{"metrics__service_graph": "false"}, {"signals": "traces"}])
def test_the_graph_is_made_where_it_is_wanted_and_goes_somewhere(flags: dict[str, str]) -> None:
    with observed("redis", **flags) as pipeline:
        assert len(pipeline.graph.collect(AGENT)) == 0
        assert pipeline.graph.waiting == 0
