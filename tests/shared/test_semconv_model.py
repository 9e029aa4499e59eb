"""What is exported for real conversations, against the whole model of the semantic conventions.

Types, stability, deprecation of every attribute; for each span and metric: what is required, what it may have.
"""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.shared.semconv_model import attributes, groups, levels
from tests.unit.emitted import PROTOCOLS, Value, emitted, values

pytestmark = pytest.mark.shared
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)

OURS = "otel_ebpf."
STABLE = ("http.", "url.", "server.", "client.", "network.", "db.")
OPEN = {"error.type"}
"""Of its members only `_OTHER` is named; the rest is for who reports it."""
CONNECTION = {"network.transport", "network.type", "network.peer.address", "network.peer.port", "client.address"}
"""What we say of every connection, where a span's own group does not list it ("may be used for any network related
operation": model/network/common.yaml, model/client/common.yaml)."""
WANTED = {"network.transport"}
"""Opt-in for HTTP, and yet said: that a request came over a unix socket is nowhere else."""


def convention(protocol: str, span: Span, told: dict[str, Value]) -> str:
    """The group of the model that a span follows; "" for DNS, which has none. Servers of databases have that of the
    client, being the same operation as its other end sees it."""
    if protocol == "dns":
        return ""
    if protocol == "grpc":
        return "span.rpc.grpc.call.client" if span.kind == Span.SPAN_KIND_CLIENT else "span.rpc.grpc.call.server"
    if protocol in ("http", "fastcgi"):
        return "span.http.client" if span.kind == Span.SPAN_KIND_CLIENT else "span.http.server"
    return f"span.db.{told['db.system.name']}.client"


@every_protocol
def test_every_attribute_is_defined_in_use_and_of_its_type(protocol: str) -> None:
    for found in emitted(protocol).attributes():
        for name, value in found.items():
            if not name.startswith(OURS):
                said = attributes()[name]
                assert not said.deprecated, name
                assert said.holds(value), (name, value)
                assert not said.members or name in OPEN or value in said.members, (name, value)


@every_protocol
def test_of_stable_namespaces_only_stable_names_are_used(protocol: str) -> None:
    for found in emitted(protocol).attributes():
        assert {name for name in found if name.startswith(STABLE) and not attributes()[name].stable} == set()


@every_protocol
def test_a_span_has_what_is_required_and_nothing_that_it_may_not_have(protocol: str) -> None:
    followed = set()
    for span in emitted(protocol).spans():
        told = values(span.attributes)
        group = convention(protocol, span, told)
        if not group:
            continue
        listed = levels(group)
        if protocol == "grpc":
            listed["rpc.system.name"] = "required"
            assert '`rpc.system.name` MUST be set to `"grpc"`' in groups()[group]["note"]
            assert told["rpc.system.name"] == "grpc"
        if group.startswith("span.db."):  # said in words, since the tool that reads the model cannot (spans.yaml)
            assert f'`db.system.name` MUST be set to `"{told["db.system.name"]}"`' in groups()[group]["note"]
            listed["db.system.name"] = "required"
        assert {name for name, level in listed.items() if level == "required"} <= told.keys(), span.name
        assert {name for name in told if listed.get(name) == "opt_in"} <= WANTED, span.name
        assert {name for name in told if not name.startswith(OURS)} <= listed.keys() | CONNECTION, span.name
        followed.add(group)
    expected = {
        "http": {"span.http.client", "span.http.server"},
        "fastcgi": {"span.http.client", "span.http.server"},
        "redis": {"span.db.redis.client"},
        "postgresql": {"span.db.postgresql.client"},
        "mysql": {"span.db.mysql.client", "span.db.mariadb.client"},
        "dns": set[str](),
        "grpc": {"span.rpc.grpc.call.client", "span.rpc.grpc.call.server"},
    }
    assert followed <= expected[protocol] and bool(followed) == bool(expected[protocol])


@every_protocol
def test_what_has_a_condition_is_there_when_it_holds(protocol: str) -> None:
    for span in emitted(protocol).spans():
        told = values(span.attributes)
        if "network.peer.address" in told:  # network.peer.port: "If network.peer.address is set"
            assert "network.peer.port" in told
        if "server.address" in told:
            assert "server.port" in told
        if protocol in ("http", "fastcgi"):
            answered = OURS + "first_byte_ns" in told
            assert ("http.response.status_code" in told) == answered
            # "If not `http` and network.protocol.version is set"
            assert "network.protocol.version" in told or protocol == "fastcgi"
            assert ("network.protocol.name" in told) == (protocol == "fastcgi")
        elif protocol == "grpc":
            assert ("rpc.method_original" in told) == (told["rpc.method"] == "_OTHER")
            assert told.get("error.type") in (None, told["rpc.status_code"])
        elif protocol != "dns" and "db.response.status_code" in told and "error.type" in told:
            assert told["error.type"] == told["db.response.status_code"]


@every_protocol
def test_a_metric_is_defined_and_its_points_have_what_is_listed_for_it(protocol: str) -> None:
    for metric in emitted(protocol).instruments():
        said = groups()[f"metric.{metric.name}"]
        assert (metric.unit, metric.WhichOneof("data")) == (said["unit"], said["instrument"])
        assert metric.description.rstrip(".") == said["brief"].strip().rstrip(".")
        assert "deprecated" not in said
        assert said["stability"] == {"dns": "development", "grpc": "release_candidate"}.get(protocol, "stable")
        listed = levels(said["id"])
        usual = {name for name, level in listed.items() if level != "opt_in"}
        required = {name for name, level in listed.items() if level == "required"}
        for point in metric.histogram.data_points:
            assert required <= values(point.attributes).keys() <= usual, metric.name
