"""What /proc says of one process, read once.

All files are opened below one descriptor of /proc/PID: it stays bound to the process that it was opened for, so that a
reused pid cannot mix two processes. Everything in there is written by the process itself, or could be: it is hostile.

>>> read(os.getpid()).executable
'/usr/bin/python3.11'
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Files: TypeAlias = Callable[[str], "bytes | None"]
"""Reads a file by its absolute path as the process sees it; None if there is no such regular file."""

VARIABLES = frozenset(
    {
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_TRACES_EXPORTER",
        "OTEL_SDK_DISABLED",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "FLASK_APP",
        "DJANGO_SETTINGS_MODULE",
        "RELEASE_NAME",
        "npm_package_name",
        "pm_id",
        "name",
    }
)
"""All of a process's environment that is looked at; the rest, secrets included, is not kept."""
_MOST_ARGUMENTS = 32 << 10
_MOST_ENVIRONMENT = 2 << 20
_MOST_FILE = 256 << 10
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process. start: clock ticks after boot; with pid it names the process for as long as the host runs.

    executable: path in the process's own mount namespace, "" if not known. cgroup: text of /proc/PID/cgroup.
    own_pid: as it calls itself, in its own pid namespace.
    """

    pid: int
    parent: int = 0
    start: int = 0
    comm: str = ""
    argv: tuple[str, ...] = ()
    executable: str = ""
    cwd: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    cgroup: str = ""
    uid: int | None = None
    own_pid: int = 0

    @property
    def start_ns(self) -> int:
        """Nanoseconds after boot, a tick (10 ms) at most before the truth."""
        return nanoseconds(self.start)


def nanoseconds(ticks: int) -> int:
    """Clock ticks as nanoseconds."""
    return ticks * (1_000_000_000 // _TICKS)


def read(pid: int) -> Process | None:
    """The process, or None if it is gone (or is a kernel thread that may not be looked at)."""
    try:
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read(pid, directory)
    except (OSError, ValueError):
        # It exited in between: every file of it says ESRCH or ENOENT, or is empty.
        return None
    finally:
        os.close(directory)


def start_of(pid: int) -> int | None:
    """Its start in clock ticks after boot; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 (a Path costs as much as the read)
            return _stat(file.read(1024))[2]
    except (OSError, ValueError):
        return None


def files_of(pid: int) -> Files:
    """Files as the process sees them, below its own root: at most 256 KiB, regular ones, no link at the end."""

    def file(path: str) -> bytes | None:
        try:
            descriptor = os.open(
                f"/proc/{pid}/root{os.path.normpath(path)}",
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
            )
        except (OSError, ValueError):
            return None
        try:
            return os.read(descriptor, _MOST_FILE) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        except OSError:
            return None
        finally:
            os.close(descriptor)

    return file


def _read(pid: int, directory: int) -> Process:
    comm, parent, start = _stat(_content("stat", directory, 1024))
    status = _content("status", directory, 4096)
    return Process(
        pid=pid,
        parent=parent,
        start=start,
        comm=comm,
        argv=_arguments(_content("cmdline", directory, _MOST_ARGUMENTS)),
        executable=_link("exe", directory).removesuffix(" (deleted)"),
        cwd=_link("cwd", directory).removesuffix(" (deleted)"),
        environment=_environment(_content_or_nothing("environ", directory, _MOST_ENVIRONMENT)),
        cgroup=_content_or_nothing("cgroup", directory, 16 << 10).decode(errors="replace"),
        uid=_uid(status),
        own_pid=_own_pid(status) or pid,
    )


def _stat(content: bytes) -> tuple[str, int, int]:
    """(comm, parent, start): proc_pid_stat(5) fields 2, 4 and 22; comm may contain spaces and parentheses."""
    opening, closing = content.index(b"("), content.rindex(b")")
    fields = content[closing + 2 :].split()
    return content[opening + 1 : closing].decode(errors="replace"), int(fields[1]), int(fields[19])


def _arguments(content: bytes) -> tuple[str, ...]:
    return tuple(part.decode(errors="replace") for part in content.rstrip(b"\0").split(b"\0")) if content else ()


def _environment(content: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in content.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and (text := name.decode(errors="replace")) in VARIABLES:
            found.setdefault(text, value.decode(errors="replace"))
    return found


def _uid(status: bytes) -> int | None:
    """The effective user: proc_pid_status(5), "Uid: real effective saved filesystem"."""
    _, found, rest = status.partition(b"\nUid:")
    return int(rest.split(maxsplit=2)[1]) if found else None


def _own_pid(status: bytes) -> int:
    """In the innermost pid namespace: proc_pid_status(5), "NSpid: the outermost … the innermost"."""
    _, _, rest = status.partition(b"\nNSpid:")
    numbers = rest.partition(b"\n")[0].split()
    return int(numbers[-1]) if numbers else 0


def _content(name: str, directory: int, most: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        # /proc gives at most a page or so per read of some files.
        parts = []
        while most > 0 and (part := os.read(descriptor, most)):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _content_or_nothing(name: str, directory: int, most: int) -> bytes:
    """The same of a file that needs CAP_SYS_PTRACE or need not exist: without it less is known, and that is all."""
    try:
        return _content(name, directory, most)
    except OSError:
        return b""


def _link(name: str, directory: int) -> str:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""
