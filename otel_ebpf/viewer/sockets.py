"""Listening sockets, and who has the port if we cannot have it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from otel_ebpf.errors import ConfigError, OtelEbpfError, UnsupportedError
from otel_ebpf.viewer.listening import Place

_LISTEN = "0A"
"""TCP_LISTEN in the fourth column of /proc/net/tcp (include/net/tcp_states.h)."""


def bind(place: Place, choose: bool) -> socket.socket:
    """A TCP socket bound to the place, not listening yet. choose: any free port if this one is taken.

    ConfigError: no such address on this host. UnsupportedError: the port cannot be had.
    """
    try:
        return _bound(place, place.port)
    except OSError as failure:
        if failure.errno != errno.EADDRINUSE or not choose:
            raise _explained(place, failure) from None
    try:
        return _bound(place, 0)
    except OSError as failure:
        raise _explained(place, failure) from None


def _bound(place: Place, port: int) -> socket.socket:
    bound = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.family == socket.AF_INET6:
            # "::" takes IPv4 too, as in gRPC's servers
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((place.host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _explained(place: Place, failure: OSError) -> OtelEbpfError:
    remedy = f"choose another with {place.option} HOST:PORT"
    if failure.errno == errno.EADDRINUSE:
        return UnsupportedError(f"{place.text} is taken by {taken_by(place.port)}: {remedy}")
    if failure.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{place.option}: {place.text} is not an address of this host")
    return UnsupportedError(f"{place.text}: {failure.strerror}: {remedy}")


def taken_by(port: int) -> str:
    """Who listens on the TCP port, as far as this user may know: "nginx (pid 17)", else "another program".

    Sources: proc(5), /proc/net/tcp and /proc/PID/fd.
    """
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").iterdir() if wanted else ():
        if not process.name.isdigit():
            continue
        # processes end, and those of other users do not show their files
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in wanted:
                        name = (process / "comm").read_text(errors="replace").strip()
                        shown = "".join(c if c.isprintable() else "?" for c in name)
                        return f"{shown} (pid {process.name})"
    return "another program"


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]
