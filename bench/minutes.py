"""From `git clone` to a live map in a browser, and what that costs afterwards: agent and viewer beside an idle shop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.processes import cpu_seconds, rss_mb
from bench.table import Row, Spread
from tests.browser import browser
from tests.processes import descendants, end_process, free_port, wait_until

ROOT = Path(__file__).resolve().parents[1]
SETTLE_S = 15


def rows(quick: bool) -> list[Row]:
    """All of them."""
    table = _clone_row(cached=True)
    if not quick:
        table += _clone_row(cached=False)
    return [*table, *_idle_rows(20 if quick else 60)]


def _clone_row(*, cached: bool) -> list[Row]:
    """Seconds of each stage; system packages are there already, as their package manager's cache cannot be emptied."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if not cached:
            environment |= {"PIP_NO_CACHE_DIR": "1", "npm_config_cache": str(folder / "npm")}
        stages: dict[str, float] = {}
        began = time.monotonic()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
        stages["clone"] = time.monotonic() - began
        _setup(folder / "clone", environment, stages)
        page_at = f"127.0.0.1:{free_port()}"
        command = [".venv/bin/otel-ebpf", "demo", "--listen", page_at]
        mark = time.monotonic()
        with (folder / "log").open("wb") as log:
            demo = subprocess.Popen(command, cwd=folder / "clone", stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: b"first whole trace" in (folder / "log").read_bytes(), "the demo's first trace", 120)
            stages["demo: first trace"] = time.monotonic() - mark
            mark = time.monotonic()
            with browser() as page:
                page.goto(f"http://{page_at}/map")
                wait_until(lambda: bool(re.search(r"[1-9]\d* nodes", page.inner_text("body"))), "the map", 60)
            stages["browser: map"] = time.monotonic() - mark
            total = time.monotonic() - began
        finally:
            end_process(demo)
        assert demo.returncode == 0, (folder / "log").read_text()[-1000:]
    for stage, seconds in stages.items():
        print(f"\n    {seconds:6.1f} s  {stage}", end="", file=sys.stderr)
    what = f"clone → live map in a browser, packages {'cached' if cached else 'not cached (system packages are there)'}"
    return [Row(what, Spread.of([total]), " s", 1, 60 if cached else 300, detail=dict(stages))]


def _setup(clone: Path, environment: dict[str, str], stages: dict[str, float]) -> None:
    """What `make demo` needs; a line that begins with ==> begins a stage."""
    command = ["make", "setup", ".venv/.installed-demo"]
    with subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stage, mark = "make", time.monotonic()
        for line in process.stdout:
            if found := re.match(r"==> (.{1,60})", line):
                stages[stage] = stages.get(stage, 0.0) + time.monotonic() - mark
                stage, mark = f"make: {found[1]}", time.monotonic()
        stages[stage] = stages.get(stage, 0.0) + time.monotonic() - mark
    assert process.returncode == 0, "make failed"


def _idle_rows(seconds: int) -> list[Row]:
    """The shop stands still: what agent and viewer use meanwhile, a page with the live map open or not."""
    page_at = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "otel_ebpf.cli", "demo", "--listen", page_at, "--rate", "0.1"]
    table = []
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        demo = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        try:
            wait_until(lambda: b"first whole trace" in (Path(folder) / "log").read_bytes(), "the first trace", 120)
            time.sleep(SETTLE_S)
            ours = {name: _pid(demo.pid, name) for name in ("run", "view")}
            before, began = cpu_seconds(ours.values()), time.monotonic()
            time.sleep(seconds)
            share = (cpu_seconds(ours.values()) - before) / (time.monotonic() - began) * 100
            table.append(Row("agent and viewer beside the idle demo: CPU", Spread.of([share]), " % of a core", 2, 5))
            for name, pid in ours.items():
                table.append(Row(f"otel-ebpf {name} then: memory", Spread.of([rss_mb(pid)]), " MB", 0))
        finally:
            end_process(demo)
    return table


def _pid(root: int, name: str) -> int:
    """The process of `otel-ebpf NAME` below `root`."""
    for pid in sorted(descendants(root)):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if name.encode() in words[:5] and any(b"otel" in word for word in words[:4]):
            return pid
    raise AssertionError(f"no otel-ebpf {name} below {root}")
