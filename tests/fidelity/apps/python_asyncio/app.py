"""asyncio's streams at both ends, nothing but the standard library: for CPython 3.8 and newer.

Calls go over a pool of connections; with --fresh each opens its own.
"""

import argparse
import asyncio

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--backend", required=True)
parser.add_argument("--fresh", action="store_true")
parser.add_argument("--eager", action="store_true", help="asyncio.eager_task_factory (3.12)")
options = parser.parse_args()
idle: list = []


async def read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return head


async def call(path: str) -> None:
    host, _, port = options.backend.partition(":")
    reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: backend\r\n\r\n".encode())
    await read(reader)
    if options.fresh:
        writer.close()
    else:
        idle.append((reader, writer))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            path, _, query = (await read(reader)).split(b" ", 2)[1].decode().partition("?")
            asked = dict(part.split("=") for part in query.split("&") if part)
            calls = [call(f"/b/{path[3:]}/{i}") for i in range(int(asked.get("k", "1")))]
            if asked.get("par") == "1":
                await asyncio.gather(*calls)
            else:
                for one in calls:
                    await one
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    if options.eager:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    server = await asyncio.start_server(serve, "127.0.0.1", options.port, backlog=1024)
    async with server:
        await server.serve_forever()


asyncio.run(main())
