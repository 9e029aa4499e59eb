"""The memory of another process, read while it runs.

All of it is a stranger's, who may change it between two reads: an address leads where it likes, a count says what it
likes. So every read names its size, a budget bounds them all, and nothing raises: what cannot be read is not there.

>>> with Memory(os.getpid()) as memory:
...     memory.mappings()[0].path
'/usr/bin/python3.11'
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

PAGE = os.sysconf("SC_PAGE_SIZE")
BUDGET = 1 << 30
"""Bytes that one look at a process may read."""
_MOST_MAPS = 8 << 20
_MOST_PAGES = 1 << 20
"""Pages of one mapping that are asked for at all: 4 GiB."""
_PIECE = 4 << 20
_TOP = 1 << 56
_WORD = struct.Struct("<Q")
_PRESENT = np.uint64(0b11 << 62)  # Documentation/admin-guide/mm/pagemap.rst: bit 62 swapped, bit 63 present


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps. path: "" or "[heap]" where there is no file; " (deleted)" stays."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str

    @property
    def writable(self) -> bool:
        """It can be read and written."""
        return self.permissions.startswith("rw")

    @property
    def anonymous(self) -> bool:
        """There is no file behind it."""
        return not self.inode


def link_of(pid: int, mapping: Mapping) -> str:
    """A path that opens the mapped file itself, in any mount namespace, deleted or not."""
    return f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"


class Memory:
    """One process's memory, until `__exit__`. Bound to the process that had the pid when it was opened.

    left: how many bytes may still be read.
    """

    def __init__(self, pid: int, budget: int = BUDGET) -> None:
        self.pid = pid
        self.left = budget
        self._mem = self._pages = -1

    def __enter__(self) -> Memory:
        self._mem = _open(f"/proc/{self.pid}/mem")
        self._pages = _open(f"/proc/{self.pid}/pagemap")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (self._mem, self._pages):
            if descriptor >= 0:
                os.close(descriptor)
        self._mem = self._pages = -1

    def read(self, address: int, length: int) -> bytes:
        """All of these bytes, or b"" if one of them cannot be read."""
        data = self._some(address, length)
        return data if len(data) == length else b""

    def word(self, address: int) -> int:
        """8 bytes as a number; 0 if they cannot be read: nothing that is looked for lies behind a null pointer."""
        data = self.read(address, 8)
        return int(_WORD.unpack(data)[0]) if data else 0

    def text(self, address: int, most: int) -> str:
        """A C string of at most `most` bytes; "" if it is longer, not ASCII, or not to be read."""
        data, end, _ = self._some(address, most).partition(b"\0")
        return data.decode("ascii", "replace") if end and data.isascii() else ""

    def words(self, address: int, length: int) -> Words:
        """What can be read of these bytes, as 64-bit numbers."""
        data = self._some(address, length)
        return np.frombuffer(data, np.uint64, len(data) // 8)

    def mappings(self) -> list[Mapping]:
        """/proc/PID/maps, of which at most 8 MiB are read; [] if the process is gone."""
        try:
            with open(f"/proc/{self.pid}/maps", "rb", buffering=1 << 16) as file:  # noqa: PTH123
                lines = file.read(_MOST_MAPS).decode("utf-8", "surrogateescape").splitlines()
        except OSError:
            return []
        return [mapping for line in lines if (mapping := _mapping(line))]

    def pieces(self, mapping: Mapping, overlap: int = 0) -> Iterator[tuple[int, Words]]:
        """(address, words) of what is there of a mapping, at most 4 MiB at a time.

        Pages that were never touched are left out. The last `overlap` bytes of a piece come again at the beginning of
        the next one if that follows it without a gap.
        """
        for start, end in self._runs(mapping):
            at = start
            while at < end and self.left > 0:
                words = self.words(at, min(_PIECE, end - at))
                if not len(words):
                    break
                yield at, words
                if at + 8 * len(words) >= end:
                    break
                at += max(8 * len(words) - overlap, PAGE)

    def _some(self, address: int, length: int) -> bytes:
        if not 0 < address < _TOP or not 0 < length <= self.left:
            return b""
        self.left -= length
        try:
            return os.pread(self._mem, length, address)
        except (OSError, OverflowError):
            return b""

    def _runs(self, mapping: Mapping) -> list[tuple[int, int]]:
        """Ranges of addresses that are present (or swapped out); the whole mapping if that is not told."""
        first, pages = mapping.start // PAGE, min((mapping.end - mapping.start) // PAGE, _MOST_PAGES)
        try:
            data = os.pread(self._pages, 8 * pages, 8 * first)
        except (OSError, OverflowError):
            return [(mapping.start, mapping.start + pages * PAGE)]
        there = np.zeros(len(data) // 8 + 2, np.int8)
        there[1:-1] = (np.frombuffer(data, np.uint64, len(data) // 8) & _PRESENT) != 0
        edges = np.diff(there)
        starts, ends = (edges > 0).nonzero()[0], (edges < 0).nonzero()[0]
        runs = mapping.start + PAGE * np.stack([starts, ends], axis=1)
        return [(int(start), int(end)) for start, end in runs]


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _mapping(line: str) -> Mapping | None:
    parts = line.split(None, 5)
    try:
        start, _, end = parts[0].partition("-")
        path = parts[5] if len(parts) > 5 else ""
        return Mapping(int(start, 16), int(end, 16), parts[1], int(parts[2], 16), int(parts[4]), path)
    except (IndexError, ValueError):
        return None
