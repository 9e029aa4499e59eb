"""`otel-ebpf run` with nowhere to export to: it serves its own page, and neither depends on the other for its life."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent import COMMAND
from tests.e2e.test_demo import alive
from tests.processes import READY_S, descendants, end_process, free_port, program, wait_until
from tests.servers import nginx
from tests.viewer import viewer

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
WINDOW = urllib.parse.urlencode({"start": "-10m", "end": "now"})


class Run:
    """A running `otel-ebpf run`."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.lines = folder / "stdout"
        self._stderr = folder / "stderr"

    def said(self) -> str:
        return self._stderr.read_text(errors="replace")

    def wait_for(self, pattern: str) -> str:
        """The first group of the pattern (or all of it), as soon as it stands in what it says on stderr."""
        end = time.monotonic() + READY_S
        while not (found := re.search(pattern, self.said(), re.MULTILINE)):
            assert self.process.poll() is None and time.monotonic() < end, f"never {pattern!r}:\n{self.said()}"
            time.sleep(0.02)
        return found[1] if found.groups() else found[0]

    @property
    def viewer(self) -> int:
        """Process id of its viewer."""
        (pid,) = descendants(self.process.pid) - {self.process.pid}
        return pid

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def run(folder: Path, *arguments: str) -> Iterator[Run]:
    """The command as a user gives it, but for the places of its page and store; ready."""
    command = [str(COMMAND), "run", "--admin-address", "none", "--set", f"viewer.store={folder / 'store'}"]
    command += ["--set", f"viewer.listen=127.0.0.1:{free_port()}", *arguments]
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=CLEAN, start_new_session=True
        )
    try:
        running = Run(process, folder)
        running.wait_for(r"^ready$")
        yield running
    finally:
        end_process(process, signal.SIGINT)


def curl(url: str) -> None:
    subprocess.run(["curl", "-sf", "-o", os.devnull, url], check=True)


def names(page: str, kind: str = "nodes") -> set[str]:
    """What is on the map."""
    with urllib.request.urlopen(f"{page}api/v1/map?{WINDOW}", timeout=30) as response:
        return {str(entry["name"]) for entry in json.load(response)[kind]}


def test_what_is_observed_is_on_the_page_and_in_the_live_lines_and_the_page_is_not(tmp_path: Path) -> None:
    with nginx() as web, run(tmp_path) as agent:
        page = agent.wait_for(r"^view: (http://127\.0\.0\.1:\d+/)$")
        shutil.copy(program("curl", "curl"), tmp_path / "browser")
        for _ in range(3):
            subprocess.run([tmp_path / "browser", "-s", "-o", os.devnull, f"{page}only-a-browser-asks"], check=True)
        curl(f"{web.url}/hello.txt")
        wait_until(lambda: "nginx" in names(page), "nginx on the map")
        wait_until(lambda: "GET /hello.txt" in agent.lines.read_text(), "the exchange in the live lines")
        assert "browser" not in names(page)
        assert "only-a-browser-asks" not in agent.lines.read_text()
        assert agent.stop() == 0, agent.said()


def test_what_came_right_before_the_end_is_in_the_store(tmp_path: Path) -> None:
    with nginx() as web, run(tmp_path) as agent:
        child = agent.viewer
        curl(f"{web.url}/hello.txt")
        wait_until(lambda: "GET /hello.txt" in agent.lines.read_text(), "the exchange in the live lines")
        assert agent.stop() == 0, agent.said()
        assert not alive({child})
    with viewer(tmp_path / "store") as again:
        again.wait(f"/api/v1/traces?{WINDOW}&service=nginx", lambda answer: answer["traces"])


def test_whoever_kills_the_agent_ends_its_viewer(tmp_path: Path) -> None:
    with run(tmp_path) as agent:
        child = agent.viewer
        agent.process.kill()
        agent.process.wait()
        wait_until(lambda: not alive({child}), "the viewer of a killed agent has ended")


