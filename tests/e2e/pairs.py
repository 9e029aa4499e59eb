"""What the end-to-end tests ask of spans: those of one server, and both ends of one exchange."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.processes import program
from tests.servers import Server
from tests.spans import SeenSpan

Select = Callable[[SeenSpan], object]


def run(*command: str, timeout_s: float = 30) -> str:
    """A client program to its end; its standard output."""
    path = command[0] if "/" in command[0] else program(command[0], command[0])
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, timeout=timeout_s)
    return done.stdout


def at(server: Server, kind: str) -> Select:
    """Spans of that kind at a server on TCP or UDP: its port is `server.port` at both ends."""
    return lambda span: span.kind == kind and span.get("server.port") == server.port


def of(server: Server) -> Select:
    """The spans that the server's own processes made, on whatever socket."""
    return lambda span: span.kind == "server" and span.resource.get("process.pid") in server.pids()


def both_ends(server: Server, count: int = 1) -> Callable[[list[SeenSpan]], bool]:
    """For `wait`: at least `count` server and `count` client spans of that server are there."""

    def enough(spans: list[SeenSpan]) -> bool:
        return all(len([span for span in spans if at(server, kind)(span)]) >= count for kind in ("server", "client"))

    return enough


def ends(spans: list[SeenSpan], server: Server) -> tuple[SeenSpan, SeenSpan]:
    """The one client and the one server span of that server; AssertionError when there are more or fewer."""
    clients = [span for span in spans if at(server, "client")(span)]
    servers = [span for span in spans if at(server, "server")(span)]
    assert len(clients) == 1, clients
    assert len(servers) == 1, servers
    return clients[0], servers[0]


def assert_joined(client: SeenSpan, server: SeenSpan) -> None:
    """The server span is the child of the client span, in one trace, found by their common connection."""
    assert server.trace == client.trace, f"{client}\n{server}"
    assert server.parent == client.id
    assert server.attributes["otel_ebpf.link.method"] == "connection"
    # The server works within the time that the client waits.
    assert client.start <= server.start <= server.end <= client.end


def folder_of(server: Server) -> Path:
    """The folder of the server's unix socket."""
    assert server.socket is not None
    return server.socket.parent
