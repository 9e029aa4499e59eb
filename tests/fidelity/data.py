"""Rows whose programs call a data store instead of the backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from tests import servers
from tests.fidelity.row import Start
from tests.fidelity.site import Site
from tests.servers import Server


def _before(
    store: Callable[[], AbstractContextManager[Server]], command: tuple[str, ...], environment: Mapping[str, str]
) -> Start:
    """The row of one program that calls a data store; the store is a hop whose own calls do not matter."""

    @contextmanager
    def start(site: Site) -> Iterator[None]:
        with store() as server:
            site.ports.append(server.port)
            site.adopt("store", server.pid, judged=False)
            words = [*command, "--port", "{port}", "--backend", "{backend}"]
            backend = f"127.0.0.1:{server.port}"
            with site.run("app", words, port=site.front(), backend=backend, environment=environment):
                yield

    return start


def postgresql(*command: str, **environment: str) -> Start:
    """`command` in front of PostgreSQL, role and database `postgres`."""
    return _before(servers.postgresql, command, environment)


def redis(*command: str, **environment: str) -> Start:
    """`command` in front of Redis."""
    return _before(servers.redis, command, environment)
