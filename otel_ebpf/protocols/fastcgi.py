"""FastCGI 1.0 (Open Market's specification of 1996, as nginx, Apache and PHP-FPM speak it) → spans of HTTP.

A web server hands an HTTP request on as CGI variables (RFC 3875 §4.1), so that is what is reported: the request is
written again as HTTP/1.1 is, and read as every other; with `network.protocol.name` "fastcgi". Routes are
learned from all programs together.

A record (§3.3): version, type, request id (2), content length (2), padding length, reserved; content; padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from otel_ebpf.model import Attributes
from otel_ebpf.protocols.base import Options, Reading, Session, Side
from otel_ebpf.protocols.extras import Told
from otel_ebpf.protocols.headers import NAMES
from otel_ebpf.protocols.http import Plain

BEGIN_REQUEST, END_REQUEST, PARAMS, STDOUT, STDERR = 1, 3, 4, 6, 7
_HEAD = 8
_RECORDS = 64
"""Most records that are looked at on each side."""
_VARIABLES = 256
_BEGUN = b"\x01\x01"
_ROLES = (1, 2, 3)
_WORD = ("network.protocol.name", "fastcgi")


def records(data: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Type, content and whether that is whole, of each record in `data`; ends at what is no record.

    >>> list(records(bytes([1, 6, 0, 1, 0, 2, 1, 0]) + b"ok" + bytes([0, 1, 3])))
    [(6, b'ok', True)]
    """
    at = 0
    for _ in range(_RECORDS):
        head = data[at : at + _HEAD]
        if len(head) < _HEAD or head[0] != 1 or not 1 <= head[1] <= 11:
            return
        length = int.from_bytes(head[4:6], "big")
        content = data[at + _HEAD : at + _HEAD + length]
        yield head[1], content, len(content) == length
        at += _HEAD + length + head[6]


def variables(params: bytes) -> dict[bytes, bytes]:
    """The name-value pairs (§3.4), up to the first that is cut; the first of equal names counts.

    >>> variables(bytes([4, 2]) + b"HOMEok" + bytes([3, 9]) + b"CUT.")
    {b'HOME': b'ok'}
    """
    found: dict[bytes, bytes] = {}
    at = 0
    for _ in range(_VARIABLES):
        name, at = _length(params, at)
        value, at = _length(params, at)
        if name < 0 or value < 0 or at + name + value > len(params):
            break
        found.setdefault(params[at : at + name], params[at + name : at + name + value])
        at += name + value
    return found


def _length(params: bytes, at: int) -> tuple[int, int]:
    """A length and where it ends; -1: cut. One byte, or four with the highest bit set."""
    if at >= len(params):
        return -1, at
    if params[at] < 128:
        return params[at], at + 1
    if at + 4 > len(params):
        return -1, at
    return int.from_bytes(params[at : at + 4], "big") & 0x7FFFFFFF, at + 4


_CONTEXT = {
    b"HTTP_" + name[:-1].upper().replace(b"-", b"_"): name
    for name in NAMES
    if name not in (b"host:", b"user-agent:", b"content-length:", b"transfer-encoding:")
}
"""Variables (RFC 3875 §4.1.18) in which trace contexts and request ids are, and the headers that they are of."""


def _one_line(value: bytes) -> bytes:
    """What may stand in a line of HTTP."""
    return value.replace(b"\r", b"").replace(b"\n", b"")


