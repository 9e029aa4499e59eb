"""A real Jaeger, version 2, all in one: OTLP in, traces in memory, its query API."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import answers, free_port, running, scratch
from tests.servers import CACHE
from tests.toolbox import go_environment

BUILD = Path(__file__).resolve().parent / "tools" / "build_jaeger.sh"

_CONFIG = """
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 10000}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
    http: {{endpoint: "127.0.0.1:{query}"}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp}"}}}}}}}}
exporters: {{jaeger_storage_exporter: {{trace_storage: memory}}}}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}}}
"""


@dataclass(frozen=True, slots=True)
class JaegerSpan:
    """A span as /api/traces tells it. parent: "" for a root. start, duration: µs."""

    name: str
    service: str
    id: str
    parent: str
    start: int
    duration: int
    tags: dict[str, object]


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A running Jaeger. otlp: "127.0.0.1:4317", OTLP/gRPC; url: of its query API."""

    otlp: str
    url: str

    def services(self) -> list[str]:
        """GET /api/services; none yet: []."""
        return self._get("services") or []

    def traces(self, service: str) -> dict[str, list[JaegerSpan]]:
        """GET /api/traces: trace id → its spans, of the newest traces in which the service has a part."""
        query = urllib.parse.urlencode({"service": service, "limit": "200", "lookback": "1h"})
        return {trace["traceID"]: list(_spans(trace)) for trace in self._get(f"traces?{query}") or []}

    def trace(self, trace_id: str) -> list[JaegerSpan]:
        """GET /api/traces/ID: what a click on an exemplar asks."""
        return [span for trace in self._get(f"traces/{trace_id}") for span in _spans(trace)]

    def wait(self, service: str, enough: Callable[[list[JaegerSpan]], object], limit_s: float = 30.0) -> str:
        """Id of the first trace in which the service has a part and whose spans are `enough`."""
        end = time.monotonic() + limit_s
        while True:
            traces = self.traces(service)
            for trace_id, spans in traces.items():
                if enough(spans):
                    return trace_id
            assert time.monotonic() < end, f"not within {limit_s:.0f} s; {self.services()}: {traces}"
            time.sleep(0.2)

    def _get(self, path: str) -> Any:  # noqa: ANN401  (JSON of several forms)
        with urllib.request.urlopen(f"{self.url}/api/{path}", timeout=20) as response:
            return json.load(response)["data"]


def _spans(trace: Any) -> Iterator[JaegerSpan]:  # noqa: ANN401  (JSON)
    for span in trace["spans"]:
        parents = [of["spanID"] for of in span["references"] if of["refType"] == "CHILD_OF"]
        process = trace["processes"][span["processID"]]
        tags = {tag["key"]: tag["value"] for tag in (*process["tags"], *span["tags"])}
        parent = parents[0] if parents else ""
        name, service = span["operationName"], process["serviceName"]
        yield JaegerSpan(name, service, span["spanID"], parent, span["startTime"], span["duration"], tags)


@contextmanager
def jaeger() -> Iterator[Jaeger]:
    """Jaeger, built at first use (minutes) and kept under .cache."""
    binary = build()
    with scratch() as folder:
        otlp, query, query_grpc = free_port(), free_port(), free_port()
        config = folder / "config.yaml"
        config.write_text(_CONFIG.format(otlp=otlp, query=query, query_grpc=query_grpc))
        with running([str(binary), "--config", str(config)], answers(query), log=folder / "log"):
            yield Jaeger(f"127.0.0.1:{otlp}", f"http://127.0.0.1:{query}")


def build() -> Path:
    """Path of Jaeger's binary."""
    home = CACHE / "jaeger"
    done = subprocess.run(["sh", str(BUILD), str(home)], env=go_environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"Jaeger does not build:\n{done.stderr[-3000:]}"
    return home / "jaeger"
