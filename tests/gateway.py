"""A real `otel-ebpf gateway` for tests, on ports of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """One that serves. grpc, http: URLs."""

    process: subprocess.Popen[str]
    grpc: str
    http: str


@contextmanager
def gateway(endpoint: str, *options: str) -> Iterator[Gateway]:
    """Serve until the block ends, passing on to that OTLP/HTTP endpoint; then it must stop by SIGTERM with 0."""
    command = [
        *(sys.executable, "-m", "otel_ebpf.cli", "gateway", "--announce"),
        *("--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"),
        *("--otlp-endpoint", endpoint, "--otlp-protocol", "http/protobuf", *options),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], READY_S)
        line = process.stdout.readline() if ready else ""
        assert line, f"otel-ebpf gateway does not serve: {process.stderr.read() if process.poll() is not None else '…'}"
        at = json.loads(line)
        yield Gateway(process, f"http://{at['grpc']}", f"http://{at['http']}")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in said) == (0, False), said
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
