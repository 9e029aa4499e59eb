"""What this kernel offers, by looking, never by its version."""

from __future__ import annotations

import functools
from pathlib import Path

from otel_ebpf.errors import UnsupportedError

VMLINUX_BTF = Path("/sys/kernel/btf/vmlinux")


@functools.cache
def has_tracepoint(name: str) -> bool:
    """Has the kernel a BTF-typed tracepoint NAME?

    >>> has_tracepoint("inet_sock_set_state")
    True
    """
    try:
        return f"\0btf_trace_{name}\0".encode() in VMLINUX_BTF.read_bytes()
    except OSError as failure:
        raise UnsupportedError(
            f"{VMLINUX_BTF}: {failure.strerror}: the kernel needs CONFIG_DEBUG_INFO_BTF=y (stock kernels of Debian 11, "
            "Ubuntu 20.10, Fedora 31, RHEL 8.2 and later have it)"
        ) from None


def has_sock_length() -> bool:
    """The tracepoints in sock_sendmsg and sock_recvmsg (net/socket.c), which see every socket call and nothing else."""
    return has_tracepoint("sock_send_length") and has_tracepoint("sock_recv_length")
