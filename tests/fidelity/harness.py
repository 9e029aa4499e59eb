"""Runs one row in one mode: backend, programs, agent, load; then counts."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tests.agent import Agent, running_agent
from tests.fidelity.row import PARALLEL, Row
from tests.fidelity.score import Score, score
from tests.fidelity.site import LOAD, PROGRAMS, PYTHON, Site
from tests.processes import scratch
from tests.sink import Sink
from tests.spans import SeenSpan

AGENT_FIRST = "agent-first"
APP_FIRST = "app-first"
SETTLE_S = 3.0
"""Of load before anything is measured: the agent is to find the processes and what runs in them."""
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Mode:
    """How a row is run. order: who is there first. calls: "seq" or "par". fast: a backend that answers at once."""

    order: str = AGENT_FIRST
    calls: str = "seq"
    fast: bool = False

    def __str__(self) -> str:
        return f"{self.order} {self.calls}{' fast' if self.fast else ''}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a row in a mode. error: why there is nothing else, "" if there is. said: what the agent said."""

    row: Row
    mode: Mode
    asked: int = 0
    done: int = 0
    scores: tuple[Score, ...] = ()
    error: str = ""
    errors: tuple[str, ...] = ()
    said: str = ""

    @property
    def judged(self) -> list[Score]:
        """Of the programs under test."""
        return [one for one in self.scores if one.clients_expected]

    @property
    def right(self) -> float:
        """Percent of all calls of all programs under test."""
        expected = sum(one.clients_expected for one in self.judged)
        return 100.0 * sum(one.right for one in self.judged) / expected if expected else 0.0

    @property
    def wrong(self) -> int:
        """Parents of calls and of requests, anywhere."""
        return sum(one.wrong + one.joins_wrong for one in self.scores)

    @property
    def duplicates(self) -> int:
        """Ends of an exchange that were told more than once."""
        return sum(one.duplicates for one in self.scores)

    @property
    def joins(self) -> tuple[int, int]:
        """Server spans below the call that they answer, and how many there should be."""
        return sum(one.joins_right for one in self.scores), sum(one.servers_expected for one in self.scores)


def run(row: Row, mode: Mode, seconds: float, *, rate: float | None = None, keep: Path | None = None) -> Outcome:
    """One run. seconds: of measured load. keep: a folder for the spans, the truth and what the programs said."""
    if lacking := row.lacking():
        return Outcome(row, mode, error="not here: " + "; ".join(lacking))
    try:
        row.build()
        with scratch() as folder, Sink() as sink, ExitStack() as stack:
            site = Site(folder, secrets.token_hex(2), fast=mode.fast)
            try:
                return _run(row, mode, seconds, site, sink, stack, rate or row.rate, keep)
            except AssertionError as error:
                logs = "".join(
                    f"\n{log.name}: {log.read_text(errors='replace')[-800:]}" for log in folder.glob("*.log")
                )
                return Outcome(row, mode, error=f"{error}{logs}")
    except (subprocess.CalledProcessError, OSError) as error:
        said = getattr(error, "stderr", b"") or b""
        return Outcome(row, mode, error=f"{error} {said.decode(errors='replace')[-1500:]}")


def _run(
    row: Row, mode: Mode, seconds: float, site: Site, sink: Sink, stack: ExitStack, rate: float, keep: Path | None
) -> Outcome:
    site.front()
    stack.enter_context(site.run_backend())
    if mode.order == AGENT_FIRST:
        # the ports of the chain's inner programs are not known yet, and the agent's file is read at its start only
        agent = stack.enter_context(_agent(site, sink, everything=True))
        stack.enter_context(row.start(site))
        load = stack.enter_context(_load(site, row, mode, rate))
    else:
        stack.enter_context(row.start(site))
        load = stack.enter_context(_load(site, row, mode, rate))
        time.sleep(1.0)
        agent = stack.enter_context(_agent(site, sink, everything=site.unfiltered))
    site.settle()
    site.adopt(LOAD, load.pid, judged=False)
    time.sleep(SETTLE_S)
    site.look()
    truth = _measure(load, seconds)
    site.look()
    time.sleep(1.0)
    health = agent.get("/metrics")[1]
    spans = _all_spans(sink, agent)
    done = truth["done"]
    scores = score(spans, site.hops, done, site.mark)
    if keep:
        _keep(keep / f"{row.name}-{mode}".replace(" ", "-"), site, spans, truth, agent.said() + health)
    return Outcome(
        row, mode, truth["asked"], len(done), tuple(scores.values()), errors=tuple(truth["errors"]), said=agent.said()
    )


@contextmanager
def _agent(site: Site, sink: Sink, *, everything: bool) -> Iterator[Agent]:
    """The real one. everything: it is not told which ports matter; else it leaves the rest of the host alone."""
    file = site.folder / "agent.yaml"
    ports = ",".join(str(port) for port in site.ports)
    file.write_text("{}\n" if everything else f'filter:\n  include:\n    - {{port: "{ports}"}}\n')
    with running_agent(sink.endpoint, "--config", str(file), "--no-redact") as agent:
        yield agent


@contextmanager
def _load(site: Site, row: Row, mode: Mode, rate: float) -> Iterator[subprocess.Popen[bytes]]:
    command = [PYTHON, str(PROGRAMS / "load.py"), "--port", str(site.front()), "--mark", site.mark]
    command += ["--rate", str(rate), "--connections", str(row.connections), "--least", str(row.least)]
    command += ["--most", str(row.most), "--parallel", str(int(mode.calls == PARALLEL))]
    with (site.folder / "load.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class _Truth(TypedDict):
    """What the load says at its end."""

    done: list[tuple[str, int]]
    asked: int
    failed: int
    errors: list[str]


def _measure(load: subprocess.Popen[bytes], seconds: float) -> _Truth:
    try:
        output, _ = load.communicate(f"measure {seconds}\n".encode(), seconds + PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise AssertionError("the load did not come to an end") from error
    if not output:
        raise AssertionError("the load said nothing")
    truth: _Truth = json.loads(output)
    return truth


def _all_spans(sink: Sink, agent: Agent) -> list[SeenSpan]:
    """What the agent has told when it has nothing left to tell: it flushes when it ends."""
    code = agent.stop()
    assert code == 0, f"the agent: exit code {code}\n{agent.said()[-2000:]}"
    return sink.spans()


def _keep(folder: Path, site: Site, spans: list[SeenSpan], truth: object, agent: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {pid for hop in site.hops.values() for pid in hop.pids}
    with (folder / "spans.jsonl").open("w") as file:
        for span in spans:
            if span.resource.get("process.pid") in wanted:
                parts = {
                    name: getattr(span, name) for name in ("name", "kind", "trace", "id", "parent", "start", "end")
                }
                parts |= {"links": span.links, "attributes": span.attributes, "pid": span.resource["process.pid"]}
                file.write(json.dumps(parts, default=str) + "\n")
    hops = {hop.name: {"pids": sorted(hop.pids), "caller": hop.caller} for hop in site.hops.values()}
    (folder / "truth.json").write_text(json.dumps({"truth": truth, "hops": hops}))
    (folder / "agent.log").write_text(agent)
    for log in site.folder.glob("*.log"):
        (folder / log.name).write_bytes(log.read_bytes())
