"""CPython 3.7 to 3.14: where a process keeps the state of its threads, checked on its own threads before it is used.

Theory of operation. `_PyRuntime` is exported by libpython, or by an interpreter that is one static file; from there the
main interpreter and the list of its threads are reached. Each thread keeps its PyThreadState under a POSIX key
(`autoTSSkey`), which is where the kernel side looks for it: so of one thread in the list at least the key must lead to
the same state, the layout of the C library included. Nothing is believed that this does not confirm.

Contexts are told apart by their birth (their addresses are used again at once), so every way in which one is made bears
a probe. Where a build hides one of them, contexts stay opaque.

Sources: Include/internal/pycore_runtime.h, pycore_interp.h, Include/cpython/pystate.h, Python/context.c of CPython;
nptl/descr.h of glibc; src/internal/pthread_impl.h of musl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from otel_ebpf.kernel import elf
from otel_ebpf.resource.procfs import start_of
from otel_ebpf.runtimes import greenlets
from otel_ebpf.runtimes.base import Kind, Layout, Probe, Refusal
from otel_ebpf.runtimes.memory import Mapping, Memory, link_of
from otel_ebpf.runtimes.python_offsets import OFFSETS, Offsets

_BORN = "python_born"
"""The program on the return of what makes a context."""
_MAKERS = ("PyContext_CopyCurrent", "PyContext_New", "PyContext_Copy")
_EXPORTED = ("_PyRuntime", "Py_Version", "PyContext_Type", *_MAKERS)
_LIBRARY = re.compile(r"/libpython3[^/]*$")
_INTERPRETER = re.compile(r"/python(3\.\d+)(?:/|$)|/libpython(3\.\d+)")
_TYPE_NEW, _TYPE_METHODS = 312, 232
"""struct _typeobject: tp_new, tp_methods; the same from 3.7 to 3.14."""
_MOST_METHODS = 32
_ENTERED = 40
"""What unit_python.h takes for granted: PyContext.ctx_entered."""
_GLIBC_KEYS, _GLIBC_FIRST = 32, 0x310 + 8
"""struct pthread: specific_1stblock, 32 entries {seq, data}; the same in all releases since 2.4."""
_MUSL_TABLE = 0x80
"""struct pthread: tsd, pointer to the values; of 1.2 (and 1.1.19 and later)."""
_BYTES = 16 << 20
"""Read of one process in one look."""
_REFRESH = 10.0
"""Seconds after which the greenlet library may have been loaded."""
_MOST_THREADS = 64
_NEAR = 0x200
"""Bytes before and after where the table says: internal structures grow within a minor version."""
_MOST_TRIES = 2048
_COOKIE = b"xdebugpy"


@dataclass(frozen=True, slots=True)
class _Keyed:
    """Where a key's value lies: at thread pointer + slot, or (table > 0) at *(thread pointer + table) + slot."""

    table: int
    slot: int


