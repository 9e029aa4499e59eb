"""Capture from the running kernel: loads requests.bpf.c, drains its rings, and drives the sweep of idle connections.

Two fronts serve the same records; which one this kernel has is found by looking for its tracepoints in kernel BTF:
`sock_send_length`/`sock_recv_length` (6.3 and later), else `sys_exit`.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.propagation import HTTP_HEADER, WAYS, Propagation, refusal
from otel_ebpf.capture.tls import TlsSource
from otel_ebpf.errors import KernelError, UnsupportedError
from otel_ebpf.kernel.features import has_sock_length
from otel_ebpf.kernel.objects import Iterator, Object
from otel_ebpf.kernel.ring import Ring
from otel_ebpf.model import Exchanges, Flag, Frames
from otel_ebpf.runtimes import recognisers
from otel_ebpf.runtimes.watch import Runtimes

SWEEP_NS = 100_000_000
IDLE_NS = 150_000_000
"""A response after which its connection was silent for so long is sent by the next sweep."""
TIDY_NS = 10 * 10**9
"""How often the sweep runs while nothing is in progress: what was abandoned is removed then."""
QUERY_TIMEOUT_NS = 5 * 10**9
"""How long a resolver waits for an answer before it asks again (resolv.conf(5), `timeout`)."""

_STORAGE_MAPS = ("conns", "payloads", "threads")
_HASH_MAPS = ("conns_by_sock", "payloads_by_sock", "threads_by_id")
_WHEN_NEEDED = "on_space_adjust"
"""Attached when the kernel says that it is needed: it costs each receive."""
_SIZES = ("head", "small", "large")
_TELLING = ("connections", "processes", "server_names", "lineages", "segments", "heap_marks", "exports")
"""Rings of what concerns exchanges: read after them."""


_TRUST = {"none": 0, "private": 1, "all": 2}
"""`enum trust` of bpf/include/state.h."""
_NO_PIDS = np.zeros(0, np.uint32)


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """What of the configuration concerns the kernel side."""

    request_timeout_ns: int = 60 * 10**9
    idle_ns: int = IDLE_NS
    announce_ns: int = 60 * 10**9
    netns: int = 0
    """inode number of the one network namespace that is observed; 0: all"""
    rings: Mapping[str, int] = field(default_factory=dict)
    """bytes by ring name, powers of two; what is not named keeps its compiled size"""
    propagation: str = "off"
    """in what contexts are sent: as in the configuration"""
    trust: str = "all"
    """whose, one of `tracing.trust.NAMES`"""


@dataclass(slots=True)
class Drain:
    """What was in the rings: exchanges by size class, and the announcements that concern them.

    server_names, lineages, segments, heap_marks, exports, contexts: records of these structs (`struct export_chunk`,
    `arrived_context`); None: the source has none.
    open_since: processes that had an open request at `swept`, (n,) ids and (n,) records of `struct open_since`.
    swept_until: when that had been seen; on a busy host the sweep takes its time. 0: at `swept`.
    swept: CLOCK_MONOTONIC ns; every exchange whose connection had been idle for IDLE_NS by then has been handed over.
    frames: of HTTP/2, by size class; the frames of a connection lie in all of them and are in the order of their `n`.
    """

    exchanges: list[Exchanges]
    connections: NDArray[np.void]
    processes: NDArray[np.void]
    swept: int
    server_names: NDArray[np.void] | None = None
    lineages: NDArray[np.void] | None = None
    segments: NDArray[np.void] | None = None
    exports: NDArray[np.void] | None = None
    open_since: tuple[NDArray[np.uint32], NDArray[np.void] | None] = (_NO_PIDS, None)
    swept_until: int = 0
    contexts: NDArray[np.void] | None = None
    heap_marks: NDArray[np.void] | None = None
    frames: list[Frames] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there was anything."""
        beside = (self.server_names, self.lineages, self.segments, self.exports, self.contexts, self.heap_marks)
        told = (self.connections, self.processes, *beside)
        moved = any(map(len, self.exchanges)) or any(map(len, self.frames))
        return moved or any(records is not None and len(records) for records in told)


