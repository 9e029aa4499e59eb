"""Compiled BPF objects: open, choose, configure, load, attach. All of it is gone when the process is (no pins).

>>> requests = Object("requests", programs={"on_send_length", "on_recv_length"})
>>> requests.set_constants("config", seed=1, agent=os.getpid())
>>> requests.load()
>>> requests.attach("on_send_length")
"""

from __future__ import annotations

import ctypes as C
import os
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.kernel import libbpf
from otel_ebpf.kernel.btf import Btf, object_path

_RUN_TIME = 0  # enum bpf_stats_type
_AT_ONCE = 32
"""Links that are destroyed at the same time."""
_SK_MSG_VERDICT = 7  # enum bpf_attach_type
_BATCH = 512
"""Entries that are read at once: more than any bucket of a hash map holds, as the kernel wants it."""


class Map:
    """One map of a loaded object."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.name = libbpf.library().bpf_map__name(handle).decode()

    @property
    def fd(self) -> int:
        """Its file descriptor; valid after load."""
        return libbpf.call("bpf_map__fd", self._handle)

    @property
    def created(self) -> bool:
        """Was it created, not left out?"""
        return int(libbpf.library().bpf_map__fd(self._handle)) >= 0

    @property
    def max_entries(self) -> int:
        """Entries, or bytes of a ring."""
        return int(libbpf.library().bpf_map__max_entries(self._handle))

    @property
    def memory(self) -> int:
        """Bytes that the kernel accounts for it (`memlock` in fdinfo)."""
        with open(f"/proc/self/fdinfo/{self.fd}") as lines:  # noqa: PTH123
            return next(int(line.split()[1]) for line in lines if line.startswith("memlock"))

    def per_cpu_sums(self) -> NDArray[np.uint64]:
        """(max_entries,) sums over all CPUs of a per-CPU array of u64."""
        cpus = libbpf.call("libbpf_num_possible_cpus")
        values = np.zeros((self.max_entries, cpus), np.uint64)
        for i in range(self.max_entries):
            key = C.c_uint32(i)
            libbpf.call("bpf_map_lookup_elem", self.fd, C.byref(key), values[i].ctypes.data)
        sums: NDArray[np.uint64] = values.sum(axis=1, dtype=np.uint64)
        return sums

    def entries(self, key: np.dtype[Any], value: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """All entries of a hash map, read in batches: keys and values, (n,) each."""
        token = C.c_uint64()
        found: list[tuple[NDArray[Any], NDArray[Any]]] = []
        while True:
            keys, values = np.empty(_BATCH, key), np.empty(_BATCH, value)
            count = C.c_uint32(_BATCH)
            code = libbpf.library().bpf_map_lookup_batch(
                self.fd,
                C.byref(token) if found else None,
                C.byref(token),
                keys.ctypes.data,
                values.ctypes.data,
                C.byref(count),
                None,
            )
            found.append((keys[: count.value], values[: count.value]))
            if code or not count.value:  # ENOENT: that was the last batch
                break
        return np.concatenate([k for k, _ in found]), np.concatenate([v for _, v in found])

    def update(self, key: NDArray[np.generic], value: NDArray[np.generic]) -> None:
        """Make an entry, or write over it; raises KernelError (the map is full)."""
        libbpf.call("bpf_map_update_elem", self.fd, key.ctypes.data, value.ctypes.data, 0)

    def has(self, key: NDArray[np.generic], value: np.dtype[Any]) -> bool:
        """Is there such an entry?"""
        found = np.empty(1, value)
        return not libbpf.library().bpf_map_lookup_elem(self.fd, key.ctypes.data, found.ctypes.data)

    def delete(self, key: NDArray[np.generic]) -> bool:
        """Remove one entry; whether it was there."""
        removed: int = libbpf.library().bpf_map_delete_elem(self.fd, key.ctypes.data)
        return removed == 0


class Link:
    """An attached program; `destroy` detaches it, and so does the end of the process."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @property
    def fd(self) -> int:
        """Its file descriptor."""
        return libbpf.call("bpf_link__fd", self._handle)

    def destroy(self) -> None:
        """Detach."""
        if self._handle is not None:
            libbpf.library().bpf_link__destroy(self._handle)
            self._handle = None


def detach(links: Iterable[Link]) -> None:
    """Destroy many. The kernel waits for all CPUs with each of them, about 0.1 s: together they wait once."""
    with ThreadPoolExecutor(_AT_ONCE) as several:
        list(several.map(Link.destroy, links))


