"""Open-loop load: requests arrive as a Poisson process, whatever the program does, over connections that stay.

    python load.py --port 8000 --mark 3f9a --rate 120 --connections 30 --parallel 0

Asks GET /r/<id>?k=K&par=P with K from --least to --most. Ids of the time before the line "measure SECONDS" on stdin
have the letter w, then m. At the end one line of JSON: {"done": [[id, k], …], "failed": n, "asked": n} of the measured
ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PATIENCE_S = 20.0
"""How long a request may take before it counts as failed."""


@dataclass
class Tally:
    """What became of the measured requests."""

    done: list[tuple[str, int]] = field(default_factory=list)
    asked: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)


class Connection:
    """One keep-alive connection, made when it is needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str) -> int:
        """The status of GET path."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\nAccept: */*\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await self._body(reader, head)
        if b"connection: close" in head or head.startswith(b"http/1.0"):
            self.close()
        return int(head.split(b" ", 2)[1])

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> None:
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                await reader.readexactly(int(value))
                return
            if name == b"transfer-encoding" and b"chunked" in value:
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
                return
        if b"connection: close" in head:
            await reader.read()

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


class Load:
    """The load of one program."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.idle: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(options.connections):
            self.idle.put_nowait(Connection(options.port))
        self.tally = Tally()
        self.random = random.Random(options.mark)
        self.number = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Warm up until told to measure, measure, let what is under way end."""
        measure = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await self._ask_until(lambda: measure.done(), "w")
        end = time.monotonic() + float(measure.result().split()[1])
        await self._ask_until(lambda: time.monotonic() >= end, "m")
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def _ask_until(self, over: Callable[[], bool], letter: str) -> None:
        due = time.monotonic()
        while not over():
            due += self.random.expovariate(self.options.rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._one(letter))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _one(self, letter: str) -> None:
        self.number += 1
        identity = f"id{self.options.mark}{letter}{self.number}z"
        calls = self.random.randint(self.options.least, self.options.most)
        if letter == "m":
            self.tally.asked += 1
        connection = await self.idle.get()
        try:
            path = f"/r/{identity}?k={calls}&par={self.options.parallel}"
            status = await asyncio.wait_for(connection.ask(path), PATIENCE_S)
            if status != 200:
                raise OSError(f"status {status}")
            if letter == "m":
                self.tally.done.append((identity, calls))
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            connection.close()
            if letter == "m":
                self.tally.failed += 1
                self.tally.errors.append(repr(error))
        finally:
            self.idle.put_nowait(connection)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--rate", type=float, default=120.0)
    parser.add_argument("--connections", type=int, default=30)
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=0)
    load = Load(parser.parse_args())
    asyncio.run(load.run())
    tally = load.tally
    print(
        json.dumps({"done": tally.done, "failed": tally.failed, "asked": tally.asked, "errors": tally.errors[:5]}),
        flush=True,
    )


if __name__ == "__main__":
    main()
