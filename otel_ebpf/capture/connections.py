"""The connections that exchanges belong to: one row per end, found by the kernel's connection id.

The kernel announces an end before its first exchange, when something in it changes, and once a minute while it is in
use; so a row that nobody used for FORGET_NS can go, and the table is bounded by what is really in use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.index import Index
from otel_ebpf.heap import distinct
from otel_ebpf.protocols.base import Session

FORGET_NS = 180 * 10**9
IPPROTO_UDP = 17
CONNECTION_SERVER = np.uint32(1)
"""`enum connection_flags` of bpf/include/records.h."""
DATAGRAMS = np.uint64(1 << 63)
"""Sets the pairs of datagram sockets apart from connection ids, which count from 1."""
UNDECIDED = -1
UNKNOWN = -2


class Connections:
    """Columns of all known ends, and the index from id to row.

    table: (capacity,) structured array of `struct connection`.
    pair: (capacity,) uint64, the same for both ends of a connection on this host.
    key: (capacity,) uint64, the same for both ends of a TCP connection, on whatever host; 0: none.
    protocol: (capacity,) int16: index into the registry of protocols; UNDECIDED; UNKNOWN = given up.
    endpoint: (capacity, 2) int32, ids in Intern[Endpoint] of its server and client end; -1: not asked yet.
    sessions: row → Session, for protocols that remember; dies with the row.
    """

    def __init__(self, dtype: np.dtype[np.void], capacity: int = 1024) -> None:
        self.table = np.zeros(capacity, dtype)
        self.pair = np.zeros(capacity, np.uint64)
        self.key = np.zeros(capacity, np.uint64)
        self.protocol = np.full(capacity, UNDECIDED, np.int16)
        self.endpoint = np.full((capacity, 2), -1, np.int32)
        self.used = np.zeros(capacity, np.uint64)
        self.sessions: dict[int, Session] = {}
        self._known = np.zeros(capacity, np.bool_)
        self._index = Index()
        self._free = np.arange(capacity - 1, -1, -1, dtype=np.int32)
        """a stack of rows, of which the first `_n_free` are free"""
        self._n_free = capacity

    def __len__(self) -> int:
        return len(self._index)

    def session(self, row: int) -> Session:
        """The row's memory, made at first use."""
        session = self.sessions.get(row)
        if session is None:
            session = self.sessions[row] = Session()
        return session

    def update(self, records: NDArray[np.void], now: int) -> None:
        """Take over announcements, in the order in which the kernel made them."""
        if not len(records):
            return
        ids = np.ascontiguousarray(records["id"])
        rows = self._index.find(ids)
        new = rows < 0
        if new.any():
            self._admit(distinct(ids[new]))
            rows[new] = self._index.find(ids[new])
        self.table[rows] = records
        self.used[rows] = now
        self.endpoint[rows] = -1
        self.key[rows] = records["key"]
        # Both ends are named after the client's, which may be gone before it gets to know the server's.
        peers, serves = records["peer"], (records["flags"] & CONNECTION_SERVER) != 0
        pairs = np.where(serves & (peers != 0), peers, ids)
        # A datagram socket has no peer; what belongs together is told by the message, and by the port that it goes to.
        ports = np.where(records["remote_port"] == 0, records["local_port"], records["remote_port"])
        self.pair[rows] = np.where(records["protocol"] == IPPROTO_UDP, DATAGRAMS | ports.astype(np.uint64), pairs)

    def rows(self, ids: NDArray[np.uint64], now: int) -> NDArray[np.int32]:
        """(n,) row of each id; -1 where it was never announced (its announcement was lost)."""
        rows = self._index.find(ids)
        lost = rows < 0
        self.used[rows[~lost] if lost.any() else rows] = now
        return rows

    def servers(self, clients: NDArray[np.uint64]) -> NDArray[np.void]:
        """The servers' ends, as far as they are known, of connections whose clients' ends have these ids."""
        ends = self.table[(np.isin(self.pair, clients) & self._known).nonzero()[0]]
        found: NDArray[np.void] = ends[(ends["flags"] & CONNECTION_SERVER) != 0]
        return found

    def known(self) -> NDArray[np.void]:
        """All ends (a copy)."""
        ends: NDArray[np.void] = self.table[self._known]
        return ends

    def close(self, rows: NDArray[np.int32]) -> None:
        """These ends are gone (Flag.LAST) and all that they said has been read."""
        gone = np.zeros(len(self.table), np.bool_)
        gone[rows[rows >= 0]] = True
        self._drop((gone & self._known).nonzero()[0])

    def forget(self, now: int) -> None:
        """Drop what nobody used for FORGET_NS."""
        self._drop((self._known & (self.used + np.uint64(FORGET_NS) < np.uint64(now))).nonzero()[0])

    def _admit(self, ids: NDArray[np.uint64]) -> None:
        """Give rows to ids that have none."""
        while self._n_free < len(ids):
            self._grow()
        self._n_free -= len(ids)
        rows = self._free[self._n_free : self._n_free + len(ids)].copy()
        self._index.put(ids, rows)
        self._known[rows] = True
        self.protocol[rows] = UNDECIDED

    def _drop(self, rows: NDArray[np.intp]) -> None:
        self._index.drop(np.ascontiguousarray(self.table["id"][rows]))
        self._known[rows] = False
        self._free[self._n_free : self._n_free + len(rows)] = rows
        self._n_free += len(rows)
        if self.sessions:
            for row in rows.tolist():
                self.sessions.pop(row, None)

    def _grow(self) -> None:
        old = len(self.table)
        for name in ("table", "pair", "key", "protocol", "endpoint", "used", "_known", "_free"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._free[self._n_free : self._n_free + old] = np.arange(2 * old - 1, old - 1, -1)
        self._n_free += old
