"""The viewer as a backend: what it takes in per second of CPU, how soon it answers at 10 million spans, its memory.

`store_of` fills a store by SQL, so that ten million spans take half a minute: 200 services, 1,000 edges, 15 minutes.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bench.processes import cpu_seconds, rss_mb
from bench.table import Row, Spread
from otel_ebpf.viewer.decode.batch import table
from otel_ebpf.viewer.decode.signature import bits, words
from otel_ebpf.viewer.decode.written import Writing
from otel_ebpf.viewer.pages import FOLDER
from otel_ebpf.viewer.store import Database
from tests.unit.viewer_requests import CLIENT, SERVER, Plain, request, span
from tests.viewer import Viewer, viewer

SPANS, SERVICES, EDGES, MINUTES = 10_000_000, 200, 1000, 15
PATHS = 100_000
SENT_AT_ONCE = 500
"""Spans of one request: what SDKs' batch processors send by default (512)."""
RATE = 1_000


def rows(quick: bool) -> list[Row]:
    """All of them."""
    return [*_insert_rows(4 if quick else 20), *_question_rows(), *_memory_rows(60 if quick else 600), _weight_row()]


def requests(count: int, services: int = 20) -> Iterator[bytes]:
    """So many export requests of SENT_AT_ONCE spans: calls between services, as our agent describes them."""
    now = time.time_ns()
    number = int.from_bytes(os.urandom(7), "big")
    for _ in range(count):
        group: dict[str, list[Span]] = {f"service-{s}": [] for s in range(services)}
        for pair in range(SENT_AT_ONCE // 2):
            number += 2
            caller, callee = pair % services, (pair * 7 + 1) % services
            called: dict[str, Plain] = {
                "http.request.method": "GET",
                "url.path": f"/users/{number % 9973}",
                "url.scheme": "http",
                "http.response.status_code": 200,
                "server.address": f"service-{callee}",
                "server.port": 8080,
                "network.peer.address": "127.0.0.1",
                "network.transport": "tcp",
                "network.type": "ipv4",
            }
            served = {**called, "http.route": "/users/{id}", "otel_ebpf.link.method": "connection"}
            make = partial(span, trace=number, at=now, name="GET /users/{id}")
            group[f"service-{caller}"].append(make(number, kind=CLIENT, attributes=called))
            group[f"service-{callee}"].append(make(number + 1, parent=number, kind=SERVER, attributes=served))
        yield request(group)


def post(at: Viewer, body: bytes) -> None:
    """One OTLP/HTTP request, and its answer."""
    headers = {"content-type": "application/x-protobuf"}
    urllib.request.urlopen(urllib.request.Request(f"http://{at.http}/v1/traces", body, headers)).read()


def _insert_rows(seconds: int) -> list[Row]:
    bodies = list(requests(100))
    with tempfile.TemporaryDirectory() as folder, viewer(Path(folder)) as at, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda body: post(at, body), bodies[:20]))
        per_cpu, per_second = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            cpu, began = cpu_seconds([at.process.pid]), time.perf_counter()
            list(pool.map(lambda body: post(at, body), bodies))
            spans = len(bodies) * SENT_AT_ONCE
            per_cpu.append(spans / (cpu_seconds([at.process.pid]) - cpu))
            per_second.append(spans / (time.perf_counter() - began))
    detail: dict[str, object] = {"spans_per_second": per_second}
    return [
        Row(
            "viewer: spans taken in, decoded and on disk, per second of its CPU",
            Spread.of(per_cpu),
            "/s",
            0,
            20_000,
            at_least=True,
            detail=detail,
        ),
        Row("viewer: the same per second, with the load on the same cores", Spread.of(per_second), "/s", 0),
    ]


def store_of(folder: Path, spans: int = SPANS) -> None:
    """Fill a store."""
    database = Database(folder)
    cursor, now = database.cursor(), time.time_ns()
    step = MINUTES * 60 * 10**9 // spans
    part = spans // 10
    writing = Writing()
    _, constant = writing.of(dict.fromkeys(("http.request.method", "url.scheme", "server.address", "http.route"), "x"))
    constant |= writing.of(dict.fromkeys(("network.peer.address", "client.address", "otel_ebpf.link.method"), "y"))[1]
    constant |= writing.of({"http.response.status_code": 200, "server.port": 8080, "client.port": 40000})[1]
    paths = [constant | bits("url.path", f"/users/{number}") for number in range(PATHS)]
    columns = [("path", "BIGINT"), *((f"sign_{word}", "UBIGINT") for word in "abc")]
    cursor.register("signs", table(columns, [(number, *words(one)) for number, one in enumerate(paths)]))
    for first in range(0, spans, part):
        cursor.execute(_SPANS, [now - spans * step, step, first, first + part])
        database.checkpoint()
    for sql in _SUMS:
        cursor.execute(sql.replace("$now", str(now - now % 10**10)))
    database.close()


