"""`otel-ebpf demo` as a user meets it: what it prints, what the agent makes of its shop, and what is left of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_ebpf.demo import folder, programs
from otel_ebpf.errors import ConfigError, UnsupportedError
from tests.agent import COMMAND, running_agent
from tests.processes import READY_S, descendants, end_process, free_port, scratch, wait_until
from tests.sink import Sink
from tests.spans import SeenSpan

SHOP = {
    "customers",
    "nginx",
    "shop",
    "inventory",
    "recommendations",
    "payment",
    "reports",
    "backoffice",
    "postgres",
    "redis-server",
}


class Demo:
    """A running demo. home: where its own folder is."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, home: Path) -> None:
        self.process = process
        self.home = home
        self._output = output

    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, pattern: str) -> str:
        """The first group of the pattern, as soon as it is in what the demo says."""
        end = time.monotonic() + 3 * READY_S
        while not (found := re.search(pattern, self.said())):
            assert self.process.poll() is None and time.monotonic() < end, f"never {pattern!r}:\n{self.said()}"
            time.sleep(0.05)
        return found[1] if found.groups() else found[0]

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(60)

    def folders(self) -> list[Path]:
        return list(self.home.glob(f"{folder.PREFIX}*"))


@contextmanager
def demo(home: Path, *arguments: str) -> Iterator[Demo]:
    """The real command, with its folder below `home`."""
    output = home / f"output-{time.monotonic_ns()}"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "demo", "--dir", home, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Demo(process, output, home)
    finally:
        end_process(process, signal.SIGINT)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that others can enter, as PostgreSQL must, which runs as somebody else."""
    with scratch() as path:
        yield path


def alive(pids: set[int]) -> set[int]:
    """Those that have not ended."""
    return {pid for pid in pids if _is_alive(pid)}


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def traces_of(spans: Sequence[SeenSpan]) -> dict[str, list[SeenSpan]]:
    """Spans by trace."""
    traces = defaultdict(list)
    for span in spans:
        traces[span.trace].append(span)
    return traces


def through(*services: str) -> Callable[[list[SeenSpan]], bool]:
    """Test of a trace: each of these services has a span in it."""
    return lambda trace: set(services) <= {span.service for span in trace}


def test_the_agent_makes_whole_traces_of_the_shop_and_ctrl_c_leaves_nothing(home: Path) -> None:
    with Sink() as sink, running_agent(sink.endpoint), demo(home, "--shop-only", "--rate", "10") as shop:
        shop.wait_for(r"shop: https://")

        def enough(spans: list[SeenSpan]) -> bool:
            payments = [span for span in spans if span.service == "payment" and span.kind == "server"]
            return len(payments) >= 3 and {span.service for span in spans} >= SHOP

        sink.wait(enough, 120)
        processes = descendants(shop.process.pid)
        assert len(processes) > 15
        assert shop.stop() == 0, shop.said()
        assert not alive(processes)
        assert not shop.folders()
        spans = [span for span in sink.spans() if span.service in SHOP]
    traces = [
        trace
        for trace in traces_of(spans).values()
        if any(span.service == "customers" and not span.parent for span in trace)
        and any(span.service == "nginx" and span.get("url.path") != "/static/logo.svg" for span in trace)
    ]
    whole = [trace for trace in traces if through("nginx", "shop")(trace) and len(trace) >= 6]
    assert len(whole) >= 0.75 * len(traces), f"{len(whole)} whole of {len(traces)}"
    assert any(map(through("customers", "nginx", "shop", "inventory", "recommendations", "postgres"), whole))
    assert any(map(through("customers", "nginx", "shop", "inventory", "payment", "redis-server"), whole))
    # Over TLS, so what nginx received was read inside its TLS library.
    received = [span for trace in whole for span in trace if span.service == "nginx" and span.kind == "server"]
    assert {span["url.scheme"] for span in received} == {"https"}
    slow = [span for span in spans if span.service == "reports" and span.get("http.route") == "/reports/sales"]
    assert max(span.seconds for span in slow) > 0.5
    assert not [span for span in spans if span.service == "redis-server" and span.status == "error"]


def test_the_page_shows_all_of_the_shop_and_the_first_whole_trace_is_told(home: Path) -> None:
    with demo(home, "--rate", "20", "--listen", f"127.0.0.1:{free_port()}") as shop:
        page = shop.wait_for(r"view +(http://\S+/)")
        spans = int(shop.wait_for(r"first whole trace +(\d+) spans, \d+ services +[\d.]+ s"))
        assert spans >= 5

        def answer(path: str) -> dict[str, list[dict[str, str]]]:
            with urllib.request.urlopen(f"{page}api/v1/{path}", timeout=30) as response:
                found: dict[str, list[dict[str, str]]] = json.load(response)
                return found

        window = urllib.parse.urlencode({"start": "-5m", "end": "now"})
        wait_until(lambda: {node["name"] for node in answer(f"map?{window}")["nodes"]} >= SHOP, "all on the map", 120)
        edges = {(edge["client"], edge["server"]) for edge in answer(f"map?{window}")["edges"]}
        assert {("customers", "nginx"), ("nginx", "shop"), ("recommendations", "inventory")} <= edges
        processes = descendants(shop.process.pid)
        assert shop.stop(signal.SIGTERM) == 0, shop.said()
        assert not alive(processes)
        assert not shop.folders()


def test_whoever_kills_it_ends_all_of_it_and_the_next_demo_sweeps(home: Path) -> None:
    with demo(home, "--shop-only") as shop:
        shop.wait_for(r"shop: https://")
        processes = descendants(shop.process.pid)
        shop.process.kill()
        shop.process.wait()
        wait_until(lambda: not alive(processes), "all processes of a killed demo have ended")
        (left,) = shop.folders()
    with demo(home, "--shop-only") as shop:
        shop.wait_for(r"shop: https://")
        assert left not in shop.folders()
        assert shop.stop() == 0


def test_ctrl_c_while_it_starts_is_no_error(home: Path) -> None:
    with demo(home, "--shop-only") as shop:
        shop.wait_for("redis")
        assert shop.stop() == 0, shop.said()
        assert not shop.folders()


def test_a_service_that_ends_is_told_and_the_shop_goes_on(home: Path) -> None:
    with demo(home, "--shop-only") as shop:
        shop.wait_for(r"shop: https://")
        processes = descendants(shop.process.pid)
        (master,) = [pid for pid in processes if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"nginx: master")]
        workers = descendants(master) - {master}
        os.kill(master, signal.SIGKILL)
        shop.wait_for(r"nginx has ended \(exit -9\): .*; the shop goes on without it")
        wait_until(lambda: not alive(workers), "nginx's workers, which were killed, have ended")
        assert shop.stop() == 0
        assert not alive(processes)


def test_the_folder_of_a_running_demo_is_not_swept(tmp_path: Path) -> None:
    with folder.scratch(tmp_path) as running:
        assert not folder.sweep(tmp_path)
        assert running.exists()
    (tmp_path / f"{folder.PREFIX}old").mkdir()
    assert folder.sweep(tmp_path) == [tmp_path / f"{folder.PREFIX}old"]


def test_what_is_missing_is_named_at_once_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("redis-server", "openssl", "node"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_POSTGRESQL", ())
    with pytest.raises(UnsupportedError) as failure:
        programs.find()
    assert str(failure.value) == (
        "demo: not installed: nginx, postgresql: `make demo` installs it, or "
        "`apt-get install --no-install-recommends nginx postgresql`"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0"], "--rate: 0 is not a number of requests a second from 0.1 to 1000"),
        (["--dir", "/no/such"], "--dir: '/no/such' is no folder that can be written: No such file or directory"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "otel_ebpf.cli", "demo", "--shop-only", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (ConfigError.exit_code, "", f"otel-ebpf: error: {message}\n")
