"""aiohttp at both ends."""

import argparse
import asyncio

import aiohttp
from aiohttp import web

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--backend", required=True)
options = parser.parse_args()
session = web.AppKey("session", aiohttp.ClientSession)


async def call(app: web.Application, path: str) -> None:
    async with app[session].get(f"http://{options.backend}{path}") as response:
        await response.read()


async def answer(request: web.Request) -> web.Response:
    token, count = request.path[3:], int(request.query.get("k", "1"))
    calls = [call(request.app, f"/b/{token}/{i}") for i in range(count)]
    if request.query.get("par") == "1":
        await asyncio.gather(*calls)
    else:
        for one in calls:
            await one
    return web.Response(text="ok")


async def client(app: web.Application):
    async with aiohttp.ClientSession() as app[session]:
        yield


app = web.Application()
app.router.add_get("/{tail:.*}", answer)
app.cleanup_ctx.append(client)
web.run_app(app, host="127.0.0.1", port=options.port, print=None, access_log=None)
