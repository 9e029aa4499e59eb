"""Ordinary programs with an OpenTelemetry SDK send to the viewer; its own API and Jaeger's read back what they sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers import CACHE
from tests.toolbox import go_environment
from tests.viewer import Viewer, viewer

PROGRAMS = Path(__file__).parent / "programs" / "sdk"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with viewer(tmp_path_factory.mktemp("store")) as serving:
        yield serving


@pytest.fixture(scope="module")
def programs() -> dict[str, list[str]]:
    """The command of each."""
    built = CACHE / "sdk"
    command = ["go", "build", "-trimpath", "-o", str(built), "."]
    subprocess.run(command, cwd=PROGRAMS, env={**go_environment(), "CGO_ENABLED": "0"}, check=True)
    return {"go": [str(built)], "python": [sys.executable, str(PROGRAMS / "program.py")]}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("language", ["go", "python"])
def test_what_an_sdk_sends_is_shown_and_read_back_through_jaegers_api(
    at: Viewer, programs: dict[str, list[str]], language: str, protocol: str
) -> None:
    service = f"checkout-{language}-{protocol[:4]}"
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{at.grpc if protocol == 'grpc' else at.http}",
        "OTEL_SERVICE_NAME": service,
    }
    run = subprocess.run(programs[language], env=environment, capture_output=True, text=True, check=True, timeout=60)
    trace_id = run.stdout.strip()
    assert run.stderr == ""

    trace = at.get(f"/api/v1/traces/{trace_id}")
    spans = {span["name"]: span for span in trace["spans"]}
    served, query = spans["POST /checkout"], spans["SELECT carts"]
    assert (served["kind"], served["parent_id"], served["status"]) == ("server", None, "unset")
    assert (query["kind"], query["parent_id"], query["status"]) == ("client", served["span_id"], "error")
    assert (query["message"], query["scope"]) == ("deadlock detected", "checkout")
    assert query["attributes"]["db.system.name"] == "postgresql"
    assert query["resource"]["telemetry.sdk.language"] == language
    assert [event["name"] for event in query["events"]] == ["exception"]

    def edge(answer: dict[str, Any]) -> bool:
        edges = [(e["client"], e["server"], e["connection_type"]) for e in answer["edges"]]
        return (service, "carts.db", "database") in edges

    assert at.wait("/api/v1/map?start=-5m", edge)

    assert service in at.get("/api/services")["data"]
    operations = at.get(f"/api/services/{service}/operations")["data"]
    assert set(operations) == {"POST /checkout", "SELECT carts"}
    tags = quote('{"db.system.name":"postgresql"}')
    (found,) = at.get(f"/api/traces?service={service}&tags={tags}&limit=5")["data"]
    assert found["traceID"] == trace_id
    by_name = {span["operationName"]: span for span in found["spans"]}
    (reference,) = by_name["SELECT carts"]["references"]
    assert (reference["refType"], reference["spanID"]) == ("CHILD_OF", served["span_id"])
    values = {tag["key"]: tag["value"] for tag in by_name["SELECT carts"]["tags"]}
    assert (values["span.kind"], values["error"]) == ("client", True)
    assert found["processes"][by_name["SELECT carts"]["processID"]]["serviceName"] == service
