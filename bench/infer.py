"""`otel-ebpf infer`: time and correctness, on services of which the truth is known.

The command as a user runs it, start of Python included, on 1,000 requests of a service that calls three others one
after the other, with 24 requests open on average; and on the recorded traces beside the repository, if they are there.
Right, wrong and linked are shares of all calls.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import Row, Spread
from tests.unit.statistics_world import in_sequence, mixed, world
from tests.unit.test_infer import all_spans, document_of

TRACES = Path(__file__).resolve().parents[2] / "shared" / "traces"
RECORDED = "hotel-150-x10"


def rows(quick: bool) -> list[Row]:
    """One after another: two worlds, and the recorded traces."""
    times = 3 if quick else 7
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, handle in (("calls in sequence", in_sequence), ("calls in parallel and cached", mixed)):
            of = world(handle, requests=1000, in_flight=24)
            source = Path(folder) / "world.json"
            source.write_text(json.dumps(document_of(of)))
            m = len(of.columns.request_start)
            truth = {f"{m + 1 + i:016x}": f"{request + 1:016x}" for i, request in enumerate(of.truth.tolist())}
            found += _judged(f"infer, 1,000 requests, {name}, 24 open", source, truth, times, None)
        source = TRACES / f"{RECORDED}.spans.json.gz"
        if source.exists():
            truth = json.loads(gzip.decompress((TRACES / f"{RECORDED}.parents.json.gz").read_bytes()))["parents"]
            found += _judged(f"infer, {RECORDED}, 1,000 requests", source, truth, times, 1.0)
    return found


def _judged(name: str, source: Path, truth: dict[str, str], times: int, limit: float | None) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.json"
        command = [sys.executable, "-m", "otel_ebpf.cli", "infer", str(source), "-o", str(output)]
        seconds, processor = [], []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(1 + times):  # the first one compiles, as after an installation
            began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(time.monotonic() - began)
            processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        spans = list(all_spans(json.loads(output.read_text())))
    right = wrong = linked = 0
    for span in spans:
        if span["spanId"] in truth and "parentSpanId" in span:
            right += span["parentSpanId"] == truth[span["spanId"]]
            wrong += span["parentSpanId"] != truth[span["spanId"]]
        linked += "links" in span
    share = 100 / len(truth)
    return [
        Row(f"{name}: time", Spread.of(seconds[1:]), " s", 2, limit, detail={"processor_s": processor[1:]}),
        Row(f"{name}: parents right", Spread.of([right * share]), " %", 1),
        Row(f"{name}: parents wrong", Spread.of([wrong * share]), " %", 2),
        Row(f"{name}: linked only", Spread.of([linked * share]), " %", 1),
    ]