class Python:
    """The recogniser; keeps what it learned of files (at most 1,024)."""

    kind = Kind.PYTHON

    def __init__(self) -> None:
        self._images: dict[tuple[object, ...], elf.Image | None] = {}
        self._makers: dict[tuple[object, ...], tuple[int, ...]] = {}

    def recognise(self, pid: int) -> Layout | Refusal | None:
        """The layout, if a thread of the process confirms it."""
        with Memory(pid, _BYTES) as memory:
            mapped = memory.mappings()
            found = self._find(pid, mapped)
            if found is None:
                return None
            image, first = found
            own = image.address(first.offset)
            if own is None:
                return Refusal("CPython", "its file does not say where it is mapped")
            return self._look(memory, mapped, image, first, 0 if image.fixed else first.start - own)

    def _look(
        self, memory: Memory, mapped: Sequence[Mapping], image: elf.Image, first: Mapping, bias: int
    ) -> Layout | Refusal:
        runtime = image.symbols["_PyRuntime"] + bias
        versions, name = _versions(memory, image, bias, mapped)
        what = f"CPython {name}"
        if memory.read(runtime, 8) == _COOKIE and memory.word(runtime + 16):
            return Refusal(what, "it is a free-threaded build, whose layout is not known")
        known = [(v, OFFSETS[v]) for v in versions if v in OFFSETS and OFFSETS[v].entered == _ENTERED]
        if not known:
            return Refusal(what, "no offsets for this version")
        tried = ((minor, offsets, _confirmed(memory, runtime, offsets)) for (_, minor), offsets in known)
        minor, offsets, keyed = next((t for t in tried if t[2]), (0, known[0][1], None))
        if keyed is None:
            return Refusal(what, "no thread of it is where this version has them", again=True)
        link = link_of(memory.pid, first)
        makers = self._births(link, image)
        numbers = {
            "type": image.symbols.get("PyContext_Type", 0) + bias,
            "tss_table": keyed.table,
            "tss": keyed.slot,
            "thread_id": offsets.thread_id,
            "context": offsets.context,
            "stack": offsets.stack,
            "stack_back": offsets.stack_back,
            "births": int(bool(makers)),
            "epoch": (start_of(memory.pid) or 0) & 0xFFFFFFFF,
        }
        probes = [Probe(link, offset, _BORN, returns=True) for offset in makers]
        pointers = (pointer for _, pointer in islice(_threads(memory, runtime, offsets), _MOST_THREADS))
        switching = greenlets.find(memory, mapped, pointers)
        numbers |= switching.numbers
        probes += switching.probes
        refresh = _REFRESH if switching.refresh else 0.0
        return Layout(self.kind, name.replace("?", str(minor)), numbers, tuple(probes), {"births": 0}, refresh=refresh)

    def _find(self, pid: int, mapped: Sequence[Mapping]) -> tuple[elf.Image, Mapping] | None:
        """The file that exports `_PyRuntime`, and its first mapping: a libpython, else the executable."""
        firsts: dict[tuple[int, str], Mapping] = {}
        for area in mapped:
            file = area.inode, area.path
            if area.inode and (file not in firsts or area.offset < firsts[file].offset):
                firsts[file] = area
        executable = elf.identity(f"/proc/{pid}/exe")
        libraries = [a for a in firsts.values() if _LIBRARY.search(a.path.removesuffix(" (deleted)"))]
        main = [a for a in firsts.values() if executable and a.inode == executable[1]]
        for area in (*libraries[:4], *main[:2]):
            image = self._image(link_of(pid, area))
            if image is not None and "_PyRuntime" in image.symbols:
                return image, area
        return None

    def _image(self, path: str) -> elf.Image | None:
        file = elf.version(path)
        if file is None:
            return None
        if file not in self._images:
            if len(self._images) >= 1024:
                self._images.clear()
            self._images[file] = elf.image(path, _EXPORTED)
        return self._images[file]

    def _births(self, path: str, image: elf.Image) -> tuple[int, ...]:
        """File offsets of all that makes a context; none if one of them is hidden.

        Taken from the file, not from the process's memory: a probe at an offset that is no function would break every
        process that maps the file.
        """
        file = elf.version(path)
        if file is None:
            return ()
        if file not in self._makers:
            if len(self._makers) >= 1024:
                self._makers.clear()
            self._makers[file] = _makers(path, image)
        return self._makers[file]


def _makers(path: str, image: elf.Image) -> tuple[int, ...]:
    if not {"PyContext_Type", *_MAKERS} <= image.symbols.keys():
        return ()
    addresses = {image.symbols[name] for name in _MAKERS}
    context = image.symbols["PyContext_Type"]
    new, methods = (elf.pointers(path, image, [context + at])[0] for at in (_TYPE_NEW, _TYPE_METHODS))
    if not new or not methods:
        return ()
    entries = [methods + 32 * i for i in range(_MOST_METHODS)]
    for entry, name in zip(entries, elf.pointers(path, image, entries), strict=True):
        if not name:
            break
        if elf.text(path, image, name) == b"copy":
            addresses |= {elf.pointers(path, image, [entry + 8])[0]}
            break
    else:
        return ()
    offsets = [image.code_offset(at) for at in (*addresses, new)]
    if None in offsets or len(addresses) <= len(_MAKERS):
        return ()
    return tuple(sorted({elf.probe_point(path, at) for at in offsets if at is not None}))


