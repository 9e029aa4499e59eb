"""Two processes that talk: functions of the test, each run in a process of its own.

talk = converse(lambda server: server.send(server.recv(10)), lambda client: client.send(b"x"))
talk.port, talk.server, talk.client
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import termios
import time
import traceback
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hosts import Host

LIMIT_S = 60.0
Side = Callable[[socket.socket], object]


class Process:
    """A child that runs `function` and ends; status 1 and a traceback when that raises."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            signal.alarm(int(LIMIT_S))
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def end(self, expected: int = 0) -> None:
        """Wait for its end; AssertionError when it did not end as expected (negative: by that signal)."""
        _, status = os.waitpid(self.pid, 0)
        assert os.waitstatus_to_exitcode(status) == expected, f"exit status {os.waitstatus_to_exitcode(status)}"

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.end(-signal.SIGKILL)


def at_once(host: Host, ask: Callable[[int], object], clients: int) -> None:
    """`ask(0)` … `ask(clients - 1)` on that host, at the same time; all are to succeed."""

    def all_of_them() -> None:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(ask, range(clients)))

    Process(host.inside(all_of_them)).end()


@dataclass(frozen=True, slots=True)
class Talk:
    """Who talked: the port (0 for unix sockets) and the process ids."""

    port: int
    server: int
    client: int


@contextmanager
def listening(family: int = socket.AF_INET, address: object = None) -> Iterator[socket.socket]:
    """A listener on loopback at a free port, or at that address."""
    default = ("::1", 0) if family == socket.AF_INET6 else ("127.0.0.1", 0)
    with socket.socket(family) as listener:
        listener.bind(address or default)  # type: ignore[arg-type]
        listener.listen(1024)
        yield listener


def port_of(listener: socket.socket) -> int:
    name = listener.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


def connect(listener: socket.socket, target: object = None) -> socket.socket:
    """A connection to the listener, by its own address or another that leads to it."""
    family = listener.family if target is None or isinstance(target, str) else _family(target)
    client = socket.socket(family)
    client.connect(target or listener.getsockname())  # type: ignore[arg-type]
    return client


def _family(target: object) -> int:
    assert isinstance(target, tuple)
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET


def converse(
    serve: Side, ask: Side, family: int = socket.AF_INET, address: object = None, target: object = None
) -> Talk:
    """One connection between two new processes: `serve` has the accepted end, `ask` the one that connected."""
    with listening(family, address) as listener:
        port = port_of(listener)
        reach = (target, port) if isinstance(target, str) else None

        def server() -> None:
            accepted, _ = listener.accept()
            with accepted:
                serve(accepted)

        def client() -> None:
            with connect(listener, reach) as connection:
                ask(connection)

        first, second = Process(server), Process(client)
        second.end()
        first.end()
        return Talk(port, first.pid, second.pid)


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes, fewer only at the end of the stream."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


def unread(connection: socket.socket) -> int:
    """How many bytes wait to be received."""
    waiting = array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, waiting)
    return waiting[0]


def answering(request: int, response: bytes) -> Side:
    """A server that answers each `request` bytes with `response`, until the client is done."""

    def serve(connection: socket.socket) -> None:
        while len(receive(connection, request)) == request:
            connection.sendall(response)

    return serve


def asking(request: bytes, response: int, times: int = 1) -> Side:
    """A client that sends `request` and waits for `response` bytes, so many times."""

    def ask(connection: socket.socket) -> None:
        for _ in range(times):
            connection.sendall(request)
            assert len(receive(connection, response)) == response

    return ask


class Gate:
    """Lets one process wait for another, and carries a number between them. A pipe: those are not observed."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def open(self, number: int = 1) -> None:
        os.write(self._write, number.to_bytes(4, "little"))

    def wait(self) -> int:
        told = os.read(self._read, 4)
        assert len(told) == 4
        return int.from_bytes(told, "little")


def unix_path(folder: Path) -> str:
    """An address for a unix socket, short enough (sun_path: 108 bytes)."""
    return str(folder / "s")


def pause() -> None:
    """Longer than a connection may be idle before its exchange is sent (CaptureSettings.idle_ns)."""
    time.sleep(0.4)
