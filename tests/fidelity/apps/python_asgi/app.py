"""FastAPI with one httpx.AsyncClient: for any ASGI server. BACKEND=HOST:PORT; SHAPE says how calls are made.

plain: in the handler, awaited one by one or gathered. middleware: the same below two @app.middleware. threadpool: a
plain `def` endpoint with requests. to_thread, executor: calls by requests in asyncio.to_thread or run_in_executor.
streaming: calls while the body streams. after_streaming: calls, then a body that another task writes. background: calls
in a BackgroundTask, after the response. tasks: nested create_task. queue: eight long-lived tasks take calls from a
queue. taskgroup: asyncio.TaskGroup.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import httpx
import requests
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from requests.adapters import HTTPAdapter

BACKEND = os.environ["BACKEND"]
SHAPE = os.environ.get("SHAPE", "plain")
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=60))
jobs: asyncio.Queue = None
workers: list = []


@asynccontextmanager
async def lifespan(app: FastAPI):
    global jobs
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=60)
    app.state.client = httpx.AsyncClient(limits=limits, timeout=20)
    if SHAPE == "queue":
        jobs = asyncio.Queue()
        workers.extend(asyncio.create_task(work()) for _ in range(8))
    yield
    await app.state.client.aclose()


app = FastAPI(lifespan=lifespan)


async def work() -> None:
    while True:
        path, done = await jobs.get()
        await call(path)
        done.set_result(None)


async def call(path: str) -> None:
    (await app.state.client.get(f"http://{BACKEND}{path}")).raise_for_status()


def call_blocking(path: str) -> None:
    session.get(f"http://{BACKEND}{path}", timeout=20).raise_for_status()


async def all_calls(paths: list, parallel: bool) -> None:
    if parallel:
        await asyncio.gather(*(call(path) for path in paths))
    else:
        for path in paths:
            await call(path)


async def nested(paths: list, depth: int = 3) -> None:
    if depth:
        await asyncio.create_task(nested(paths, depth - 1))
    else:
        await asyncio.wait([asyncio.create_task(call(path)) for path in paths])


async def queued(path: str) -> None:
    done = asyncio.get_running_loop().create_future()
    jobs.put_nowait((path, done))
    await done


def paths_of(token: str, k: int) -> list:
    return [f"/b/{token}/{i}" for i in range(k)]


if SHAPE == "threadpool":

    @app.get("/{_}/{token:path}")
    def blocking(token: str, k: int = 1, par: int = 0) -> PlainTextResponse:
        for path in paths_of(token, k):
            call_blocking(path)
        return PlainTextResponse("ok")

elif SHAPE == "background":

    @app.get("/{_}/{token:path}")
    async def background(token: str, tasks: BackgroundTasks, k: int = 1, par: int = 0) -> PlainTextResponse:
        tasks.add_task(all_calls, paths_of(token, k), par == 1)
        return PlainTextResponse("ok")

elif SHAPE in ("streaming", "after_streaming"):

    @app.get("/{_}/{token:path}")
    async def streaming(token: str, k: int = 1, par: int = 0) -> StreamingResponse:
        paths = paths_of(token, k)
        if SHAPE == "after_streaming":
            await all_calls(paths, par == 1)

        async def body():
            yield b"first "
            for path in paths:
                if SHAPE == "streaming":
                    await call(path)
                yield b"part "

        return StreamingResponse(body(), media_type="text/plain")

else:

    @app.get("/{_}/{token:path}")
    async def plain(token: str, k: int = 1, par: int = 0) -> PlainTextResponse:
        paths, loop = paths_of(token, k), asyncio.get_running_loop()
        if SHAPE == "to_thread":
            await asyncio.gather(*(asyncio.to_thread(call_blocking, path) for path in paths))
        elif SHAPE == "executor":
            await asyncio.gather(*(loop.run_in_executor(None, call_blocking, path) for path in paths))
        elif SHAPE == "tasks":
            await nested(paths)
        elif SHAPE == "queue":
            await asyncio.gather(*(queued(path) for path in paths))
        elif SHAPE == "taskgroup":
            async with asyncio.TaskGroup() as group:
                for path in paths:
                    group.create_task(call(path))
        else:
            await all_calls(paths, par == 1)
        return PlainTextResponse("ok")


if SHAPE == "middleware":

    @app.middleware("http")
    async def outer(request: Request, call_next):
        return await call_next(request)

    @app.middleware("http")
    async def inner(request: Request, call_next):
        return await call_next(request)
