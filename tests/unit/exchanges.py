"""Exchanges and connections as the kernel would hand them over, for tests of what comes behind capture."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import Connections
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Exchanges, Flag

BTF = Btf.of_object(object_path("requests"))
EXCHANGE = BTF.dtype("exchange")
CONNECTION = BTF.dtype("connection")
NOW = 10**12


@dataclass
class Said:
    """One exchange of a test. req_bytes, rsp_bytes: 0 = as long as the bytes."""

    request: bytes
    response: bytes = b""
    conn: int = 1
    flags: int = Flag.SERVER
    n: int = 0
    span_id: int = 0
    start: int = NOW
    req_bytes: int = 0
    rsp_bytes: int = 0
    seq: int = 1000


def batch(said: Sequence[Said], width: int = 1024, response_width: int = 512) -> Exchanges:
    """The exchanges as one batch of a size class; what is longer than the class is cut and flagged."""
    n = len(said)
    head = np.zeros(n, EXCHANGE)
    request, response = np.zeros((n, width), np.uint8), np.zeros((n, response_width), np.uint8)
    for i, one in enumerate(said):
        asked, answered = one.request[:width], one.response[:response_width]
        request[i, : len(asked)] = np.frombuffer(asked, np.uint8)
        response[i, : len(answered)] = np.frombuffer(answered, np.uint8)
        row = head[i]
        row["req_cap"], row["rsp_cap"] = len(asked), len(answered)
        row["req_bytes"] = one.req_bytes or len(one.request)
        row["rsp_bytes"] = one.rsp_bytes or len(one.response)
        flags = int(one.flags)
        flags |= Flag.REQUEST_CUT if len(asked) < int(row["req_bytes"]) else 0
        flags |= Flag.RESPONSE_CUT if len(answered) < int(row["rsp_bytes"]) else 0
        row["flags"], row["n"], row["conn"] = flags, one.n, one.conn
        row["span_id"] = one.span_id or 1_000_000 + i
        row["seq_req"], row["tgid"] = one.seq, 4711
        row["t_req"], row["t_req_end"] = one.start, one.start + 1000
        if not flags & Flag.UNANSWERED:
            row["t_rsp"], row["t_rsp_end"] = one.start + 5000, one.start + 6000
    return Exchanges(head, request, response)


def announcements(*ids: int, port: int = 8080, **columns: int) -> NDArray[np.void]:
    """What the kernel says of connections with these ids, from 10.0.0.2:40000 to 10.0.0.1:port, at the server's end."""
    table = np.zeros(len(ids), CONNECTION)
    table["id"] = ids
    table["family"], table["protocol"] = socket.AF_INET, socket.IPPROTO_TCP
    table["local_port"], table["remote_port"] = port, 40000
    mapped = bytes(10) + b"\xff\xff"
    table["local"] = np.frombuffer(mapped + bytes([10, 0, 0, 1]), np.uint8)
    table["remote"] = np.frombuffer(mapped + bytes([10, 0, 0, 2]), np.uint8)
    for name, value in columns.items():
        table[name] = value
    return table


def connections(*ids: int, port: int = 8080, **columns: int) -> Connections:
    """Connections with these ids, from 10.0.0.2:40000 to 10.0.0.1:port, as the server's end sees them."""
    known = Connections(CONNECTION)
    known.update(announcements(*ids, port=port, **columns), NOW)
    return known
