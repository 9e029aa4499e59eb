"""JVM: how to tell in a socket call which virtual thread runs (21 and newer), and who gave a thread its job.

libjvm.so exports a table of its own structures for debuggers (`gHotSpotVMStructs`, src/hotspot/share/runtime/
vmStructs.cpp), in production builds too. It says where a JavaThread has the thread object that runs on it, and where
the list of all JavaThreads is. By these threads two more offsets are found, and checked:

- the slot: where a thread keeps its own JavaThread, at the same distance from the thread pointer in all of them
  (`pthread_setspecific` of threadLocalStorage_posix.cpp; glibc on x86-64, where pthread_t is the thread pointer);
- `eetop` of java.lang.Thread, which leads back to the JavaThread; the thread's number (`tid`) comes after it in every
  layout of headers and class pointers, as both are the class's only longs and declared in this order.

Older VMs have no virtual threads: their threads are the units of execution. Of all of them `jvm_heap` finds what tells
who gave a thread the job that it works on; of those with virtual threads `jvm_waits` what tells who waits for one.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from otel_ebpf.kernel import elf
from otel_ebpf.runtimes import jvm_heap, jvm_waits
from otel_ebpf.runtimes.base import Kind, Layout, Numbers, Refusal
from otel_ebpf.runtimes.jvm_heap import Fields
from otel_ebpf.runtimes.memory import Mapping as Mapped
from otel_ebpf.runtimes.memory import Memory

_LIBRARY = "/libjvm.so"
_TABLE = "gHotSpotVMStructs"
_COLUMNS = ("TypeName", "FieldName", "IsStatic", "Offset", "Address")
_ENTRY = {name: f"gHotSpotVMStructEntry{name}Offset" for name in _COLUMNS}
_STRIDE = "gHotSpotVMStructEntryArrayStride"
_NAMES = (_TABLE, _STRIDE, *_ENTRY.values())
_MOST_ENTRIES, _MOST_STRIDE, _MOST_NAME = 1 << 14, 256, 96
_THREADS = frozenset({"JavaThread", "Thread", "OSThread", "ThreadsSMRSupport", "ThreadsList", "Abstract_VM_Version"})
_KEPT = _THREADS | jvm_heap.STRUCTURES | jvm_waits.STRUCTURES
"""Structures of which fields are kept."""
_LAST = ("OSThread", "_pthread_id")
"""Of their fields the last one. While the library is being loaded, the table ends before: from there on it is zero."""
_SAMPLE, _LEAST = 32, 3
"""Threads that are looked at, and how many of them must agree."""
_BELOW, _ABOVE = 4096, 4096
"""Bytes around the thread pointer where the slot may be."""
_OBJECT = 64
"""Bytes of a java.lang.Thread in which `eetop` and the number are: measured 16 and 24, 8 and 16."""
_NUMBERS = 1 << 48
_SOON, _SOMETIMES, _OFTEN = 1.0, 60.0, 8
"""Seconds until classes that a program has begun to use since are looked for: so many times soon after each other, then
less and less often, until something new is found."""
_BUDGET = 64 << 20
_REMEMBERED, _PROCESSES = 64, 1 << 12
_COLOURED = 48


@dataclass(frozen=True, slots=True)
class _Thread:
    """java: address of the JavaThread. pointer: the thread's pthread_t. self: address of its java.lang.Thread."""

    java: int
    pointer: int
    self: int


