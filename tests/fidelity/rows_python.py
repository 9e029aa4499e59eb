"""CPython's rows: servers of every kind, and every interpreter that this machine has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.fidelity.build import python_packages
from tests.fidelity.row import CERTAIN, EXACT, PARALLEL, SEQUENTIAL, Row, Start, present, program
from tests.fidelity.site import PYTHON

BOTH = (SEQUENTIAL, PARALLEL)
VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
_PYTHON = "{cache}/python/bin/python"


def _row(
    name: str,
    what: str,
    start: Start,
    *,
    modes: tuple[str, ...] = (SEQUENTIAL,),
    target: float = EXACT,
    rate: float = 60.0,
    quick: tuple[str, ...] = (),
) -> Row:
    """A row of the packages in requirements.txt."""
    return Row(f"python-{name}", "CPython", what, start, modes, target, rate, build=python_packages, quick=quick)


def _with_backend(*command: str, **environment: str) -> Start:
    """A program that is told its callee by the environment."""
    return program(*command, environment={"BACKEND": "{backend}", **environment})


def _gunicorn(*arguments: str, **environment: str) -> Start:
    command = (_PYTHON, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--chdir", "{apps}/python_wsgi")
    return _with_backend(*command, "--log-level", "error", *arguments, "app", **environment)


def _flask(server: str, **environment: str) -> Start:
    return _with_backend(_PYTHON, "{apps}/python_wsgi/app.py", "--port", "{port}", "--server", server, **environment)


def _uvicorn(loop: str, shape: str = "plain", *arguments: str) -> Start:
    command = (_PYTHON, "-m", "uvicorn", "--app-dir", "{apps}/python_asgi", "--host", "127.0.0.1", "--port", "{port}")
    more = ("--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "60", "--loop", loop, *arguments)
    return _with_backend(*command, *more, "app:app", SHAPE=shape)


def _interpreter(version: str) -> str:
    """Path of a CPython of this version, or of where one is expected."""
    found = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"), *Path("/usr/bin").glob(f"python{version}")]
    return str(found[0]) if found else f"/usr/bin/python{version}"


def _version_rows() -> list[Row]:
    """The same program under every interpreter."""
    return [
        Row(
            f"cpython-{version}-asyncio",
            runtime=f"CPython {version}",
            what="asyncio's streams, pooled connections",
            start=program(_interpreter(version), "{apps}/python_asyncio/app.py"),
            modes=BOTH,
            needs=(present(_interpreter(version), f"CPython {version}"),),
        )
        for version in VERSIONS
    ]


_SHAPES: Mapping[str, tuple[str, float]] = {
    "middleware": ("two @app.middleware", EXACT),
    "threadpool": ("Starlette's thread pool, requests", EXACT),
    "to_thread": ("gather of asyncio.to_thread, requests", EXACT),
    "streaming": ("calls while the body streams", EXACT),
    "after_streaming": ("calls, then a StreamingResponse", EXACT),
    "background": ("calls in a BackgroundTask, after the response", EXACT),
    "tasks": ("nested create_task", EXACT),
    "taskgroup": ("asyncio.TaskGroup", EXACT),
    "executor": ("run_in_executor of plain functions", CERTAIN),
    "queue": ("a queue to long-lived worker tasks", CERTAIN),
}


def _shape_rows() -> list[Row]:
    """FastAPI in every way of calling."""
    return [
        _row(
            f"fastapi-{shape.replace('_', '-')}", f"FastAPI: {what}", _uvicorn("asyncio", shape), target=target, rate=30
        )
        for shape, (what, target) in _SHAPES.items()
    ]


ROWS = (
    Row(
        "python-threading",
        runtime="CPython",
        what="a thread a connection, pooled http.client",
        start=program(PYTHON, "{apps}/python_threading/app.py"),
        quick=(SEQUENTIAL,),
    ),
    _row("gunicorn-sync", "Flask, requests; pre-forked workers", _gunicorn("--workers", "6"), rate=40),
    _row(
        "gunicorn-gthread",
        "Flask, requests; 2 workers of 16 threads",
        _gunicorn("--worker-class", "gthread", "--workers", "2", "--threads", "16"),
    ),
    _row(
        "gunicorn-gevent",
        "Flask, requests, patched by gevent",
        _gunicorn("--worker-class", "gevent", "--workers", "1", GREENLETS="1"),
        modes=BOTH,
        quick=(SEQUENTIAL,),
    ),
    _row(
        "gunicorn-uvicorn",
        "FastAPI in two uvicorn workers",
        _with_backend(
            *(_PYTHON, "-m", "uvicorn", "--app-dir", "{apps}/python_asgi", "--host", "127.0.0.1", "--port", "{port}"),
            *("--no-access-log", "--log-level", "warning", "--workers", "2", "app:app"),
        ),
        modes=BOTH,
    ),
    _row("waitress", "Flask, requests; a loop that reads, 16 threads that work", _flask("waitress")),
    _row(
        "waitress-queued",
        "the same with 5 threads: requests wait for them",
        _with_backend(
            *(_PYTHON, "{apps}/python_wsgi/app.py", "--port", "{port}", "--server", "waitress", "--threads", "5")
        ),
        rate=45,
    ),
    _row("werkzeug-pycurl", "Flask, libcurl; a thread a connection", _flask("werkzeug", CLIENT="pycurl")),
    _row("werkzeug-executor", "Flask; calls in a ThreadPoolExecutor", _flask("werkzeug", POOL="1"), target=CERTAIN),
    _row("uvicorn-asyncio", "FastAPI, httpx", _uvicorn("asyncio"), modes=BOTH, quick=BOTH),
    _row("uvicorn-h11", "FastAPI, httpx, pure Python", _uvicorn("asyncio", "plain", "--http", "h11"), modes=BOTH),
    _row("uvicorn-uvloop", "FastAPI, httpx on uvloop", _uvicorn("uvloop"), modes=BOTH),
    _row(
        "hypercorn",
        "FastAPI, httpx; Hypercorn",
        _with_backend(
            *("sh", "-c", "cd {apps}/python_asgi; exec {cache}/python/bin/hypercorn --bind 127.0.0.1:{port} app:app")
        ),
        modes=BOTH,
    ),
    _row(
        "granian",
        "FastAPI, httpx; a server in Rust around the loop",
        _with_backend(
            *("{cache}/python/bin/granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
            *("--working-dir", "{apps}/python_asgi", "--no-access-log", "app:app"),
        ),
        modes=BOTH,
        target=CERTAIN,
    ),
    *_shape_rows(),
    _row("aiohttp", "aiohttp at both ends", program(_PYTHON, "{apps}/python_aiohttp/app.py"), modes=BOTH),
    _row(
        "tornado",
        "Tornado at both ends",
        program(_PYTHON, "{apps}/python_tornado/app.py"),
        modes=BOTH,
        quick=(PARALLEL,),
    ),
    _row("sanic", "Sanic, httpx", program(_PYTHON, "{apps}/python_sanic/app.py"), modes=BOTH),
    _row(
        "twisted", "Twisted at both ends", program(_PYTHON, "{apps}/python_twisted/app.py"), modes=BOTH, target=CERTAIN
    ),
    Row(
        "cpython-fresh",
        runtime="CPython",
        what="asyncio's streams, a connection a call",
        start=program(PYTHON, "{apps}/python_asyncio/app.py", "--fresh"),
        modes=BOTH,
    ),
    *_version_rows(),
    Row(
        "cpython-3.12-eager",
        runtime="CPython 3.12",
        what="asyncio with eager tasks",
        start=program(_interpreter("3.12"), "{apps}/python_asyncio/app.py", "--eager"),
        modes=BOTH,
        needs=(present(_interpreter("3.12"), "CPython 3.12"),),
    ),
)
