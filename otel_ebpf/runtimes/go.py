"""Go from outside: version from .go.buildinfo, functions from the table for tracebacks, fields from `go_offsets`.

None of it is in the symbol table, so stripped programs are read as well; also static ones, position-independent
ones and those with cgo. A version of Go that is not in the table is refused.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.resource.gobuild import go_build
from otel_ebpf.runtimes import go_code, go_grpc
from otel_ebpf.runtimes.base import Kind, Layout, Probe, Refusal
from otel_ebpf.runtimes.go_binary import X86_64, Elf, Functions, Unreadable
from otel_ebpf.runtimes.go_grpc import Grpc
from otel_ebpf.runtimes.go_offsets import Offsets, known, offsets_of, release
from otel_ebpf.runtimes.grpc_offsets import MODULE as GRPC
from otel_ebpf.runtimes.memory import PAGE, Memory

_MOST_FILES = 64
"""Files whose reading is remembered."""
_SEND, _RECEIVE = "runtime.send", "runtime.recv"
_COPY, _CLEAR, _QUEUE = "runtime.typedmemmove", "runtime.typedmemclr", "runtime.runqput"
_BIRTH = "runtime.newproc.func1"
_PUT, _TAKE, _SELECT = "runtime.chansend", "runtime.chanrecv", "runtime.selectgo"
_READ_LOOP, _WRITE_LOOP = "net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop"
_BACKGROUND = "net/http.(*connReader).backgroundRead"
_NAMES = (_SEND, _RECEIVE, _COPY, _CLEAR, _QUEUE, _BIRTH, _PUT, _TAKE, _SELECT, _READ_LOOP, _WRITE_LOOP, _BACKGROUND)
_DIALERS, _WAITERS = rb"net/http\.\(\*Transport\)\.dialConn\.", rb"net/http\.\(\*connReader\)\.startBackgroundRead\."
_WORK, _STREAMS = 1, 2
"""`enum probes`."""
_NEEDED = {
    _WORK: {"probed": 1},
    _STREAMS: {"streams": 1},
    go_grpc.SERVER: {"grpc_serves": 1},
    go_grpc.CLIENT: {"grpc_calls": 1},
}
_SERVERS = (
    "net/http.(*http2serverConn).",
    "net/http/internal/http2.(*serverConn).",
    "golang.org/x/net/http2.(*serverConn).",
)
"""Of HTTP/2: until Go 1.26, since Go 1.27, and beside it."""
_SITES = (
    (_BIRTH, _QUEUE, "go_born"),
    (_PUT, _SEND, "go_sent"),
    (_SELECT, _SEND, "go_sent"),
    (_TAKE, _RECEIVE, "go_received"),
    (_SELECT, _RECEIVE, "go_selected"),
    (_PUT, _COPY, "go_put"),
    (_TAKE, _COPY, "go_took"),
    (_SELECT, _COPY, "go_put"),
)
"""(in which function, what it calls there, program): probed at the call instruction, which the kernel emulates."""
_READERS = 2
_NEXT = 64
"""Bytes within which one call follows another."""
_EXPECTED = {"go_born": 1, "go_sent": 2, "go_received": 1, "go_selected": 1, "go_put": 2, "go_took": 1, "go_picked": 1}
_TEXT_IN_MODULE = 176
"""runtime.moduledata.text, since Go 1.26, where the table of functions does not say it any more (Go 1.26, 1.27)"""
_TEXT_IN_TABLE = 24
_FIRST_WITHOUT = (1, 26)
_COPIED = (
    *("g_goid", "g_start", "g_m", "m_g0", "m_curg", "conn_reqch", "request_chan", "request_size"),
    *("chan_elemtype", "chan_recvx", "chan_recvq", "sudog_select"),
)
_NEAR = 24
"""bpf/include/goroutine.h reads parentGoid, gopc, ancestors and startpc in one piece"""
_WORD = (1 << 64) - 1
_MOST_MEMORY = 1 << 20


@dataclass(slots=True)
class _Read:
    """What a file says. places: by member of `struct go_runtime`, addresses from the start of the text.

    text: where that is, before relocation. sites: (program, address before relocation). slot: `go_code.thread_slot`.
    """

    version: str
    offsets: Offsets
    text: int
    places: dict[str, int]
    sites: tuple[tuple[str, int], ...] = ()
    handlers: tuple[int, ...] = ()
    """sites of the call of a stream's handler"""
    readers: tuple[int, ...] = ()
    """start functions of who reads frames, likewise from the start of the text"""
    slot: tuple[int, int] = (0, 0)
    loop_slot: int = 0
    grpc: Grpc | None = None


