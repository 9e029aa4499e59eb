"""The agent's own life: start, stop, sudden death (issue acceptance 7)."""

from __future__ import annotations

import json
import signal
import subprocess
import threading

from tests.agent import COMMAND, Agent, running_agent
from tests.e2e.pairs import both_ends, ends, run
from tests.processes import program, wait_until
from tests.servers import nginx
from tests.sink import Sink


def _bpf_ids(kind: str) -> set[int]:
    """Ids of all BPF programs, maps or links that the kernel has at this moment."""
    done = subprocess.run(
        [program("bpftool", "bpftool"), "-j", kind, "show"], capture_output=True, text=True, check=True
    )
    return {item["id"] for item in json.loads(done.stdout or "[]")}


def test_kill_9_at_full_load_leaves_nothing_behind_and_harms_nobody(sink: Sink) -> None:
    kinds = ("prog", "map", "link")
    before = {kind: _bpf_ids(kind) for kind in kinds}
    with nginx() as web:
        report: list[str] = []
        load = threading.Thread(
            target=lambda: report.append(run("wrk", "-t1", "-c16", "-d6s", f"{web.url}/hello.txt")), name="load"
        )
        with running_agent(sink.endpoint) as agent:
            load.start()
            sink.wait(both_ends(web, 1000))
            attached = _bpf_ids("prog") - before["prog"]
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()
            assert attached
            for kind in kinds:
                # The kernel frees them a moment after the last descriptor is gone.
                wait_until(lambda kind=kind: not (_bpf_ids(kind) - before[kind]), f"no BPF {kind} left", 10)  # type: ignore[misc]
        load.join()
        assert "Non-2xx" not in report[0], report[0]
        assert "Socket errors" not in report[0], report[0]

        sink.clear()
        with running_agent(sink.endpoint):
            assert run("curl", "-s", f"{web.url}/hello.txt") == "hello\n"
            client, server = ends(sink.wait(both_ends(web)), web)
        assert server.parent == client.id


def test_what_was_seen_before_sigterm_is_exported(sink: Sink) -> None:
    with nginx() as web:
        with running_agent(sink.endpoint) as agent:
            run("curl", "-s", f"{web.url}/hello.txt")
            assert agent.stop() == 0
        ends(sink.spans(), web)


def test_the_admin_address_says_that_it_is_ready_and_what_it_lost(agent: Agent, sink: Sink) -> None:
    with nginx() as web:
        run("curl", "-s", f"{web.url}/hello.txt")
        sink.wait(both_ends(web))
    assert agent.get("/readyz")[0] == 200
    assert agent.get("/healthz")[0] == 200
    names = {sample.name for sample in agent.metrics()}
    assert [name for name in names if "exchanges" in name]
    assert [name for name in names if "loss" in name or "lost" in name]


def test_who_lacks_the_rights_gets_one_line_and_exit_code_1() -> None:
    # All capabilities are dropped, the user is kept: the interpreter may lie in a folder that only root can enter.
    command = [program("setpriv", "util-linux"), "--bounding-set=-all", "--inh-caps=-all", str(COMMAND), "run"]
    done = subprocess.run([*command, "--output", "none"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
