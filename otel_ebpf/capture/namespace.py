"""The network namespace that an agent is confined to (`filter.network_namespace`), as the kernel knows it."""

from __future__ import annotations

from pathlib import Path

from otel_ebpf.errors import ConfigError

OWN = "own"
_OWN_PATH = "/proc/self/ns/net"


def inode_of(namespace: str | None) -> int:
    """The inode number of a network namespace: None (0: all are observed), "own", a path, or the number itself.

    ConfigError: the path is not there, or is no namespace.

    >>> inode_of("4026531840")
    4026531840
    """
    if not namespace:
        return 0
    if namespace.isdecimal():
        return int(namespace)
    path = Path(_OWN_PATH if namespace == OWN else namespace)
    try:
        found = path.stat()
    except OSError as failure:
        raise ConfigError(f"filter.network_namespace: {path}: {failure.strerror}") from None
    if found.st_dev != Path(_OWN_PATH).stat().st_dev:
        raise ConfigError(
            f"filter.network_namespace: {path} is no namespace: expected /run/netns/NAME, /proc/PID/ns/net"
        )
    return found.st_ino
