"""The names by which TLS clients asked for their servers (SNI, RFC 6066 §3), by connection.

The kernel side takes them from the library (bpf/tls.bpf.c) and tells one before its connection's first exchange and
once a minute while there are more. So a name that was not told for FORGET_NS can go, like its connection; with a
connection of which the end is told it goes at once. What nobody uses does not add up, and the table is bounded anyway.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import FORGET_NS
from otel_ebpf.resource.peers import HOST_NAME

LIMIT = 32768
"""Names that are remembered; the kernel side remembers 16,384."""


class ServerNames:
    """Connection id → name. records: `struct server_name` of bpf/include/records.h.

    refused: what was no host's name. forgotten: names that had to make room for others.

    >>> names = ServerNames()
    >>> names.learn(np.array([(7, b"DB.test")], btf.dtype("server_name")), now)
    [7]
    >>> names.find(7), names.find(8)
    ('db.test', '')
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.refused = 0
        self.forgotten = 0
        self._limit = limit
        self._told: OrderedDict[int, tuple[str, int]] = OrderedDict()
        """id → name, and when it was told last; that of the longest ago comes first"""

    def __len__(self) -> int:
        return len(self._told)

    def __bool__(self) -> bool:
        return bool(self._told)

    def learn(self, records: NDArray[np.void], now: int) -> list[int]:
        """Take over what was told; returns the connections that have another name than before."""
        changed = []
        for conn, said in zip(records["conn"].tolist(), records["name"].tolist(), strict=True):
            name = _host_name(said)
            if not name:
                self.refused += 1
                continue
            if self.find(conn) != name:
                changed.append(conn)
            self._told[conn] = name, now
            self._told.move_to_end(conn)
            if len(self._told) > self._limit:
                self._told.popitem(last=False)
                self.forgotten += 1
        return changed

    def find(self, conn: int) -> str:
        """The name that the connection's client asked for; "" if it is not known."""
        return self._told.get(conn, ("", 0))[0]

    def close(self, conns: Iterable[int]) -> None:
        """These connections are gone, and all that they said has been read."""
        for conn in conns:
            self._told.pop(conn, None)

    def forget(self, now: int) -> None:
        """Drop what was not told for FORGET_NS."""
        while self._told:
            conn, (_, told) = next(iter(self._told.items()))
            if told + FORGET_NS >= now:
                return
            del self._told[conn]


def _host_name(said: bytes) -> str:
    """The name in lower case and without the dot of the root; "" if it is none."""
    name = said.split(b"\0", 1)[0].decode("ascii", "replace").lower().removesuffix(".")
    return name if HOST_NAME.fullmatch(name) else ""