def _number(memory: Memory, address: int) -> int:
    return int.from_bytes(memory.read(address, 4), "little")


def _versions(
    memory: Memory, image: elf.Image, bias: int, mapped: Iterable[Mapping]
) -> tuple[list[tuple[int, int]], str]:
    """Minor versions that it may be, best first, and its name. Py_Version (3.11 and later) is PY_VERSION_HEX."""
    if "Py_Version" in image.symbols:
        said = _number(memory, image.symbols["Py_Version"] + bias)
        major, minor, micro, level, serial = said >> 24, said >> 16 & 255, said >> 8 & 255, said >> 4 & 15, said & 15
        letter = {0xA: f"a{serial}", 0xB: f"b{serial}", 0xC: f"rc{serial}"}.get(level, "")
        return [(major, minor)], f"{major}.{minor}.{micro}{letter}"
    old = [v for v in sorted(OFFSETS) if v < (3, 11)]
    for area in mapped:
        named = _INTERPRETER.search(area.path)
        if named:
            minor = int((named[1] or named[2])[2:][:3])
            return sorted(old, key=lambda v: abs(v[1] - minor)), f"3.{minor}"
    return old, "3.?"


def _confirmed(memory: Memory, runtime: int, offsets: Offsets) -> _Keyed | None:
    """How the kernel finds a thread's state: tried on the threads of the main interpreter."""
    for thread, pointer in islice(_threads(memory, runtime, offsets), _MOST_THREADS):
        for key in _keys(memory, runtime, offsets):
            for keyed in _places(key):
                if _value(memory, pointer, keyed) == thread:
                    return keyed
    return None


def _threads(memory: Memory, runtime: int, offsets: Offsets) -> Iterator[tuple[int, int]]:
    """(PyThreadState, thread pointer) of threads of the main interpreter, wherever near the table's place it lies."""
    seen: set[int] = set()
    for interpreter in _near(memory, runtime, offsets.runtime_main):
        for thread in _near(memory, interpreter, offsets.interpreter_threads):
            for _ in range(_MOST_THREADS):
                if not thread or thread in seen or len(seen) > _MOST_TRIES:
                    break
                seen.add(thread)
                if memory.word(thread + offsets.thread_interpreter) != interpreter:
                    break
                pointer = memory.word(thread + offsets.thread_id)
                if pointer:
                    yield thread, pointer
                thread = memory.word(thread + offsets.thread_next)
        if len(seen) > _MOST_TRIES:
            return


def _near(memory: Memory, base: int, offset: int) -> Iterator[int]:
    """What may be a pointer, at the offset first, then around it."""
    first = memory.word(base + offset)
    if first:
        yield first
    start = max(offset - _NEAR, 0)
    for word in memory.words(base + start, 2 * _NEAR).tolist():
        if word and word != first and word % 8 == 0 and word >> 47 == 0:
            yield word


def _keys(memory: Memory, runtime: int, offsets: Offsets) -> list[int]:
    """Py_tss_t {1, key}: at its offset, else around it."""
    start = max(offsets.runtime_key - _NEAR, 0)
    around = memory.words(runtime + start, 2 * _NEAR).tolist()
    said = [word >> 32 for word in (memory.word(runtime + offsets.runtime_key), *around) if word & 0xFFFFFFFF == 1]
    return [key for key in dict.fromkeys(said) if key < 1024]


def _places(key: int) -> Iterator[_Keyed]:
    if key < _GLIBC_KEYS:
        yield _Keyed(0, _GLIBC_FIRST + 16 * key)
    if key < 128:  # PTHREAD_KEYS_MAX of musl
        yield _Keyed(_MUSL_TABLE, 8 * key)


def _value(memory: Memory, pointer: int, keyed: _Keyed) -> int:
    base = memory.word(pointer + keyed.table) if keyed.table else pointer
    return memory.word(base + keyed.slot) if base else 0
