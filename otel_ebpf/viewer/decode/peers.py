"""What a span says of its other end: how that is called, and what kind of system is spoken.

A host's name stands as it is; an address without name gets its port, since several servers share one. An unseen client
keeps its address if that is private; all of the internet's are one. Nothing is made up: without address there is no
name. Attribute names: semantic conventions, stable ones first, then those that they replaced.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from otel_ebpf.viewer.decode.attributes import Value

INTERNET = "internet"
UNKNOWN = "unknown"
PEERS = 2000
"""Distinct names of unseen ends; what comes beyond is `OTHER`."""
OTHER = "(other)"

_DATABASE = ("db.system.name", "db.system")
_MESSAGING = ("messaging.system",)
_RPC = ("rpc.system.name", "rpc.system")
_SERVER = ("server.address", "net.peer.name", "network.peer.address", "net.peer.ip", "net.sock.peer.addr")
_PORT = ("server.port", "net.peer.port", "network.peer.port")
_CLIENT = ("client.address", "network.peer.address", "http.client_ip", "net.sock.peer.addr", "net.peer.ip")


class Peers:
    """The names that were given; bounded, since strangers choose them."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def bounded(self, name: str) -> str:
        """The name itself, or `OTHER` when too many were there."""
        if name in self._names:
            return name
        if len(self._names) >= PEERS:
            return OTHER
        self._names.add(name)
        return name


def _first(attributes: dict[str, Value], names: tuple[str, ...]) -> str:
    for name in names:
        value = attributes.get(name)
        if value:
            return str(value)[:256]
    return ""


def spoken(attributes: dict[str, Value]) -> tuple[str, str]:
    """The system or protocol, "" if nothing says it; and what a server of it is: service, database or messaging.

    >>> spoken({"db.system.name": "redis"}), spoken({"http.request.method": "GET"})
    (('redis', 'database'), ('http', 'service'))
    """
    for names, family in ((_DATABASE, "database"), (_MESSAGING, "messaging"), (_RPC, "service")):
        for name in names:
            value = attributes.get(name)
            if value:
                return str(value)[:256], family
    if attributes.get("http.request.method") or attributes.get("http.method"):
        return "http", "service"
    return ("dns" if "dns.question.name" in attributes else ""), "service"


def peer(attributes: dict[str, Value], client: bool, peers: Peers) -> str:
    """What the span's other end is called, should it not be seen itself.

    >>> peer({"server.address": "10.0.0.5", "server.port": 5432}, True, Peers())
    '10.0.0.5:5432'
    >>> peer({"client.address": "203.0.113.7"}, False, Peers())
    'internet'
    """
    if not client:
        address = _first(attributes, _CLIENT)
        return peers.bounded(_unseen_client(address)) if address else UNKNOWN
    named = _first(attributes, ("service.peer.name", "peer.service"))
    if named:
        return peers.bounded(named)
    address = _first(attributes, _SERVER)
    if not address:
        return peers.bounded(_first(attributes, (*_DATABASE, *_MESSAGING)) or UNKNOWN)
    port = _first(attributes, _PORT)
    return peers.bounded(f"[{address}]:{port}" if port and ":" in address else _with_port(address, port))


def _with_port(address: str, port: str) -> str:
    return f"{address}:{port}" if port and _is_address(address) else address


@lru_cache(4096)
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(4096)
def _unseen_client(address: str) -> str:
    try:
        return INTERNET if ip_address(address).is_global else address
    except ValueError:
        return address
