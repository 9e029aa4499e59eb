"""What the two ends of an edge of the service graph are called, and of which type it is.

The words are those of Grafana Tempo's metrics generator and of the Collector's service graph connector: connection_type
"" (both ends were seen), "database", "messaging_system" (only the client's was, and its protocol is of that kind) or
"virtual_node"; `client_db.system.name` and `server_db.system.name` as by their option `dimensions: [db.system.name]`.

An end that was not seen is named by, in this order: the user's alias; the name by which the client addressed its server
(HTTP's Host, what it asked for by TLS, what it asked DNS for); the address. Nothing is concluded from ports. Where not
even an address is known, as with unix sockets, and for clients beyond the `limit` of addresses, it gets the name that
the two programs give to who left no trace: "user" for a client, "unknown" for a server.
"""

from __future__ import annotations

from otel_ebpf.model import Attributes, AttributeValue, Endpoint
from otel_ebpf.protocols.base import Fields, Side
from otel_ebpf.resource.aliases import Aliases

JOINED, DATABASE, MESSAGING, VIRTUAL = "", "database", "messaging_system", "virtual_node"
USER, UNKNOWN = "user", "unknown"
DATABASE_SYSTEM, MESSAGING_SYSTEM, ALIAS = "db.system.name", "messaging.system", "service.peer.name"
_DEFAULT_PORTS = {("http", 80), ("http", 443)}


class Ends:
    """Names edges. limit: clients that are named by their address alone.

    unnamed: how often a client beyond the limit was called "user"; of one combination of client and request it counts
    once in a while only.
    """

    def __init__(self, aliases: Aliases, limit: int) -> None:
        self.unnamed = 0
        self._aliases = aliases
        self._limit = limit
        self._addresses: set[str] = set()

    def both(self, client: str, server: str, called: Fields | None, served: Fields | None) -> Attributes:
        """Both ends were seen. called, served: what each of them saw; None: it was not understood."""
        sides = (called.client if called else None, served.server if served else None)
        return _edge(client or USER, server or UNKNOWN, JOINED, *sides)

    def of_client(self, client: str, fields: Fields, endpoint: Endpoint | None) -> Attributes:
        """Only the client's end was seen."""
        side = fields.client
        kind = VIRTUAL
        said = {name for name, _ in side.attributes}
        if DATABASE_SYSTEM in said:
            kind = DATABASE
        elif MESSAGING_SYSTEM in said:
            kind = MESSAGING
        return _edge(client or USER, self._server(fields, endpoint), kind, side, None)

    def of_server(self, server: str, fields: Fields, endpoint: Endpoint | None) -> Attributes:
        """Only the server's end was seen."""
        kind = MESSAGING if any(name == MESSAGING_SYSTEM for name, _ in fields.server.attributes) else VIRTUAL
        return _edge(self._client(endpoint), server or UNKNOWN, kind, None, fields.server)

    def _server(self, fields: Fields, endpoint: Endpoint | None) -> str:
        always = dict(endpoint.always) if endpoint is not None else {}
        named = fields.client.attributes if fields.client.addressed else endpoint.unless_addressed if endpoint else ()
        address = dict(named)
        host, port = str(address.get("server.address", "")), _port(address.get("server.port"))
        alias = self._aliases.find(port, host) or str(always.get(ALIAS, ""))
        if alias or not host:
            return alias or UNKNOWN
        if not port or (fields.protocol, port) in _DEFAULT_PORTS:
            return host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _client(self, endpoint: Endpoint | None) -> str:
        always = dict(endpoint.always) if endpoint is not None else {}
        alias, address = str(always.get(ALIAS, "")), str(always.get("client.address", ""))
        if alias or not address:
            return alias or USER
        if address not in self._addresses:
            if len(self._addresses) >= self._limit:
                self.unnamed += 1
                return USER
            self._addresses.add(address)
        return address

    def forget(self) -> None:
        """Other clients than until now may be named by their address."""
        self._addresses.clear()


def _edge(client: str, server: str, kind: str, called: Side | None, served: Side | None) -> Attributes:
    """The attributes of an edge's series."""
    found: list[tuple[str, AttributeValue]] = [("client", client), ("server", server), ("connection_type", kind)]
    for prefix, side in (("client_", called), ("server_", served)):
        if side is not None:
            found += [(prefix + name, value) for name, value in side.attributes if name == DATABASE_SYSTEM]
    return tuple(found)


def _port(value: AttributeValue | None) -> int:
    return value if isinstance(value, int) else 0
