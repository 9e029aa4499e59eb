"""Protocols: one module each, bytes in, fields out. docs/adding-a-protocol.md says how to add one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_ebpf.protocols.base import Protocol


@cache
def registry() -> tuple[Protocol, ...]:
    """All protocols. Their order decides nothing; `Connections.protocol` holds indices into it.

    The modules are imported here, since the rooms that only need the contracts (base.py) need no parser.
    """
    from otel_ebpf.protocols.dns import Dns
    from otel_ebpf.protocols.fastcgi import FastCgi
    from otel_ebpf.protocols.grpc import Grpc
    from otel_ebpf.protocols.http import Http
    from otel_ebpf.protocols.mysql import MySQL
    from otel_ebpf.protocols.postgresql import PostgreSQL
    from otel_ebpf.protocols.redis import Redis

    return (Http(), Redis(), PostgreSQL(), MySQL(), Dns(), FastCgi(), Grpc())
