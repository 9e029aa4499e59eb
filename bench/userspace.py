"""What user space takes from ring bytes to OTLP bytes: parsing, attributes, parents, metrics, two spans an exchange.

CPU time over whole batches as they come out of the rings, without the network. The better half of several batches, each
with URLs of its own: interference only ever slows.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from bench.records import KINDS, make
from bench.table import Row, Spread
from otel_ebpf import heap
from otel_ebpf.capture.live import Drain
from otel_ebpf.config import load
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.otlp.framing import Message
from otel_ebpf.pipeline import Pipeline
from tests.processes import program

LIMITS_US = dict(zip(KINDS, (1.5, 2.5, 5.0), strict=True))
EXCHANGES = 10_000
LABELS = {"few": "100 URLs", "uniq": "all different, 2 routes", "wild": "all different, 300 routes"}


class Offline:
    """The agent's stages without kernel and network. keys: more of the configuration, as `load` takes flags.

    size: bytes of OTLP that came out.
    """

    def __init__(self, connection: np.dtype[np.void], keys: Mapping[str, tuple[str, str]] | None = None) -> None:
        # An endpoint makes the stages encode; nothing is ever sent there.
        flags = {"otlp.endpoint": ("http://127.0.0.1:4318", "benchmark"), "signals": ("traces,metrics", "benchmark")}
        self.size = 0
        self.stages = Pipeline(load(flags={**flags, **(keys or {})}), connection, self._take)

    def _take(self, _signal: str, message: Message) -> None:
        self.size += len(message.data)

    def run(self, drain: Drain) -> float:
        """CPU seconds for a whole batch, until nothing of it is held."""
        began = time.process_time()
        self.stages.process(drain, drain.swept)
        self.stages.finish()
        return time.process_time() - began


def rows(quick: bool) -> list[Row]:
    """µs per exchange for each set."""
    btf = Btf.of_object(object_path("requests"))
    heap.keep_freed()  # as the agent does
    with bystander() as served, bystander() as sent:
        return [_row(kind, btf, (served, sent), 5 if quick else 15) for kind in KINDS]


@contextmanager
def bystander() -> Iterator[int]:
    """The pid of a process that does nothing: the agent never observes itself, so the records are of others."""
    with subprocess.Popen([program("sleep", "coreutils"), "infinity"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def _row(kind: str, btf: Btf, processes: tuple[int, int], batches: int) -> Row:
    offline = Offline(btf.dtype("connection"))
    spent = []
    for batch in range(batches):
        drain = make(kind, EXCHANGES, btf, processes, batch)
        spent.append(offline.run(drain) / EXCHANGES * 1e6)
    kept = sorted(spent[1:])[: max(1, len(spent) // 2)]
    counts = offline.stages.counts
    assert counts["exported"] == 2 * EXCHANGES * len(spent), counts
    size = offline.size / EXCHANGES / len(spent)
    stages = {name: total / EXCHANGES / len(spent) * 1e6 for name, total in offline.stages.stages.seconds.items()}
    detail: dict[str, object] = {"otlp_bytes_per_exchange": size, "all_us": spent, "stages_us": stages}
    return Row(f"ring bytes → OTLP bytes: {LABELS[kind]}", Spread.of(kept), " µs", limit=LIMITS_US[kind], detail=detail)
