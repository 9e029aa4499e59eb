"""The root of the cgroup v2 hierarchy, as a descriptor, wherever or whether it is mounted."""

from __future__ import annotations

import ctypes
import os

from otel_ebpf.errors import KernelError

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
"""Numbers of the system calls: the same on all architectures (since Linux 5.2)."""
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1
"""FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC: include/uapi/linux/mount.h."""


def root() -> int:
    """A descriptor of the root directory, to be closed; a mount that nobody else sees, and that goes with it.

    >>> os.listdir(root())
    ['cgroup.controllers', 'cgroup.procs', …]
    """
    context = _call(_FSOPEN, b"cgroup2", _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mount = _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise KernelError(f"cgroup2 cannot be mounted: {os.strerror(error)}")
    return result
