"""HotSpot's heap: where its threads allocate, and between which collections objects stay where they are.

What bpf/include/heap_jvm.h needs to tell who made a job: found by the VM's own description of itself (see `jvm`). Only
for collectors that stop all threads while they move objects, and count it: of G1, Parallel and Serial that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otel_ebpf.runtimes.base import Numbers
from otel_ebpf.runtimes.memory import Memory

STRUCTURES = frozenset({"ThreadLocalAllocBuffer", "CollectedHeap", "Universe", "MemRegion", "JVMFlag", "Flag"})
"""Structures of which fields are kept. (JVMFlag was called Flag until JDK 9.)"""

_COLLECTORS = ("UseG1GC", "UseParallelGC", "UseSerialGC")
_BUFFERS = "UseTLAB"
_MOST_FLAGS, _MOST_NAME = 1 << 12, 64
_STRIDES = range(24, 72, 8)
_DEEP = 12 << 10
"""Bytes below the base of a stack in which its outermost object must be: 5 to 6 KB were measured."""
_WORD = 8

Field = tuple[bool, int, int]
"""(static, offset, address) of one field; the address as the library's own, without where it was loaded."""
Fields = Mapping[tuple[str, str], Field]


def heap_of(memory: Memory, base: int, fields: Fields, threads: Iterable[int]) -> Numbers | str:
    """The members of `struct jvm_runtime` that concern the heap, or why they are not to be had.

    base: where the library is loaded. threads: addresses of JavaThreads.
    """
    try:
        buffer = (fields.get(("Thread", "_tlab")) or fields["JavaThread", "_tlab"])[1]
        stack = (fields.get(("JavaThread", "_stack_base")) or fields["Thread", "_stack_base"])[1]
        own = {name: buffer + fields["ThreadLocalAllocBuffer", f"_{name}"][1] for name in ("start", "top", "end")}
        heap = memory.word(base + fields["Universe", "_collectedHeap"][2])
        count = heap + fields["CollectedHeap", "_total_collections"][1]
        names = ("_is_stw_gc_active", "_is_gc_active")
        going_on = heap + next(fields["CollectedHeap", name][1] for name in names if ("CollectedHeap", name) in fields)
        region = heap + fields["CollectedHeap", "_reserved"][1]
        first = memory.word(region + fields["MemRegion", "_start"][1])
        size = memory.word(region + fields["MemRegion", "_word_size"][1]) * _WORD
    except (KeyError, StopIteration):
        return "its table does not say where its heap is"
    flags = _flags(memory, base, fields)
    if not flags.get(_BUFFERS):
        return "its threads have no allocation buffers of their own"
    if not any(flags.get(name) for name in _COLLECTORS):
        return "its collector moves objects while threads run"
    if not heap or not first or not size or first + size >= 1 << 48:
        return "its heap is not where its table says"
    native = _outermost(memory, stack, first, size, threads)
    if not native:
        return "no thread of it has an object on its stack where one is expected"
    return {
        **own,
        "base": stack,
        "native": native - _WORD,
        "heap": first,
        "heap_end": first + size,
        "collections": count,
        "collecting": going_on,
    }


def _outermost(memory: Memory, stack: int, first: int, size: int, threads: Iterable[int]) -> int:
    """How many bytes below the base of its stack the outermost object of a thread lies at least; 0: none is found."""
    nearest = 0
    for thread in threads:
        base = memory.word(thread + stack)
        words = memory.words(base - _DEEP, _DEEP)
        objects = ((words >= first) & (words < first + size) & (words % _WORD == 0)).nonzero()[0]
        if len(words) * _WORD == _DEEP and len(objects):
            below = _DEEP - _WORD * int(objects[-1])
            nearest = min(nearest, below) if nearest else below
    return nearest


def _flags(memory: Memory, base: int, fields: Fields) -> dict[str, bool]:
    """The VM's flags that matter here (src/hotspot/share/runtime/flags/jvmFlag.hpp)."""
    kind = "JVMFlag" if ("JVMFlag", "flags") in fields else "Flag"
    try:
        at = memory.word(base + fields[kind, "flags"][2])
        count = min(memory.word(base + fields[kind, "numFlags"][2]), _MOST_FLAGS)
        name, address = fields[kind, "_name"][1], fields[kind, "_addr"][1]
    except KeyError:
        return {}
    wanted = {*_COLLECTORS, _BUFFERS}
    found: dict[str, bool] = {}
    stride = next((one for one in _STRIDES if _are_flags(memory, at, one, name)), 0)
    for n in range(count if stride else 0):
        flag = at + n * stride
        text = memory.text(memory.word(flag + name), _MOST_NAME)
        if text in wanted:
            found[text] = memory.read(memory.word(flag + address), 1) == b"\1"
    return found


def _are_flags(memory: Memory, at: int, stride: int, name: int) -> bool:
    """Whether flags lie at this distance from each other: the first ones have names then."""
    texts = [memory.text(memory.word(at + n * stride + name), _MOST_NAME) for n in range(4)]
    return all(text.isidentifier() for text in texts)
