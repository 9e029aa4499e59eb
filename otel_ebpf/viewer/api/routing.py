"""The endpoints as Starlette routes: requests become questions, answers and errors become JSON.

Questions are asked in a few threads of their own, since SQL blocks; the event loop goes on serving.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import duckdb
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_ebpf.errors import ConfigError, OtelEbpfError
from otel_ebpf.viewer.api.ask import Ask, NotFound
from otel_ebpf.viewer.api.endpoints import ENDPOINTS, LIVE, Endpoint
from otel_ebpf.viewer.api.live import EventStream
from otel_ebpf.viewer.api.openapi import document
from otel_ebpf.viewer.api.parameters import BadParameter, read
from otel_ebpf.viewer.api.sources import Busy, LiveSource, StatusSource
from otel_ebpf.viewer.contract import Reader
from otel_ebpf.viewer.store.database import Slow

QUESTIONS = 4
"""At the same time; more wait for their turn."""
LOG_INTERVAL_S = 30.0
_LOG = logging.getLogger(__name__)
_logged = [-LOG_INTERVAL_S]
_NO_STORE = {"Cache-Control": "no-store"}


def routes(reader: Reader, status_source: StatusSource, live_source: LiveSource) -> list[Route]:
    """For /api/v1: `Mount("/api/v1", routes=routes(...))`."""
    limiter = anyio.CapacityLimiter(QUESTIONS)

    async def openapi(_: Request) -> Response:
        return answer(document())

    async def unknown(request: Request) -> Response:
        return problem(NotFound(f"{request.url.path[:200]}: no such endpoint; /api/v1/openapi.json lists them"))

    async def listen(request: Request) -> Response:
        try:
            given = read(LIVE.parameters, request.path_params, request.query_params.multi_items())
            return EventStream(live_source, given.text("q") or "", _NO_STORE)
        except OtelEbpfError as error:
            return problem(error)

    return [
        Route("/openapi.json", openapi),
        Route(LIVE.path, listen),
        *(Route(one.path, _handler(one, reader, status_source, limiter)) for one in ENDPOINTS if one is not LIVE),
        Route("/{rest:path}", unknown),
    ]


def _handler(
    endpoint: Endpoint, reader: Reader, status: StatusSource, limiter: anyio.CapacityLimiter
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        def work() -> Response:
            given = read(endpoint.parameters, request.path_params, request.query_params.multi_items())
            assert endpoint.answer is not None
            return answer(endpoint.answer(Ask(reader, given, status)))

        return await in_thread(work, limiter, problem)

    return handle


async def in_thread(
    work: Callable[[], Response], limiter: anyio.CapacityLimiter, on_error: Callable[[Exception], Response]
) -> Response:
    """Its answer, or what `on_error` makes of what it raises."""
    try:
        return await anyio.to_thread.run_sync(work, limiter=limiter)
    except Exception as error:
        # a defect too, which what somebody sent may have shown: its answer is JSON as well, and others are served
        return on_error(error)


def answer(body: object, status: int = 200) -> Response:
    """As JSON; numbers that JSON lacks are null."""
    try:
        text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(body), separators=(",", ":"), allow_nan=False)
    return Response(text, status, media_type="application/json", headers=_NO_STORE)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def code_and_line(error: Exception) -> tuple[int, str]:
    """The HTTP status, and the one line for the user."""
    if isinstance(error, (BadParameter, ConfigError)):
        code = 400
    elif isinstance(error, NotFound):
        code = 404
    elif isinstance(error, (Slow, Busy)):
        code = 503
    elif isinstance(error, duckdb.OutOfMemoryException):
        return 503, "the answer needs more memory than the viewer may use: ask for a shorter time"
    else:
        _log(error)
        return 500, "internal error; the viewer's own output says more"
    return code, " ".join(str(error).split())[:500]


def _log(error: Exception) -> None:
    """Defects are for whoever runs the viewer, now and then."""
    now = time.monotonic()
    if now - _logged[0] >= LOG_INTERVAL_S:
        _logged[0] = now
        _LOG.error("api: a question failed: %s: %s", type(error).__name__, error, exc_info=error)


def problem(error: Exception) -> Response:
    """An error as every endpoint of this API tells it."""
    code, line = code_and_line(error)
    return answer({"error": line}, code)
