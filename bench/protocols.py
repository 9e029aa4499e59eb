"""What reading costs: CPU ns from the ring's columns to Spans, by how much the bytes repeat.

    python bench/protocols.py [http | redis] [batch size …]

HTTP, per exchange. few: 100 URLs. uniq: all different, 2 routes. wild: all different, 300 routes of many lengths.

Redis, per command, one or (as `redis-benchmark -P 16`) 16 an exchange. different: GET and SET, no two keys alike.
mixed: six commands, some with options, a few errors. same: 100 keys, in the same order.

Each batch is new bytes, as in life; the fastest of several is shown, since neighbours on the machine only ever add.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from otel_ebpf import heap
from otel_ebpf.capture.connections import Connections
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Exchanges, Flag, Intern
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.engine import Engine

BTF = Btf.of_object(object_path("requests"))
NOW = 10**12
CONNECTIONS = 64
ROUNDS = 7
BUDGET = {
    "http": {"few": 700, "uniq": 1200, "wild": 2500},
    "redis": {"different": 1500, "mixed": 1500, "same": 1000},
}
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


def http(
    n: int, rng: np.random.Generator, large: bool, url: Callable[[int, np.random.Generator], bytes]
) -> tuple[Exchanges, int]:
    """n HTTP exchanges of one size class."""
    more = b"Cookie: " + b"c" * 500 + b"\r\n" if large else b""
    said = []
    for i in range(n):
        asked = b"GET %s HTTP/1.1\r\nHost: shop.example.com:8080\r\n%s%s\r\n" % (url(i, rng), AGENT, more)
        answer = b"HTTP/1.1 %d OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-L" % (200 if i % 11 else 404)
        said.append((asked, answer))
    made = exchanges(said, rng, large)
    made.head["rsp_bytes"] = 400
    return made, n


def redis(
    n: int, rng: np.random.Generator, large: bool, command: Callable[[int, np.random.Generator], tuple[bytes, bytes]]
) -> tuple[Exchanges, int]:
    """n Redis exchanges of one size class: one command each, or 16 where the class has room for them."""
    several = 16 if large else 1
    said = []
    for i in range(0, n * several, several):
        pairs = [command(k, rng) for k in range(i, i + several)]
        said.append((b"".join(asked for asked, _ in pairs), b"".join(answer for _, answer in pairs)))
    return exchanges(said, rng, large), n * several


def array(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments)


def different(i: int, rng: np.random.Generator) -> tuple[bytes, bytes]:
    key = b"key:%012d" % rng.integers(10**12)
    return (array(b"SET", key, b"xxx"), b"+OK\r\n") if i & 1 else (array(b"GET", key), b"$3\r\nxxx\r\n")


def same(i: int, rng: np.random.Generator) -> tuple[bytes, bytes]:
    return array(b"GET", b"key:%012d" % (i % 100)), b"$3\r\nxxx\r\n"


def mixed(i: int, rng: np.random.Generator) -> tuple[bytes, bytes]:
    key = b"user:%d" % rng.integers(10**6)
    kinds = (
        (array(b"get", key), b"$-1\r\n"),
        (array(b"SET", key, b"v" * int(rng.integers(20)), b"EX", b"60"), b"+OK\r\n"),
        (array(b"HSET", key, b"name", b"x"), b":1\r\n"),
        (array(b"ZADD", b"board", b"%d" % i, key), b":1\r\n"),
        (array(b"INCR", key), b":%d\r\n" % rng.integers(100)),
        (array(b"LPUSH", b"queue", key), b"-WRONGTYPE Operation against a key\r\n" if i % 64 == 5 else b":2\r\n"),
    )
    return kinds[int(rng.integers(len(kinds)))]


def exchanges(said: Sequence[tuple[bytes, bytes]], rng: np.random.Generator, large: bool) -> Exchanges:
    """These requests and responses as records of one size class."""
    n = len(said)
    width, response_width = (1024, 512) if large else (192, 64)
    head = np.zeros(n, BTF.dtype("exchange"))
    request, response = np.zeros((n, width), np.uint8), np.zeros((n, response_width), np.uint8)
    for i, (asked, answer) in enumerate(said):
        request[i, : len(asked)] = np.frombuffer(asked[:width], np.uint8)
        response[i, : len(answer)] = np.frombuffer(answer[:response_width], np.uint8)
        head["req_cap"][i], head["rsp_cap"][i] = min(len(asked), width), min(len(answer), response_width)
        head["req_bytes"][i], head["rsp_bytes"][i] = len(asked), len(answer)
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


def measure(n: int, make: Callable[[int, np.random.Generator, bool], tuple[Exchanges, int]], large: bool) -> float:
    """ns per span in batches of n exchanges, the engine being warm."""
    rng = np.random.default_rng(1)
    warm = engine()
    best = float("inf")
    for turn in range(ROUNDS + 1000 // n):
        batch, count = make(n, rng, large)
        began = time.thread_time_ns()
        spans = warm.parse(batch, NOW)
        took = time.thread_time_ns() - began
        if len(spans) != count or int(spans.shape.min()) < 0:
            raise SystemExit("not every exchange was read")
        best = min(best, took / count) if turn else best
    return best


def show(name: str, sizes: Sequence[int]) -> None:
    """A table: a line for each size of batch and class."""
    makes = {
        "http": [partial(http, url=url) for url in (few, uniq, wild)],
        "redis": [partial(redis, command=command) for command in (different, mixed, same)],
    }[name]
    labels = ("192", "1024") if name == "http" else ("1", "16")
    unit = "exchange" if name == "http" else "command"
    budget = BUDGET[name]
    print(f"{name:>8} {'class' if name == 'http' else 'each':>6} " + " ".join(f"{kind:>9}" for kind in budget))
    for n in sizes:
        for large in (False, True):
            took = [measure(n, make, large) for make in makes]
            print(f"{n:>8} {labels[large]:>6} " + " ".join(f"{ns:9.0f}" for ns in took) + f"   ns per {unit}")
    print(f"{'target':>15} " + " ".join(f"{ns:>9}" for ns in budget.values()) + "   in large batches")


def main() -> None:
    heap.keep_freed()  # as the agent does
    names = [a for a in sys.argv[1:] if a in BUDGET] or list(BUDGET)
    sizes = [int(a) for a in sys.argv[1:] if a.isdigit()] or [10_000, 1_000, 200, 20]
    for name in names:
        show(name, sizes)


if __name__ == "__main__":
    main()
