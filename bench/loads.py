"""What a running agent costs everybody: CPU of servers, load and agent per request, with the agent and without.

Rounds of (off, on) or (on, off) are interleaved, and a round's ratio is of its own two halves: CPU per request is what
stays stable on a busy machine, throughput and percentiles do not. An agent lives for one half and exports to a sink,
whose CPU is not counted. Every request that was sent must come out as two spans, or be counted as lost.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import attrgetter

from bench.processes import children_cpu_seconds, compiled, cpu_seconds
from bench.table import Row, Spread
from tests.agent import Agent, running_agent
from tests.processes import program
from tests.servers import Server, nginx, redis
from tests.sink import Sink

FILE = {"s.txt": b"x" * 200}
RATE, CONNECTIONS = 2_000, 16
SETTLE_S = 1.0
EXPORT_S = 20.0
"""How long the last spans of a load may take to arrive before they count as missing."""
LOSSES = "otel_ebpf_losses_total"
NOT_A_SPAN = frozenset({"payload_fault", "late_amendment"})
"""Reasons that cost a span something, but not the span."""


@dataclass(frozen=True, slots=True)
class Done:
    """A load that ended: pid of its program, and how many requests it saw answered."""

    pid: int
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """A kind of traffic: its server, and how to run it for about so many seconds. limit: of CPU on ÷ off.

    in_flight: requests that may have been sent but not counted when the program stops.
    """

    name: str
    server: Server
    run: Callable[[float], Done]
    limit: float | None
    in_flight: int = 0


@dataclass(slots=True)
class Half:
    """One load with or without the agent. Times in CPU seconds."""

    done: Done
    cpu: float
    agent_cpu: float = 0.0
    inbound: int = 0
    outbound: int = 0
    lost: float = 0.0

    @property
    def per_request_us(self) -> float:
        return self.cpu / self.done.requests * 1e6


@dataclass(slots=True)
class Round:
    off: Half
    on: Half


@contextmanager
def servers() -> Iterator[tuple[Server, Server]]:
    """nginx and redis, as all loads use them."""
    with ExitStack() as stack:
        yield stack.enter_context(nginx(files=FILE)), stack.enter_context(redis())


def _run(*command: str) -> tuple[int, str]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}"
    return process.pid, output


def http_load(web: Server, *mode: object) -> Callable[[float], Done]:
    """bench/load.c: ("open", RATE, CONNECTIONS) or ("once", IN_FLIGHT)."""

    def run(seconds: float) -> Done:
        kind, *numbers = map(str, mode)
        pid, output = _run(str(compiled("load")), kind, str(web.port), "/s.txt", *numbers, str(seconds))
        said = json.loads(output)
        assert not said["errors"], said
        return Done(pid, said["requests"], said["seconds"])

    return run


def _wrk(web: Server) -> Callable[[float], Done]:
    def run(seconds: float) -> Done:
        url = f"http://127.0.0.1:{web.port}/s.txt"
        pid, output = _run(program("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", url)
        assert "Non-2xx" not in output, output
        assert "Socket errors" not in output, output
        found = re.search(r"(\d+) requests in ([\d.]+)s", output)
        assert found, output
        return Done(pid, int(found[1]), float(found[2]))

    return run


def redis_load(store: Server, *options: str) -> Callable[[float], Done]:
    """redis-benchmark GET. It takes a number of requests: found by a short run first."""
    command = [program("redis-benchmark", "redis-tools"), "-p", str(store.port), "-t", "get", "-c", str(CONNECTIONS)]
    rate = 0.0

    def run(seconds: float) -> Done:
        nonlocal rate
        if not rate:
            trial = time.monotonic()
            _run(*command, *options, "-q", "-n", "50000")
            rate = 50_000 / (time.monotonic() - trial)
        requests = int(rate * seconds)
        begin = time.monotonic()
        pid, _ = _run(*command, *options, "-q", "-n", str(requests))
        return Done(pid, requests, time.monotonic() - begin)

    return run


def measure(load: Load, seconds: float, agent: Agent | None, sink: Sink) -> Half:
    """One load with everybody's CPU; with an agent, also what it saw and lost."""
    pids = load.server.pids()
    lost_before = lost(agent) if agent else 0.0
    agent_before = cpu_seconds([agent.pid]) if agent else 0.0
    before = cpu_seconds(pids) + children_cpu_seconds()
    done = load.run(seconds)
    half = Half(done, cpu_seconds(pids) + children_cpu_seconds() - before)
    if agent:
        _collect(half, pids, sink)
        # Also what it still had to do after the load.
        half.agent_cpu = cpu_seconds([agent.pid]) - agent_before
        half.lost = lost(agent) - lost_before
        half.cpu += half.agent_cpu
    return half


def _collect(half: Half, server_pids: set[int], sink: Sink) -> None:
    """Wait until all spans of the load have come, or none has for a while."""
    end = time.monotonic() + EXPORT_S
    while time.monotonic() < end and min(half.inbound, half.outbound) < half.done.requests:
        time.sleep(0.25)
        for (kind, pid), count in sink.tally().items():
            half.inbound += count if kind == "server" and pid in server_pids else 0
            half.outbound += count if kind == "client" and pid == half.done.pid else 0


