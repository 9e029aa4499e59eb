"""Whose word counts: contexts in requests from outside of this host are believed only if their sender is trusted.

Anybody can send a `traceparent`: a forged one puts the request into a trace of the sender's choice, and says whether it
is sampled. Between two processes of this host a context is always believed: it is known who sent it.

An address is private if it is one of RFC 1918, RFC 4193, link-local or loopback; a unix socket's peer is on this host.
A context that is not believed stays known as bytes: a proxy that passes it on is still recognised (rung `Forwarded`).
"""

from __future__ import annotations

import socket

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans
from otel_ebpf.tracing.bits import NO_LINK, SERVER
from otel_ebpf.tracing.join import local

NAMES = ("all", "private", "none")


class Trust:
    """One of NAMES. `refused` counts contexts that were not believed.

    >>> trust = Trust("private")
    >>> trust.apply(spans, connections.table, rows)
    """

    def __init__(self, name: str = "all") -> None:
        self.name = name
        self.refused = 0

    def apply(self, spans: Spans, connections: NDArray[np.void], rows: NDArray[np.int32]) -> None:
        """Take `remote_link` from requests whose context does not count.

        connections: (m,) `struct connection`. rows: (n,) the connection of each span.
        """
        if self.name == "all":
            return
        asked = ((spans.remote_link != NO_LINK) & (spans.kind == SERVER)).nonzero()[0]
        asked = asked[~local(spans, asked)]
        if not len(asked):
            return
        ends = connections[rows[asked]]
        believed = ends["family"] == socket.AF_UNIX
        if self.name == "private":
            believed |= is_private(np.ascontiguousarray(ends["remote"]))
        refused = asked[~believed]
        self.refused += len(refused)
        spans.remote_link[refused] = NO_LINK


def is_private(addresses: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n,) whether each of (n, 16) IPv6 or v4-mapped addresses is private, link-local or loopback.

    >>> is_private(np.frombuffer(ipaddress.ip_address("::ffff:10.1.2.3").packed, np.uint8)[None])
    array([ True])
    """
    mapped = (addresses[:, :10] == 0).all(1) & (addresses[:, 10:12] == 255).all(1)
    a, b = addresses[:, 12], addresses[:, 13]
    v4 = (a == 10) | (a == 127) | ((a == 192) & (b == 168)) | ((a == 172) & (b >> 4 == 1)) | ((a == 169) & (b == 254))
    loopback = (addresses[:, :15] == 0).all(1) & (addresses[:, 15] == 1)
    v6 = loopback | (addresses[:, 0] & 0xFE == 0xFC) | ((addresses[:, 0] == 0xFE) & (addresses[:, 1] >> 6 == 2))
    private: NDArray[np.bool_] = np.where(mapped, v4, v6)
    return private
