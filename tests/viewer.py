"""A real `otel-ebpf view` for tests and benchmarks: on ports of its own, in a folder of its own."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Viewer:
    """One that serves. page: its address, without a slash at the end; grpc, http: HOST:PORT."""

    process: subprocess.Popen[str]
    page: str
    grpc: str
    http: str

    def get(self, path: str) -> dict[str, Any]:
        """The API's answer: `get("/api/v1/services?start=-15m")`."""
        with urllib.request.urlopen(self.page + path, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def wait(self, path: str, enough: Callable[[dict[str, Any]], T | None], limit_s: float = 30.0) -> T:
        """Ask until the answer is enough: what `enough` makes of it; AssertionError with the last answer if never."""
        end = time.monotonic() + limit_s
        while True:
            answer = self.get(path)
            found = enough(answer)
            if found:
                return found
            assert time.monotonic() < end, f"{path}: {json.dumps(answer)[:2000]}"
            time.sleep(0.2)


@contextmanager
def viewer(store: Path, *options: str) -> Iterator[Viewer]:
    """Serve until the block ends; AssertionError with what it said if it does not start."""
    process = start(store, *options)
    try:
        yield serving(process)
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> str:
    """Stop it; what it said on stderr."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        _, said = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    return said


def start(store: Path, *options: str) -> subprocess.Popen[str]:
    """`otel-ebpf view` on free ports."""
    command = [sys.executable, "-m", "otel_ebpf.cli", "view", "--announce", "--store", str(store)]
    for option in ("--listen", "--otlp-grpc", "--otlp-http"):
        command += [option, "127.0.0.1:0"]
    command += options  # of an option that is given twice the last counts
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def serving(process: subprocess.Popen[str]) -> Viewer:
    """Wait for its announcement."""
    out: IO[str] | None = process.stdout
    assert out is not None and process.stderr is not None
    ready, _, _ = select.select([out], [], [], READY_S)
    line = out.readline() if ready else ""
    assert line, f"otel-ebpf view does not serve: {process.stderr.read() if process.poll() is not None else '…'}"
    at = json.loads(line)
    return Viewer(process, at["page"].rstrip("/"), at["grpc"], at["http"])
