"""Whom a peer alias is for: an address or a network, or a glob of names; with a port, or with any.

>>> network = pattern_of("10.0.0.0/8:5432")
>>> network.fits("10.1.2.3", 5432), network.fits("10.1.2.3", 80)
(True, False)
>>> pattern_of("*.stripe.com").fits("api.stripe.com", 443)
True
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"[^\s/:@]+")
"""A glob of names: these never hold a space, and neither a path nor a port is part of them."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """network: None for a glob of names, which is in lower case then. port: 0 for any."""

    network: Network | None
    glob: str
    port: int

    def fits(self, host: str, port: int) -> bool:
        """Whether it fits a host by this name or address, at this port (0: it has none)."""
        if self.port not in (0, port):
            return False
        if self.network is None:
            return fnmatchcase(host.lower().rstrip("."), self.glob)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.version == self.network.version and address in self.network


def pattern_of(text: str) -> Pattern:
    """The pattern that a text says; ValueError if it says none."""
    network = _network(text.strip("[]"))
    if network is not None:
        return Pattern(network, "", 0)
    host, colon, digits = text.rpartition(":")
    port = 0
    if colon:
        if not digits.isascii() or not digits.isdigit() or not 0 < int(digits) <= 65535:
            raise ValueError
        port = int(digits)
    else:
        host = text
    network = _network(host.strip("[]"))
    if network is None and not _NAME.fullmatch(host):
        raise ValueError
    return Pattern(network, "" if network else host.lower().rstrip("."), port)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
