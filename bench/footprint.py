"""What the agent takes for itself, and how soon it tells: memory, start, and the time from a request to its span."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from bench.loads import FILE, SETTLE_S
from bench.processes import bpf_map_mb, compiled, rss_mb, slab_mb
from bench.table import Row, Spread
from tests.agent import running_agent
from tests.servers import Server, nginx
from tests.sink import Sink
from tests.spans import SeenSpan

STEADY_RATE = 5_000
MANY = 10_000


def rows(quick: bool) -> list[Row]:
    """All of them."""
    with nginx(files=FILE, connections=MANY * 5 // 4) as web:
        return [*_ready_rows(5), *_latency_rows(web, quick), *_map_rows(web), *_memory_rows(web, 60 if quick else 600)]


def _ready_rows(times: int) -> list[Row]:
    seconds = []
    with Sink() as sink:
        for _ in range(times):
            with running_agent(sink.endpoint) as agent:
                seconds.append(agent.ready_s)
    return [Row("exec to ready", Spread.of(seconds), " s", limit=1.5)]


def _load(web: Server, rate: int, connections: int, seconds: float) -> subprocess.Popen[bytes]:
    command = ["open", str(web.port), "/s.txt", str(rate), str(connections), str(seconds)]
    return subprocess.Popen([str(compiled("load")), *command], stdout=subprocess.DEVNULL)


def _latency_rows(web: Server, quick: bool) -> list[Row]:
    table = []
    for rate, seconds in ((1, 10 if quick else 60), (2_000, 5 if quick else 20)):
        with Sink() as sink, running_agent(sink.endpoint) as agent:
            time.sleep(SETTLE_S)
            with _load(web, rate, 16, seconds) as load:
                load.wait()
            assert load.returncode == 0
            enough = partial(_enough, web=web, count=2 * rate * seconds)
            waits = [(span.arrived - span.end) / 1e9 for span in _at(sink.wait(enough), web)]
            assert agent.process.poll() is None
        p50, p99 = np.quantile(waits, (0.5, 0.99)).tolist()
        detail: dict[str, object] = {"p50_s": p50, "spans": len(waits)}
        table.append(
            Row(f"request → span at the receiver, p99, {rate:,} rps", Spread.of([p99]), " s", 2, 1, detail=detail)
        )
    return table


def _enough(spans: Sequence[SeenSpan], web: Server, count: int) -> bool:
    return len(_at(spans, web)) >= count


def _at(spans: Sequence[SeenSpan], web: Server) -> list[SeenSpan]:
    served = web.pids()
    return [
        span
        for span in spans
        if (span.kind == "client" and span.get("network.peer.port") == web.port)
        or (span.kind == "server" and span.resource.get("process.pid") in served)
    ]


def _map_rows(web: Server) -> list[Row]:
    """Maps as the kernel accounts for them. That leaves out the state that lies with each socket: so added to it is how
    much more all kernel objects grew by the connections with an agent than without one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    many = min(MANY, hard - 100)
    growth: dict[bool, float] = {}
    maps: list[float] = []
    for on in (False, True):
        with Sink() as sink:
            if on:
                with running_agent(sink.endpoint) as agent:
                    time.sleep(SETTLE_S)
                    maps.append(bpf_map_mb(agent.pid))
                    growth[on] = _slab_growth(web, many)
                    maps.append(bpf_map_mb(agent.pid))
            else:
                growth[on] = _slab_growth(web, many)
    with_connections = maps[1] + max(0.0, growth[True] - growth[False])
    detail: dict[str, object] = {"maps_mb": maps[1], "slab_off_mb": growth[False], "slab_on_mb": growth[True]}
    return [
        Row("BPF maps at start", Spread.of([maps[0]]), " MB", 1, 32),
        Row(f"BPF maps with {many:,} open connections", Spread.of([with_connections]), " MB", 1, 48, detail=detail),
    ]


def _slab_growth(web: Server, many: int) -> float:
    """MB that live kernel objects have grown by when `many` connections are open and each has had its requests."""
    before = slab_mb()
    samples = []
    with _load(web, STEADY_RATE, many, 4 * many / STEADY_RATE) as load:
        while load.poll() is None:
            samples.append(slab_mb())
            time.sleep(0.1)
    assert load.returncode == 0
    time.sleep(SETTLE_S)
    return float(np.median(samples[len(samples) * 3 // 4 :])) - before


def _memory_rows(web: Server, seconds: int) -> list[Row]:
    """RSS over time at a steady rate: its last value, and how much it grew after the first fifth."""
    with Sink() as sink, running_agent(sink.endpoint, signals="traces,metrics") as agent:
        samples = []
        with _load(web, STEADY_RATE, 16, seconds) as load:
            while load.poll() is None:
                time.sleep(1)
                sink.tally()
                samples.append(rss_mb(agent.pid))
        assert load.returncode == 0
    later = samples[len(samples) // 5 :]
    # A straight line through it: peaks of a moment are not growth.
    slope = float(np.polyfit(np.arange(len(later)), later, 1)[0]) * len(later)
    detail: dict[str, object] = {"samples_mb": samples[:: max(1, len(samples) // 60)]}
    minutes = f"{seconds // 60} min at {STEADY_RATE:,} rps"
    return [
        Row(f"agent's RSS after {minutes}", Spread.of([samples[-1]]), " MB", 1, 80, detail=detail),
        Row(f"its growth over the last four fifths of {minutes}", Spread.of([slope]), " MB", 1, 2),
    ]
