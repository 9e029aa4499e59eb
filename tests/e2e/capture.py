"""The kernel side by itself, in the test's own process: what it says of every exchange, record by record.

    with watching(storage=True) as capture:
        talk = converse(serve, ask)
        client, server = capture.ends(talk.port)

The test's own process is "the agent" to it, and never observed: who talks must be another process (see peers.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from otel_ebpf.capture.live import CaptureSettings, Drain, LiveSource
from otel_ebpf.model import Flag

WAIT_S = 20.0
_SIZES = ("t_rsp", "t_rsp_end", "t_req_end", "req_bytes", "rsp_bytes", "tid_rsp", "seq_rsp", "flags")
"""What an amendment says anew."""


@dataclass(slots=True)
class Seen:
    """One exchange as one end saw it: the kernel's record, amendments applied, and its connection's announcement."""

    head: dict[str, int]
    request: bytes
    response: bytes
    connection: np.void

    def __getattr__(self, name: str) -> int:
        return self.head[name]

    def __str__(self) -> str:
        numbers = ("conn", "tgid", "n", "seq_req", "req_bytes", "rsp_bytes")
        said = f"{self.request[:40]!r} → {self.response[:40]!r}"
        return f"{said} {self.flag!r} { ({name: self.head[name] for name in numbers}) } peer {self.connection['peer']}"

    @property
    def flag(self) -> Flag:
        return Flag(self.head["flags"])

    @property
    def is_server(self) -> bool:
        return bool(self.flag & Flag.SERVER)

    @property
    def pair(self) -> int:
        """The same for both ends of one connection, as otel_ebpf.capture.connections has it."""
        own, peer = int(self.connection["id"]), int(self.connection["peer"])
        return peer if self.is_server and peer else own

    def has(self, *flags: Flag) -> bool:
        return all(self.flag & flag for flag in flags)


@dataclass(slots=True)
class Capture:
    """A running LiveSource and everything that it has said."""

    source: LiveSource
    exchanges: dict[int, Seen] = field(default_factory=dict)
    connections: dict[int, np.void] = field(default_factory=dict)
    drains: list[Drain] = field(default_factory=list)
    records: int = 0
    since: int = 0
    """What began before is another test's: the port of its server may be that of the next one's."""

    def begin(self) -> None:
        """Empty the rings, which all else on this host has filled meanwhile; from now on it is this test's."""
        self.poll()
        self.since = time.monotonic_ns()

    def poll(self) -> None:
        """Take what is in the rings."""
        drain = self.source.read(time.monotonic_ns())
        for announced in drain.connections:
            self.connections[int(announced["id"])] = announced.copy()
        amendments = []
        for batch in drain.exchanges:
            self.records += len(batch)
            for i, record in enumerate(batch.head):
                head = {name: int(record[name]) for name in record.dtype.names or ()}
                taken = head, batch.request[i].tobytes(), batch.response[i].tobytes()
                if head["flags"] & Flag.AMENDS:  # of a record that may lie in a ring that is read later
                    amendments.append(taken)
                else:
                    self._take(*taken)
        for taken in amendments:
            self._take(*taken)
        self.drains.append(drain)

    def _take(self, head: dict[str, int], request: bytes, response: bytes) -> None:
        known = self.exchanges.get(head["span_id"])
        if known is not None and head["flags"] & Flag.AMENDS:
            bare = known.head["flags"] & Flag.HEAD
            known.head.update({name: head[name] for name in _SIZES})
            known.head["flags"] = known.head["flags"] & ~Flag.HEAD | bare
            return
        assert known is None, f"{head} is there already: {known}"
        connection = self.connections.get(head["conn"])
        if connection is None:  # its announcement was lost
            connection = np.zeros(1, self.source.object.btf.dtype("connection"))[0]
        kept = request[: head["req_cap"]], response[: head["rsp_cap"]]
        assert not any(request[head["req_cap"] :]) and not any(response[head["rsp_cap"] :]), head
        self.exchanges[head["span_id"]] = Seen(head, *kept, connection)

    def at(self, port: int) -> list[Seen]:
        """Exchanges of connections to that port of a server (TCP or UDP), in the order in which they began."""

        def there(seen: Seen) -> bool:
            return port == int(seen.connection["local_port" if seen.is_server else "remote_port"])

        return self._select(there)

    def of(self, *pids: int) -> list[Seen]:
        """Exchanges of these processes."""
        return self._select(lambda seen: seen.tgid in pids)

    def _select(self, wanted: Callable[[Seen], bool]) -> list[Seen]:
        for seen in self.exchanges.values():  # a connection is announced again when something in it changes
            seen.connection = self.connections.get(seen.conn, seen.connection)
        found = (seen for seen in self.exchanges.values() if seen.t_req >= self.since and wanted(seen))
        return sorted(found, key=lambda seen: seen.t_req)

    def wait(self, select: Callable[[], list[Seen]], count: int) -> list[Seen]:
        """Poll until `select` gives `count` exchanges; AssertionError when it gives others."""
        until = time.monotonic() + WAIT_S
        while len(select()) < count and time.monotonic() < until:
            self.poll()
            time.sleep(0.01)
        self.poll()
        found = select()
        assert len(found) == count, "\n".join(
            [f"{len(found)} exchanges instead of {count}; lost: {self.source.losses()}", *map(str, found)]
        )
        return found

    def ends(self, port: int, count: int = 1) -> tuple[list[Seen], list[Seen]]:
        """`count` exchanges at each end of connections to that port, the k-th of one the k-th of the other, joined."""
        found = self.wait(lambda: self.at(port), 2 * count)
        clients = [seen for seen in found if not seen.is_server]
        servers = [seen for seen in found if seen.is_server]
        assert len(clients) == len(servers), "\n".join(map(str, found))
        by_key = {(seen.pair, seen.seq_req): seen for seen in servers}
        servers = [by_key[seen.pair, seen.seq_req] for seen in clients] if clients[0].seq_req else servers
        for client, server in zip(clients, servers, strict=True):
            assert_same_exchange(client, server)
        return clients, servers

    def one(self, port: int) -> tuple[Seen, Seen]:
        """The one exchange on connections to that port: its client end and its server end."""
        clients, servers = self.ends(port)
        return clients[0], servers[0]


def assert_same_exchange(client: Seen, server: Seen) -> None:
    """Both ends counted the same bytes of the same exchange."""
    assert client.pair == server.pair
    assert server.connection["peer"] == client.connection["id"]
    assert (client.req_bytes, client.rsp_bytes) == (server.req_bytes, server.rsp_bytes)
    if client.has(Flag.HEAD):  # the server's record carries the payload of both
        assert (client.request, client.response) in ((b"", b""), (server.request, server.response))
        client.request, client.response = server.request, server.response


@contextmanager
def watching(storage: bool, settings: CaptureSettings | None = None) -> Iterator[Capture]:
    """Both halves of live capture (sockets, TLS) attached; storage: which front (see requests.bpf.c)."""
    source = LiveSource(settings or CaptureSettings(), storage=storage)
    try:
        source.start()
        assert source.failures == {}
        yield Capture(source)
    finally:
        source.close()
