"""Trace contexts in TCP options: the kernel's part (bpf/propagate.bpf.c), loaded only where it was asked for.

Everything is gone with the agent: programs hang on links, and the option is written by them alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.errors import KernelError, UnsupportedError
from otel_ebpf.kernel import cgroup
from otel_ebpf.kernel.features import has_sock_length, has_tracepoint
from otel_ebpf.kernel.objects import Object
from otel_ebpf.kernel.ring import Ring

_BEFORE = "tcp_sendmsg_locked"
_TRACING = ("before_send", "after_send", "after_receive", "after_exit", "after_exec")
_SOCKETS = "on_segment"
_YES = np.array(1, np.uint32)


def refusal() -> str:
    """Why this kernel cannot do it; "" if it can.

    >>> refusal()
    "the kernel has no tracepoint tcp_sendmsg_locked (Linux 6.15): …"
    """
    if not has_tracepoint(_BEFORE) or not has_sock_length():
        return (
            f"the kernel has no tracepoint {_BEFORE} (Linux 6.15): what a request is to bear must be known before it "
            "is sent"
        )
    return ""


class Propagation:
    """Writes the contexts of requests to other hosts into their first segments, and reads those of others.

    requests: the loaded object of socket messages, whose programs are attached already: these run after them.
    """

    def __init__(self, requests: Object, constants: dict[str, int], unused: Collection[str]) -> None:
        why = refusal()
        if why:
            raise UnsupportedError(why)
        self.object = Object("propagate", {*_TRACING, _SOCKETS})
        self.object.share(requests.maps)
        self._own = [m for name, m in self.object.maps.items() if name not in requests.maps]
        self.object.leave_out([name for name in unused if name in self.object.maps])
        self.object.set_constants("config", **constants)
        names = self.object.btf.enum("wire_stat")
        self._names = {k.removeprefix("WIRE_").lower(): v for k, v in names.items() if k != "WIRE_KINDS"}

    def start(self) -> None:
        """Load and attach; raises KernelError."""
        try:
            self.object.load()
            root = cgroup.root()
            try:
                self.object.attach_cgroup(_SOCKETS, root)
            finally:
                os.close(root)
            for program in _TRACING:
                self.object.attach(program)
        except KernelError:
            self.object.close()
            raise
        contexts = self.object.maps["arrived_contexts"]
        self._contexts = Ring(contexts.fd, contexts.max_entries, self.object.btf.dtype("arrived_context"))

    def read(self) -> NDArray[np.void]:
        """(n,) `struct arrived_context`: what requests came with, before these are over."""
        return self._contexts.read()

    def proven(self, pids: Iterable[int], yes: bool) -> None:
        """The kernel knows the causes of these processes' calls; or, after all, does not."""
        known = self.object.maps["proven"]
        for pid in pids:
            key = np.array(pid, np.uint32)
            if not yes:
                known.delete(key)
                continue
            with contextlib.suppress(KernelError):  # full: then this one's calls are not told
                known.update(key, _YES)

    def gone(self, pids: Iterable[int]) -> None:
        """These processes ended, or became another program (then the kernel side has forgotten them already)."""
        for pid in pids:
            key = np.array(pid, np.uint32)
            self.object.maps["proven"].delete(key)
            if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110  else its first thread ended, and others go on
                self.object.maps["receivers"].delete(key)

    def counts(self) -> dict[str, int]:
        """Counts of `enum wire_stat`."""
        sums = self.object.maps["wire_stats"].per_cpu_sums()
        return {name: int(sums[i]) for name, i in self._names.items()}

    @property
    def memory(self) -> int:
        """Bytes of its own maps, by the kernel's account."""
        return sum(m.memory for m in self._own if m.created)

    @property
    def ring(self) -> int:
        """Descriptor that tells when the ring fills."""
        return self.object.maps["arrived_contexts"].fd

    @property
    def fill(self) -> float:
        """Part of the ring that is in use."""
        return self._contexts.fill

    def close(self) -> None:
        """Detach: from now on no packet bears anything."""
        self.object.close()
