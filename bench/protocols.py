"""What reading an exchange costs: CPU ns from the ring's columns to Spans, by how much the URLs repeat.

    python bench/protocols.py [batch size …]

few: 100 URLs. uniq: all different, 2 routes. wild: all different, 300 routes of many lengths. Each batch is new bytes,
as in life; the fastest of several is shown, since neighbours on the machine only ever add.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from otel_ebpf.capture.connections import Connections
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Exchanges, Flag, Intern
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.engine import Engine

BTF = Btf.of_object(object_path("requests"))
NOW = 10**12
CONNECTIONS = 64
ROUNDS = 7
BUDGET = {"few": 700, "uniq": 1200, "wild": 2500}
AGENT = b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n"


def few(i: int, rng: np.random.Generator) -> bytes:
    return b"/api/v1/items/%d/reviews" % (i % 100)


def uniq(i: int, rng: np.random.Generator) -> bytes:
    return b"/api/v1/items/%d/%s/%x?page=%d" % (
        rng.integers(10**6),
        (b"reviews", b"photos")[i & 1],
        rng.integers(1 << 40) | 1 << 40,
        i,
    )


def wild(i: int, rng: np.random.Generator) -> bytes:
    # 60 words, 5 below each: 300 routes, and no place with so many words that it would collapse into one.
    return b"/api/v1/%s/%s/%x/%d" % (
        b"r" * (1 + i % 60),
        b"abcde"[i // 60 % 5 :][:1],
        rng.integers(1 << 62) | 1 << 62,
        i,
    )


def exchanges(
    n: int, url: Callable[[int, np.random.Generator], bytes], rng: np.random.Generator, large: bool
) -> Exchanges:
    """n HTTP exchanges of one size class."""
    width, response_width = (1024, 512) if large else (192, 64)
    head = np.zeros(n, BTF.dtype("exchange"))
    request, response = np.zeros((n, width), np.uint8), np.zeros((n, response_width), np.uint8)
    more = b"Cookie: " + b"c" * 500 + b"\r\n" if large else b""
    for i in range(n):
        asked = b"GET %s HTTP/1.1\r\nHost: shop.example.com:8080\r\n%s%s\r\n" % (url(i, rng), AGENT, more)
        answer = b"HTTP/1.1 %d OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-L" % (200 if i % 11 else 404)
        request[i, : len(asked)] = np.frombuffer(asked[:width], np.uint8)
        response[i, : len(answer)] = np.frombuffer(answer[:response_width], np.uint8)
        head["req_cap"][i], head["rsp_cap"][i] = min(len(asked), width), min(len(answer), response_width)
        head["req_bytes"][i], head["rsp_bytes"][i] = len(asked), 400
    head["span_id"] = rng.integers(1, 1 << 63, n)
    head["conn"] = 1 + np.arange(n) % CONNECTIONS
    head["n"] = np.arange(n) // CONNECTIONS
    head["t_req"] = NOW + np.arange(n) * 5000
    head["t_req_end"], head["t_rsp"], head["t_rsp_end"] = head["t_req"], head["t_req"] + 10**6, head["t_req"] + 10**6
    head["flags"] = Flag.SERVER
    return Exchanges(head, request, response)


def engine() -> Engine:
    """A new engine that knows the connections."""
    known = Connections(BTF.dtype("connection"))
    table = np.zeros(CONNECTIONS, BTF.dtype("connection"))
    table["id"] = 1 + np.arange(CONNECTIONS)
    table["local_port"] = 8080
    known.update(table, NOW)
    return Engine(known, Intern[Fields](65536), Options())


def measure(n: int, url: Callable[[int, np.random.Generator], bytes], large: bool) -> float:
    """ns per exchange in batches of n, the engine being warm."""
    rng = np.random.default_rng(1)
    warm = engine()
    best = float("inf")
    for turn in range(ROUNDS):
        batch = exchanges(n, url, rng, large)
        began = time.thread_time_ns()
        spans = warm.parse(batch, NOW)
        took = time.thread_time_ns() - began
        if len(spans) != n or int(spans.shape.min()) < 0:
            raise SystemExit("not every exchange was read")
        best = min(best, took / n) if turn else best
    return best


def main() -> None:
    sizes = [int(a) for a in sys.argv[1:]] or [10_000, 1_000, 200, 20]
    print(f"{'batch':>8} {'class':>6} " + " ".join(f"{kind:>8}" for kind in BUDGET) + "   ns per exchange")
    for n in sizes:
        for large in (False, True):
            took = [measure(n, url, large) for url in (few, uniq, wild)]
            print(f"{n:>8} {'1024' if large else '192':>6} " + " ".join(f"{ns:8.0f}" for ns in took))
    print(f"{'target':>15} " + " ".join(f"{ns:8}" for ns in BUDGET.values()) + "   in batches of 10,000")


if __name__ == "__main__":
    main()
