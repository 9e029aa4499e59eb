"""The admin address: /readyz, /healthz and /metrics, for probes and Prometheus; and POST /v1/complete.

    /readyz   200 once everything is attached, else 503 and why not
    /healthz  200 while the agent's loop turns, else 503
    /metrics  own telemetry, Prometheus text 0.0.4; 503 before it is ready
    /v1/complete  POST: OTLP spans of another tracer in, they and ours out (foreign/complete.py)

Whoever can connect is a stranger: a request has 8 KiB and 5 s, and 16 connections may be open; what is more is closed
at once. `http.server` is not used: it would bring 8 MB of resident memory (ssl, email, html) to serve three pages, and
bounds neither the time nor the number of its clients.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeAlias, cast

from otel_ebpf.control.exposition import CONTENT_TYPE, exposition
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.errors import ConfigError, UnsupportedError
from otel_ebpf.foreign.asked import Busy

STALL_S = 5.0
"""After so long without a turn of its loop the agent is not healthy."""
MAX_REQUEST = 8192
REQUEST_S = 5.0
MAX_CLIENTS = 16
# RFC 9112 §3: method SP request-target SP HTTP-version
_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,32}) (/[!-~]*) HTTP/1\.[01]\r?\n")
_METHODS = (b"GET", b"HEAD")
COMPLETE = "/v1/complete"
MAX_BODY = 4 << 20
BODY_S = 10.0
_HEADER = re.compile(rb"(?im)^(content-length|content-type|content-encoding):[ \t]*([^\r\n]*?)[ \t]*\r?$")
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    503: "Service Unavailable",
}
_POST_COMPLETE = f"POST {COMPLETE} ".encode()
_PLAIN = "text/plain; charset=utf-8"
_LOG = logging.getLogger(__name__)
_Sock: TypeAlias = "socket.socket | tuple[bytes, socket.socket]"
_Address: TypeAlias = "tuple[str, int] | str"


class Health:
    """What the agent says about its own state; its loop writes, probes read."""

    def __init__(self) -> None:
        self.waiting_for: str | None = "starting"
        """Why it is not ready; None: it is."""
        self._last_turn = time.monotonic()

    def ready(self) -> None:
        """Everything is attached."""
        self.waiting_for = None

    def turned(self) -> None:
        """The loop has made a turn."""
        self._last_turn = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the loop's last turn."""
        return time.monotonic() - self._last_turn


class Admin(socketserver.ThreadingTCPServer):
    """The server; listens when it is made, answers from `start` to `close`.

    >>> admin = Admin("127.0.0.1:8894", health, lambda: statistics)
    >>> admin.start()
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CLIENTS

    def __init__(
        self,
        address: str,
        health: Health,
        statistics: Callable[[], Statistics],
        complete: Callable[[bytes, str, bool], bytes] | None = None,
    ) -> None:
        """statistics: called from other threads. complete: answers POST /v1/complete, see `Questions.ask`; None: nobody
        does.

        ConfigError: no such address on this host. UnsupportedError: it is taken.
        """
        self.health = health
        self.statistics = statistics
        self.complete = complete
        self._clients = threading.BoundedSemaphore(MAX_CLIENTS)
        self._thread: threading.Thread | None = None
        host, _, port = address.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family = found[0][0]
            super().__init__(cast("tuple[str, int]", found[0][4]), _Request)
        except OSError as failure:
            raise _explain(address, failure) from None

    @property
    def address(self) -> str:
        """Where it listens, host:port."""
        host, port = self.server_address[:2]
        return f"[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"{host!s}:{port}"

    def start(self) -> None:
        """Answer in the background."""
        self._thread = threading.Thread(target=self.serve_forever, name="admin", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        if self._thread is not None:
            self.shutdown()
        self.server_close()

    def process_request(self, request: _Sock, client_address: _Address) -> None:
        """Serve one client in a thread, if there is room for one more."""
        if not self._clients.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be had
            self._clients.release()
            raise

    def process_request_thread(self, request: _Sock, client_address: _Address) -> None:
        """In the client's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._clients.release()

    def handle_error(self, request: _Sock, client_address: _Address) -> None:
        """A client that goes away or is too slow is no event; all else is a defect of ours."""
        failure = sys.exc_info()[1]
        if not isinstance(failure, OSError):
            _LOG.error("admin: a request failed: %s: %s", type(failure).__name__, failure)

    def page(self, path: str) -> tuple[int, str, str]:
        """Status, content type and text of one page."""
        waiting_for = self.health.waiting_for
        if path in ("/readyz", "/metrics") and waiting_for is not None:
            return 503, _PLAIN, f"not ready: {waiting_for}\n"
        if path == "/readyz":
            return 200, _PLAIN, "ready\n"
        if path == "/metrics":
            return 200, CONTENT_TYPE, exposition(self.statistics())
        if path == "/healthz":
            idle = self.health.idle_s
            return (200, _PLAIN, "ok\n") if idle < STALL_S else (503, _PLAIN, f"no turn of the loop for {idle:.0f} s\n")
        return 404, _PLAIN, "not found; there are /readyz, /healthz, /metrics\n"