class LiveSource:
    """The kernel's own view of all sockets of this host, from `start` to `close`.

    >>> source = LiveSource(CaptureSettings())
    >>> source.start()
    >>> drain = source.read(time.monotonic_ns())
    """

    def __init__(self, settings: CaptureSettings, storage: bool | None = None) -> None:
        self.settings = settings
        self.failures: dict[str, str] = {}
        """program → why it could not be attached"""
        if settings.propagation == HTTP_HEADER and storage is None:
            storage = self._goes_by_storage()
        self.storage = has_sock_length() if storage is None else storage
        front = "storage" if self.storage else "hash"
        self._attached = (("on_send_length", "on_recv_length") if self.storage else ("on_sys_exit",)) + (
            f"on_state_{front}",
            f"on_destroy_{front}",
            f"on_exit_{front}",
            f"on_exec_{front}",
        )
        self._sweeper = f"sweep_{front}"
        self._when_needed = _WHEN_NEEDED if self.storage else ""
        self.object = Object("requests", {*self._attached, self._sweeper, "sweep_ends", self._when_needed})
        self.received = dict.fromkeys(_SIZES, 0)
        """exchanges taken out of the rings, by size class"""
        self.frames = dict.fromkeys(_SIZES, 0)
        """frames of HTTP/2, likewise"""
        self._loss_names = _labels(self.object.btf.enum("loss"), "LOSS_")
        kinds = self.object.btf.enum("process_event_kind")
        self._exec, self._listens = kinds["PROCESS_EXEC"], kinds["PROCESS_LISTENS"]
        self._stat_names = _labels(self.object.btf.enum("stat"), "STAT_")
        self.tls: TlsSource | None = None
        self.runtimes: Runtimes | None = None
        self.propagation: Propagation | None = None
        self._swept = self._swept_until = 0
        self._tidied = 0
        self._queried = 0
        self._tls_bytes = 0
        self._open_since: tuple[NDArray[np.uint32], NDArray[np.void] | None] = (_NO_PIDS, None)
        self._sweep: Iterator | None = None
        self._sweep_ends: Iterator | None = None

    def start(self) -> None:
        """Load and attach; raises KernelError if the main programs cannot be."""
        requests = self.object
        requests.leave_out(_HASH_MAPS if self.storage else _STORAGE_MAPS)
        for name, size in self.settings.rings.items():
            requests.resize(name, size)
        constants = {
            "seed": secrets.randbits(64),
            "idle_ns": self.settings.idle_ns,
            "timeout_ns": self.settings.request_timeout_ns,
            "announce_ns": self.settings.announce_ns,
            "agent": os.getpid(),
            "netns": self.settings.netns,
            "storage": int(self.storage),
            "trust": _TRUST[self.settings.trust],
        }
        requests.set_constants("config", **constants)
        requests.load()
        front, unused = ("storage", _HASH_MAPS) if self.storage else ("hash", _STORAGE_MAPS)
        self.runtimes = Runtimes(requests, recognisers(), front, constants, unused)
        self.runtimes.start()
        for program in self._attached:
            try:
                requests.attach(program)
            except KernelError as failure:
                self.failures[program] = str(failure)
                if program == self._attached[0]:
                    raise
        try:
            self.tls = TlsSource(requests, constants, "storage" if self.storage else "hash")
            self.tls.start(_HASH_MAPS if self.storage else _STORAGE_MAPS, requests.maps["tls_conns"])
        except KernelError as failure:
            self.tls = None
            self.failures["tls"] = str(failure)
        if self.settings.propagation in WAYS and "propagation" not in self.failures:
            self._propagate(constants, unused)
        self._sweep = requests.attach_iterator(
            self._sweeper, requests.maps[_STORAGE_MAPS[0] if self.storage else _HASH_MAPS[0]]
        )
        maps, btf = requests.maps, requests.btf
        self._sweep_ends = requests.attach_iterator("sweep_ends", maps["local_ends"])
        self._rings = {
            size: Ring(maps[f"exchanges_{size}"].fd, maps[f"exchanges_{size}"].max_entries, btf.dtype(f"record_{size}"))
            for size in _SIZES
        }
        self._frames = {
            size: Ring(maps[f"frames_{size}"].fd, maps[f"frames_{size}"].max_entries, btf.dtype(f"frame_{size}"))
            for size in _SIZES
        }
        self._connections = Ring(maps["connections"].fd, maps["connections"].max_entries, btf.dtype("connection"))
        self._processes = Ring(maps["processes"].fd, maps["processes"].max_entries, btf.dtype("process_event"))
        names = maps["server_names"]
        self._server_names = Ring(names.fd, names.max_entries, btf.dtype("server_name"))
        self._lineages = Ring(maps["lineages"].fd, maps["lineages"].max_entries, btf.dtype("lineage"))
        self._segments = Ring(maps["segments"].fd, maps["segments"].max_entries, btf.dtype("segment"))
        self._heap_marks = Ring(maps["heap_marks"].fd, maps["heap_marks"].max_entries, btf.dtype("heap_mark"))
        self._exports = Ring(maps["exports"].fd, maps["exports"].max_entries, btf.dtype("export_chunk"))

    def _goes_by_storage(self) -> bool | None:
        """Headers are put in with the front by sys_exit: what sk_msg programs need is in its hash maps only."""
        why = refusal(HTTP_HEADER)
        if not why:
            return False
        self.failures["propagation"] = why
        return None

    def _propagate(self, constants: dict[str, int], unused: Collection[str]) -> None:
        """After all other programs are attached: it builds on what they find."""
        try:
            self.propagation = WAYS[self.settings.propagation](self.object, constants, unused)
            self.propagation.start()
        except (KernelError, UnsupportedError) as failure:
            self.propagation = None
            self.failures["propagation"] = str(failure)

    def read(self, now: int, last: bool = False) -> Drain:
        """All that is there. Announcements are read last: they were written before the exchanges that need them.

        Names of servers are, too; one may be read before its connection is announced. last: nothing is read after that.
        """
        if last or now - self._swept >= SWEEP_NS:
            self._swept = now
            counted = self.statistics()
            tidy = now - self._tidied >= TIDY_NS
            if self._sweep and (tidy or _in_progress(counted)):
                self.sweep()
                self._open_since = self._read_open(now)
                self._swept_until = time.monotonic_ns()
            elif not _in_progress(counted):
                self._open_since = (_NO_PIDS, None)
                self._swept_until = time.monotonic_ns()
            if self._sweep_ends and tidy:
                self._tidied = now
                self._sweep_ends.run()
            if counted["hidden"] and self._when_needed:
                self._attach_when_needed()
            if self.tls and counted["tls_bytes"] != self._tls_bytes:
                self._tls_bytes = counted["tls_bytes"]
                self.tls.meet(now / 1e9)
        batches = []
        for size, ring in self._rings.items():
            records = ring.read()
            if len(records):
                self.received[size] += len(records)
                batches.append(_exchanges(records, size))
        frames = []
        for size, ring in self._frames.items():
            records = ring.read()
            if len(records):
                self.frames[size] += len(records)
                frames.append(_frames(records, size))
        unanswered = self._expired_queries(now)
        if unanswered is not None:
            batches.append(unanswered)
        announced, told = self._connections.read(), self._processes.read()
        listens = told["kind"] == self._listens
        processes = told[~listens]
        self._follow_processes(announced, processes, told["tgid"][listens])
        return Drain(
            batches,
            announced,
            processes,
            self._swept,
            self._server_names.read(),
            self._lineages.read(),
            self._segments.read(),
            self._exports.read(),
            self._open_since,
            self._swept_until,
            self.propagation.read() if self.propagation else None,
            self._heap_marks.read(),
            frames,
        )

    def sweep(self) -> None:
        """Look at all connections; what was answered and is idle, or long not answered, is in the rings then."""
        if self._sweep:
            self._sweep.run()
        if self.tls:
            self.tls.sweep()

    def statistics(self) -> dict[str, int]:
        """Counts of `enum stat`."""
        sums = self.object.maps["stats"].per_cpu_sums()
        return {name: int(sums[i]) for name, i in self._stat_names.items()}

    def losses(self) -> dict[str, int]:
        """Counts of `enum loss`: reason → how many."""
        sums = self.object.maps["losses"].per_cpu_sums()
        return {name: int(sums[i]) for name, i in self._loss_names.items()}

    def rings(self) -> list[int]:
        """Descriptors that tell when a ring fills (edge-triggered): see `wakeup` in bpf/include/emit.h."""
        names = (*(f"{kind}_{size}" for kind in ("exchanges", "frames") for size in _SIZES), *_TELLING)
        rings = [self.object.maps[name].fd for name in names]
        more = self.propagation.rings if self.propagation else {}
        return [*rings, *(self.propagation.object.maps[name].fd for name in more)] if self.propagation else rings

    def fills(self) -> dict[str, float]:
        """Part of each ring that is in use."""
        rings = {f"exchanges_{size}": ring for size, ring in self._rings.items()}
        rings |= {f"frames_{size}": ring for size, ring in self._frames.items()}
        rings |= {
            "connections": self._connections,
            "processes": self._processes,
            "server_names": self._server_names,
            "lineages": self._lineages,
            "segments": self._segments,
            "heap_marks": self._heap_marks,
            "exports": self._exports,
        }
        fills = {name: ring.fill for name, ring in rings.items()}
        more = self.propagation.rings if self.propagation else {}
        return fills | {name: ring.fill for name, ring in more.items()}

    def follow_exports(self, ports: Iterable[int]) -> None:
        """There are receivers of telemetry: what clients write to these ports, in plain text, is handed over whole."""
        for port in ports:
            key = np.array(port, np.uint32)
            self.object.maps["export_ports"].update(key, key)

    def leave_exports(self, ports: Iterable[int], connections: Iterable[int]) -> None:
        """At these ports there are no receivers of telemetry, or these connections carry something else."""
        for port in ports:
            self.object.maps["export_ports"].delete(np.array(port, np.uint32))
        for connection in connections:
            self.object.maps["other_exports"].update(np.array(connection, np.uint64), np.array(1, np.uint8))

    def _follow_processes(
        self, announced: NDArray[np.void], processes: NDArray[np.void], listens: NDArray[np.uint32]
    ) -> None:
        """Runtimes of processes that are new here, or no more what they were; `listens`: that are about to serve."""
        if self.propagation and len(processes):
            self.propagation.gone(processes["tgid"].tolist())
        if self.tls and len(processes):
            self.tls.gone(processes["tgid"].tolist())
        if self.runtimes is None:
            return
        if len(processes):
            self.runtimes.gone(processes["tgid"].tolist())
            execs = processes["tgid"][processes["kind"] == self._exec]
            self.runtimes.meet(execs.tolist(), began=True)
        if len(listens):
            self.runtimes.meet(listens.tolist())
        if len(announced):
            self.runtimes.meet(np.unique(announced["tgid"]).tolist())

    def _read_open(self, now: int) -> tuple[NDArray[np.uint32], NDArray[np.void]]:
        """Of the processes whose open requests the sweep at `now` has met."""
        requests_open, btf = self.object.maps["requests_open"], self.object.btf
        pids, since = requests_open.entries(np.dtype("<u4"), btf.dtype("open_since"))
        met = since["seen"] >= np.uint64(now)
        for i in range(len(pids)):
            requests_open.delete(pids[i : i + 1])
        return pids[met], since[met]

    def _attach_when_needed(self) -> None:
        """Bytes were received without a call of the socket's: see on_space_adjust."""
        program, self._when_needed = self._when_needed, ""
        try:
            self.object.attach(program)
        except KernelError as failure:
            self.failures[program] = str(failure)

    def _expired_queries(self, now: int) -> Exchanges | None:
        """DNS questions that got no answer in time."""
        if now - self._queried < QUERY_TIMEOUT_NS // 5:
            return None
        self._queried = now
        queries = self.object.maps["queries"]
        keys, values = queries.entries(self.object.btf.dtype("query_key"), self.object.btf.dtype("query"))
        old = (values["x"]["t_req"] + np.uint64(QUERY_TIMEOUT_NS) < np.uint64(now)).nonzero()[0]
        old = old[[queries.delete(np.array(keys[i])) for i in old]]  # what is not there was answered just now
        if not len(old):
            return None
        head = values["x"][old].copy()
        head["flags"] |= np.uint32(Flag.UNANSWERED)
        request = _zero_tail(values["request"][old].copy(), head["req_cap"])
        return Exchanges(head, request, np.zeros((len(head), 0), np.uint8))

    def close(self) -> None:
        """Detach; what is still in the rings is gone."""
        if self.propagation:
            self.propagation.close()
        if self.runtimes:
            self.runtimes.close()
        if self.tls:
            self.tls.close()
        self.object.close()


