"""A Go program's file: its functions by name, which survive stripping, and their code.

Format: runtime/symtab.go (`pcHeader`, `_func`), since Go 1.18. The table of functions (pclntab) begins with a magic
number, nfunc, and offsets from its beginning; `functab` holds for each function, by address, its offset from the start
of the text and where its `_func` is, whose second word leads to its name. ELF: System V gABI chapters 4 and 5.

The file is a stranger's, who may change it meanwhile: it is read, never mapped, within bounds, and what makes no sense
ends in `Unreadable`.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

X86_64, AARCH64 = 62, 183
_LOAD = 1
_EXEC, _DYNAMIC = 2, 3
_FILE_HEADER = struct.Struct("<16xHH4xQQQ6xHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_MOST_SECTIONS, _MOST_NAMES, _MOST_SEGMENTS = 1024, 1 << 16, 256
_TABLE_HEADER = struct.Struct("<IHBBQQQQQQQQ")
_MAGICS = {0xFFFFFFF0, 0xFFFFFFF1}  # Go 1.18, Go 1.20
_MOST_FUNCTIONS, _MOST_TEXT, _MOST_TABLE = 1 << 20, 64 << 20, 512 << 20
_PIECE = 8 << 20
_MOST_CODE = 1 << 16
_MOST_MATCHES = 1 << 14
_GAP = 8
"""Functions of others that may lie between those of one package."""


class Unreadable(Exception):
    """This is no Go program that can be read; says why."""


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section lies, in memory before relocation and in the file."""

    address: int
    offset: int
    size: int


