"""May connections of this host be shown to a program (BPF_MAP_TYPE_SOCKHASH, sk_msg)? Tried out, before any is.

In a map, a socket is served by other functions of the kernel (net/ipv4/tcp_bpf.c), and not all kernels have them right:
from 6.6.128, 6.12.75, 6.18.14 and 6.19 on FIONREAD may say 0 where bytes are waiting, so that whoever asks it waits for
ever. No version is asked, as distributions mend what they ship: connections of the agent's own, on loopback, go through
what bpf/header.bpf.c does with those of others (bpf/sockmap.bpf.c), and every answer must be the usual one.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import mmap
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator

import numpy as np

from otel_ebpf.errors import KernelError, OtelEbpfError
from otel_ebpf.kernel import cgroup
from otel_ebpf.kernel.objects import Object

PATIENCE_S = 2.0
"""What takes longer, on loopback, does not come."""
_ARRIVED_S = 0.01
"""By then, on loopback, what is on its way has arrived, mostly."""
_SO_COOKIE, _SO_MEMINFO = 57, 55
_FORWARD, _QUEUED = 4, 5
"""SK_MEMINFO_FWD_ALLOC, SK_MEMINFO_WMEM_QUEUED of SO_MEMINFO (include/uapi/linux/sock_diag.h)."""
_LINE = b"GET / HTTP/1.1\r\n"
_HEAD = _LINE + b"Host: here\r\n\r\n"
_HEADER = b"traceparent: 00-%s-%s-01\r\n" % (b"11" * 8 + b"22" * 8, b"33" * 8)
_LONG = _HEAD + bytes(range(256)) * 256
_ROUNDS = 16


class _WrongError(OtelEbpfError):
    """What a socket in a map did otherwise."""


def refusal() -> str:
    """What sockets in a map do wrong on this kernel, or why that cannot be tried; "" if they do all as ever.

    >>> refusal()
    'this kernel is not fit for it: FIONREAD says 0 of 5 bytes that wait on a socket in a sockmap'
    """
    try:
        with connections() as connect:
            for check in (_sends, _receives, _fails, _keeps_account, _leaves):
                check(connect)
    except _WrongError as wrong:
        return f"this kernel is not fit for it: {wrong}"
    except (KernelError, OSError) as failure:
        return f"whether this kernel is fit for it cannot be tried: {failure}"
    return ""


class _Connect:
    """Opens connections, of which the client's end is in the map."""

    def __init__(self, tried: Object, listener: socket.socket, stack: contextlib.ExitStack) -> None:
        self._tried = tried
        self._listener = listener
        self._stack = stack

    def __call__(self) -> tuple[socket.socket, socket.socket]:
        """The client's end, and the server's."""
        client = self._stack.enter_context(socket.create_connection(self._listener.getsockname(), timeout=PATIENCE_S))
        server = self._stack.enter_context(self._listener.accept()[0])
        server.settimeout(PATIENCE_S)
        _right(self.is_watched(client), "a socket does not get into a sockmap when it is connected")
        return client, server

    def is_watched(self, client: socket.socket) -> bool:
        """Is it in the map?"""
        cookie = np.frombuffer(client.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), np.uint64)
        return self._tried.maps["tested"].has(cookie, np.dtype(np.uint64))


