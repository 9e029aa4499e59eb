"""gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md, doc/statuscodes.md), reported by the RPC conventions.

Its calls are streams of HTTP/2, which http2/streams.py makes exchanges of: the request's head in the form of HTTP/1,
and as the response's the status line and `grpc-status`, the status with which the call ended. Where the server sent
none that is what a client makes of it: of an error of HTTP/2 or a status of HTTP by gRPC's own tables.

`error.type` is the status: for a client each but OK, for a server those that are its fault. `rpc.method` is `_OTHER`
where the server does not know it (UNIMPLEMENTED), and where there are too many different ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import SLOTS, Attributes, Flag
from otel_ebpf.protocols.base import Fields, Options, Reading, Session, Side
from otel_ebpf.protocols.extras import Batch, Columns, Interning, Reader, Told
from otel_ebpf.protocols.headers import Lines
from otel_ebpf.protocols.http import LONGEST_VALUE, OTHER, split_host
from otel_ebpf.protocols.memo import Memo, hash_matrix, hash_rows, mix
from otel_ebpf.protocols.texts import Texts

STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
NOT_KNOWN = -1
_CODE = {status: code for code, status in enumerate(STATUSES)}
_SERVERS_FAULT = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
# PROTOCOL-HTTP2.md, "Errors"; by the error code of RFC 9113 §7, all others are INTERNAL
_OF_RESET = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}
_CANCEL = 8
# doc/http-grpc-status-mapping.md; all others, 200 among them, are UNKNOWN
_OF_HTTP = {400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED"} | dict.fromkeys(
    (429, 502, 503, 504), "UNAVAILABLE"
)
_EARLY_NS, _EARLY_PART = 5 * 10**6, 50
"""A deadline is sent rounded up, and set before it is sent: a call may be given up so much before its time."""
METHODS, HOSTS = 1024, 1024
"""How many different ones may become part of shapes within RENEW_NS (texts.py)."""
_SHAPES = 1 << 14
_PATH = re.compile(r"/[\w.\-/]+/[\w.\-]+", re.ASCII)
_REQUEST = re.compile(rb"[A-Z]+ ([^ ]*) HTTP/2\.0\r\n(?:host: ([^\r]*)\r\n)?")
_STATUS = re.compile(rb"\r\ngrpc-status: ([0-9]+)\r\n")
_TLS = np.uint32(Flag.TLS)
_PORTS = {False: 80, True: 443}


def given_up(error: int, by_client: bool, elapsed: int, timeout: int) -> int:
    """Status of a call that RST_STREAM ended. error: its code. elapsed: ns since the call; timeout: its own, 0: none"""
    overdue = timeout and elapsed + max(_EARLY_NS, timeout // _EARLY_PART) >= timeout
    if error == _CANCEL and by_client and overdue:
        return _CODE["DEADLINE_EXCEEDED"]
    return _CODE[_OF_RESET.get(error, "INTERNAL")]


def cut_off(server: bool) -> int:
    """Status of a call whose connection ended, as its server or its client knows it."""
    return _CODE["CANCELLED" if server else "UNAVAILABLE"]


def outcome(code: int | None, otherwise: int | None, status: int) -> int:
    """With which status a call ended. code: `grpc-status`; otherwise: where there is none; status: of HTTP, 0: not
    known."""
    if code is not None:
        return code if code < len(STATUSES) else _CODE["UNKNOWN"]
    if otherwise is not None:
        return otherwise
    return _CODE[_OF_HTTP.get(status, "UNKNOWN")] if status else NOT_KNOWN


@lru_cache(8192)
def fields(method: str, original: str, host: str, status: str, secure: bool) -> Fields:
    """Both ends of a call. method: `rpc.method`, "" where it is not known; original: if it was called otherwise."""
    address = split_host(host) if host else None
    server: Attributes = ()
    if address is not None:
        server = (("server.address", address[0]), ("server.port", address[1] or _PORTS[secure]))
    said: Attributes = (("rpc.system.name", "grpc"), *_given("rpc.method", method))
    ended = _given("rpc.status_code", status)
    name = method if method and method != OTHER else "grpc"

    def side(failed: bool, *, addressed: bool) -> Side:
        error = _given("error.type", status) if failed else ()
        more = _given("rpc.method_original", original)
        metric = (*said, *(server if addressed else ()), *ended, *error)
        return Side(name, (*said, *more, *server, *ended, *error), metric, failed, addressed=address is not None)

    return Fields(
        "grpc",
        side(status in _SERVERS_FAULT, addressed=False),
        side(status not in ("", "OK"), addressed=True),
        status,
    )


def _given(name: str, value: str) -> Attributes:
    return ((name, value),) if value else ()


class Grpc:
    """Module of the registry. Which streams of HTTP/2 are calls these tell: no connection is found by its bytes."""

    name = "grpc"
    duration_metric = ("rpc.server.call.duration", "rpc.client.call.duration")

    def detect(self, request: bytes, response: bytes) -> float:
        return 1.0 if _REQUEST.match(request) and _STATUS.search(response) else 0.0

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        reading = GrpcReader(options, None).read_one(request, response, Told())
        return () if reading is None else (reading,)

    def reader(self, options: Options, intern: Interning) -> Reader:
        return GrpcReader(options, intern)


class GrpcReader:
    """Reader of the registry's module; see `extras.Reader`. What is equal in a batch is read once."""

    def __init__(self, options: Options, intern: Interning | None) -> None:
        self._intern = intern
        self._methods = Texts(METHODS)
        self._hosts = Texts(HOSTS, lambda host: split_host(host) is not None)
        self._shapes = Memo(_SHAPES)

    @property
    def left_out(self) -> dict[str, int]:
        return {"rpc_method": self._methods.left_out, "rpc_host": self._hosts.left_out}

    def forget(self, shape: int) -> None:
        self._shapes.forget(shape)

    def detect(self, request: NDArray[np.uint8], response: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.zeros(len(request), np.bool_)

    def complete(self, batch: Batch) -> NDArray[np.int8]:
        return np.full(len(batch.head), -1, np.int8)

    def read(self, batch: Batch) -> Columns:
        n, width = batch.request.shape
        lines = Lines.of(batch.request)
        nothing = np.zeros((n, SLOTS), np.int64)
        shape = np.full(n, -1, np.int32)
        if not n or width < 16 or self._intern is None:
            return Columns(shape, nothing, nothing.astype(np.int32), np.zeros(0, np.uint8), lines)
        for table in (self._methods, self._hosts):
            table.renew(int(batch.head["t_req"][-1]))
        # The request line and the host, which is the first field; what comes behind differs from call to call.
        end = np.where(lines.first < 0, batch.head["req_cap"], lines.first)
        hosts = lines.values(b"host:")
        end[hosts.row] = hosts.start + hosts.length - hosts.row * width
        asked = np.ascontiguousarray(batch.request).view("<u8")
        tls = (batch.head["flags"] & _TLS).astype(np.uint64)
        keys = mix(hash_rows(asked, end), hash_matrix(batch.response), tls)
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        found = self._shapes.find(distinct)
        self._intern.touch(self._shapes.recent().tolist())
        new = (found < 0).nonzero()[0]
        for i in new.tolist():
            row = int(first[i])
            request = batch.request[row, : int(batch.head["req_cap"][row])].tobytes()
            response = batch.response[row, : int(batch.head["rsp_cap"][row])].tobytes()
            one = self._fields(request, response, bool(tls[row]))
            if one is not None:
                found[i] = self._intern.id(one)
        known = new[found[new] >= 0]
        self._shapes.add(distinct[known], found[known])
        shape[:] = found[inverse]
        return Columns(shape, nothing, nothing.astype(np.int32), np.zeros(0, np.uint8), lines)

    def read_one(self, request: bytes, response: bytes, told: Told) -> Reading | None:
        one = self._fields(request, response, told.https)
        return None if one is None else Reading(one)

    def _fields(self, request: bytes, response: bytes, secure: bool) -> Fields | None:
        match = _REQUEST.match(request)
        if match is None:
            return None
        ended = _STATUS.search(response)
        code = int(ended[1]) if ended else NOT_KNOWN
        status = STATUSES[code] if 0 <= code < len(STATUSES) else ""
        method, original = self._method(match[1], status)
        said = match[2] or b""
        host = self._hosts.texts.get(self._hosts.number(said), "") if len(said) <= LONGEST_VALUE else ""
        return fields(method, original, host, status, secure)

    def _method(self, path: bytes, status: str) -> tuple[str, str]:
        """`rpc.method` and `rpc.method_original`."""
        if not path:
            return "", ""
        text = path.decode("utf-8", "replace") if len(path) <= LONGEST_VALUE else ""
        original = text.removeprefix("/")
        kept = self._methods.texts.get(self._methods.number(original.encode()), "") if original else ""
        if not kept:
            return OTHER, ""
        known = _PATH.fullmatch(text) is not None and status != "UNIMPLEMENTED"
        return (kept, "") if known else (OTHER, kept)
