"""Ring records as the kernel would have sent them: whole HTTP/1.1 exchanges, both ends on this host.

    drain = make("few", 10_000, btf, batch=0)

few: 100 URLs; uniq: all different, 2 routes; wild: all different, 300 routes, over a hundred lengths. Batches differ
in their URLs (not for `few`), ids and sequence numbers, so that nothing which remembers URLs is flattered.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.live import Drain
from otel_ebpf.kernel.btf import Btf
from otel_ebpf.model import Exchanges, Flag
from otel_ebpf.pipeline import ARRIVAL_NS

KINDS = ("few", "uniq", "wild")
CONNECTIONS = 16
AF_INET, IPPROTO_TCP = 2, 6
RESPONSE = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n"
_BEGIN = time.monotonic_ns() + 10**9
"""After the processes have begun: a process id from before belongs to nobody who is known."""
LOOPBACK = np.frombuffer(bytes(10) + b"\xff\xff\x7f\0\0\1", np.uint8)


def paths(kind: str, n: int, batch: int) -> list[bytes]:
    """The targets of n requests."""
    rng = np.random.default_rng([KINDS.index(kind), batch])
    if kind == "few":
        return [b"/api/v1/items/%d/reviews" % (i % 100) for i in range(n)]
    numbers = rng.integers(1 << 40, 1 << 62, n).tolist()
    if kind == "uniq":
        return [
            b"/api/v1/items/%d/reviews" % number if i % 2 else b"/api/v1/users/%d" % number
            for i, number in enumerate(numbers)
        ]
    routes = [b"/api/%s/r%d" % (b"abcdefghij"[i % 10 :] * (1 + i % 5), i) for i in range(300)]
    return [b"%s/%d?q=%s" % (routes[i % 300], number, b"x" * (i % 61)) for i, number in enumerate(numbers)]


def make(kind: str, n: int, btf: Btf, processes: tuple[int, int], batch: int) -> Drain:
    """n exchanges: n records with payload of the server's end, n heads of the client's. processes: (server, client)."""
    head_type, connection_type = btf.dtype("exchange"), btf.dtype("connection")
    request_width, response_width = (btf.dtype("record_small")[name].shape[0] for name in ("request", "response"))
    rng = np.random.default_rng([7, batch])
    served = np.zeros(n, head_type)
    at = np.arange(n)
    connection = at % CONNECTIONS
    served["conn"] = 1 + 2 * connection
    served["n"] = at // CONNECTIONS + batch * (n // CONNECTIONS)
    served["seq_req"] = 1 + served["n"] * 150
    served["seq_rsp"] = 1 + served["n"] * 400
    served["t_req"] = _BEGIN + (at + batch * n) * 5_000
    served["t_req_end"] = served["t_req"]
    served["t_rsp"] = served["t_req"] + rng.integers(10**5, 10**6, n).astype(np.uint64)
    served["t_rsp_end"] = served["t_rsp"]
    request = np.zeros((n, request_width), np.uint8)
    response = np.zeros((n, response_width), np.uint8)
    for i, path in enumerate(paths(kind, n, batch)):
        _put(request, i, b"GET %s HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x/1\r\n\r\n" % path)
    response[:] = np.frombuffer(RESPONSE[:response_width], np.uint8)
    served["req_cap"] = (request != 0).sum(axis=1)
    served["rsp_cap"] = response_width
    served["req_bytes"], served["rsp_bytes"] = served["req_cap"], 400
    sent = served.copy()
    sent["conn"] += 1
    sent["t_req"] -= np.uint64(20_000)
    sent["t_rsp_end"] += np.uint64(20_000)
    common = Flag.PEER | Flag.RESPONSE_CUT
    served["flags"], sent["flags"] = common | Flag.SERVER, common | Flag.HEAD
    for side, head in zip(processes, (served, sent), strict=True):
        head["tgid"] = side
        head["tid_req"] = head["tid_rsp"] = side
        head["span_id"] = rng.integers(1, 1 << 63, n)
    none = np.zeros((n, 0), np.uint8)
    exchanges = [Exchanges(served, request, response), Exchanges(sent, none, none)]
    swept = int(sent["t_rsp_end"].max()) + ARRIVAL_NS
    return Drain(exchanges, _announcements(connection_type, processes), np.zeros(0, btf.dtype("process_event")), swept)


def _put(rows: NDArray[np.uint8], i: int, message: bytes) -> None:
    assert len(message) <= rows.shape[1], "the kernel would have sent a large record"
    rows[i, : len(message)] = np.frombuffer(message, np.uint8)


def _announcements(kind: np.dtype[np.void], processes: tuple[int, int]) -> NDArray[np.void]:
    ends = np.zeros(2 * CONNECTIONS, kind)
    ends["id"] = 1 + np.arange(2 * CONNECTIONS)
    ends["peer"] = np.where(ends["id"] % 2, ends["id"] + 1, ends["id"] - 1)
    is_server = ends["id"] % 2 == 1
    ends["flags"] = is_server  # CONNECTION_SERVER
    ends["tgid"] = np.where(is_server, *processes)
    ephemeral = 40_000 + np.arange(2 * CONNECTIONS) // 2
    ends["local_port"], ends["remote_port"] = np.where(is_server, 8080, ephemeral), np.where(is_server, ephemeral, 8080)
    ends["local"] = ends["remote"] = LOOPBACK
    ends["family"], ends["protocol"] = AF_INET, IPPROTO_TCP
    ends["t_open"] = _BEGIN
    return ends