class Go:
    """Recognises Go 1.18 to the newest that `go_offsets` knows."""

    kind = Kind.GO

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[int, int, int, int], _Read | Refusal | None] = OrderedDict()

    def recognise(self, pid: int) -> Layout | Refusal | None:
        """The layout of a Go program; a refusal if its version or its file cannot be read."""
        try:
            descriptor = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            said = self._file(descriptor, pid)
            return _layout(pid, descriptor, said) if isinstance(said, _Read) else said
        except (OSError, Unreadable, OverflowError, ValueError, IndexError, struct.error) as error:
            return Refusal("Go", f"its program cannot be read: {error}")
        finally:
            os.close(descriptor)

    def _file(self, descriptor: int, pid: int) -> _Read | Refusal | None:
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if key not in self._files:
            self._files[key] = _read(descriptor, pid)
            while len(self._files) > _MOST_FILES:
                self._files.popitem(last=False)
        self._files.move_to_end(key)
        return self._files[key]


def _read(descriptor: int, pid: int) -> _Read | Refusal | None:
    build = go_build(descriptor)
    if build is None:
        return None
    minor = release(build.version)
    offsets = offsets_of(minor)
    if minor is None or offsets is None:
        oldest, newest = known()
        return Refusal(f"Go {build.version[2:34]}", f"no offsets for this version: known are {oldest} to {newest}")
    try:
        elf = Elf(descriptor)
        functions = Functions(elf)
        with Memory(pid, _MOST_MEMORY) as memory:
            text = _text(elf, functions, memory, minor)
        read = _Read(build.version[2:], offsets, text, _packages(functions))
        if elf.machine == X86_64:
            _look_at_code(elf, functions, read, build.version_of(GRPC))
    except Unreadable as error:
        return Refusal(f"Go {build.version[2:34]}", str(error))
    return read


def _bias(elf: Elf, memory: Memory) -> int:
    """What is added to the addresses in the file where it is loaded."""
    if not elf.moves:
        return 0
    exe = str(Path(f"/proc/{memory.pid}/exe").readlink())
    for mapping in memory.mappings():
        if mapping.path != exe:
            continue
        for address, offset, _length in elf.loads:
            if offset // PAGE * PAGE == mapping.offset:
                return mapping.start - address // PAGE * PAGE
    raise Unreadable("it is not mapped where it is said to be")


def _text(elf: Elf, functions: Functions, memory: Memory, minor: tuple[int, int]) -> int:
    """Where the text begins, before relocation: what functions' addresses count from."""
    bias, table = _bias(elf, memory), functions.table.address
    if minor < _FIRST_WITHOUT:
        text = memory.word(table + bias + _TEXT_IN_TABLE)
    else:
        module = elf.section(".go.module")
        if module is None or memory.word(module.address + bias) != table + bias:
            raise Unreadable("its module data are not where they are expected")
        text = memory.word(module.address + bias + _TEXT_IN_MODULE)
    if not elf.read(text - bias, 1):
        raise Unreadable("its text is not where it is said to be")
    return text - bias


def _packages(functions: Functions) -> dict[str, int]:
    places = {}
    for member, package in (("net_http", "net/http"), ("database", "database/sql"), ("runtime", "runtime")):
        start, end = functions.package(package)
        if end:
            places[member], places[f"{member}_end"] = start, end
    return places


