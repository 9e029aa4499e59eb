"""Trace contexts beside or in the bytes of requests: the kernel's part, loaded only where it was asked for.

`TcpOption` is bpf/propagate.bpf.c, `HttpHeader` bpf/header.bpf.c. Everything is gone with the agent: programs hang on
links and on a map of their own, and what is put in is put in by them alone.
"""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture import sockmap
from otel_ebpf.errors import KernelError, UnsupportedError
from otel_ebpf.kernel import cgroup
from otel_ebpf.kernel.features import has_sock_length, has_tracepoint
from otel_ebpf.kernel.objects import Map, Object
from otel_ebpf.kernel.ring import Ring

TCP_OPTION, HTTP_HEADER = "tcp-option", "http-header"
"""`propagation` of the configuration, but for `off`."""
_BEFORE = "tcp_sendmsg_locked"
_YES = np.array(1, np.uint32)


@functools.cache
def refusal(mode: str = TCP_OPTION) -> str:
    """Why this kernel cannot do it; "" if it can. HTTP_HEADER is tried out, once: root is needed, and 0.1 s.

    >>> refusal("tcp-option")
    "the kernel has no tracepoint tcp_sendmsg_locked (Linux 6.15): …"
    """
    if mode == HTTP_HEADER:
        return sockmap.refusal()
    if not has_tracepoint(_BEFORE) or not has_sock_length():
        return (
            f"the kernel has no tracepoint {_BEFORE} (Linux 6.15): what a request is to bear must be known before it "
            "is sent"
        )
    return ""


class Propagation(ABC):
    """What both ways have in common. object: their programs.

    requests: the loaded object of socket messages, whose programs are attached already: these run after them.
    """

    NAME: str
    PROGRAMS: tuple[str, ...]
    """Attached where their sections say."""
    ON_CGROUPS: str
    """Attached to the root of the cgroups."""
    NOT_OURS: frozenset[str]
    """Outcomes that only the other way has."""

    def __init__(self, requests: Object, constants: dict[str, int], unused: Collection[str]) -> None:
        why = refusal(self.NAME)
        if why:
            raise UnsupportedError(why)
        self.object = self._open()
        self.object.share(requests.maps)
        self._own: list[Map] = [m for name, m in self.object.maps.items() if name not in requests.maps]
        self.object.leave_out([name for name in unused if name in self.object.maps])
        self.object.set_constants("config", **constants)
        names = self.object.btf.enum("wire_stat")
        outcomes = {k.removeprefix("WIRE_").lower(): v for k, v in names.items() if k != "WIRE_KINDS"}
        self._names = {name: i for name, i in outcomes.items() if name not in self.NOT_OURS}
        self._unnoted = 0
        self.rings: dict[str, Ring] = {}
        """By name, what the kernel tells."""

    @abstractmethod
    def _open(self) -> Object:
        """The object, and which of its programs are loaded."""

    def start(self) -> None:
        """Load and attach; raises KernelError."""
        try:
            self.object.load()
            self._attach()
        except KernelError:
            self.object.close()
            raise

    def _attach(self) -> None:
        root = cgroup.root()
        try:
            self.object.attach_cgroup(self.ON_CGROUPS, root)
        finally:
            os.close(root)
        for program in self.PROGRAMS:
            self.object.attach(program)

    def read(self) -> NDArray[np.void] | None:
        """(n,) `struct arrived_context`: what requests came with, before these are over; None: it is in their bytes."""
        return None

    def proven(self, pids: Iterable[int], yes: bool) -> None:
        """The kernel knows the causes of these processes' calls; or, after all, does not."""
        known = self.object.maps["proven"]
        for pid in pids:
            key = np.array(pid, np.uint32)
            if not yes:
                known.delete(key)
                continue
            try:
                known.update(key, _YES)
            except KernelError:  # full: then this one's calls are not told
                self._unnoted += 1

    def gone(self, pids: Iterable[int]) -> None:
        """These processes ended, or became another program (then the kernel side has forgotten them already)."""
        for pid in pids:
            key = np.array(pid, np.uint32)
            self.object.maps["proven"].delete(key)
            if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110  else its first thread ended, and others go on
                self.object.maps["receivers"].delete(key)

    def counts(self) -> dict[str, int]:
        """Counts of `enum wire_stat`; what could not be noted here is `lost`, too."""
        sums = self.object.maps["wire_stats"].per_cpu_sums()
        found = {name: int(sums[i]) for name, i in self._names.items()}
        found["lost"] += self._unnoted
        return found

    @property
    def memory(self) -> int:
        """Bytes of its own maps, by the kernel's account."""
        return sum(m.memory for m in self._own if m.created)

    def close(self) -> None:
        """Detach: from now on nothing bears anything."""
        self.object.close()


class TcpOption(Propagation):
    """Writes the contexts of requests to other hosts into their first segments, and reads those of others."""

    NAME = TCP_OPTION
    PROGRAMS = ("before_send", "after_send", "after_receive", "after_exit", "after_exec")
    ON_CGROUPS = "on_segment"
    NOT_OURS = frozenset({"unwatched", "uncertain", "own_context", "queued"})

    def _open(self) -> Object:
        return Object("propagate", {*self.PROGRAMS, self.ON_CGROUPS})

    def start(self) -> None:
        """As in Propagation."""
        super().start()
        contexts = self.object.maps["arrived_contexts"]
        ring = Ring(contexts.fd, contexts.max_entries, self.object.btf.dtype("arrived_context"))
        self.rings = {"arrived_contexts": ring}

    def read(self) -> NDArray[np.void]:
        """As in Propagation."""
        return self.rings["arrived_contexts"].read()


class HttpHeader(Propagation):
    """Puts `traceparent` into the HTTP/1 requests of clients. Who receives one reads it in the request."""

    NAME = HTTP_HEADER
    PROGRAMS = ("before_call", "after_call", "after_destroy", "after_exit", "after_exec")
    ON_CGROUPS = "on_connection"
    NOT_OURS = frozenset({"too_long", "no_room", "mid_segment", "deaf"})

    def _open(self) -> Object:
        return Object("header", {*self.PROGRAMS, self.ON_CGROUPS, "before_send"})

    def _attach(self) -> None:
        self.object.attach_map("before_send", self.object.maps["clients"])
        super()._attach()


WAYS: dict[str, type[Propagation]] = {way.NAME: way for way in (TcpOption, HttpHeader)}