class Iterator:
    """A program that the kernel runs over each element of a map when it is asked to."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def run(self) -> None:
        """Once over all elements."""
        fd = libbpf.call("bpf_iter_create", self._link.fd)
        try:
            while os.read(fd, 4096):
                pass
        finally:
            os.close(fd)


class Object:
    """One compiled object of which only the named programs are loaded, and only the maps that they need.

    programs: None: all of them whose names end in `suffix`.
    """

    def __init__(self, name: str, programs: Collection[str] | None, suffix: str = "") -> None:
        self.name = name
        path = object_path(name)
        self.btf = Btf.of_object(path)
        self._handle: int | None = libbpf.pointer("bpf_object__open_file", os.fsencode(path), None)
        self.maps = {m.name: m for m in map(Map, libbpf.each("bpf_object__next_map", self._handle))}
        self._map_handles = {name: m._handle for name, m in self.maps.items()}
        self._programs: dict[str, int] = {}
        self.links: dict[str, Link] = {}
        self.load_seconds = 0.0
        for program in libbpf.each("bpf_object__next_program", self._handle):
            program_name = libbpf.library().bpf_program__name(program).decode()
            if program_name.endswith(suffix) if programs is None else program_name in programs:
                self._programs[program_name] = program
            else:
                libbpf.call("bpf_program__set_autoload", program, False)

    def leave_out(self, maps: Collection[str]) -> None:
        """Do not create these maps (no loaded program uses them, or this kernel lacks their type)."""
        for name in maps:
            libbpf.call("bpf_map__set_autocreate", self._map_handles[name], False)

    def share(self, other: Mapping[str, Map]) -> None:
        """Use the maps of another, loaded object wherever the names are the same."""
        for name, theirs in other.items():
            if name in self._map_handles and "." not in name and theirs.created:
                libbpf.call("bpf_map__reuse_fd", self._map_handles[name], theirs.fd)

    def resize(self, name: str, entries: int) -> None:
        """Another number of entries (bytes for a ring: a power of two of pages)."""
        libbpf.call("bpf_map__set_max_entries", self._map_handles[name], entries)

    def set_constants(self, section: str, **values: int) -> None:
        """Write members of the `const volatile` struct in section `.rodata.SECTION`; before `load`."""
        name = next(n for n in self._map_handles if n.endswith(f".rodata.{section}"))
        size = C.c_size_t()
        at = libbpf.pointer("bpf_map__initial_value", self._map_handles[name], C.byref(size))
        layout = self.btf.variable(section)
        for member, value in values.items():
            kind = layout.fields[member] if layout.fields else None
            assert kind is not None, member
            data = np.array(value, kind[0]).tobytes()
            C.memmove(at + kind[1], data, len(data))

    def load(self) -> None:
        """Verify and load; raises KernelError with the verifier's last lines."""
        began = time.perf_counter()
        code = libbpf.library().bpf_object__load(self._handle)
        if code:
            raise libbpf.error(f"load {self.name}", code)
        self.load_seconds = time.perf_counter() - began

    def attach(self, program: str) -> Link:
        """Attach where its section says."""
        link = self.links[program] = Link(libbpf.pointer("bpf_program__attach", self._programs[program]))
        return link

    def attach_cgroup(self, program: str, cgroup: int) -> Link:
        """Attach to a cgroup (its descriptor): for all sockets of its processes, beside what others have attached."""
        link = self.links[program] = Link(libbpf.pointer("bpf_program__attach_cgroup", self._programs[program], cgroup))
        return link

    def attach_map(self, program: str, sockets: Map) -> None:
        """Attach an sk_msg program to a map of sockets, for as long as that is there: it sees what they send."""
        fd = libbpf.call("bpf_program__fd", self._programs[program])
        libbpf.call("bpf_prog_attach", fd, sockets.fd, _SK_MSG_VERDICT, 0)

    def attach_iterator(self, program: str, over: Map) -> Iterator:
        """Attach an iterator program to a map."""
        info = libbpf.IterLinkInfo(map_fd=over.fd)
        options = libbpf.IterAttachOpts(C.sizeof(libbpf.IterAttachOpts), C.pointer(info), C.sizeof(info))
        link = Link(libbpf.pointer("bpf_program__attach_iter", self._programs[program], C.byref(options)))
        self.links[program] = link
        return Iterator(link)

    def attach_uprobe(
        self, program: str, path: str, offset: int, *, returns: bool = False, cookie: int = 0, pid: int = -1
    ) -> Link:
        """Attach to a file's offset, for one process, or (-1) for all that map it now or later."""
        options = libbpf.UprobeOpts(C.sizeof(libbpf.UprobeOpts), 0, cookie, returns, None)
        handle = libbpf.pointer(
            "bpf_program__attach_uprobe_opts", self._programs[program], pid, os.fsencode(path), offset, C.byref(options)
        )
        return Link(handle)

    def run_statistics(self) -> dict[str, tuple[int, int]]:
        """program → (runs, ns), while `enable_statistics` is on."""
        found = {}
        for name, program in self._programs.items():
            info = libbpf.ProgInfo()
            length = C.c_uint32(C.sizeof(info))
            fd = libbpf.call("bpf_program__fd", program)
            libbpf.call("bpf_obj_get_info_by_fd", fd, C.byref(info), C.byref(length))
            found[name] = (int(info.run_cnt), int(info.run_time_ns))
        return found

    def close(self) -> None:
        """Detach and unload all."""
        for link in self.links.values():
            link.destroy()
        self.links.clear()
        if self._handle is not None:
            libbpf.library().bpf_object__close(self._handle)
            self._handle = None


def enable_statistics() -> int:
    """Let the kernel count runs and ns of all programs while the returned descriptor is open (costs ~20 ns a run)."""
    return libbpf.call("bpf_enable_stats", _RUN_TIME)
