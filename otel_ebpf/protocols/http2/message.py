"""What a header block says, as the head of a message in the form of HTTP/1: RFC 9110 has the same meaning for both.

`GET /cart HTTP/2.0`, `host: …` (what `:authority` says), and those of the other fields that somebody looks at; so
whoever reads HTTP/1 reads this. A field that is not known is left out; if it might have been one that is looked at, the
empty line at the end is missing, as if the head had been cut. Fields that cannot be (RFC 9113 §8.2.1) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from otel_ebpf.protocols.headers import NAMES
from otel_ebpf.protocols.http2.hpack import Field

LONGEST = 1024
"""Bytes of a head that are kept, as of HTTP/1."""
_OTHERWISE = (b"host", b"content-length", b"transfer-encoding")
_LOOKED_AT = frozenset(name.rstrip(b":") for name in NAMES).difference(_OTHERWISE)
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_STATUS = re.compile(rb"[1-9][0-9][0-9]")
_GRPC = re.compile(rb"application/grpc(?:$|[+;])", re.IGNORECASE)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600 * 10**9, b"M": 60 * 10**9, b"S": 10**9, b"m": 10**6, b"u": 10**3, b"n": 1}
_CODE = re.compile(rb"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request.

    text: as of HTTP/1, at most LONGEST bytes. whole: all of it is there. grpc: what its content-type says; None: that
    is not known. connect: it asks for a tunnel (RFC 9113 §8.5, RFC 8441). timeout: ns, `grpc-timeout`; 0: none.
    """

    text: bytes
    whole: bool
    grpc: bool | None = False
    connect: bool = False
    timeout: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """The head of a response, or its trailers.

    status: 0: not known. grpc: as of Request. code: `grpc-status`, -1: none. certain: what is not here was not said.
    """

    status: int
    grpc: bool | None = None
    code: int = -1
    certain: bool = True


def request(fields: Sequence[Field], cut: bool = False) -> Request | None:
    """The head of a request; None: its method is not known, or these are no request's. cut: more is missing."""
    method = target = authority = host = b""
    whole, grpc, timeout = not cut, False, 0
    lines: list[bytes] = []
    typed, size = False, 0
    for name, value in fields:
        if name is None:
            whole = False
        elif value is None:
            whole &= name not in _LOOKED_AT
        elif name == b":method":
            method = value
        elif name == b":path":
            target = value
        elif name == b":authority":
            authority = _clean(value)
        elif name == b"host":
            host = _clean(value)
        elif name == b"content-type":
            typed, grpc = True, _GRPC.match(value) is not None
        elif name == b"grpc-timeout":
            timeout = _duration(value)
        elif name in _LOOKED_AT and _clean(value):
            if size <= LONGEST:  # a block can say the same long field many thousand times, by a byte each
                lines.append(b"%s: %s\r\n" % (name, value))
            size += len(name) + len(value)
    if _METHOD.fullmatch(method) is None:
        return None
    connect = method == b"CONNECT"
    host = authority or host
    if connect and not target:
        target = host
    if _TARGET.fullmatch(target) is None:
        target = b""
    first = b"%s %s HTTP/2.0\r\n" % (method, target)
    if host:
        first += b"host: %s\r\n" % host
    known = grpc if typed or (whole and not _hides(fields)) else None
    whole &= size <= LONGEST
    text = b"".join((first, *lines, b"\r\n" if whole else b""))
    return Request(text[:LONGEST], whole and len(text) <= LONGEST, known, connect, timeout)


def response(fields: Sequence[Field], cut: bool = False) -> Response:
    """The head of a response, or trailers."""
    status, code, certain = 0, -1, not cut
    grpc: bool | None = None
    for name, value in fields:
        if name is None:
            certain = False
        elif name == b":status":
            status = int(value) if value is not None and _STATUS.fullmatch(value) else 0
        elif name == b"grpc-status":
            code = int(value) if value is not None and _CODE.fullmatch(value) else -1
            certain &= value is not None
        elif name == b"content-type" and value is not None:
            grpc = _GRPC.match(value) is not None
    return Response(status, grpc, code, certain)


def _clean(value: bytes) -> bytes:
    """The value, if it is one line."""
    return b"" if b"\n" in value or b"\r" in value or b"\0" in value else value


def _hides(fields: Sequence[Field]) -> bool:
    """Whether the content-type is there and not known."""
    return any(name == b"content-type" and value is None for name, value in fields)


def _duration(value: bytes) -> int:
    """ns of a `grpc-timeout`; 0: it is none (gRPC over HTTP/2, "Timeout")."""
    match = _TIMEOUT.fullmatch(value)
    return int(match[1]) * _UNITS[match[2]] if match else 0
