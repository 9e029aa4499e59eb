"""What a person would call a process, from its command line, executable and working directory.

Pure: the same facts and files give the same name. Order: titles that servers give themselves, runtimes that run other
people's programs, then the program's own name, or its Go module's or directory's where its own says nothing.

>>> guess(Process(1, argv=("gunicorn", "shop.wsgi"), executable="/usr/bin/python3.11"), no_files).name
'shop'
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from posixpath import basename, dirname

from otel_ebpf.resource.gobuild import GoBuild
from otel_ebpf.resource.procfs import Files, Process
from otel_ebpf.resource.runtimes import RUNTIMES, package_name
from otel_ebpf.resource.words import (
    GENERIC_PROGRAMS,
    clean,
    directory_name,
    module_name,
    option,
    script_name,
    stem,
    word_set,
)

_MULTICALL = word_set(
    "busybox toybox coreutils box64 rosetta redis-check-rdb redis-check-aof valkey-check-rdb valkey-check-aof"
)
"""Executables that are many programs: the first argument says which (Debian's redis-server is a link to
redis-check-rdb)."""
_DECORATION = re.compile(r"^\.(.+)-wrapped$|^(php-fpm|postgres|nginx|redis-server)[\d.]+$")
"""What packaging adds to a program's name: NixOS wrappers, Debian's php-fpm8.2."""


@dataclass(frozen=True, slots=True)
class Guess:
    """name, and the runtime (`process.runtime.name`, `process.runtime.version`) as far as they are certain."""

    name: str
    runtime: str = ""
    version: str = ""


def no_files(path: str) -> bytes | None:
    """For processes whose files cannot be read."""
    return None


def no_build() -> GoBuild | None:
    """The same for what Go wrote into the executable."""
    return None


def _application(process: Process, found: str, files: Files) -> str:
    return module_name(found, process.cwd)


def _directory(process: Process, found: str, files: Files) -> str:
    return directory_name(found if found.startswith("/") else process.cwd)


def _package(process: Process, found: str, files: Files) -> str:
    return package_name(process.cwd, files) or directory_name(process.cwd)


def _pool(process: Process, found: str, files: Files) -> str:
    return found if found != "www" else "php-fpm"


def _node_script(process: Process, found: str, files: Files) -> str:
    return package_name(dirname(found), files) or process.environment.get("name", "") or script_name(found, process.cwd)


def _celery(process: Process, found: str, files: Files) -> str:
    app = option(found.split(), "-A", "--app")
    return module_name(app, process.cwd) if app else "celery"


def _literal(process: Process, found: str, files: Files) -> str:
    return found


_TITLES: tuple[tuple[re.Pattern[str], Callable[[Process, str, Files], str]], ...] = (
    (re.compile(r"gunicorn: (?:master|worker|arbiter) \[([^\]]+)\]"), _application),
    (re.compile(r"\[celeryd: [^\]]*\].*?\(([^)]*)\)?"), _celery),
    (re.compile(r"puma[: ].*\[([^\]]+)\]"), _literal),
    (re.compile(r"puma[: ](.*)"), _directory),
    (re.compile(r"sidekiq \S+ (\S+) \["), _literal),
    (re.compile(r"unicorn(?:_rails)? (?:master|worker)(.*)"), _directory),
    (re.compile(r"Passenger \w+: (/\S*)"), _directory),
    (re.compile(r"php-fpm: pool (\S+)"), _pool),
    (re.compile(r"(php-fpm): master"), _literal),
    (re.compile(r"(PM2) v.*"), _literal),
    (re.compile(r"(next)-(?:server|router).*"), _package),
    (re.compile(r"(npm|yarn|pnpm)(?: .*)?"), _package),
    (re.compile(r"node (/[^ ]+\.[cm]?js).*"), _node_script),
)
"""How servers rewrite their own command line: pattern of the whole title, and what to make of its group."""


def guess(process: Process, files: Files = no_files, go: Callable[[], GoBuild | None] = no_build) -> Guess:
    """What the process is called. go: reads the build information of the executable, asked only where it may matter."""
    program = program_name(process)
    runtime = next((r for r in RUNTIMES if r.program.fullmatch(program)), None)
    title = process.argv[0] if len(process.argv) == 1 else ""
    for pattern, namer in _TITLES if " " in title or ":" in title else ():
        if match := pattern.match(title):
            name = clean(namer(process, match[1].strip(), files))
            return Guess(name or program, runtime.name if runtime else "")
    if runtime is not None:
        return Guess(clean(runtime.namer(process, process.argv[1:], files)) or program, runtime.name)
    build = go()
    name = program
    if program.lower() in GENERIC_PROGRAMS:
        module = re.sub(r"/v\d+$", "", build.module) if build else ""
        name = basename(module) or directory_name(dirname(process.executable)) or directory_name(process.cwd) or program
    return Guess(clean(name) or program, "go" if build else "", build.version if build else "")


def program_name(process: Process) -> str:
    """What is executed: the executable's name, without what packaging added; the command's when it is hidden.

    >>> program_name(Process(1, argv=("postgres: shop app [local] idle",), executable="/usr/bin/postgres"))
    'postgres'
    """
    first = process.argv[0] if process.argv else ""
    name = basename(process.executable)
    if not name or name in _MULTICALL or name.startswith(("memfd:", "qemu-")):
        name = basename(first.split(" ")[0].rstrip(":")).lstrip("-") or process.comm
    if match := _DECORATION.match(name):
        name = match[1] or match[2]
    return clean(stem(name)) or clean(process.comm) or "unknown_service"
