"""Rules of the configuration: what processes and their peers are called, and which processes are observed."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from otel_ebpf.config.keys import key
from otel_ebpf.config.kinds import Scalar, Text
from otel_ebpf.config.peerpattern import pattern_of


class Ports(Scalar[tuple[tuple[int, int], ...]]):
    """Port numbers and ranges of them: (low, high), both included."""

    expected = "ports from 0 to 65535 like '80,8000-8100'"

    def parse(self, text: str) -> tuple[tuple[int, int], ...]:
        ranges = []
        for part in text.split(","):
            low, dash, high = part.strip().partition("-")
            first, last = int(low), int(high if dash else low)
            if not 0 <= first <= last <= 65535:
                raise ValueError
            ranges.append((first, last))
        return tuple(ranges)

    def show(self, value: tuple[tuple[int, int], ...]) -> str:
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in value)


class PeerPattern(Scalar[str]):
    """Who a peer alias is for; see `config.peerpattern`, which reads it."""

    expected = (
        "an address, a network or a glob of names like '10.0.0.0/8', '*.stripe.com', 'db:5432' or '[fd00::/8]:80'"
    )

    def parse(self, text: str) -> str:
        pattern_of(text)
        return text


@dataclass(frozen=True, slots=True)
class ServiceRule:
    """What a process is called: all patterns that are given must fit; the first rule that fits wins."""

    name: str = key(Text(), "", "`service.name` of the processes that fit")
    namespace: str = key(Text(), "", "their `service.namespace`")
    executable: str = key(Text(), "", "glob of the executable's path, or of its name if there is no '/' in it")
    command: str = key(Text(), "", "glob of the whole command line")
    container: str = key(Text(), "", "glob of the container's name or id")
    unit: str = key(Text(), "", "glob of the systemd unit, without '.service'")

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: is missing")
        if not (self.executable or self.command or self.container or self.unit):
            raise ValueError("one of executable, command, container, unit is needed")


@dataclass(frozen=True, slots=True)
class Match:
    """What a filter fits: all that is given must fit."""

    executable: str = key(Text(), "", "glob of the executable's path, or of its name if there is no '/' in it")
    container: str = key(Text(), "", "glob of the container's name or id")
    service: str = key(Text(), "", "glob of `service.name`")
    port: tuple[tuple[int, int], ...] = key(Ports(), (), "the server's port, numbers and ranges: '80,8000-8100'")

    def __post_init__(self) -> None:
        if not (self.executable or self.container or self.service or self.port):
            raise ValueError("one of executable, container, service, port is needed")


@dataclass(frozen=True, slots=True)
class PeerAlias:
    """What the other end of a connection is called; the first alias that fits wins."""

    address: str = key(
        PeerPattern(),
        "",
        "its address or network ('10.0.0.0/8'), or a glob of its name ('*.stripe.com'); with ':port' if that matters",
    )
    name: str = key(Text(), "", "what it is called in the service graph, and as `service.peer.name` of spans")

    def __post_init__(self) -> None:
        for what in ("address", "name"):
            if not getattr(self, what):
                raise ValueError(f"{what}: is missing")


def fits(pattern: str, text: str) -> bool:
    """Whether a glob fits; the empty pattern fits everything. A pattern without '/' is held against the last part of a
    path.

    >>> fits("nginx*", "/usr/sbin/nginx"), fits("/opt/*", "/usr/sbin/nginx")
    (True, False)
    """
    return not pattern or fnmatchcase(text if "/" in pattern else text.rpartition("/")[2], pattern)