def test_without_its_viewer_the_agent_goes_on_and_says_so(tmp_path: Path) -> None:
    with nginx() as web, run(tmp_path) as agent:
        os.kill(agent.viewer, signal.SIGKILL)
        agent.wait_for(r"^otel-ebpf: the viewer has ended \(exit -9\): what is observed is shown here only$")
        curl(f"{web.url}/hello.txt")
        wait_until(lambda: "GET /hello.txt" in agent.lines.read_text(), "the exchange in the live lines")
        assert agent.stop() == 0, agent.said()
        assert "Traceback" not in agent.said()


def test_a_store_that_another_viewer_has_is_one_line_and_the_live_lines_go_on(tmp_path: Path) -> None:
    with viewer(tmp_path / "store"), nginx() as web, run(tmp_path) as agent:
        why = agent.wait_for(r"^otel-ebpf: no viewer: (.*); the live lines go on without$")
        assert str(tmp_path / "store") in why
        assert "view:" not in agent.said()
        curl(f"{web.url}/hello.txt")
        wait_until(lambda: "GET /hello.txt" in agent.lines.read_text(), "the exchange in the live lines")
        assert agent.stop() == 0


def test_a_port_that_is_taken_is_not_the_pages(tmp_path: Path) -> None:
    with nginx() as web, run(tmp_path, "--set", f"viewer.listen=127.0.0.1:{web.port}") as agent:
        page = agent.wait_for(r"^view: (\S+)$")
        assert urllib.parse.urlsplit(page).port != web.port
        assert names(page) is not None


@pytest.mark.parametrize("arguments", [["--no-viewer"], ["--output", "none"]])
def test_no_viewer_where_none_is_wanted(tmp_path: Path, arguments: list[str]) -> None:
    with run(tmp_path, *arguments) as agent:
        assert descendants(agent.process.pid) == {agent.process.pid}


def test_the_live_view_begins_with_the_pages_address(tmp_path: Path) -> None:
    """On a terminal; Ctrl-C there reaches the agent alone, which ends its viewer when it has flushed."""
    listen = f"127.0.0.1:{free_port()}"
    child, terminal = pty.fork()
    if child == 0:
        keys = [f"viewer.store={tmp_path}", f"viewer.listen={listen}", "admin.address=none"]
        command = [str(COMMAND), "run", *(part for key in keys for part in ("--set", key))]
        os.execve(command[0], command, {**CLEAN, "TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    shown = _read_until(terminal, rb"\x1b\[\?1049h.*view: http://" + listen.encode() + rb"/.*SERVICE")
    os.write(terminal, b"\x03")
    shown += _read_until(terminal, None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown[-2000:]


def _read_until(terminal: int, pattern: bytes | None) -> bytes:
    """What a terminal shows, until the pattern is in it (None: until nobody writes to it)."""
    shown, end = b"", time.monotonic() + READY_S
    while pattern is None or not re.search(pattern, shown, re.DOTALL):
        assert time.monotonic() < end, shown[-2000:]
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                some = os.read(terminal, 1 << 16)
            except OSError:  # EIO: all of the other side is closed
                some = b""
            if not some:
                assert pattern is None, shown[-2000:]
                return shown
            shown += some
    return shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--viewer", "--otlp-endpoint", "http://127.0.0.1:4318"],
            "viewer.enabled: 'always' is not possible while something is exported; expected auto or never "
            "(flag --viewer)",
        ),
        (
            ["--set", "viewer.listen=none"],
            "viewer.listen: 'none' is not an address; for no viewer: --no-viewer (flag --set)",
        ),
        (
            ["--set", "viewer.keep=1s"],
            "viewer.keep: '1s' is not a time from 1m to 8784h like '250ms', '10s' or '5m' (flag --set)",
        ),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "otel_ebpf.cli", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=CLEAN)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"otel-ebpf: error: {message}\n")
