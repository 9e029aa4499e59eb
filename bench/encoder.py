"""What encoding costs: `Spans` to OTLP bytes, per exchange (two spans: the server's and the client's end).

    python -m bench.encoder [ROWS]

few: 100 URLs; uniq: all different, 2 routes; wild: all different, 130 lengths, 300 routes of 60 lengths (the sets of
DATAPATH.md). Beside them the same rows as `opentelemetry-proto` messages. Times are CPU of one thread, best of several.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from otel_ebpf.metrics import DurationMetrics
from otel_ebpf.model import Endpoint, Kind, Link, Resource, Spans
from otel_ebpf.otlp.encoder import SpanEncoder
from otel_ebpf.otlp.logs import LogEncoder
from otel_ebpf.otlp.rows import RowEncoder
from otel_ebpf.protocols.base import Fields, Side, Slot
from tests.unit.otlp_twin import OFFSET, Row, Tables, span_of

PEERS = 20
METRICS = {"http": ("http.server.request.duration", "http.client.request.duration")}


def _shape(tables: Tables, route: str) -> int:
    metric = (("http.request.method", "GET"), ("http.response.status_code", 200), ("url.scheme", "http"))
    common = (*metric, ("network.protocol.version", "1.1"))
    address = (("server.address", "shop.example.com"), ("server.port", 8080))
    server = Side(
        f"GET {route}",
        (*common, ("http.route", route), *address, ("user_agent.original", "curl/8.5.0")),
        (*metric, ("http.route", route)),
        slots=(Slot("url.path", 0), Slot("url.query", 1)),
        addressed=True,
    )
    client = Side(
        "GET",
        (*common, *address),
        (*metric, *address),
        slots=(Slot("url.full", 2, "http://shop.example.com:8080"),),
        addressed=True,
    )
    return tables.shapes.id(Fields("http", server, client, "200"))


def make(kind: str, n: int) -> tuple[Tables, Spans]:
    """2n rows: n server ends, then n client ends."""
    rng = np.random.default_rng(1)
    tables = Tables()
    for service in ("shop", "cart", "billing"):
        attributes = tuple((f"process.attribute.{i}", f"value-{i}-{service}") for i in range(12))
        tables.resources.id(Resource(service, (("service.name", service), *attributes)))
    for i in range(PEERS):
        always = (("network.peer.address", f"10.244.13.{i}"), ("network.transport", "tcp"), ("network.type", "ipv4"))
        tables.endpoints.id(Endpoint(always, (("server.address", "10.0.0.1"), ("server.port", 8080))))
    if kind == "wild":
        routes = [f"/api/v1/{'r' * (i % 60)}/{{id}}/{i}" for i in range(300)]
    else:
        routes = ["/api/v1/items/{id}/reviews", "/api/v1/items/{id}/reviews/{id}"]
    shapes = np.array([_shape(tables, route) for route in routes], np.int32)
    paths: list[bytes] = []
    queries: list[bytes] = []
    for i in range(n):
        if kind == "few":
            paths.append(b"/api/v1/items/%d/reviews" % (i % 100))
        elif kind == "uniq":
            paths.append(b"/api/v1/items/%d/reviews/%x" % (int(rng.integers(10**6)), int(rng.integers(2**40))))
        else:
            paths.append(b"/api/v1/items/%x/%s" % (int(rng.integers(2**62)), b"x" * int(rng.integers(1, 130))))
        queries.append(b"page=%d" % i if kind == "uniq" else b"")
    spans = Spans.empty(2 * n)
    blob = bytearray()
    for i, (path, query) in enumerate(zip(paths, queries, strict=True)):
        spans.slot_start[i] = len(blob), len(blob) + len(path), len(blob)
        spans.slot_length[i] = len(path), len(query), len(path) + len(query)
        blob += path + query
    spans.slot_start[n:], spans.slot_length[n:] = spans.slot_start[:n], spans.slot_length[:n]
    spans.text = np.frombuffer(bytes(blob), np.uint8)
    spans.shape[:] = np.tile(shapes[rng.integers(0, len(shapes), n)], 2)
    spans.kind[:n], spans.kind[n:] = Kind.SERVER, Kind.CLIENT
    spans.resource[:] = rng.integers(0, 3, 2 * n)
    spans.endpoint[:] = rng.integers(0, PEERS, 2 * n)
    spans.peer_port[:] = rng.integers(32_768, 60_999, 2 * n)
    spans.start[:] = np.tile(np.arange(n) * 5_000 + 10**12, 2)
    spans.end[:] = spans.start + rng.integers(10**5, 10**7, 2 * n).astype(np.uint64)
    spans.first_byte[:] = spans.end - np.uint64(1_000)
    spans.span_id[:] = rng.integers(1, 2**63, 2 * n)
    spans.trace[:] = rng.integers(1, 2**63, (2 * n, 2))
    spans.parent[:n] = spans.span_id[n:]
    spans.link[:n] = Link.CONNECTION
    order = rng.permutation(2 * n)
    return tables, spans.take(order)


def best(repeat: int, run: Callable[..., object], *arguments: object) -> float:
    """Least CPU seconds of several runs."""
    least = float("inf")
    for _ in range(repeat):
        begin = time.thread_time()
        run(*arguments)
        least = min(least, time.thread_time() - begin)
    return least


def drain(encoder: RowEncoder, spans: Spans) -> int:
    return sum(len(message.data) for message in encoder.encode(spans, OFFSET))


def messages(tables: Tables, spans: Spans, n: int) -> None:
    text = spans.text.tobytes()
    for i in range(n):
        starts, lengths = spans.slot_start[i].tolist(), spans.slot_length[i].tolist()
        row = Row(
            shape=int(spans.shape[i]),
            kind=Kind(int(spans.kind[i])),
            endpoint=int(spans.endpoint[i]),
            texts=[text[s : s + length].decode() for s, length in zip(starts, lengths, strict=True)],
            start=int(spans.start[i]),
            end=int(spans.end[i]),
        )
        span_of(tables, row).SerializeToString()


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"{n} exchanges, two spans each; CPU per exchange\n")
    print(f"{'set':6} {'spans':>10} {'bytes':>8} {'logs':>10} {'metrics':>10} {'proto messages':>16}")
    for kind in ("few", "uniq", "wild"):
        tables, spans = make(kind, n)
        encoder, logs = SpanEncoder(*tables.all()), LogEncoder(*tables.all())
        metrics = DurationMetrics(*tables.all(), names=METRICS)
        size = drain(encoder, spans)
        columns = [
            f"{best(15, drain, encoder, spans) / n * 1e9:7.0f} ns",
            f"{size / n:6.0f} B",
            f"{best(5, drain, logs, spans) / n * 1e9:7.0f} ns",
            f"{best(15, metrics.record, spans) / n * 1e9:7.0f} ns",
        ]
        some = min(n, 500)
        columns.append(f"{best(2, messages, tables, spans, 2 * some) / some * 1e9:13.0f} ns")
        print(f"{kind:6} {columns[0]:>10} {columns[1]:>8} {columns[2]:>10} {columns[3]:>10} {columns[4]:>16}")

    print("\nsmall batches (uniq): a whole call of encode, spans and metrics")
    tables, spans = make("uniq", 10_000)
    for rows in (1, 20, 200, 2_000):
        part = spans.take(np.arange(rows))
        encoder, metrics = SpanEncoder(*tables.all()), DurationMetrics(*tables.all(), names=METRICS)
        drain(encoder, part)
        spent = best(50, drain, encoder, part)
        metered = best(50, metrics.record, part)
        print(f"{rows:6} spans  {spent * 1e6:7.0f} µs  {metered * 1e6:7.0f} µs")


if __name__ == "__main__":
    main()
