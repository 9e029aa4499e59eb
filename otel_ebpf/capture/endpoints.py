"""The addresses of a connection as attributes, made once per connection and kind of end.

Names: OpenTelemetry semantic conventions, registry groups `server`, `client`, `network`, `service.peer`. A client calls
its server by the name that it asked for: the server itself, on this very connection, by TLS (capture/servernames.py);
else DNS (resource/peers.py). That is `server.address` then, and `network.peer.address` is the address.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import Connections
from otel_ebpf.capture.servernames import ServerNames
from otel_ebpf.heap import distinct
from otel_ebpf.model import Attributes, Endpoint, Intern, Kind
from otel_ebpf.protocols.memo import hash_rows
from otel_ebpf.resource.aliases import Aliases
from otel_ebpf.resource.peers import PeerNames

_TRANSPORTS = {0: "unix", socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
LIMIT = 65536
_ALL_BITS = (1 << 64) - 1
_CLIENT = np.uint8(Kind.CLIENT)
_MIDSTREAM = 1 << 2
"""`enum connection_flags` of bpf/include/records.h: nobody knows when it was opened."""


class Endpoints:
    """Fills the columns `endpoint` and `peer_port` of a batch from its connections.

    table: Intern[Endpoint], shared with the encoder. Bounded: what was not asked for longest goes, and is made again.
    names, servers, aliases: of the peers, by DNS, by TLS and by the user; None: they have none.
    """

    def __init__(
        self,
        connections: Connections,
        limit: int = LIMIT,
        names: PeerNames | None = None,
        aliases: Aliases | None = None,
        servers: ServerNames | None = None,
    ) -> None:
        self.table = Intern[Endpoint](limit)
        self._connections = connections
        self._names = names
        self._servers = servers
        self._aliases = aliases or Aliases()
        self._by_address: dict[int, int] = {}
        self._address_of: dict[int, int] = {}
        """hash of addresses and name → id, and back: connections that are equal in these share their endpoint"""
        self.table.on_forget.append(self._forget)

    def learn(self, records: NDArray[np.void], now: int) -> None:
        """Clients asked for servers by name. What was said of their connections before keeps its endpoint."""
        changed = self._servers.learn(records, now) if self._servers is not None else []
        if changed:
            rows = self._connections.rows(np.array(changed, np.uint64), now)
            self._connections.endpoint[rows[rows >= 0]] = -1

    def ids(self, rows: NDArray[np.int32], kinds: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(n,) endpoint of connection row `rows[i]` as an end of kind `kinds[i]`."""
        column = self._connections.endpoint.reshape(-1)  # a view: ends of a row lie behind each other
        ends = rows * np.int32(2)
        ends += kinds == _CLIENT
        found: NDArray[np.int32] = column[ends]
        missing = found < 0
        if missing.any():
            new = distinct(ends[missing])
            column[new] = self._make(new)
            found = column[ends]
        return found

    def ports(self, rows: NDArray[np.int32]) -> NDArray[np.uint16]:
        """(n,) the peer's port."""
        ports: NDArray[np.uint16] = self._connections.table["remote_port"][rows]
        return ports

    def _make(self, ends: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n,) ids of ends (row * 2 + 1 for the client's); equal addresses are looked at once."""
        connections = self._connections.table[ends >> 1]
        client = (ends & 1) == 1
        names = self._names_of(connections, client)
        keys = _addresses(connections, client)
        if names is not None:
            keys ^= np.fromiter((hash(name) & _ALL_BITS for name in names), np.uint64, len(names))
        addresses, first, which = np.unique(keys, return_index=True, return_inverse=True)
        numbers = []
        for i, address in zip(first.tolist(), addresses.tolist(), strict=True):
            number = self._by_address.get(address)
            if number is None:
                name = names[i] if names is not None else ""
                number = self.table.id(endpoint(connections[i], bool(client[i]), name, self._aliases))
                self._by_address[address] = number
                self._address_of[number] = address
            numbers.append(number)
        self.table.touch(numbers)
        return np.array(numbers, np.int32)[which]

    def _names_of(self, connections: NDArray[np.void], client: NDArray[np.bool_]) -> list[str] | None:
        """What each client end calls its server; None if nothing is known of anybody."""
        if not self._names and not self._servers:
            return None
        names = [""] * len(connections)
        if self._servers:
            for i in client.nonzero()[0].tolist():
                names[i] = self._servers.find(int(connections["id"][i]))
        if not self._names:
            return names
        unnamed = np.fromiter((not name for name in names), np.bool_, len(names))
        rows = (client & unnamed & ((connections["flags"] & _MIDSTREAM) == 0)).nonzero()[0]
        some = connections[rows]
        remote, find = np.ascontiguousarray(some["remote"]).tobytes(), self._names.find
        for k, (i, tgid, opened) in enumerate(
            zip(rows.tolist(), some["tgid"].tolist(), some["t_open"].tolist(), strict=True)
        ):
            names[i] = find(tgid, _text(remote[16 * k : 16 * k + 16]), opened=opened)
        return names

    def _forget(self, number: int) -> None:
        column = self._connections.endpoint
        column[column == number] = -1
        self._by_address.pop(self._address_of.pop(number, 0), None)


def _addresses(connections: NDArray[np.void], client: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(n,) hashes of all that `endpoint` says of each connection."""
    words = np.zeros((len(connections), 5), np.uint64)
    words[:, :2] = np.ascontiguousarray(connections["remote"]).view(np.uint64)
    words[:, 2:4] = np.ascontiguousarray(connections["local"]).view(np.uint64)
    words[client, 2:4] = 0
    port = np.where(client, connections["remote_port"], connections["local_port"]).astype(np.uint64)
    protocol = connections["protocol"].astype(np.uint64)
    words[:, 4] = client | port << np.uint64(8) | protocol << np.uint64(32)
    return hash_rows(words)


def endpoint(connection: np.void, client: bool, name: str = "", aliases: Aliases | None = None) -> Endpoint:
    """The attributes of one end. name: by which a client knows its server, if that is more than an address.

    >>> endpoint(connection, client=True).unless_addressed
    (('server.address', '127.0.0.1'), ('server.port', 5432))
    """
    transport = _TRANSPORTS.get(int(connection["protocol"]), "tcp")
    remote, local = _address(connection["remote"]), _address(connection["local"])
    always: list[tuple[str, str | int]] = [("network.transport", transport)]
    if transport == "unix":
        return Endpoint(tuple(always), ())
    if remote:
        always.append(("network.type", "ipv6" if ":" in remote else "ipv4"))
        always.append(("network.peer.address", remote))
        if not client:
            always.append(("client.address", remote))
    server, port = (name or remote, connection["remote_port"]) if client else (local, connection["local_port"])
    alias = aliases.find(int(port) if client else 0, name, remote) if aliases else ""
    if alias:
        always.append(("service.peer.name", alias))
    named: Attributes = (("server.address", server), ("server.port", int(port))) if server else ()
    return Endpoint(tuple(always), named)


def _address(raw: NDArray[np.uint8]) -> str:
    """Text of an IPv6 or v4-mapped address; "" for the unspecified one."""
    return _text(raw.tobytes())


@lru_cache(4096)
def _text(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    mapped = address.ipv4_mapped or address
    return "" if mapped.is_unspecified else str(mapped)
