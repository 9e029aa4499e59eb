"""Another process's memory: what is there is read, and what is not there is nothing."""

from __future__ import annotations

import ctypes
import mmap
import os

from otel_ebpf.runtimes.memory import PAGE, Mapping, Memory


def address_of(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def of(area: mmap.mmap, memory: Memory) -> Mapping:
    at = address_of(area)
    return next(m for m in memory.mappings() if m.start <= at < m.end)


def test_reads_what_is_there() -> None:
    area = ctypes.create_string_buffer(b"\x2a" + bytes(7) + b"text\0rest")
    at = ctypes.addressof(area)
    with Memory(os.getpid()) as memory:
        assert memory.read(at, 1) == b"\x2a"
        assert memory.word(at) == 42
        assert memory.text(at + 8, 16) == "text"
        assert memory.words(at, 16)[0] == 42


def test_a_text_without_an_end_is_none() -> None:
    area = ctypes.create_string_buffer(b"x" * 64)
    with Memory(os.getpid()) as memory:
        assert memory.text(ctypes.addressof(area), 32) == ""


def test_wild_addresses_and_sizes_give_nothing() -> None:
    with Memory(os.getpid()) as memory:
        for address in (0, -1, 1, 8, 1 << 63, (1 << 64) - 8, 1 << 70):
            assert memory.read(address, 8) == b""
            assert memory.word(address) == 0
            assert memory.text(address, 8) == ""
            assert len(memory.words(address, 64)) == 0
        assert memory.read(ctypes.addressof(ctypes.c_int()), -1) == b""
        assert memory.read(ctypes.addressof(ctypes.c_int()), 1 << 62) == b""


def test_the_budget_ends() -> None:
    area = ctypes.create_string_buffer(4096)
    with Memory(os.getpid(), budget=4096) as memory:
        assert memory.read(ctypes.addressof(area), 4096)
        assert memory.read(ctypes.addressof(area), 1) == b""


def test_a_process_that_is_gone_has_nothing() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    with Memory(pid) as memory:
        assert memory.mappings() == []
        assert memory.word(4096) == 0
        assert list(memory.pieces(Mapping(4096, 8192, "rw-p", 0, 0, ""))) == []


def test_pieces_leave_out_pages_that_nobody_touched() -> None:
    """Given a gigabyte of which two pages were written, then those two pages are read."""
    with mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000) as area:
        at = address_of(area)
        for page in (3, 70_000):
            area[page * PAGE] = page % 251
        with Memory(os.getpid()) as memory:
            mapping = of(area, memory)
            found = {start: int(words[0]) for start, words in memory.pieces(mapping) if at <= start < at + (1 << 30)}
            assert found == {at + 3 * PAGE: 3, at + 70_000 * PAGE: 70_000 % 251}
        del mapping


def test_pieces_overlap_where_they_follow_each_other() -> None:
    with mmap.mmap(-1, 9 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        for page in range(0, 9 << 20, PAGE):
            area[page] = 1
        at = address_of(area)
        with Memory(os.getpid()) as memory:
            whole = Mapping(at, at + (9 << 20), "rw-p", 0, 0, "")
            pieces = [(start - at, 8 * len(words)) for start, words in memory.pieces(whole, overlap=128)]
        assert [start for start, _ in pieces] == [0, (4 << 20) - 128, (8 << 20) - 256]
        assert sum(size for _, size in pieces) == (9 << 20) + 256
