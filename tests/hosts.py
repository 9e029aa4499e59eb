"""Two "hosts" and what lies between them: network namespaces, veth, and a router that translates addresses.

    with two_hosts() as hosts:
        Process(hosts.server.inside(serve)), Process(hosts.client.inside(ask))

The client reaches the server's port P at `hosts.door(P)`, an address of the router, which forwards it (DNAT) to another
address and another port, and hides the client behind its own address (masquerading): no end knows the other's address.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import program

SHIFT = 1000
"""Port P of the server is port P + SHIFT of the router."""
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace. address: its own, in its own network."""

    name: str
    address: str

    @property
    def path(self) -> Path:
        """What names it to other programs."""
        return Path("/run/netns") / self.name

    @property
    def command(self) -> tuple[str, ...]:
        """What to put before a command that is to run there."""
        return (program("ip", "iproute2"), "netns", "exec", self.name)

    def run(self, *command: str) -> None:
        """A command there, to its end, which must be good."""
        _run(*self.command, *command)

    def inside(self, function: Callable[[], object]) -> Callable[[], object]:
        """The same, for a process of its own, which moves there before."""

        def there() -> object:
            self.enter()
            return function()

        return there

    def enter(self) -> None:
        """This process, or the thread that calls, is there from now on."""
        with self.path.open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {self.path}")


@dataclass(frozen=True, slots=True)
class TwoHosts:
    """See the module's text."""

    client: Host
    server: Host
    router: Host

    def door(self, port: int) -> tuple[str, int]:
        """Where the client finds that port of the server."""
        return self.router.address, port + SHIFT


@contextmanager
def two_hosts(ports: range = range(20_000, 20_008)) -> Iterator[TwoHosts]:
    """Made anew, and gone at the end. ports: of the server, that can be reached."""
    tag = f"oe{os.getpid() % 100_000}"
    client, server = Host(f"{tag}a", "10.71.1.2"), Host(f"{tag}b", "10.71.2.2")
    router = Host(f"{tag}r", "10.71.1.1")
    with ExitStack() as stack:
        for host in (client, server, router):
            _ip("netns", "add", host.name)
            stack.callback(_ip, "netns", "del", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        for host, gateway, port in ((client, router.address, "pa"), (server, "10.71.2.1", "pb")):
            _ip("link", "add", "eth0", "netns", host.name, "type", "veth", "peer", "name", port, "netns", router.name)
            for where, device, address in ((host.name, "eth0", host.address), (router.name, port, gateway)):
                _ip("-n", where, "addr", "add", f"{address}/24", "dev", device)
                _ip("-n", where, "link", "set", device, "up")
            _ip("-n", host.name, "route", "add", "default", "via", gateway)
        doors = [f"tcp dport {port + SHIFT} dnat to {server.address}:{port}" for port in ports]
        rules = [
            "table ip nat {",
            *("chain pre {", "type nat hook prerouting priority -100", *doors, "}"),
            *("chain post {", "type nat hook postrouting priority 100", 'oifname "pb" masquerade', "}"),
            "}",
        ]
        _run(*router.command, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _run(*router.command, program("nft", "nftables"), "-f", "-", given="\n".join(rules) + "\n")
        yield TwoHosts(client, server, router)


def _ip(*arguments: str) -> None:
    _run(program("ip", "iproute2"), *arguments)


def _run(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()[:1000]}"