def lost(agent: Agent) -> float:
    """Spans that the agent says it lost, whatever the reason."""
    losses = [sample for sample in agent.metrics() if sample.name == LOSSES]
    return sum(
        sample.value
        for sample in losses
        if sample.labels["otel_ebpf_reason"] not in NOT_A_SPAN
        and sample.labels["otel_ebpf_where"] not in ("export.metrics", "export.logs", "output", "attributes")
    )


def compare(loads: Sequence[Load], rounds: int, seconds: float) -> dict[str, list[Round]]:
    """All loads, with and without an agent, interleaved."""
    found: dict[str, list[Round]] = {load.name: [] for load in loads}
    with Sink() as sink:
        for load in loads:
            load.run(min(1.0, seconds))
        for number in range(rounds):
            halves: dict[bool, list[Half]] = {}
            for on in (False, True) if number % 2 else (True, False):
                if on:
                    with running_agent(sink.endpoint, signals="traces,metrics") as agent:
                        time.sleep(SETTLE_S)
                        sink.tally()
                        halves[on] = [measure(load, seconds, agent, sink) for load in loads]
                else:
                    halves[on] = [measure(load, seconds, None, sink) for load in loads]
            for load, off_half, on_half in zip(loads, halves[False], halves[True], strict=True):
                found[load.name].append(Round(off_half, on_half))
    return found


def rows(quick: bool) -> list[Row]:
    """CPU on ÷ off of the four loads, agent's CPU at 2,000 rps, coverage, and pipelined Redis."""
    rounds, seconds = (2, 2.0) if quick else (7, 5.0)
    with servers() as (web, store):
        once, open_loop = http_load(web, "once", CONNECTIONS), http_load(web, "open", RATE, CONNECTIONS)
        loads = [
            Load("nginx saturated", web, _wrk(web), 1.15, CONNECTIONS),
            Load("redis GET saturated", store, redis_load(store), 1.12, 2 * CONNECTIONS),
            Load(f"nginx {RATE:,} rps", web, open_loop, 1.12),
            Load("nginx, connection per request", web, once, 1.20),
        ]
        pipelined = Load("redis GET -P 16", store, redis_load(store, "-P", "16"), None, 32 * CONNECTIONS)
        found = compare([*loads, pipelined], rounds, seconds)
    table = [_cpu_row(load, found[load.name]) for load in loads]
    table.append(_agent_row(found[loads[2].name]))
    for load in loads:
        table += _coverage_rows(load, found[load.name])
    return [*table, *_pipelined_rows(pipelined, found[pipelined.name])]


def _detail(rounds: Sequence[Round]) -> dict[str, object]:
    return {
        "rounds": [
            {
                "off_us": round_.off.per_request_us,
                "on_us": round_.on.per_request_us,
                "agent_us": round_.on.agent_cpu / round_.on.done.requests * 1e6,
                "requests": round_.on.done.requests,
                "inbound": round_.on.inbound,
                "outbound": round_.on.outbound,
                "lost": round_.on.lost,
            }
            for round_ in rounds
        ]
    }


def _cpu_row(load: Load, rounds: Sequence[Round]) -> Row:
    ratios = [round_.on.per_request_us / round_.off.per_request_us for round_ in rounds]
    return Row(
        f"CPU per request on ÷ off: {load.name}", Spread.of(ratios), "", limit=load.limit, detail=_detail(rounds)
    )


def _agent_row(rounds: Sequence[Round]) -> Row:
    percent = [100 * round_.on.agent_cpu / round_.on.done.seconds for round_ in rounds]
    return Row(f"agent's CPU at {RATE:,} rps, of a core", Spread.of(percent), " %", limit=2)


def _coverage_rows(load: Load, rounds: Sequence[Round]) -> list[Row]:
    inbound, outbound = (
        Spread.of([100 * seen(round_.on) / round_.on.done.requests for round_ in rounds])
        for seen in (attrgetter("inbound"), attrgetter("outbound"))
    )
    # What was neither seen nor counted as lost, or was seen twice; two ends a request.
    unexplained = []
    for on in (round_.on for round_ in rounds):
        over = on.inbound + on.outbound + on.lost - 2 * on.done.requests
        unexplained.append(-over if over < 0 else max(0.0, over - 2 * load.in_flight))
    return [
        Row(f"inbound seen: {load.name}", inbound, " %", limit=100, at_least=True),
        Row(f"outbound seen: {load.name}", outbound, " %", limit=100, at_least=True),
        Row(f"ends neither seen nor counted as lost: {load.name}", Spread.of(unexplained), "", digits=0, limit=0),
    ]


def _pipelined_rows(load: Load, rounds: Sequence[Round]) -> list[Row]:
    spans = Spread.of([round_.on.inbound / round_.on.done.requests for round_ in rounds])
    rates = [
        (round_.on.done.requests / round_.on.done.seconds) / (round_.off.done.requests / round_.off.done.seconds)
        for round_ in rounds
    ]
    return [
        Row(f"{load.name}: spans per command", spans, "", limit=1, at_least=True, detail=_detail(rounds)),
        Row(f"{load.name}: throughput on ÷ off", Spread.of(rates), "", limit=0.85, at_least=True),
    ]