def as_http(request: bytes) -> tuple[bytes, bool]:
    """The request as its web server received it, and whether that was by HTTPS; b"" if it cannot be told.

    Of its headers those that matter here.
    """
    params = b"".join(content for kind, content, _ in records(request) if kind == PARAMS)
    asked = {name: _one_line(value) for name, value in variables(params).items()}
    method = asked.get(b"REQUEST_METHOD", b"")
    target = asked.get(b"REQUEST_URI") or asked.get(b"SCRIPT_NAME", b"") + asked.get(b"PATH_INFO", b"")
    if not method or not target:
        return b"", False
    query = asked.get(b"QUERY_STRING", b"")
    if b"REQUEST_URI" not in asked and query:
        target += b"?" + query
    lines = [method + b" " + target.replace(b" ", b"%20") + b" HTTP/1.1"]
    host = asked.get(b"HTTP_HOST") or asked.get(b"SERVER_NAME", b"")
    lines += [b"Host: " + host] if host else []
    lines += [b"User-Agent: " + asked[b"HTTP_USER_AGENT"]] if b"HTTP_USER_AGENT" in asked else []
    lines += [_CONTEXT[name] + b" " + value for name, value in asked.items() if name in _CONTEXT]
    return b"\r\n".join([*lines, b"", b""]), asked.get(b"HTTPS", b"").lower() in (b"on", b"1")


def status_line(response: bytes) -> bytes:
    """The status of a CGI response (RFC 3875 §6.3.3) as HTTP says it; b"" if nothing of the response was seen.

    >>> status_line(bytes([1, 6, 0, 1, 0, 13, 0, 0]) + b"Status: 404\\r\\n")
    b'HTTP/1.1 404'
    """
    said = b""
    ended = False
    for kind, content, _ in records(response):
        said += content if kind == STDOUT else b""
        ended |= kind == END_REQUEST
    if not said:
        return b"HTTP/1.1 500" if ended else b""  # the program ended without an answer: web servers say 502 then
    for line in said.split(b"\r\n\r\n", 1)[0].split(b"\n"):
        name, _, value = line.partition(b":")
        code = value.strip()[:3]
        if name.strip().lower() == b"status" and code.isdigit():
            return b"HTTP/1.1 " + code
    return b"HTTP/1.1 200"


class FastCgi:
    """The `Protocol` of FastCGI; see the module's docstring."""

    name = "fastcgi"
    duration_metric = ("http.server.request.duration", "http.client.request.duration")

    def __init__(self) -> None:
        self._plain: tuple[Options, Plain] | None = None

    def detect(self, request: bytes, response: bytes) -> float:
        begun = (
            request.startswith(_BEGUN)
            and request[4:7] in (b"\x00\x08\x00", b"\x00\x08", b"")
            and (len(request) < 16 or (request[8] == 0 and request[9] in _ROLES and not any(request[11:16])))
        )
        answered = response[:1] == b"\x01" and response[1:2] in (b"\x03", b"\x06", b"\x07")
        if not begun or (response and not answered):
            return 0.0
        return (1.0 if answered else 0.9) if len(request) >= 16 else 0.6 if len(request) >= 7 else 0.1

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        asked, https = as_http(request)
        if not asked:
            return ()
        if self._plain is None or self._plain[0] != options:
            self._plain = options, Plain(options)
        reading = self._plain[1].read(asked, status_line(response), Told(https=https, server=True))
        if reading is None:
            return ()
        fields = reading.fields
        renamed = replace(fields, protocol=self.name, server=_renamed(fields.server), client=_called(fields.client))
        carries = any(b"\n" + name in asked for name in _CONTEXT.values())
        return (Reading(renamed, reading.texts, asked if carries else b""),)

    def complete(self, request: bytes, response: bytes, req_bytes: int, rsp_bytes: int) -> bool | None:
        if any(kind == END_REQUEST for kind, _, _ in records(response)):
            return True
        return None if rsp_bytes > len(response) else False


def _renamed(side: Side, *without: str) -> Side:
    """An end of an HTTP exchange with the protocol's own name, in place of HTTP's version."""

    def told(attributes: Attributes) -> Attributes:
        return (*(pair for pair in attributes if pair[0] not in ("network.protocol.version", *without)), _WORD)

    return replace(side, attributes=told(side.attributes), metric=told(side.metric))


def _called(side: Side) -> Side:
    """The web server's end: what it calls is at the other end of its connection, not where the browser's led to."""
    return replace(_renamed(side, "server.address", "server.port"), addressed=False)
