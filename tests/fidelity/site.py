"""Where a row runs: its ports, its folder, its programs, and which process belongs to which of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.fidelity.row import APPS
from tests.processes import answers, descendants, free_port, running
from tests.servers import CACHE as SERVERS_CACHE

CACHE = SERVERS_CACHE / "fidelity"
PYTHON = sys.executable
PROGRAMS = Path(__file__).with_name("programs")
BACKEND = "backend"
LOAD = "load"


@dataclass(slots=True)
class Hop:
    """A program that a request meets. calls: that it makes for each request; None: the request's k.

    caller: name of the hop whose calls it answers. judged: whether its calls are scored, which those of a backend and
    of a data store are not. pids: every process of it that was seen. part: of the requests, the share that it meets.
    """

    name: str
    calls: int | None
    caller: str
    judged: bool
    roots: list[int] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Note the processes that there are now."""
        for root in self.roots:
            self.pids |= descendants(root)


class Site:
    """One run of one row. `backend` is "127.0.0.1:PORT"; `folder` is scratch; `ports` are all that are its own."""

    def __init__(self, folder: Path, mark: str, *, fast: bool = False) -> None:
        self.folder = folder
        self.mark = mark
        self.fast = fast
        self.backend = ""
        self.ports: list[int] = []
        self.hops: dict[str, Hop] = {}
        self.unfiltered = False
        """To be set by rows with unix sockets, which have no port to tell the agent."""
        self._front = 0

    def port(self) -> int:
        """A free port that the agent is told to watch."""
        self.ports.append(free_port())
        return self.ports[-1]

    def front(self) -> int:
        """The port that the load asks."""
        if not self._front:
            self._front = self.port()
        return self._front

    @contextmanager
    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int = 0,
        backend: str = "",
        ready: Callable[[], bool] | None = None,
        environment: Mapping[str, str] | None = None,
        calls: int | None = None,
        caller: str | None = None,
        judged: bool = True,
        hop: bool = True,
    ) -> Iterator[int]:
        """A program as a hop of its own; yields its pid. By default it is ready when it accepts on `port`.

        caller: by default the hop that is started next, or the load.
        """
        host, _, backend_port = backend.partition(":")
        names = {
            "apps": str(APPS),
            "cache": str(CACHE),
            "folder": str(self.folder),
            "port": str(port),
            "backend": backend,
            "host": host,
            "backend_port": backend_port,
        }
        words = [word.format(**names) for word in command]
        variables = {key: value.format(**names) for key, value in (environment or {}).items()}
        log = self.folder / f"{name}.log"
        with running(words, ready or answers(port), log=log, environment=variables) as process:
            if hop:
                self.adopt(name, process.pid, calls=calls, caller=caller, judged=judged)
            yield process.pid

    def adopt(
        self, name: str, pid: int, *, calls: int | None = None, caller: str | None = None, judged: bool = True
    ) -> None:
        """Take a process that runs already, with its descendants, for the hop `name`; more than one are one hop."""
        hop = self.hops.get(name)
        if hop is None:
            hop = self.hops[name] = Hop(name, calls, caller or "", judged)
        hop.roots.append(pid)
        hop.look()

    @contextmanager
    def run_backend(self) -> Iterator[None]:
        """The program at the end of every chain."""
        port = self.port()
        low, high = ("0.2", "3") if self.fast else ("5", "60")
        command = [PYTHON, str(PROGRAMS / "backend.py"), "--port", "{port}", "--low", low, "--high", high]
        with self.run(BACKEND, command, port=port, judged=False):
            self.backend = f"127.0.0.1:{port}"
            yield

    def settle(self) -> None:
        """Give hops without a caller the one that was started after them (callees start first)."""
        names = [*self.hops, LOAD]
        for name, after in pairwise(names):
            if not self.hops[name].caller:
                self.hops[name].caller = after

    def look(self) -> None:
        """Note the processes of all hops."""
        for hop in self.hops.values():
            hop.look()