def _look_at_code(elf: Elf, functions: Functions, read: _Read, grpc: str) -> None:
    """Adds what only code says: where g is, the goroutines of a client's connection, the sites of probes."""
    servers = [name + method for name in _SERVERS for method in ("runHandler", "readFrames")]
    entries = functions.named((*_NAMES, *servers))

    def code(entry: int) -> bytes:
        return elf.read(read.text + entry, functions.length(entry))

    def calls(caller: str, callee: str) -> list[int]:
        if caller not in entries or callee not in entries:
            return []
        return go_code.calls(code(entries[caller]), entries[caller], entries[callee])

    if _PUT in entries:
        read.slot = go_code.thread_slot(code(entries[_PUT]), read.text + entries[_PUT])
    cleared = calls(_SELECT, _CLEAR)
    sites = []
    for caller, callee, program in _SITES:
        for at in calls(caller, callee):
            # selectgo copies into a buffer, and out of one: then it clears the place.
            taken = caller == _SELECT and callee == _COPY and any(0 < clear - at < _NEXT for clear in cleared)
            sites.append(("go_picked" if taken else program, read.text + at))
    if Counter(program for program, _ in sites) == _EXPECTED and "runtime" in read.places:
        read.sites = tuple(sites)
    for server in _SERVERS:
        for starter in functions.like(re.escape(server.encode())) if server + "runHandler" in entries else ():
            said = code(starter)
            handled = go_code.calls(said, starter, entries[server + "runHandler"])
            read.handlers += tuple(read.text + at for at in handled)
            if go_code.calls(said, starter, entries.get(server + "readFrames", -1)):
                read.readers += (starter,)
    slots = set()
    for member, loop in (("read_loop", _READ_LOOP), ("write_loop", _WRITE_LOOP)):
        for starter in functions.like(_DIALERS) if loop in entries else ():
            if go_code.calls(code(starter), starter, entries[loop]):
                read.places[member] = starter
                slots.add(go_code.first_argument(code(starter), code(entries[loop])))
    if len(slots) == 1 and {"read_loop", "write_loop"} <= read.places.keys():
        read.loop_slot = slots.pop()
    for starter in functions.like(_WAITERS) if _BACKGROUND in entries else ():
        if go_code.calls(code(starter), starter, entries[_BACKGROUND]):
            read.places["background"] = starter
    read.grpc = go_grpc.look(functions, code, grpc)


def _layout(pid: int, descriptor: int, read: _Read) -> Layout | Refusal:
    elf = Elf(descriptor)
    with Memory(pid, _MOST_MEMORY) as memory:
        bias = _bias(elf, memory)
        slot, told_at = read.slot
        if told_at:
            slot = memory.word(told_at + bias)
    if not slot and elf.machine == X86_64:
        return Refusal(f"Go {read.version}", "its code does not say where the current goroutine is")
    offsets = read.offsets
    numbers: dict[str, int | NDArray[np.uint64]] = {name: offsets[name] for name in _COPIED}
    if offsets.get("g_parent") == offsets["g_start"] - _NEAR:
        numbers["g_parent"] = offsets["g_parent"]
    numbers["g_frame"] = offsets["g_sched"] + offsets["gobuf_bp"]
    numbers |= {member: bias + read.text + at for member, at in read.places.items()}
    numbers |= {"thread_slot": slot & _WORD, "loop_slot": read.loop_slot, "generation": _generation(pid)}
    exe = f"/proc/{pid}/exe"
    sites = [(program, at, _WORK) for program, at in read.sites]
    if "g_parent" in numbers:
        numbers["read_frames"] = np.array([bias + read.text + at for at in read.readers[:_READERS]], np.uint64)
        sites += [("go_handles", at, _STREAMS) for at in read.handlers]
    if read.grpc is not None:
        numbers |= _of_grpc(read.grpc, bias + read.text)
        sites += [(program, read.text + at, need) for program, at, need in read.grpc.sites]
    places = [(program, elf.offset(at), need) for program, at, need in sites]
    probes = tuple(Probe(exe, at, program, need=need) for program, at, need in places if at is not None)
    without = read.grpc.refusals if read.grpc is not None else ()
    return Layout(Kind.GO, read.version, numbers, on_need=probes, needed=_NEEDED, without=tuple(without))


def _of_grpc(grpc: Grpc, text: int) -> dict[str, int | NDArray[np.uint64]]:
    numbers: dict[str, int | NDArray[np.uint64]] = dict(grpc.offsets)
    if grpc.reader:
        numbers["grpc_reader"] = text + grpc.reader
    numbers["grpc_loops"] = np.array([text + at for at in grpc.loops], np.uint64)
    return numbers


def _generation(pid: int) -> int:
    """When it began, in clock ticks: proc(5), field 22 of stat. Another process with this pid began at another time."""
    try:
        said = Path(f"/proc/{pid}/stat").read_bytes()
        return int(said[said.rindex(b")") :].split()[20]) & 0xFFFFFFFF
    except (OSError, ValueError, IndexError):
        return 0
