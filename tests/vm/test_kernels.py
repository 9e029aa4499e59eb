"""The same requests under Debian's 5.10, 6.1 and 6.12 kernels and under the running one: the same spans."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_ebpf.capture.propagation import refusal
from tests.e2e.pairs import assert_joined
from tests.spans import SeenSpan
from tests.vm.boot import ROOT, run_inside
from tests.vm.kernels import SERIES, fetch

RUNNING = "running"


def _found_under(kernel: str, folder: Path) -> dict[str, Any]:
    if kernel != RUNNING:
        return run_inside(fetch(kernel), "tests.vm.inside")
    result = folder / "result.json"
    subprocess.run([sys.executable, "-m", "tests.vm.inside", str(result)], cwd=ROOT, check=True)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


@pytest.mark.parametrize("kernel", [*SERIES, RUNNING])
def test_every_kernel_yields_the_same_spans(kernel: str, tmp_path: Path) -> None:
    found = _found_under(kernel, tmp_path)
    assert "error" not in found, f"{found['release']}: {found['error']}"
    assert kernel == RUNNING or found["release"].startswith(f"{kernel}.")
    assert found["answers"] == ["hello\n", "hello\n", "OK\n", "OK\n", "127.0.0.4\n"]

    assert found["refused"] == {}
    refused = "not attached: propagation: the kernel has no tracepoint tcp_sendmsg_locked" in found["said"]
    assert refused is (kernel != RUNNING or bool(refusal()))

    spans = [SeenSpan(**span) for span in found["spans"]]
    by_end = {
        (name, kind): [span for span in spans if span.get("server.port") == port and span.kind == kind]
        for name, port in found["ports"].items()
        for kind in ("client", "server")
    }
    counts = {f"{name} {kind}": len(of) for (name, kind), of in by_end.items()}
    assert counts == dict.fromkeys(counts, 1), found["said"]

    one = {end: of[0] for end, of in by_end.items()}
    for name in ("http", "https", "redis", "rediss"):
        assert_joined(one[name, "client"], one[name, "server"])
    assert one["http", "server"]["url.path"] == "/hello.txt"
    assert one["http", "client"]["http.response.status_code"] == 200
    assert one["https", "server"]["url.scheme"] == "https"
    assert one["redis", "client"]["db.operation.name"] == "SET"
    assert one["redis", "client"]["server.address"] == "127.0.0.1"
    assert one["rediss", "client"]["server.address"] == "safe.test"
    assert one["dns", "client"]["dns.question.name"] == "www.test"
    assert {one["http", "server"].service, one["redis", "server"].service} == {"nginx", "redis-server"}