class Jvm:
    """Recognises JVMs with virtual threads. Remembers the tables of the libraries that it has seen."""

    kind = Kind.JVM

    def __init__(self) -> None:
        self._fields: dict[tuple[int, int], Fields] = {}
        self._looks: dict[tuple[int, int], tuple[int, int]] = {}
        """by process and library: how many classes were found, and how often no more than those"""

    def recognise(self, pid: int) -> Layout | Refusal | None:
        with Memory(pid, _BUDGET) as memory:
            library = next((m for m in memory.mappings() if _LIBRARY in m.path and not m.offset), None)
            if library is None or not library.path.removesuffix(" (deleted)").endswith(_LIBRARY):
                return None
            fields = self._fields_of(memory, library)
            if fields is None:
                return Refusal("JVM", "libjvm.so does not say where its structures are")
            if not fields:
                return Refusal("JVM", "its table of structures is not filled yet", again=True)
            return self._looked((pid, library.start), _layout(memory, library.start, fields))

    def _looked(self, which: tuple[int, int], said: Layout | Refusal) -> Layout | Refusal:
        """Look for further classes less and less often."""
        if not isinstance(said, Layout) or not said.refresh:
            return said
        if len(self._looks) >= _PROCESSES:
            self._looks.clear()
        classes = np.size(said.numbers.get("classes", 0))
        before, looks = self._looks.get(which, (0, 0))
        looks = looks + 1 if classes == before else 0
        self._looks[which] = classes, looks
        return replace(said, refresh=min(_SOON * 2 ** max(looks - _OFTEN, 0), _SOMETIMES))

    def _fields_of(self, memory: Memory, library: Mapped) -> Fields | None:
        """None: the library exports no table; empty: it could not be read (yet)."""
        path = f"/proc/{memory.pid}/map_files/{library.start:x}-{library.end:x}"
        identity = elf.identity(path)
        if identity in self._fields:
            return self._fields[identity]
        image = elf.image(path, _NAMES)
        if identity is None or image is None or not set(_NAMES) <= image.symbols.keys():
            return None
        fields = read_table(memory, library.start, image.symbols)
        if fields:
            if len(self._fields) >= _REMEMBERED:
                self._fields.clear()
            self._fields[identity] = fields
        return fields


def read_table(memory: Memory, base: int, symbols: Mapping[str, int]) -> Fields:
    """The fields of `_KEPT` in the VM's table; {} if it makes no sense (yet). base: where the library is loaded."""
    at, stride = memory.word(base + symbols[_TABLE]), memory.word(base + symbols[_STRIDE])
    place = {name: memory.word(base + symbols[symbol]) for name, symbol in _ENTRY.items()}
    if not 0 < stride <= _MOST_STRIDE or max(place.values()) + 8 > stride:
        return {}
    fields: dict[tuple[str, str], tuple[bool, int, int]] = {}
    names: dict[int, str] = {}
    for _ in range(_MOST_ENTRIES):
        entry = memory.read(at, stride)
        if not entry:
            return {}
        number = {name: struct.unpack_from("<Q", entry, offset)[0] for name, offset in place.items()}
        if not number["TypeName"]:
            return fields if _LAST in fields else {}
        at += stride
        if number["TypeName"] not in names:
            names[number["TypeName"]] = memory.text(number["TypeName"], _MOST_NAME)
        structure = names[number["TypeName"]]
        if structure in _KEPT:
            static = bool(number["IsStatic"] & 0xFFFFFFFF)
            field = memory.text(number["FieldName"], _MOST_NAME)
            fields[structure, field] = static, number["Offset"], number["Address"] - base if static else 0
    return {}


def _layout(memory: Memory, base: int, fields: Fields) -> Layout | Refusal:
    version = _version(memory, base, fields)
    what = f"JVM {version}"
    threads = threads_of(memory, base, fields)
    if threads is None:
        return Refusal(what, "its threads are not where its structures say")
    if len(threads) < _LEAST:
        return Refusal(what, "it has hardly any threads yet", again=True)
    slot = slot_of(memory, threads) if platform.machine() == "x86_64" else 0
    numbers: Numbers = {"slot": slot}
    eetop = 0
    if ("JavaThread", "_vthread") in fields:
        eetop = eetop_of(memory, threads)
        if not eetop:
            return Refusal(what, "its thread objects do not look as expected", again=True)
        numbers = {
            "slot": slot,
            "vthread": fields["JavaThread", "_vthread"][1],
            "own": fields["JavaThread", "_threadObj"][1],
            "eetop": eetop,
            "owner": fields.get(("JavaThread", "_monitor_owner_id"), (False, 0, 0))[1],
        }
    heap = jvm_heap.heap_of(memory, base, fields, (thread.java for thread in threads))
    if isinstance(heap, str):
        return Layout(Kind.JVM, version, numbers, without=(Refusal(f"{what}: jobs of executors", heap),))
    if "eetop" not in numbers:
        return Layout(Kind.JVM, version, {**numbers, **heap})
    waits = jvm_waits.waits_of(memory, base, fields, eetop, [thread.self for thread in threads])
    if isinstance(waits, str):
        without = (Refusal(f"{what}: virtual threads made for calls", waits),)
        return Layout(Kind.JVM, version, {**numbers, **heap}, without=without)
    refresh = 0.0 if jvm_waits.complete(waits) else _SOON
    return Layout(Kind.JVM, version, {**numbers, **heap, **waits}, refresh=refresh)


