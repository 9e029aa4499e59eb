"""What a row of the matrix is, and the contract with the programs in `apps/`.

**A program** is started with `--port P --backend HOST:PORT`. A request's path is `/r/TOKEN` or `/b/TOKEN` (the program
takes both) with `?k=K&par=0|1`, by default k=1, par=0. It makes K calls, one after the other or at once, of
`GET http://BACKEND/b/TOKEN/I` for I from 0, without a query, and then answers 200. So the token of a call is its
cause's with `/I` behind it, however long the chain; that is the truth, and it stands in the span itself. A program that
calls a data store has the token in the SQL text or key, with `_I` or `/I` behind it. A proxy passes paths on unchanged:
the token of the call is the token of its cause.

**A row** says how programs are started; the harness brings the backend, the load, the agent, and counts.

    Row(
        "python-threading",
        runtime="CPython",
        what="http.server's thread a connection, pooled http.client",
        start=program(PYTHON, "{apps}/python_threading/app.py"),
    )
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import SYSTEM_PATH

if TYPE_CHECKING:
    from tests.fidelity.site import Site

APPS = Path(__file__).with_name("apps")

Start = Callable[["Site"], AbstractContextManager[None]]
"""Starts all programs of a row in a Site, in the order in which a request meets them backwards (callees first)."""

SEQUENTIAL = "seq"
PARALLEL = "par"
EXACT, GOOD, CERTAIN = 99.5, 98.0, 0.0
"""The issue's classes, percent of parents that must be right. CERTAIN: as many as are certain, none wrong."""


@dataclass(frozen=True, slots=True)
class Need:
    """Something that must be on the machine. missing: None, or what to do about it."""

    what: str
    missing: Callable[[], str | None]


def apt(command: str, package: str) -> Need:
    """A Debian package, known by a command that it brings."""
    path = f"{SYSTEM_PATH}:/usr/local/go/bin"
    return Need(
        package,
        lambda: None if shutil.which(command, path=path) else f"apt-get install --no-install-recommends {package}",
    )


def present(path: str, remedy: str) -> Need:
    """A file that a pattern finds, like "/usr/lib/php/*/mysqli.so"."""
    pattern = Path(path)
    return Need(
        remedy, lambda: None if any(Path("/").glob(str(pattern.relative_to("/")))) else f"{path} not found: {remedy}"
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a program, or a chain of them, under load.

    modes: of SEQUENTIAL and PARALLEL, those that differ for this program. target: percent right. rate: requests a
    second; least, most: calls a request. build: makes what `start` runs, before anything is measured; it keeps what
    takes long in `site.CACHE`. quick: belongs to the subset that the test suite asserts, in these modes.
    """

    name: str
    runtime: str
    what: str
    start: Start
    modes: tuple[str, ...] = (SEQUENTIAL,)
    target: float = EXACT
    rate: float = 100.0
    connections: int = 30
    least: int = 1
    most: int = 3
    needs: tuple[Need, ...] = ()
    build: Callable[[], None] = field(default=lambda: None)
    quick: tuple[str, ...] = ()

    def lacking(self) -> list[str]:
        """What is to be done before it can run here."""
        return [remedy for need in self.needs if (remedy := need.missing()) is not None]


def program(*command: str, environment: Mapping[str, str] | None = None, calls: int | None = None) -> Start:
    """The row of one program: `command` with `--port` and `--backend` behind it.

    In it {apps}, {cache}, {folder} (scratch), {port}, {backend}, {host}, {backend_port} stand for what they say; if
    {port} does, nothing is put behind it. calls: of each request; None: as many as it asks for.
    """

    @contextmanager
    def start(site: Site) -> Iterator[None]:
        port = site.front()
        words = list(command)
        if not any("{port}" in word for word in words):
            words += ["--port", "{port}", "--backend", "{backend}"]
        with site.run("app", words, port=port, backend=site.backend, environment=environment, calls=calls):
            yield

    return start


def shown(command: tuple[str, ...]) -> str:
    """A command as a shell takes it."""
    return shlex.join(command)
