"""What the programs of the matrix call: answers every path, after a time that follows from the path.

    python backend.py --port 8001 --low 5 --high 60

--low, --high: milliseconds; the hash of the path says where between, so that answers overtake each other.
"""

from __future__ import annotations

import argparse
import asyncio
import zlib

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nanswer"


def delay_s(path: bytes, low_ms: float, high_ms: float) -> float:
    """Seconds until `path` is answered.

    >>> delay_s(b"/b/x/0", 5, 60) == delay_s(b"/b/x/0", 5, 60)
    True
    """
    return (low_ms + (high_ms - low_ms) * zlib.crc32(path) / 0xFFFFFFFF) / 1000


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--low", type=float, default=5.0)
    parser.add_argument("--high", type=float, default=60.0)
    options = parser.parse_args()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(delay_s(head.split(b" ", 2)[1], options.low, options.high))
                closing = b"connection: close" in head.lower()
                writer.write(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if closing else ANSWER)
                await writer.drain()
                if closing:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", options.port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
