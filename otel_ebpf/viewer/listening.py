"""Where the viewer listens, and what each address demands of those who connect.

A loopback address demands nothing. Any other is refused at start unless it has a token, client certificates, or the
explicit `insecure`. A token (or TLS) holds for every address that is not loopback; if all are, for all: it cannot have
been meant for anything else.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from otel_ebpf.errors import ConfigError
from otel_ebpf.viewer.options import GRPC, HTTP, PAGE

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>[0-9]{1,5})")
# RFC 6750 §2.1: what may stand in an Authorization header
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Listening:
    """What the user asked for.

    page, grpc, http: "HOST:PORT" or "[IPV6]:PORT"; port 0: any free one; "": that one is not served.
    choose_ports: where a port is taken, take any free one. token: what a client must show as "Authorization: Bearer …".
    tls_cert, tls_key, tls_client_ca: PEM files; with the last, clients must have a certificate of that authority.
    insecure: let anyone in at addresses that are not loopback.
    """

    page: str = PAGE
    grpc: str = GRPC
    http: str = HTTP
    choose_ports: bool = False
    token: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """One address, resolved. guarded: the token and TLS settings hold here."""

    option: str
    text: str
    host: str
    port: int
    family: socket.AddressFamily
    guarded: bool = False

    @property
    def loopback(self) -> bool:
        """Only this host's programs can connect."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """The text is a loopback IP address. False for names.

    >>> is_loopback("127.0.0.9"), is_loopback("::1"), is_loopback("::ffff:127.0.0.1"), is_loopback("localhost")
    (True, True, True, False)
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def host_port(host: str, port: int) -> str:
    """As it is written in a URL.

    >>> host_port("::1", 4317)
    '[::1]:4317'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(option: str, text: str) -> Place:
    """The first address that the text means, IPv4 before IPv6.

    ConfigError: it is no address, or the name is unknown.

    >>> resolve("--listen", "[::1]:8890").host
    '::1'
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(f"{option}: {text!r} is no address: expected HOST:PORT or [IPV6]:PORT")
    host, port = match["v6"] or match["host"], int(match["port"])
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as failure:
        raise ConfigError(f"{option}: {host!r} is not an address of this host ({failure.strerror})") from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return Place(option, text, str(address[0]), port, socket.AddressFamily(family))


def places(listening: Listening) -> dict[str, Place]:
    """The addresses to listen on, by "page", "grpc", "http".

    ConfigError: an address, token or TLS setting is wrong, or an address would be open to strangers.
    """
    _check_secrets(listening)
    wanted = (
        ("page", "--listen", listening.page),
        ("grpc", "--otlp-grpc", listening.grpc),
        ("http", "--otlp-http", listening.http),
    )
    found = {name: resolve(option, text) for name, option, text in wanted if text}
    only_loopback = all(place.loopback for place in found.values())
    secured = bool(listening.token or listening.tls_cert)
    guarded = {name: secured and (only_loopback or not place.loopback) for name, place in found.items()}
    if not (listening.token or listening.tls_client_ca or listening.insecure):
        _refuse_open(list(found.values()))
    return {
        name: Place(place.option, place.text, place.host, place.port, place.family, guarded[name])
        for name, place in found.items()
    }


def _refuse_open(found: Sequence[Place]) -> None:
    for place in found:
        if not place.loopback:
            raise ConfigError(
                f"{place.option} {place.text}: others than this host could read and write there: give --token-file, or "
                "--tls-cert, --tls-key and --tls-client-ca, or --insecure"
            )


def _check_secrets(listening: Listening) -> None:
    if bool(listening.tls_cert) != bool(listening.tls_key):
        raise ConfigError("--tls-cert and --tls-key: give both or none")
    if listening.tls_client_ca and not listening.tls_cert:
        raise ConfigError("--tls-client-ca: needs --tls-cert and --tls-key too")
    token = listening.token
    if token and (len(token) < SHORTEST_TOKEN or _TOKEN.fullmatch(token) is None):
        raise ConfigError(
            f"--token-file: expected at least {SHORTEST_TOKEN} letters, digits or -._~+/, such as openssl rand -hex 16 "
            "prints"
        )
