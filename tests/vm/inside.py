"""Runs in the guest (`python -m tests.vm.inside RESULT`): real servers, real clients, the real agent; writes RESULT.

RESULT is JSON: {"release": uname -r, "ready_s": …, "said": the agent's stderr, "spans": [SeenSpan…],
"ports": {name: port}, "answers": what the clients printed, "losses": {…}, "refused": {object: why}}, or
{"release": …, "error": traceback}.
It asserts nothing: the host's test does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from otel_ebpf.capture.live import CaptureSettings, LiveSource
from otel_ebpf.runtimes.probes import OBJECTS
from tests.agent import running_agent
from tests.processes import program
from tests.servers import Web, dnsmasq, nginx, redis
from tests.sink import Sink

EXPECTED_SPANS = 10
"""HTTP, HTTPS, Redis, the same by TLS, DNS; two ends each."""
LIMIT_S = 60.0


def prepare() -> None:
    """What an init would have done: loopback up, BPF file system and cgroup2 mounted."""
    subprocess.run([program("ip", "iproute2"), "link", "set", "lo", "up"], check=True)
    mounted = {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    for kind, place in (("bpf", "/sys/fs/bpf"), ("tracefs", "/sys/kernel/tracing"), ("cgroup2", "/sys/fs/cgroup")):
        if kind not in mounted:
            subprocess.run([program("mount", "mount"), "-t", kind, kind, place], check=True)


def observe() -> dict[str, Any]:
    """One request of each protocol while the agent runs; see the module for what comes back."""
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        web: Web = stack.enter_context(nginx())
        secure: Web = stack.enter_context(nginx(tls=True))
        store = stack.enter_context(redis())
        safe = stack.enter_context(redis(tls=True))
        names = stack.enter_context(dnsmasq({"www.test": "127.0.0.4"}))
        ports = {"http": web.port, "https": secure.port, "redis": store.port, "rediss": safe.port, "dns": names.port}
        agent = stack.enter_context(running_agent(sink.endpoint, "--set", "propagation=tcp-option"))
        commands = [
            ("curl", "-sS", f"{web.url}/hello.txt"),
            ("curl", "-sS", "--http1.1", "--cacert", str(secure.certificate), f"{secure.url}/hello.txt"),
            ("redis-cli", "-p", str(store.port), "SET", "cart:17", "swordfish"),
            ("redis-cli", "-p", str(safe.port), "--tls", "--insecure", "--sni", "safe.test", "SET", "cart:17", "trout"),
            ("dig", "@127.0.0.1", "-p", str(names.port), "+short", "www.test"),
        ]
        answers = [
            subprocess.run([program(command[0], command[0]), *command[1:]], capture_output=True, text=True).stdout
            for command in commands
        ]
        wanted = set(ports.values())
        try:
            sink.wait(
                lambda spans: len([span for span in spans if span.get("server.port") in wanted]) >= EXPECTED_SPANS,
                LIMIT_S,
            )
        except AssertionError:
            # What is missing is for the test on the host to say; it sees what did come.
            print("not all spans came", file=sys.stderr)
        losses = {
            f"{sample.name}{sample.labels}": sample.value
            for sample in agent.metrics()
            if ("loss" in sample.name or "lost" in sample.name) and sample.value
        }
        return {
            "ready_s": agent.ready_s,
            "said": agent.said(),
            "answers": answers,
            "ports": ports,
            "losses": losses,
            "spans": [asdict(span) for span in sink.spans()],
        }


def refused() -> dict[str, str]:
    """Which objects with probes for processes of some runtimes, which need not run here, the kernel refuses."""
    source = LiveSource(CaptureSettings())
    try:
        source.start()
        assert source.runtimes is not None
        for kind in OBJECTS:
            source.runtimes.probes.loaded(kind)
        return {name: why for name, why in source.runtimes.probes.failures.items() if name in OBJECTS.values()}
    finally:
        source.close()


def main() -> None:
    found: dict[str, Any] = {"release": os.uname().release}
    try:
        prepare()
        found |= observe()
        found["refused"] = refused()
    except BaseException:
        # A guest has no other way to say what went wrong.
        found["error"] = traceback.format_exc()
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