def threads_of(memory: Memory, base: int, fields: Fields) -> list[_Thread] | None:
    """Some of the VM's Java threads; None if the table lacks what leads to them."""
    try:
        top = fields["ThreadsSMRSupport", "_java_thread_list"][2]
        length, array = fields["ThreadsList", "_length"][1], fields["ThreadsList", "_threads"][1]
        native = (fields.get(("Thread", "_osthread")) or fields["JavaThread", "_osthread"])[1]
        pointer, own = fields["OSThread", "_pthread_id"][1], fields["JavaThread", "_threadObj"][1]
    except KeyError:
        return None
    listed = memory.word(base + top)
    count = min(memory.word(listed + length) & 0xFFFFFFFF, _SAMPLE) if listed else 0
    threads = []
    for java in memory.words(memory.word(listed + array), 8 * count).tolist() if count else []:
        handle, system = memory.word(java + own), memory.word(java + native)
        thread = _Thread(java, memory.word(system + pointer), uncoloured(memory.word(handle)))
        if thread.pointer and thread.self:
            threads.append(thread)
    return threads


def eetop_of(memory: Memory, threads: list[_Thread]) -> int:
    """Where in a java.lang.Thread its JavaThread is, and after it a number of its own; 0 if they do not agree."""
    found: set[int] = set()
    numbers: set[int] = set()
    agreed = 0
    for thread in threads:
        words = memory.words(thread.self, _OBJECT)
        at = (words[:-1] == thread.java).nonzero()[0]
        if not len(at):  # it was moved: a concurrent collector leaves old addresses in handles till they are used
            continue
        found.add(8 * int(at[0]))
        numbers.add(int(words[at[0] + 1]))
        agreed += 1
    sane = agreed >= _LEAST and len(found) == 1 and len(numbers) == agreed
    return found.pop() if sane and all(0 < number < _NUMBERS for number in numbers) else 0


def slot_of(memory: Memory, threads: list[_Thread]) -> int:
    """Offset from the thread pointer at which every thread has its JavaThread; 0 if there is no such place."""
    common: set[int] | None = None
    for thread in threads:
        words = memory.words(thread.pointer - _BELOW, _BELOW + _ABOVE)
        if len(words) * 8 != _BELOW + _ABOVE:
            words = memory.words(thread.pointer, _ABOVE // 4)  # its stack may end there
            at = {8 * int(i) for i in np.flatnonzero(words == thread.java)}
        else:
            at = {8 * int(i) - _BELOW for i in np.flatnonzero(words == thread.java)}
        common = at if common is None else common & at
    # The thread pointer itself is none: a word there points to itself.
    return min((place for place in common or () if place), key=abs, default=0)


def uncoloured(address: int) -> int:
    """The address in a pointer of ZGC: of its lower bits 12…15 the highest one that is set ends its colour."""
    if not address >> _COLOURED:
        return address
    return address >> next((bit + 1 for bit in (15, 14, 13) if address & 1 << bit), 13)


def _version(memory: Memory, base: int, fields: Fields) -> str:
    """e.g. "21.0.8+9-LTS"."""
    static = fields.get(("Abstract_VM_Version", "_s_vm_release"))
    return memory.text(memory.word(base + static[2]), _MOST_NAME) if static else ""
