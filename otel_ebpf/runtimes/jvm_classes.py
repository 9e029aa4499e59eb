"""Where classes of a HotSpot VM have their fields, read from its own metadata.

`gHotSpotVMStructs` (see `jvm`) says where an InstanceKlass keeps its name, its super class, the next one that its
loader has defined, and its fields: since JDK 21 a stream of numbers (src/hotspot/share/oops/fieldInfo.hpp, "UNSIGNED5"
of src/hotspot/share/utilities/unsigned5.hpp), with names in the class's constant pool. Of the boot loader only, which
no application gives classes to.

All of it is a stranger's memory: what is read is bounded, and what makes no sense is no class. Whether it was
understood shows a field whose place is known: `Thread.eetop`. Measured 5 ms, 300 KB, with 600 classes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from otel_ebpf.runtimes.memory import Memory

STRUCTURES = frozenset({"Klass", "InstanceKlass", "Symbol", "ClassLoaderData", "Array<u1>", "vmClasses", "oopDesc"})
"""Structures of which fields are kept."""

_ANY_CLASS = ("vmClasses", "_klasses[static_cast<int>(vmClassID::Object_klass_knum)]")
_THREAD = "java/lang/Thread"
_KNOWN = "eetop"
_POOLS = (72, 64, 80)
"""Bytes before the first entry of a constant pool, which only the table of types says: measured 72."""
_KLASS, _MOST_CLASSES, _MOST_SUPERS = 512, 1 << 14, 8
_MOST_NAME, _MOST_STREAM, _MOST_FIELDS, _MOST_OFFSET = 96, 1024, 128, 1 << 10
_INITIALISED, _INJECTED, _GENERIC, _CONTENDED = 1, 2, 4, 16
"""FieldInfo::FieldFlags: a field with these has one more number in the stream, but injected ones, whose names are the
VM's own."""
_LEAST, _MANY, _DIGIT = 1, 191, 6
"""Of UNSIGNED5: what no byte is below; bytes up to this end a number; bits that each further byte counts more."""

Field = tuple[bool, int, int]
Fields = Mapping[tuple[str, str], Field]


@dataclass(frozen=True, slots=True)
class Class:
    """address: of the InstanceKlass. fields: of its own and of its super classes, name → offset in an object."""

    address: int
    fields: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Places:
    """Offsets in the VM's structures."""

    name: int
    above: int
    next: int
    loader: int
    stream: int
    pool: int
    first: int
    length: int
    body: int
    data: int


def classes_of(memory: Memory, base: int, fields: Fields, names: Collection[str], eetop: int) -> dict[str, Class]:
    """Those of the classes `names` that the boot loader has loaded; {} if their fields are not told, or not understood.

    base: where the library is loaded. eetop: where this field of a java.lang.Thread is.

    >>> classes_of(memory, base, fields, {"java/util/concurrent/FutureTask"}, 16)
    {'java/util/concurrent/FutureTask': Class(address=34359912, fields={'state': 12, 'callable': 16, … 'waiters': 28})}
    """
    try:
        places = _Places(
            name=fields["Klass", "_name"][1],
            above=fields["Klass", "_super"][1],
            next=fields["Klass", "_next_link"][1],
            loader=fields["Klass", "_class_loader_data"][1],
            stream=fields["InstanceKlass", "_fieldinfo_stream"][1],
            pool=fields["InstanceKlass", "_constants"][1],
            first=fields["ClassLoaderData", "_klasses"][1],
            length=fields["Symbol", "_length"][1],
            body=fields["Symbol", "_body"][1],
            data=fields["Array<u1>", "_data"][1],
        )
        known = memory.word(base + fields[_ANY_CLASS][2])
    except KeyError:
        return {}
    if max(places.name, places.above, places.next, places.loader, places.stream, places.pool) + 8 > _KLASS:
        return {}
    found = _loaded(memory, places, memory.word(memory.word(known + places.loader) + places.first), {*names, _THREAD})
    if _THREAD not in found:
        return {}
    for pool in _POOLS:
        if _fields(memory, places, found[_THREAD], pool).get(_KNOWN) == eetop:
            return {name: Class(at, _fields(memory, places, at, pool)) for name, at in found.items() if name in names}
    return {}


def _loaded(memory: Memory, places: _Places, first: int, names: Collection[str]) -> dict[str, int]:
    """Addresses of classes by name, of a loader's list."""
    found: dict[str, int] = {}
    at = first
    for _ in range(_MOST_CLASSES):
        klass = memory.read(at, _KLASS)
        if not klass or len(found) == len(names):
            break
        name = _symbol(memory, places, struct.unpack_from("<Q", klass, places.name)[0])
        if name in names:
            found.setdefault(name, at)
        at = struct.unpack_from("<Q", klass, places.next)[0]
    return found


def _symbol(memory: Memory, places: _Places, at: int) -> str:
    start = memory.read(at, places.body)
    if len(start) < places.length + 2:
        return ""
    (length,) = struct.unpack_from("<H", start, places.length)
    text = memory.read(at + places.body, length) if 0 < length <= _MOST_NAME else b""
    return text.decode("ascii") if text.isascii() else ""


def _fields(memory: Memory, places: _Places, klass: int, pool: int) -> dict[str, int]:
    """Of a class and those above it. A field hides one of the same name above."""
    found: dict[str, int] = {}
    for _ in range(_MOST_SUPERS):
        if not klass:
            break
        for name, offset in _own_fields(memory, places, klass, pool).items():
            found.setdefault(name, offset)
        klass = memory.word(klass + places.above)
    return found


def _own_fields(memory: Memory, places: _Places, klass: int, pool: int) -> dict[str, int]:
    stream, constants = memory.word(klass + places.stream), memory.word(klass + places.pool)
    length = struct.unpack("<I", memory.read(stream, 4) or bytes(4))[0]
    if not 0 < length <= _MOST_STREAM:
        return {}
    found = {}
    for name, offset in offsets(memory.read(stream + places.data, length)):
        text = _symbol(memory, places, memory.word(constants + pool + 8 * name))
        if text and 0 < offset < _MOST_OFFSET:
            found[text] = offset
    return found


def offsets(stream: bytes) -> list[tuple[int, int]]:
    """(index of its name in the constant pool, offset) of the fields that a class declares; [] if that is no stream.

    >>> offsets(bytes([2, 1, 6, 7, 17, 3, 1]))
    [(5, 16)]
    """
    numbers = _unsigned5(stream)
    found = []
    try:
        declared, injected = next(numbers), next(numbers)
        for _ in range(min(declared + injected, _MOST_FIELDS)):
            name, _, offset, _, flags = (next(numbers) for _ in range(5))
            for more in (_INITIALISED, _GENERIC, _CONTENDED):
                if flags & more:
                    next(numbers)
            if not flags & _INJECTED:
                found.append((name, offset))
    except (StopIteration, RuntimeError, ValueError):
        return []
    return found


def _unsigned5(data: bytes) -> Iterator[int]:
    """The numbers of a stream: bytes of 1 … 191 end one, greater ones go on, five at most."""
    at = 0
    while at < len(data) and data[at]:
        number = 0
        for digit in range(5):
            if at >= len(data) or not data[at]:
                return
            byte = data[at]
            at += 1
            number += (byte - _LEAST) << (_DIGIT * digit)
            if byte < _MANY + _LEAST:
                break
        yield number
