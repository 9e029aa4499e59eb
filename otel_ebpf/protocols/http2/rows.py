"""Streams that have ended as rows of `Exchanges`: what the other stages take, whatever the version of HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from otel_ebpf.model import STREAM, Exchanges, Flag
from otel_ebpf.protocols.grpc import NOT_KNOWN, outcome
from otel_ebpf.protocols.http2.frames import Frame
from otel_ebpf.protocols.http2.message import Request, Response
from otel_ebpf.protocols.turns import matrix

_SMALL = 256
"""Bytes of a request: exchanges with longer ones are handed on apart."""
_SERVER, _UNANSWERED, _CUT = (int(f) for f in (Flag.SERVER, Flag.UNANSWERED, Flag.REQUEST_CUT))
_OF_RESPONSE = int(Flag.EPOLL | Flag.DISTURBED | Flag.TLS | Flag.PEER)


@dataclass(slots=True)
class Stream:
    """A stream in progress. opened: the first frame of its request. answered: the first of its response."""

    opened: Frame
    request: Request
    req_bytes: int
    t_req_end: int
    asked: bool = False
    """the request has ended"""
    answered: Frame | None = None
    response: Response | None = None
    trailers: Response | None = None
    rsp_bytes: int = 0
    t_rsp_end: int = 0
    holed: bool = False
    """records of its connection were lost meanwhile"""
    handler: int = 0
    """server: unit that handled what RST_STREAM ended, where that is known"""


@dataclass(slots=True)
class Ended:
    """A stream that is an exchange. code: RFC 9113 §7, of what ended it before its time; -1: nothing did."""

    stream: Stream
    conn: int
    number: int
    flags: int
    code: int = -1
    status: int | None = None
    """of gRPC, where the stream did not come to its end"""


def exchanges(ended: Iterable[Ended], dtype: np.dtype[np.void]) -> list[Exchanges]:
    """The streams as exchanges. dtype: of `struct exchange`."""
    kinds: dict[tuple[str, bool], list[Ended]] = {}
    for one in ended:
        protocol = "grpc" if _is_grpc(one.stream) else "http"
        kinds.setdefault((protocol, len(one.stream.request.text) > _SMALL), []).append(one)
    return [_batch(protocol, rows, dtype) for (protocol, _), rows in kinds.items()]


def _batch(protocol: str, rows: Sequence[Ended], dtype: np.dtype[np.void]) -> Exchanges:
    head = np.zeros(len(rows), dtype)
    streams = [one.stream for one in rows]
    opened = [stream.opened for stream in streams]
    answered = [stream.answered for stream in streams]
    for name, column in (("span_id", "span_id"), ("t_req", "t"), ("cause", "cause"), ("unit_req", "unit")):
        head[name] = [getattr(frame, column) for frame in opened]
    head["tgid"], head["tid_req"] = [f.tgid for f in opened], [f.tid for f in opened]
    head["conn"] = [one.conn for one in rows]
    head["n"] = head["seq_req"] = [one.number for one in rows]
    head["after"] = [
        (a.after if a is not None else 0) if f.flags & _SERVER else f.after
        for f, a in zip(opened, answered, strict=True)
    ]
    head["t_req_end"] = [stream.t_req_end for stream in streams]
    head["t_rsp_end"] = [stream.t_rsp_end for stream in streams]
    head["req_bytes"] = [stream.req_bytes for stream in streams]
    head["rsp_bytes"] = [stream.rsp_bytes for stream in streams]
    for name, column in (("t_rsp", "t"), ("tid_rsp", "tid")):
        head[name] = [0 if frame is None else getattr(frame, column) for frame in answered]
    head["unit_rsp"] = [s.handler if f is None else f.unit for s, f in zip(streams, answered, strict=True)]
    head["flags"] = [_flags(one) for one in rows]
    head["seq_rsp"] = [one.code + 1 for one in rows]
    requests = [stream.request.text for stream in streams]
    responses = [_answer(protocol, one) for one in rows]
    head["req_cap"], head["rsp_cap"] = [len(r) for r in requests], [len(r) for r in responses]
    return Exchanges(head, matrix(requests), matrix(responses), protocol)


def _flags(one: Ended) -> int:
    stream = one.stream
    flags = stream.opened.flags | one.flags | STREAM
    if stream.answered is None:
        flags |= _UNANSWERED
    else:
        flags |= stream.answered.flags & _OF_RESPONSE
    return flags if stream.request.whole else flags | _CUT


def _is_grpc(stream: Stream) -> bool:
    """By the request's content-type, else the response's; else by what only gRPC has."""
    if stream.request.grpc is not None:
        return stream.request.grpc
    if stream.response is not None and stream.response.grpc is not None:
        return stream.response.grpc
    return any(head is not None and head.code >= 0 for head in (stream.response, stream.trailers))


def _answer(protocol: str, one: Ended) -> bytes:
    """The response's head. gRPC's has the status with which the call ended, if that is known."""
    stream = one.stream
    status = stream.response.status if stream.response is not None else 0
    line = b"HTTP/2.0 %d\r\n" % status if status else b"HTTP/2.0\r\n"
    if protocol != "grpc":
        return line + b"\r\n" if status else b""
    said = [head for head in (stream.trailers, stream.response) if head is not None]
    code = next((head.code for head in said if head.code >= 0), None)
    certain = not stream.holed and all(head.certain for head in said)
    number = outcome(code, one.status, status if certain else 0)
    return line + (b"grpc-status: %d\r\n\r\n" % number if number != NOT_KNOWN else b"\r\n")