class _Request(socketserver.BaseRequestHandler):
    """One connection, one request."""

    server: Admin
    request: socket.socket

    def handle(self) -> None:
        head = _read_head(self.request)
        if not head:
            return
        if self.server.complete is not None and _REQUEST_LINE.match(head) and head.startswith(_POST_COMPLETE):
            status, kind, body = self._complete(self.server.complete, head)
            more, method = "", b"GET"
        else:
            status, kind, text, more, method = self._answer(head)
            body = text.encode()
        headers = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
        )
        self.request.settimeout(REQUEST_S)
        self.request.sendall(headers.encode() + (b"" if method == b"HEAD" else body))
        if method not in _METHODS:
            _read_rest(self.request)

    def _complete(self, complete: Callable[[bytes, str, bool], bytes], head: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        text, _, begun = head.partition(b"\r\n\r\n")
        headers = {name.lower(): value.decode("latin-1").lower() for name, value in _HEADER.findall(text)}
        length, kind = headers.get(b"content-length", ""), headers.get(b"content-type", "").partition(";")[0]
        if kind not in (_PROTOBUF, _JSON):
            return 415, _PLAIN, f"expected {_PROTOBUF} or {_JSON}\n".encode()
        if not length.isdigit():
            return 411, _PLAIN, b"expected Content-Length\n"
        if len(length) > 9 or int(length) > MAX_BODY:
            return 413, _PLAIN, f"more than {MAX_BODY} bytes\n".encode()
        body = _read_body(self.request, begun, int(length))
        if body is None:
            return 400, _PLAIN, b"the body did not come\n"
        try:
            return 200, _PROTOBUF, complete(body, headers.get(b"content-encoding", ""), kind == _JSON)
        except Busy as failure:
            return 503, _PLAIN, f"{failure}\n".encode()
        except Exception as failure:  # protobuf's, zlib's, our own: the bytes are no request
            return 400, _PLAIN, f"not OTLP: {type(failure).__name__}\n".encode()

    def _answer(self, head: bytes) -> tuple[int, str, str, str, bytes]:
        match = _REQUEST_LINE.match(head)
        if match is None:
            return 400, _PLAIN, "not an HTTP/1.1 request\n", "", b""
        method, path = match[1], match[2].partition(b"?")[0].decode("ascii")
        if method not in _METHODS:
            return 405, _PLAIN, "only GET and HEAD\n", "Allow: GET, HEAD\r\n", method
        return (*self.server.page(path), "", method)


def _read_head(client: socket.socket) -> bytes:
    """The request line and headers, at most MAX_REQUEST bytes; empty if they do not come in time."""
    until = time.monotonic() + REQUEST_S
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < MAX_REQUEST:
        left = until - time.monotonic()
        if left <= 0:
            return b""
        client.settimeout(left)
        try:
            more = client.recv(MAX_REQUEST - len(head))
        except OSError:
            return b""
        if not more:
            return b""
        head += more
    return head


def _read_body(client: socket.socket, begun: bytes, length: int) -> bytes | None:
    """The rest of a body of so many bytes; None if it does not come in time."""
    until = time.monotonic() + BODY_S
    parts, have = [begun[:length]], min(len(begun), length)
    while have < length:
        left = until - time.monotonic()
        if left <= 0:
            return None
        client.settimeout(left)
        try:
            more = client.recv(min(length - have, 1 << 16))
        except OSError:
            return None
        if not more:
            return None
        parts.append(more)
        have += len(more)
    return b"".join(parts)


def _read_rest(client: socket.socket) -> None:
    """Take a little of the body that nobody asked for: closing on it would reset the connection before the answer was
    read (RFC 9112 §9.6)."""
    client.shutdown(socket.SHUT_WR)
    client.settimeout(0.5)
    for _ in range(8):
        if not client.recv(MAX_REQUEST):
            return


def _explain(address: str, failure: OSError) -> Exception:
    if isinstance(failure, socket.gaierror) or failure.errno == errno.EADDRNOTAVAIL:
        reason = failure.strerror
        return ConfigError(f"admin.address: {address!r} is not an address of this host ({reason})")
    why = failure.strerror
    if failure.errno == errno.EADDRINUSE:
        from otel_ebpf.resource.ports import taken_by

        why = f"taken by {taken_by(int(address.rpartition(':')[2]))}"
    return UnsupportedError(f"admin address {address}: {why}: choose another with --admin-address HOST:PORT, or none")
