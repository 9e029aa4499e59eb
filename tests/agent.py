"""The real command, `otel-ebpf run`, as a context manager."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import end_process, free_port, scratch

READY_S = 240.0
"""How long it may take to be ready: generous, since the kernel matrix runs it ten times slower."""
COMMAND = Path(sys.executable).parent / "otel-ebpf"
_METRIC = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of /metrics."""

    name: str
    labels: dict[str, str]
    value: float


class Agent:
    """A running agent. ready_s: seconds from exec to `ready`. stderr: the file with what it says."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path, admin: str) -> None:
        self.process = process
        self.pid = process.pid
        self.stderr = stderr
        self.admin = admin
        self.ready_s = 0.0

    def said(self) -> str:
        return self.stderr.read_text(errors="replace")

    def wait_ready(self, started: float) -> None:
        while not re.search(r"^(.*\s)?ready\b", self.said(), re.MULTILINE):
            if self.process.poll() is not None:
                raise AssertionError(f"the agent ended with {self.process.returncode}:\n{self.said()[-3000:]}")
            assert time.monotonic() - started < READY_S, f"not ready within {READY_S:.0f} s:\n{self.said()[-3000:]}"
            time.sleep(0.005)
        self.ready_s = time.monotonic() - started

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page at the admin address (/readyz, /healthz, /metrics)."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError as error:
            state = f"the agent (exit code {self.process.poll()})"
            raise AssertionError(f"{self.admin}{path}: {error.reason}; {state} said:\n{self.said()[-3000:]}") from error

    def metrics(self) -> list[Sample]:
        """What it says of itself at this moment."""
        body = self.get("/metrics")[1]
        return [
            Sample(m["name"], dict(_LABEL.findall(m["labels"] or "")), float(m["value"]))
            for m in _METRIC.finditer(body)
        ]

    def stop(self) -> int:
        """SIGTERM as a service manager would; the exit code. It has 5 s to flush."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def running_agent(
    endpoint: str | None = None,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    signals: str = "traces",
    protocol: str = "http/protobuf",
) -> Iterator[Agent]:
    """The agent, ready, exporting to `endpoint`; at the end it must stop by SIGTERM with exit code 0.

    An agent that the test itself has ended is left alone.
    """
    assert COMMAND.exists(), f"{COMMAND} not found: make setup"
    command: Sequence[str] = [
        *(str(COMMAND), "run", "--output", "none", "--admin-address", (admin := f"127.0.0.1:{free_port()}")),
        *(("--otlp-endpoint", endpoint, "--otlp-protocol", protocol, "--signals", signals) if endpoint else ()),
        *arguments,
    ]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with scratch() as folder:
        stderr = folder / "stderr"
        with stderr.open("wb") as log:
            started = time.monotonic()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**inherited, **(environment or {})},
                start_new_session=True,
            )
        agent = Agent(process, stderr, admin)
        try:
            agent.wait_ready(started)
            yield agent
            if process.poll() is None:
                code = agent.stop()
                assert code == 0, f"SIGTERM: exit code {code}\n{agent.said()[-3000:]}"
                assert "Traceback" not in agent.said(), agent.said()[-3000:]
        finally:
            end_process(process, signal.SIGKILL)
