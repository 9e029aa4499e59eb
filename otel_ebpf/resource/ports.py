"""Who listens on a TCP port, for messages about ports that we cannot have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"
"""TCP_LISTEN in the fourth column of /proc/net/tcp (include/net/tcp_states.h)."""


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
