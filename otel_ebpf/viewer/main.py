"""`otel-ebpf view`: receivers, ingest, store, API and page put together."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from otel_ebpf import __version__, heap
from otel_ebpf.config.kinds import Duration, Kind, Size
from otel_ebpf.errors import ConfigError
from otel_ebpf.viewer.api.sources import ProcessStatus
from otel_ebpf.viewer.listening import Listening
from otel_ebpf.viewer.options import listening

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

CLOSE_SECONDS = 3.0
RATE_SECONDS = 10.0
T = TypeVar("T")


def _value(kind: Kind[T], text: str, option: str) -> T:
    try:
        return kind.read(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is not {kind.expected}") from None


def main(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    age = _value(Duration(least=60, most=366 * 86400), options.keep, "--keep")
    size = _value(Size(least=16 << 20, most=1 << 44), options.size, "--size")
    wanted = listening(options)
    stopping = os.eventfd(0, os.EFD_CLOEXEC)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.eventfd_write(stopping, 1))
    heap.keep_freed()
    viewer = Viewer(Path(options.store), int(age * 1e9), size, wanted)
    try:
        addresses = viewer.start()
        for note in viewer.moved:
            print(f"otel-ebpf: {note}", file=sys.stderr, flush=True)
        if options.announce:
            print(json.dumps(addresses), flush=True)
        else:
            print(
                f"page {addresses['page']}   OTLP gRPC {addresses['grpc']}   OTLP HTTP {addresses['http']}", flush=True
            )
            print("ready", file=sys.stderr, flush=True)
        os.read(stopping, 8)  # unlike eventfd_read, it goes on after a signal
    finally:
        viewer.close()
    _leave()
    return 0


def _leave() -> None:
    """End here if a thread still waits for DuckDB, which aborts the process when Python ends such a thread under it."""
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _not_served(request: Request, error: Exception) -> Response:
    """404 and 405 of the routes: under /api in the form of its other errors."""
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, PlainTextResponse

    assert isinstance(error, HTTPException)
    kind = JSONResponse if request.url.path.startswith("/api") else PlainTextResponse
    said = {"error": error.detail} if kind is JSONResponse else error.detail
    return kind(said, error.status_code, error.headers)


class Viewer:
    """One running viewer.

    >>> viewer = Viewer(Path("/var/lib/otel-ebpf"), 24 * 3600 * 10**9, 2 << 30, Listening())
    >>> viewer.start()
    {'page': 'http://127.0.0.1:8890/', 'grpc': '127.0.0.1:4317', 'http': '127.0.0.1:4318'}
    """

    def __init__(self, store: Path, age_ns: int, size: int, wanted: Listening) -> None:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
        from starlette.middleware.gzip import GZipMiddleware
        from starlette.routing import Mount

        from otel_ebpf.viewer import pages
        from otel_ebpf.viewer.api import jaeger, routing
        from otel_ebpf.viewer.api.feed import Feed
        from otel_ebpf.viewer.ingest import Ingest
        from otel_ebpf.viewer.receiver.reception import Reception
        from otel_ebpf.viewer.serving import Servers
        from otel_ebpf.viewer.store import Database

        page = pages.routes()
        self._size, self._started = size, time.time()
        self._feed = Feed()
        self._database = Database(store)
        self._ingest = Ingest(self._database, age_ns=age_ns, size=size, on_spans=self._feed.publish)
        app = Starlette(
            routes=[
                Mount("/api/v1", routes=routing.routes(self._database, self, self._feed)),
                Mount("/api", routes=jaeger.routes(self._database)),
                *page,
            ],
            exception_handlers={HTTPException: _not_served},
            middleware=[Middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)],
        )
        self._servers = Servers(wanted, Reception(self._ingest), app)
        self._seen: deque[tuple[float, int]] = deque(maxlen=64)

    def start(self) -> dict[str, str]:
        """Serve; the addresses by "page", "grpc", "http"."""
        self._servers.start()  # first: what stands in the way is told before anything runs
        self._ingest.start()
        at = self._servers.addresses
        return {"page": self._servers.page_url, "grpc": at.get("grpc", "none"), "http": at.get("http", "none")}

    @property
    def moved(self) -> list[str]:
        """Which addresses were taken by somebody else, in sentences."""
        return self._servers.moved

    def close(self) -> None:
        """Take no more, write what was taken, close the store."""
        self._servers.close(CLOSE_SECONDS)
        self._ingest.close(CLOSE_SECONDS)
        self._database.close()

    def status(self) -> ProcessStatus:
        """See `StatusSource.status`."""
        counts, at = self._ingest.counts, self._servers.addresses
        trouble = self._ingest.trouble
        return ProcessStatus(
            version=__version__,
            started=self._started,
            page=at.get("page", ""),
            grpc=at.get("grpc", ""),
            http=at.get("http", ""),
            store_path=str(self._database.path),
            store_bytes=self._database.bytes(),
            limit_bytes=self._size,
            spans_per_second=self._rate(),
            accepted=sum(counts.accepted.values()),
            refused=counts.rejected + counts.refused + counts.malformed,
            problems=(f"New data is refused: {trouble}.",) if trouble else (),
        )

    def _rate(self) -> float:
        """Spans a second since the oldest look within the last seconds; those who look make the looks."""
        now, spans = time.monotonic(), self._ingest.counts.accepted["traces"]
        while len(self._seen) > 1 and self._seen[1][0] <= now - RATE_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0] if self._seen else (now, spans)
        self._seen.append((now, spans))
        return (spans - before) / (now - then) if now > then else 0.0