def _question_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        with viewer(Path(folder), "--size", "16GiB") as at:
            found = at.get("/api/v1/traces?start=-20m&service=service-7&limit=1")
            trace = found["traces"][0]["trace_id"]
            window = "start=-20m"
            asked = {
                "trace by id": (f"/api/v1/traces/{trace}", 50),
                "newest traces of a service above 5 ms": (
                    f"/api/v1/traces?{window}&service=service-7&min_ms=5&limit=20",
                    1000,
                ),
                "slowest failed traces": (f"/api/v1/traces?{window}&status=error&order=slowest&limit=20", 1000),
                "traces with an attribute": (f"/api/v1/traces?{window}&attr=url.path=/users/77&limit=20", 1000),
                "traces with an attribute that none has": (
                    f"/api/v1/traces?{window}&attr=url.path=/none&limit=20",
                    1000,
                ),
                f"map of {SERVICES} services, {EDGES} edges": (f"/api/v1/map?{window}", 500),
            }
            found_rows = []
            for what, (path, limit) in asked.items():
                times = [_milliseconds(partial(at.get, path)) for _ in range(7)]
                found_rows.append(Row(f"viewer, {SPANS // 10**6} M spans: {what}", Spread.of(times), " ms", 0, limit))
    return [*found_rows, Row("viewer: bytes on disk per span", Spread.of([size / SPANS]), " B", 0)]


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def _memory_rows(seconds: int) -> list[Row]:
    bodies = list(requests(50))
    with tempfile.TemporaryDirectory() as folder, viewer(Path(folder)) as at:
        cpu, began = cpu_seconds([at.process.pid]), time.monotonic()
        sizes = []
        for turn in range(seconds * RATE // SENT_AT_ONCE):
            post(at, bodies[turn % len(bodies)])
            if turn % 20 == 0:
                at.get("/api/v1/map?start=-15m")
                sizes.append(rss_mb(at.process.pid))
            time.sleep(max(began + (turn + 1) * SENT_AT_ONCE / RATE - time.monotonic(), 0))
        share = (cpu_seconds([at.process.pid]) - cpu) / (time.monotonic() - began) * 100
    what = f"{RATE:,} spans/s and a map every 10 s, after {seconds} s"
    return [
        Row(f"viewer: memory at {what}", Spread.of(sizes[-3:]), " MB", 0, 300, detail={"all_mb": sizes}),
        Row(f"viewer: CPU at {what}", Spread.of([share]), " % of a core", 1),
    ]


def _weight_row() -> Row:
    size = sum(len(gzip.compress(file.read_bytes())) for file in FOLDER.iterdir())
    return Row("page: all of its files, gzip", Spread.of([size / 1024]), " KB", 0, 600)


_SPANS = f"""
INSERT INTO spans
SELECT $1 + i * $2, exp(hash(i + 7) % 1000 / 1000.0 * 9 + 11)::BIGINT, hash(i // 10), hash(i // 10 + 7), hash(i * 3),
    CASE WHEN i % 10 = 0 THEN 0 ELSE hash((i - 1) * 3) END, 'service-' || hash(i // 2 + 1) % 200,
    hash(i // 2 + 1) % 200, 2 + i % 2, CASE WHEN hash(i * 5) % 50 = 0 THEN 2 ELSE 0 END,
    'GET /users/{{id}}/' || hash(i) % 20, '', 'otel_ebpf',
    '{{"http.request.method":"GET","url.path":"/users/' || i % {PATHS} || '","url.scheme":"http",' ||
    '"http.response.status_code":200,"server.address":"service-' || i % 200 || '","server.port":8080,' ||
    '"client.address":"127.0.0.1","client.port":' || 30000 + hash(i) % 30000 || ',"network.peer.address":' ||
    '"127.0.0.1","otel_ebpf.link.method":"connection","http.route":"/users/{{id}}"}}', NULL, NULL,
    sign_a, sign_b, sign_c
FROM range($3, $4) r(i) JOIN signs ON signs.path = i % {PATHS}
"""
_STEPS = "range(90) steps(step), range(1000) keys(key), range(8) buckets(bucket)"
_SUMS = (
    f"""INSERT INTO edges SELECT $now - step * 10000000000, 'service-' || key % 200,
    'service-' || (key * 7 + key // 200) % 200, '', 'service', 'service', 'http', 80 + bucket * 4, 79 + bucket * 4,
    14, 0, 14000000, 12000000 FROM {_STEPS}""",
    f"""INSERT INTO operations SELECT $now - step * 10000000000, 'service-' || key % 200, 2,
    'GET /users/{{id}}/' || key // 200, 'http', 80 + bucket * 4, 14, 0, 14000000 FROM {_STEPS}""",
    """INSERT INTO resources SELECT i, 'service-' || i, '{"host.name":"host-' || i % 8 ||
    '","service.name":"service-' || i || '"}' FROM range(200) r(i)""",
)
