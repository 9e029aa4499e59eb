"""OTLP/HTTP with binary protobuf: one kept-alive HTTP/1.1 connection, the standard library's client."""

from __future__ import annotations

import time
import zlib
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from otel_ebpf.otlp.settings import SignalSettings
from otel_ebpf.otlp.transport.base import USER_AGENT, Answer, Verdict, delivered
from otel_ebpf.otlp.transport.tls import tls_context

RETRYABLE = frozenset({429, 502, 503, 504})
"""All other 4xx and 5xx must not be retried (OTLP specification, "Retryable Response Codes")."""

_MAX_RESPONSE = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1
"""Level 6 costs more CPU than all the rest of the agent together."""


class HttpTransport:
    """Sends one signal to one URL."""

    def __init__(self, settings: SignalSettings) -> None:
        url = urlsplit(settings.endpoint)
        self._host, self._port = url.hostname or "", url.port
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._tls = tls_context(settings) if url.scheme == "https" else None
        self._compression = settings.compression
        self._headers = {
            "user-agent": USER_AGENT,
            **dict(settings.headers),
            "content-type": "application/x-protobuf",
            **({"content-encoding": self._compression} if self._compression != "none" else {}),
        }
        self._connection: HTTPConnection | None = None
        self._sending = self._closed = False

    def send(self, body: bytes, timeout: float) -> Answer:
        self._sending = True
        try:
            return self._send(compress(body, self._compression), time.monotonic() + timeout)
        finally:
            self._sending = False

    def close(self) -> None:
        self._closed = True
        if not self._sending:
            self._disconnect()
            return
        # the thread that sends waits for an answer: it gets the end of the stream instead
        sock = None if self._connection is None else self._connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(SHUT_RDWR)

    def _send(self, payload: bytes, deadline: float) -> Answer:
        while True:
            if self._closed:
                return Answer(Verdict.RETRYABLE, "the transport is closed", error="closed")
            reused = self._connection is not None
            try:
                return self._exchange(payload, deadline)
            except (OSError, HTTPException) as error:
                self._disconnect()
                # That a receiver had closed the idle connection says nothing of this request: once more, on a new one.
                if not (reused and isinstance(error, ConnectionError)):
                    kind = "timeout" if isinstance(error, TimeoutError) else type(error).__name__
                    return Answer(Verdict.RETRYABLE, str(error) or kind, error=kind)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, payload: bytes, deadline: float) -> Answer:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._open(_left(deadline))
            connection.connect()
        connection.sock.settimeout(_left(deadline))
        connection.request("POST", self._target, payload, self._headers)
        connection.sock.settimeout(_left(deadline))
        response = connection.getresponse()
        content = response.read(_MAX_RESPONSE)
        answer = _answer(response, content)
        if not response.isclosed():  # more than we care to read
            self._disconnect()
        return answer

    def _open(self, timeout: float) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=timeout)
        return HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)


def compress(body: bytes, how: str) -> bytes:
    """The body under the given content encoding: "none", "gzip" or "zstd"."""
    if how == "gzip":
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        return compressor.compress(body) + compressor.flush()
    if how == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=_LEVEL).compress(body)
    return body


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks to wait: a number, or a date (RFC 9110 §10.2.3); None if unreadable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - now).total_seconds())


def _answer(response: HTTPResponse, content: bytes) -> Answer:
    if 200 <= response.status < 300:
        return delivered(content)
    message = f"HTTP {response.status} {response.reason}"
    # an answer of a proxy is no Status: then the status line says what there is to say
    with suppress(DecodeError):
        message = f"{message}: {Status.FromString(content).message}".removesuffix(": ")
    if response.status not in RETRYABLE:
        return Answer(Verdict.REFUSED, message, error=str(response.status))
    wait = retry_after(response.getheader("retry-after"), datetime.now(timezone.utc))
    return Answer(Verdict.RETRYABLE, message, retry_after=wait, error=str(response.status))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
