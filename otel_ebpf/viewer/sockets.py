"""Listening sockets."""

from __future__ import annotations

import errno
import socket

from otel_ebpf.errors import ConfigError, OtelEbpfError, UnsupportedError
from otel_ebpf.resource.ports import taken_by
from otel_ebpf.viewer.listening import Place


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