class Elf:
    """An open ELF64 little-endian file. machine: X86_64 or AARCH64. moves: it is loaded at any address."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        header = os.pread(descriptor, 64, 0)
        if header[:6] != b"\x7fELF\x02\x01" or len(header) < 64:
            raise Unreadable("not a 64-bit little-endian ELF file")
        kind, self.machine, self.entry, segments, sections, size, count, wide, many, names = _FILE_HEADER.unpack(header)
        if kind not in (_EXEC, _DYNAMIC) or size != _SEGMENT.size or wide != _SECTION.size or not many:
            raise Unreadable("its section headers are missing")
        self.moves = kind == _DYNAMIC
        self.loads: list[tuple[int, int, int]] = [
            (address, offset, length)
            for what, _flags, offset, address, _physical, length, _memory, _align in _SEGMENT.iter_unpack(
                self._table(segments, min(count, _MOST_SEGMENTS), _SEGMENT.size)
            )
            if what == _LOAD
        ]
        self._sections = list(_SECTION.iter_unpack(self._table(sections, min(many, _MOST_SECTIONS), _SECTION.size)))
        if names >= len(self._sections):
            raise Unreadable("its sections have no names")
        self._names = os.pread(descriptor, min(self._sections[names][5], _MOST_NAMES), self._sections[names][4])

    def section(self, wanted: str) -> Section | None:
        """A section by its name."""
        key = wanted.encode() + b"\0"
        for name, _type, _flags, address, offset, size, *_ in self._sections:
            if self._names[name : name + len(key)] == key:
                return Section(address, offset, size)
        return None

    def offset(self, address: int) -> int | None:
        """Where in the file the byte of this address (before relocation) is."""
        for start, offset, length in self.loads:
            if start <= address < start + length:
                return address - start + offset
        return None

    def read(self, address: int, length: int) -> bytes:
        """At most `length` bytes at an address; b"" if there are none in the file."""
        at = self.offset(address)
        return os.pread(self.descriptor, length, at) if at is not None and length > 0 else b""

    def _table(self, offset: int, count: int, size: int) -> bytes:
        data = os.pread(self.descriptor, count * size, offset)
        return data[: len(data) - len(data) % size]


@dataclass(frozen=True, slots=True)
class Table:
    """The table of functions: at which address (before relocation), and where the offsets of its header lead."""

    address: int
    offset: int
    functions: int
    names: int
    names_size: int
    entries: int
    size: int


def find_table(elf: Elf) -> Table:
    """The table, in a section of its own, or in that of all relocated data (-linkmode=external, Go < 1.26)."""
    for name in (".gopclntab", ".data.rel.ro.gopclntab"):
        section = elf.section(name)
        if section:
            return _table(elf, section.address, section.offset, section.size)
    section = elf.section(".data.rel.ro")
    if section:
        for at in _places(elf, section):
            try:
                return _table(elf, section.address + at, section.offset + at, section.size - at)
            except Unreadable:
                continue
    raise Unreadable("it has no table of functions")


def _places(elf: Elf, section: Section) -> Iterator[int]:
    """Where in the section a table may begin."""
    minimum = 1 if elf.machine == X86_64 else 4
    marks = [struct.pack("<IHBB", magic, 0, minimum, 8) for magic in sorted(_MAGICS)]
    for piece in range(0, min(section.size, _MOST_TABLE), _PIECE):
        data = os.pread(elf.descriptor, _PIECE, section.offset + piece)
        for mark in marks:
            at = data.find(mark)
            while at >= 0:
                if not at % 8:
                    yield piece + at
                at = data.find(mark, at + 1)


def _table(elf: Elf, address: int, offset: int, size: int) -> Table:
    header = os.pread(elf.descriptor, _TABLE_HEADER.size, offset)
    if len(header) < _TABLE_HEADER.size:
        raise Unreadable("its table of functions is cut")
    magic, pad, _minimum, pointer, count, _files, _start, names, units, _ftab, _pctab, entries = _TABLE_HEADER.unpack(
        header
    )
    if magic not in _MAGICS or pad or pointer != 8:
        raise Unreadable("its table of functions is of another version")
    size = min(size, _MOST_TABLE)
    if not 0 < count <= _MOST_FUNCTIONS or not names < units <= size or entries + 8 * count > size:
        raise Unreadable("its table of functions makes no sense")
    return Table(address, offset, count, names, min(units - names, _MOST_TEXT), entries, size)


class Functions:
    """The functions of a program. Addresses count from the start of the text (`text`), which only the process knows."""

    def __init__(self, elf: Elf) -> None:
        self._file = elf.descriptor
        self.table = table = find_table(elf)
        self._text = os.pread(self._file, table.names_size, table.offset + table.names)
        pairs = os.pread(self._file, 8 * table.functions, table.offset + table.entries)
        columns = np.frombuffer(pairs, "<u4", len(pairs) // 8 * 2).reshape(-1, 2)
        self.entries: NDArray[np.int64] = columns[:, 0].astype(np.int64)
        """(n,) where each begins, in order"""
        self._names = self._name_offsets(columns[:, 1].astype(np.int64))

    def named(self, names: Collection[str]) -> dict[str, int]:
        """Those of these functions that there are: name → address."""
        found = {}
        for name in names:
            at = self._text.find(b"\0" + name.encode() + b"\0")
            rows = (self._names == at + 1).nonzero()[0]
            if at >= 0 and len(rows):
                found[name] = int(self.entries[rows[0]])
        return found

    def like(self, pattern: bytes) -> list[int]:
        """Addresses of functions whose name begins so (a regular expression)."""
        return [int(entry) for entry in self.entries[self._like(pattern)]]

    def package(self, name: str) -> tuple[int, int]:
        """From where to where the code of a package lies: the linker keeps it together. (0, 0): it is not linked."""
        rows = self._like(re.escape(name.encode()) + rb"\.")
        if not len(rows):
            return 0, 0
        runs = np.split(rows, (np.diff(rows) > _GAP).nonzero()[0] + 1)
        longest = max(runs, key=len)
        last = int(longest[-1]) + 1
        end = self.entries[last] if last < len(self.entries) else self.entries[-1] + 1
        return int(self.entries[longest[0]]), int(end)

    def length(self, entry: int) -> int:
        """Bytes of the function that begins here, 64 KiB at most."""
        after = int(np.searchsorted(self.entries, entry, "right"))
        return min(int(self.entries[after]) - entry, _MOST_CODE) if after < len(self.entries) else 0

    def _like(self, pattern: bytes) -> NDArray[np.intp]:
        matches = re.finditer(rb"\0(?=" + pattern + rb")", self._text)
        starts = [match.end() for match, _ in zip(matches, range(_MOST_MATCHES), strict=False)]
        return np.isin(self._names, starts).nonzero()[0]

    def _name_offsets(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) where the name of each function begins; -1 for one that cannot be read. places: of its `_func`."""
        names = np.full(len(places), -1, np.int64)
        begin = self.table.offset + self.table.entries
        order = np.argsort(places, kind="stable")
        sorted_places = places[order]
        limit = self.table.size - self.table.entries
        for piece in range(0, limit, _PIECE):
            first, last = np.searchsorted(sorted_places, [piece, piece + _PIECE])
            if first == last:
                continue
            data = os.pread(self._file, min(_PIECE + 8, limit - piece), begin + piece)
            at = sorted_places[first:last] - piece + 4
            there = at + 4 <= len(data)
            bytes_ = np.frombuffer(data, np.uint8)
            word = bytes_[at[there, None] + np.arange(4)].copy().view("<i4")[:, 0]
            names[order[first:last][there]] = word
        return names