@contextlib.contextmanager
def connections() -> Iterator[_Connect]:
    """What opens them, while the map is there."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(PATIENCE_S)
        tried = Object("sockmap", None)
        stack.callback(tried.close)
        tried.set_constants("test", port=listener.getsockname()[1])
        tried.load()
        tried.attach_map("test_message", tried.maps["tested"])
        root = cgroup.root()
        try:
            tried.attach_cgroup("test_connection", root)
        finally:
            os.close(root)
        yield _Connect(tried, listener, stack)


def _right(found: object, otherwise: str) -> None:
    if not found:
        raise _WrongError(otherwise)


def _read(end: socket.socket, length: int) -> bytes:
    """So many bytes, or what came until they ceased to."""
    found = bytearray()
    try:
        while len(found) < length and (part := end.recv(length - len(found))):
            found += part
    except TimeoutError:
        pass
    return bytes(found)


def _arrives(end: socket.socket, wanted: bytes, what: str) -> None:
    _right(_read(end, len(wanted)) == wanted, f"{what} does not arrive as it should from a socket in a sockmap")
    _right(not select.select([end], [], [], 0)[0], f"more than {what} arrives from a socket in a sockmap")


def _sends(connect: _Connect) -> None:
    client, server = connect()
    for request in (b"no request", _HEAD, _LONG, b"x" * 100_000, _HEAD):
        told = request.startswith(_LINE)
        wanted = _LINE + _HEADER + request[len(_LINE) :] if told else request
        client.sendall(request)
        _arrives(server, wanted, "a request with a header put in" if told else "what is no request")
        server.sendall(b"answer")
        _right(_read(client, 6) == b"answer", "a socket in a sockmap does not receive an answer")


def _receives(connect: _Connect) -> None:
    client, server = connect()
    level, edge = select.poll(), select.epoll()
    with edge:
        level.register(client, select.POLLIN)
        edge.register(client, select.EPOLLIN | select.EPOLLET)
        for word in (b"hello", b"hello again"):
            server.sendall(word)
            _right(edge.poll(PATIENCE_S), "epoll does not wake for a socket in a sockmap")
            _right(level.poll(PATIENCE_S * 1000), "poll does not wake for a socket in a sockmap")
            waiting = array.array("i", [0])
            fcntl.ioctl(client, termios.FIONREAD, waiting)
            _right(
                waiting[0] == len(word),
                f"FIONREAD says {waiting[0]} of {len(word)} bytes that wait on a socket in a sockmap",
            )
            _right(_read(client, len(word)) == word, "a socket in a sockmap does not receive what was sent")
        _right(not level.poll(0), "poll tells of bytes that were read from a socket in a sockmap")
        server.shutdown(socket.SHUT_WR)
        _right(edge.poll(PATIENCE_S), "epoll does not wake for the end of a connection in a sockmap")
        _right(client.recv(1) == b"", "a socket in a sockmap does not tell the end of its connection")


def _fails(connect: _Connect) -> None:
    shut, _ = connect()
    shut.shutdown(socket.SHUT_WR)
    _says(lambda: shut.send(_HEAD), errno.EPIPE, "sending after the end")
    dead, server = connect()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    select.select([dead], [], [], PATIENCE_S)
    _says(lambda: dead.send(_HEAD), errno.ECONNRESET, "sending after a reset")
    full, _ = connect()
    full.setblocking(False)
    _says(lambda: _sends_when_full(full), errno.EAGAIN, "sending to who does not read")


def _sends_when_full(full: socket.socket) -> int:
    """What is on its way makes room when it arrives, perhaps after the socket was full: then it is filled again."""
    sent = 0
    for _ in range(_ROUNDS):
        with contextlib.suppress(BlockingIOError):
            while True:
                full.send(b"x" * 65_536)
        sent = full.send(_HEAD)
        time.sleep(_ARRIVED_S)
    return sent


def _says(call: Callable[[], int], wanted: int, what: str) -> None:
    try:
        said = f"{call()} bytes are sent"
    except OSError as failure:
        if failure.errno == wanted:
            return
        said = str(failure)
    raise _WrongError(f"{what}, a socket in a sockmap says: {said}")


def _keeps_account(connect: _Connect) -> None:
    """The memory that the socket has charged is what it uses, in whole pages."""
    client, server = connect()
    for _ in range(_ROUNDS):
        client.sendall(_HEAD)
        _read(server, len(_HEAD) + len(_HEADER))
        server.sendall(b"x")
        _read(client, 1)
    ledger = struct.unpack("9I", client.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
    _right(
        ledger[_QUEUED] or ledger[_FORWARD] % mmap.PAGESIZE == 0,
        "the kernel loses count of the memory of a socket in a sockmap",
    )


def _leaves(connect: _Connect) -> None:
    """Who may wait is not in the map any more when his call returns."""
    client, server = connect()
    client.setblocking(True)
    client.sendall(_HEAD)
    _right(not connect.is_watched(client), "a socket cannot be taken out of a sockmap while it sends")
    client.settimeout(PATIENCE_S)
    _arrives(server, _LINE + _HEADER + _HEAD[len(_LINE) :], "a request with a header put in")
    client.sendall(_HEAD)
    _arrives(server, _HEAD, "a request")
