"""Sanic (uvloop, its own HTTP server) with httpx."""

import argparse
import asyncio

import httpx
from sanic import Request, Sanic, text

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--backend", required=True)
options = parser.parse_args()
app = Sanic("fidelity")


@app.before_server_start
async def begin(app: Sanic) -> None:
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=60)
    app.ctx.client = httpx.AsyncClient(limits=limits, timeout=20)


@app.get("/<path:path>")
async def answer(request: Request, path: str):
    calls = [
        app.ctx.client.get(f"http://{options.backend}/b/{path[2:]}/{i}") for i in range(int(request.args.get("k", "1")))
    ]
    if request.args.get("par") == "1":
        await asyncio.gather(*calls)
    else:
        for one in calls:
            await one
    return text("ok")


if __name__ == "__main__":
    app.run("127.0.0.1", options.port, single_process=True, access_log=False, motd=False)
