"""What tracing costs: ns per span and µs per feed, by size of the batch. Run: python bench/tracing.py

The rows are those of client → nginx → app → postgres on one host: six rows a request, both ends of each hop, the
client's ends without payload; each comes 0 to 500 ms after its end, and is held until its trace is known. So with
10,000 rows per 100 ms about 65,000 rows wait at any time.
"""

from __future__ import annotations

import time

import numpy as np

from otel_ebpf.model import Flag, Kind, Spans
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.sampling import Sampler

MS = 10**6
TEXT = 40  # bytes of path or query per row that carries payload


def chain(requests: int, start: int, random: np.random.Generator, first: int) -> Spans:
    """(6 · requests) rows of requests that begin within 100 ms from `start`, in no particular order."""
    rows = Spans.empty(6 * requests)
    hop = np.tile(np.repeat(np.arange(3), 2), requests)
    server = np.tile([False, True], 3 * requests)
    request = np.repeat(np.arange(requests), 6)
    begin = start + np.repeat(random.integers(0, 100 * MS, requests), 6)
    length = np.repeat(random.integers(5 * MS, 80 * MS, requests), 6)
    depth = 2 * hop + server
    rows.span_id = random.integers(1, 2**63, len(rows), dtype=np.uint64)
    rows.start = (begin + depth * 100_000).astype(np.uint64)
    rows.end = (begin + length - depth * 100_000).astype(np.uint64)
    rows.first_byte = rows.end.copy()
    rows.pair = (first + request * 3 + hop).astype(np.uint64) * np.uint64(2)
    rows.conn = rows.pair + server
    rows.seq = (request * 700 + hop + 1).astype(np.uint32)
    rows.kind = np.where(server, Kind.SERVER, Kind.CLIENT).astype(np.uint8)
    bare = int(Flag.PEER | Flag.HEAD)
    rows.flags = np.where(server, int(Flag.PEER | Flag.SERVER), bare).astype(np.uint32)
    # nginx: two workers with epoll; app: a thread pool; postgres: a process per connection.
    process = np.where(server, hop + 1, hop)
    thread = np.array([1, 2, 2 * requests, 2 * requests])[process]
    unit = process * 100_000 + 1000 + (request + first) % thread
    rows.tgid = np.where((process == 1) | (process == 3), unit, process * 100_000 + 1000).astype(np.uint32)
    rows.tid_req = unit.astype(np.uint32)
    rows.tid_rsp = rows.tid_req.copy()
    rows.flags[(process == 1) & ~server] |= int(Flag.EPOLL)
    # An app's thread has one request open; an nginx worker usually several.
    app_call = np.flatnonzero((process == 2) & ~server)
    rows.cause[app_call] = rows.span_id[app_call - 1]
    rows.flags[(process == 1) & ~server] |= int(Flag.MANY)
    rows.shape = np.where(server, hop, -1).astype(np.int32)
    rows.slot_length[server, 0] = TEXT
    rows.slot_start[server, 0] = np.arange(3 * requests) * TEXT
    rows.text = np.full(3 * requests * TEXT, ord("x"), np.uint8)
    return rows


def measure(rows_per_batch: int, ticks: int) -> tuple[float, float, float, Assembler]:
    """ns of CPU per span in a steady state: feed (lower quartile and mean of the feeds), sampling; the assembler."""
    random = np.random.default_rng(1)
    requests = max(1, rows_per_batch // 6)
    arriving: dict[int, list[Spans]] = {}
    for tick in range(ticks):
        rows = chain(requests, tick * 100 * MS, random, tick * requests * 3 + 1)
        at = (rows.end + random.integers(0, 500 * MS, len(rows), dtype=np.uint64)) // np.uint64(100 * MS) + np.uint64(1)
        for due in np.unique(at).tolist():
            arriving.setdefault(due, []).append(rows.take(at == due))
    assembler, sampler = Assembler(), Sampler("parentbased_traceidratio", 0.5)
    spent, sampled, fed = [], [], 0
    for tick in range(ticks):
        batch = Spans.concat(arriving.get(tick, []))
        begin = time.process_time()
        decided = assembler.feed(batch, tick * 100 * MS)
        end = time.process_time()
        sampler.sample(decided)
        if tick >= ticks // 3:  # before, the hold fills up
            spent.append(end - begin)
            sampled.append(time.process_time() - end)
            fed += len(decided)
    share = fed / len(spent)
    return (
        1e9 * float(np.quantile(spent, 0.25)) / share,
        1e9 * float(np.mean(spent)) / share,
        1e9 * float(np.mean(sampled)) / share,
        assembler,
    )


def main() -> None:
    print(f"{'rows/batch':>10} {'held':>7} {'ns/span':>8} {'(mean)':>8} {'µs/feed':>8} {'sample ns':>9}  links")
    for rows, ticks in ((6, 300), (60, 150), (600, 90), (6_000, 60), (10_000, 60)):
        cost, mean, sampling, assembler = measure(rows, ticks)
        links = ", ".join(f"{name} {n}" for name, n in assembler.counters.released.items() if n)
        held = assembler.counters.held
        print(f"{rows:>10} {held:>7} {cost:>8.0f} {mean:>8.0f} {cost * rows / 1000:>8.0f} {sampling:>9.0f}  {links}")


if __name__ == "__main__":
    main()
