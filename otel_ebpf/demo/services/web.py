"""What the shop's Python services have in common: a JSON service with a thread a connection, and a client for others.

serve({("GET", r"/stock/(\\d+)"): stock}, port)
Peer("http://127.0.0.1:8001").get("/stock/7")
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
_LONGEST_BODY = 64 << 10
_TIMEOUT_S = 10.0


class Failure(Exception):
    """Answer with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request. parts: the groups of the route's pattern. body: {} if there was none."""

    parts: tuple[str, ...]
    query: Mapping[str, str]
    body: Mapping[str, Json]
    session: str

    def number(self, name: str, otherwise: int) -> int:
        """A whole number of the query or the body."""
        given = self.query.get(name, self.body.get(name, otherwise))
        try:
            return int(given)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise Failure(400, f"{name}: {given!r} is not a number") from None


Handler: TypeAlias = Callable[[Request], Json]


def serve(routes: Mapping[tuple[str, str], Handler], port: int) -> None:
    """Answer on a loopback port until SIGTERM. routes: (method, pattern of the whole path) → what answers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    patterns = [(method, re.compile(pattern), handler) for (method, pattern), handler in routes.items()]

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            try:
                status, body = 200, self._handle(method)
            except Failure as failure:
                status, body = failure.status, {"error": str(failure)}
            except Exception as error:  # a service answers, whatever happens to its database
                print(f"{method} {self.path}: {type(error).__name__}: {error}", file=sys.stderr)
                status, body = 500, {"error": "internal error"}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _handle(self, method: str) -> Json:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            if length > _LONGEST_BODY:
                self.close_connection = True
                raise Failure(413, "too long")
            try:
                body = json.loads(self.rfile.read(length)) if length else {}
            except ValueError:
                raise Failure(400, "the body is not JSON") from None
            for known, pattern, handler in patterns:
                if known == method and (match := pattern.fullmatch(url.path)):
                    session = self.headers.get("X-Session", "")
                    return handler(Request(match.groups(), dict(parse_qsl(url.query)), body, session))
            raise Failure(404, f"no such page: {url.path}")

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: nginx keeps the access log."""

    class _Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with _Server(("127.0.0.1", port), _Handler) as server:
        server.serve_forever()


class Peer:
    """Another service, over connections that are kept: one for each thread."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._local = threading.local()

    def get(self, path: str) -> Json:
        """The JSON at a path; Failure with the peer's own status if that is not 200."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Json) -> Json:
        """The same for a POST with a JSON body."""
        return self._call("POST", path, json.dumps(body).encode())

    def _call(self, method: str, path: str, body: bytes | None) -> Json:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            answer: Json = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise Failure(502, f"{self._address}: {type(error).__name__}") from error
        if response.status != 200:
            said = answer.get("error") if isinstance(answer, dict) else None
            raise Failure(response.status, str(said))
        return answer