def _in_progress(s: dict[str, int]) -> int:
    return s["begun"] + s["reopened"] - s["ended"] - s["encrypted"] - s["amended"]


def _labels(enum: dict[str, int], prefix: str) -> dict[str, int]:
    return {k.removeprefix(prefix).lower(): v for k, v in enum.items() if not k.endswith("_KINDS")}


def _zero_tail(payload: NDArray[np.uint8], valid: NDArray[np.uint16]) -> NDArray[np.uint8]:
    payload[np.arange(payload.shape[1]) >= valid[:, None]] = 0
    return payload


def _exchanges(records: NDArray[np.void], size: str) -> Exchanges:
    head = np.ascontiguousarray(records["exchange"])
    if size == "head":
        none = np.zeros((len(head), 0), np.uint8)
        return Exchanges(head, none, none)
    request = np.ascontiguousarray(records["request"])
    response = np.ascontiguousarray(records["response"])
    if size == "large":  # the kernel clears only the part that small records have
        _zero_tail(request, head["req_cap"])
        _zero_tail(response, head["rsp_cap"])
    return Exchanges(head, request, response)


def _frames(records: NDArray[np.void], size: str) -> Frames:
    head = np.ascontiguousarray(records["frame"])
    if size == "head":
        return Frames(head, np.zeros((len(head), 0), np.uint8))
    return Frames(head, _zero_tail(np.ascontiguousarray(records["block"]), head["cap"]))
