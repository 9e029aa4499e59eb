"""What is exported for real conversations is what the semantic conventions define, as their package on PyPI says it.

The types, and the requirement levels of all attributes, are in the conventions' model: tests/shared/test_semconv_model.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.unit.emitted import PROTOCOLS, Value, emitted, values
from tests.unit.semconv_package import attributes, instruments

OURS = Path(__file__).resolve().parents[2] / "docs" / "semconv" / "otel_ebpf.yaml"
STABLE = ("http.", "url.", "server.", "client.", "network.", "db.", "error.", "user_agent.", "service.", "telemetry.")
NEW = {
    # development attributes in namespaces that are otherwise stable, which the conventions for Resources ask for
    "service.instance.id",
    "service.namespace",
    "telemetry.distro.name",
    "telemetry.distro.version",
}
RENAMED = {"rpc.status_code": "rpc.response.status_code"}
"""In the conventions since the package on PyPI was made (tests/shared has them): what they are called there."""
OPEN = {"error.type"}
"""Enumerations that name some values and leave the others to who reports them."""

# docs/http/http-metrics.md, docs/db/database-metrics.md, docs/dns/dns-metrics.md of the conventions
HTTP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
DB_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
METRICS: dict[str, dict[str, tuple[float, ...]]] = {
    "http": {"http.server.request.duration": HTTP_BOUNDS, "http.client.request.duration": HTTP_BOUNDS},
    "redis": {"db.client.operation.duration": DB_BOUNDS},
    "postgresql": {"db.client.operation.duration": DB_BOUNDS},
    "mysql": {"db.client.operation.duration": DB_BOUNDS},
    "dns": {"dns.lookup.duration": HTTP_BOUNDS},
    "fastcgi": {"http.server.request.duration": HTTP_BOUNDS, "http.client.request.duration": HTTP_BOUNDS},
    "grpc": {"rpc.server.call.duration": HTTP_BOUNDS, "rpc.client.call.duration": HTTP_BOUNDS},
}
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
HTTP_SERVER = {"http.request.method", "url.scheme", "url.path"}
HTTP_CLIENT = {"http.request.method", "url.full", "server.address", "server.port"}
REQUIRED: dict[str, dict[int, set[str]]] = {
    "http": {SERVER: HTTP_SERVER, CLIENT: HTTP_CLIENT},
    "redis": {SERVER: {"db.system.name"}, CLIENT: {"db.system.name", "db.operation.name"}},
    "postgresql": {SERVER: {"db.system.name"}, CLIENT: {"db.system.name"}},
    "mysql": {SERVER: {"db.system.name"}, CLIENT: {"db.system.name"}},
    "fastcgi": {SERVER: HTTP_SERVER, CLIENT: HTTP_CLIENT},
    "grpc": {
        SERVER: {"rpc.system.name", "rpc.status_code"},
        CLIENT: {"rpc.system.name", "rpc.method", "rpc.status_code", "server.address"},
    },
    "dns": {SERVER: {"dns.question.name"}, CLIENT: {"dns.question.name"}},
}
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def ours() -> set[str]:
    groups = yaml.safe_load(OURS.read_text())["groups"]
    return {attribute["id"] for group in groups for attribute in group["attributes"]}


@every_protocol
def test_both_ends_and_every_signal_are_there(protocol: str) -> None:
    found = emitted(protocol)
    assert {span.kind for span in found.spans()} == {SERVER, CLIENT}
    assert len(list(found.records())) == len(list(found.spans())) > 20
    assert {metric.name for metric in found.instruments()} == set(METRICS[protocol])


@every_protocol
def test_every_attribute_is_registered_and_in_use(protocol: str) -> None:
    seen = {key for found in emitted(protocol).attributes() for key in found}
    others = {RENAMED.get(key, key) for key in seen if not key.startswith("otel_ebpf.")}
    assert others - set(attributes()) == set()
    assert {key for key in others if attributes()[key].deprecated} == set()
    assert seen - others - RENAMED.keys() <= ours()


@every_protocol
def test_where_the_conventions_are_stable_only_stable_names_are_used(protocol: str) -> None:
    seen = {key for found in emitted(protocol).attributes() for key in found if key.startswith(STABLE)}
    assert {key for key in seen if not attributes()[key].stable} <= NEW


@every_protocol
def test_values_of_enumerations_are_members(protocol: str) -> None:
    checked = set()
    for found in emitted(protocol).attributes():
        for key, value in found.items():
            members = attributes()[key].members if key in attributes() else ()
            if members and key not in OPEN:
                assert value in members, key
                checked.add(key)
    assert {"network.transport", "network.type", "os.type", "host.arch", "telemetry.sdk.language"} <= checked
    assert protocol == "dns" or checked & {"http.request.method", "db.system.name", "rpc.system.name"}


@every_protocol
def test_metrics_have_the_units_kinds_and_buckets_of_the_conventions(protocol: str) -> None:
    for metric in emitted(protocol).instruments():
        said = instruments()[metric.name]
        assert not said.deprecated
        assert metric.WhichOneof("data") == line(said.text, "Instrument")
        assert metric.unit == line(said.text, "Unit")
        assert metric.description.rstrip(".") == said.text.split("\n")[0].rstrip(".")
        for point in metric.histogram.data_points:
            assert tuple(point.explicit_bounds) == METRICS[protocol][metric.name]
            assert sum(point.bucket_counts) == point.count > 0


def line(text: str, name: str) -> str:
    match = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
    assert match is not None, text
    return match[1]


@every_protocol
def test_what_is_required_is_there(protocol: str) -> None:
    for span in emitted(protocol).spans():
        assert set(values(span.attributes)) >= REQUIRED[protocol][span.kind], span.name
    for metric in emitted(protocol).instruments():
        side = SERVER if ".server." in metric.name else CLIENT
        needed = REQUIRED[protocol][side] - {"url.path", "url.full"}  # of high cardinality: not for metrics
        if protocol != "redis":
            assert all(values(point.attributes).keys() >= needed for point in metric.histogram.data_points)
    for resource in emitted(protocol).resources():
        assert resource.keys() >= {"service.name", "telemetry.sdk.name", "telemetry.sdk.language"}
        assert resource.keys() >= {"telemetry.sdk.version", "service.instance.id"}


@every_protocol
def test_the_status_is_error_where_there_is_an_error_type_and_never_ok(protocol: str) -> None:
    # docs/general/recording-errors.md: instrumentations leave the status unset unless there is an error
    seen = set()
    for span in emitted(protocol).spans():
        failed = "error.type" in values(span.attributes)
        assert span.status.code == (Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET)
        seen.add(failed)
    assert seen == {True, False}


def test_of_http_only_the_client_counts_4xx_as_errors() -> None:
    for span in emitted("http").spans():
        told = values(span.attributes)
        status = told.get("http.response.status_code")
        if isinstance(status, int):
            failed = status >= (400 if span.kind == CLIENT else 500)
            assert told.get("error.type") == (str(status) if failed else None)


def test_http_spans_are_named_by_method_and_route() -> None:
    # docs/http/http-spans.md, "Name": {method} {target}; the method is HTTP where it is _OTHER
    for span in emitted("http").spans():
        told = values(span.attributes)
        method = "HTTP" if told["http.request.method"] == "_OTHER" else told["http.request.method"]
        assert span.name == f"{method} {told.get('http.route', '')}".strip()
        assert ("http.request.method_original" in told) == (told["http.request.method"] == "_OTHER")


@pytest.mark.parametrize("protocol", ["redis", "postgresql", "mysql"])
def test_database_spans_are_named_by_summary_or_operation_and_target(protocol: str) -> None:
    # docs/db/database-spans.md, "Name"; docs/db/redis.md: db.namespace is no target
    for span in emitted(protocol).spans():
        assert span.name == database_name(values(span.attributes))


def database_name(told: dict[str, Value]) -> str:
    if "db.query.summary" in told:
        return str(told["db.query.summary"])
    namespace = None if told["db.system.name"] == "redis" else told.get("db.namespace")
    target = told.get("db.collection.name") or told.get("db.stored_procedure.name") or namespace or ""
    return f"{told.get('db.operation.name', '')} {target}".strip() or str(told["db.system.name"])


def test_spans_of_calls_are_named_by_the_method() -> None:
    # docs/rpc/rpc-spans.md, "Name"; docs/rpc/grpc.md: of a server not all that went wrong is its fault
    seen = set()
    for span in emitted("grpc").spans():
        told = values(span.attributes)
        assert span.name == ("grpc" if told["rpc.method"] == "_OTHER" else told["rpc.method"])
        assert ("rpc.method_original" in told) == (told["rpc.method"] == "_OTHER")
        assert told.get("error.type", told["rpc.status_code"]) == told["rpc.status_code"]
        seen.add((span.kind == CLIENT, told["rpc.status_code"], "error.type" in told))
    assert seen >= {
        (True, "OK", False),
        (True, "NOT_FOUND", True),
        (False, "NOT_FOUND", False),
        (False, "INTERNAL", True),
    }


@every_protocol
def test_no_secret_leaves(protocol: str) -> None:
    # what the recordings have in URLs, statements, commands, logins
    for found in emitted(protocol).attributes():
        for value in found.values():
            assert "secret" not in str(value)
            assert "alice" not in str(value)
