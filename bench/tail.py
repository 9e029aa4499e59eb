"""What keep-tail sampling costs: µs of CPU per span in a steady state, and of the whole way from ring bytes to OTLP.

Steady: traces of six spans come every 100 ms, of 300 routes, one in a hundred with an error; each is held for a second
after its root, and one in ten of the rest is kept. That is `take` and `decide`, with the copy of what is kept.
Whole: the batches of `userspace`, with and without it in the same run, each as often, in turns.
"""

from __future__ import annotations

import time

import numpy as np

from bench.records import make
from bench.table import Row, Spread
from bench.userspace import EXCHANGES, Offline, bystander
from otel_ebpf import heap
from otel_ebpf.combinations import Combinations
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Intern, Kind, Resource, Spans
from otel_ebpf.protocols.base import Fields, Side
from otel_ebpf.tracing.tail import Tail

MS = 10**6
SPANS, ROUTES, TEXT = 6, 300, 60
SIZES = (60, 600, 6_000)
KEYS = {"sampling.tail.enabled": ("true", "benchmark"), "sampling.tail.ratio": ("0.1", "benchmark")}


def rows(quick: bool) -> list[Row]:
    """µs per span of the sampling alone, by size of the turn; and with against without."""
    heap.keep_freed()  # as the agent does
    btf = Btf.of_object(object_path("requests"))
    found = [_steady(size, 60 if quick else 200) for size in SIZES]
    with bystander() as served, bystander() as sent:
        found.append(_whole(btf, (served, sent), 6 if quick else 16))
    return found


def _steady(spans_per_turn: int, turns: int) -> Row:
    shapes, resources = Intern[Fields](1000), Intern[Resource](100)
    for route in range(ROUTES):
        for error in (False, True):
            side = Side(f"GET /{route}", (), (), error)
            shapes.id(Fields("http", side, side))
    for service in range(3):
        resources.id(Resource(f"service-{service}", ()))
    tail = Tail(shapes, resources, slowest=1.0, ratio=0.1, budget=0, wait_ns=10**10, limit=200_000)
    random = np.random.default_rng(1)
    spent, kept = [], 0
    for turn in range(turns):
        spans = _traces(max(1, spans_per_turn // SPANS), random)
        found, roots = Combinations.among(spans), spans.parent == 0
        sampled, now = np.ones(len(spans), np.bool_), 10**12 + turn * 100 * MS
        began = time.process_time()
        tail.take(spans, found, roots, sampled, None, now)
        kept += sum(map(len, tail.decide(now)))
        if turn >= 20:  # before, nothing is decided yet, and routes are new
            spent.append((time.process_time() - began) / len(spans) * 1e6)
    decided = sum(tail.spans.values())
    assert decided + tail.held == turns * (spans_per_turn // SPANS) * SPANS
    assert 0.05 < kept / decided < 0.25, tail.spans
    what = f"keep-tail sampling: a span, {spans_per_turn:,} a turn"
    return Row(what, Spread.of(spent), " µs", detail={"held": tail.held, "kept": kept, "outcomes": str(tail.traces)})


def _traces(count: int, random: np.random.Generator) -> Spans:
    """Traces of three services, both ends of three hops."""
    spans = Spans.empty(SPANS * count)
    trace = np.repeat(np.arange(count), SPANS)
    hop = np.tile(np.arange(SPANS), count)
    spans.trace = random.integers(1, 2**63, (count, 2), np.uint64)[trace]
    spans.span_id = random.integers(1, 2**63, len(spans), np.uint64)
    spans.parent = np.where(hop == 0, np.uint64(0), np.roll(spans.span_id, 1))
    spans.kind = np.where(hop % 2, Kind.SERVER, Kind.CLIENT).astype(np.uint8)
    error = (random.random(count) < 0.01)[trace] & (hop == SPANS - 1)
    spans.shape = (2 * random.integers(0, ROUTES, count)[trace] + error).astype(np.int32)
    spans.resource = (hop // 2).astype(np.int32)
    spans.end = spans.start + (random.lognormal(1, 1, count) * MS).astype(np.uint64)[trace]
    spans.slot_length[:, 0] = TEXT
    spans.slot_start[:, 0] = np.arange(len(spans)) * TEXT
    spans.text = np.full(len(spans) * TEXT, ord("x"), np.uint8)
    return spans


def _whole(btf: Btf, processes: tuple[int, int], batches: int) -> Row:
    """The better half of both, as in `userspace`: interference only ever slows."""
    ways = {"without": Offline(btf.dtype("connection")), "with": Offline(btf.dtype("connection"), KEYS)}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for batch in range(batches):
        for name, offline in ways.items():
            spent[name].append(offline.run(make("few", EXCHANGES, btf, processes, batch)) / EXCHANGES * 1e6)
    better = {name: sorted(values[1:])[: len(values) // 2] for name, values in spent.items()}
    ratios = [a / b for a, b in zip(better["with"], better["without"], strict=True)]
    what = "ring bytes → OTLP bytes: with keep-tail sampling that keeps 10 %, to without"
    return Row(what, Spread.of(ratios), " ×", detail={"us_per_exchange": spent})
