"""What a JVM says of itself is followed as far as it makes sense."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.runtimes import jvm
from otel_ebpf.runtimes.base import Kind, Layout
from otel_ebpf.runtimes.jvm import Jvm, eetop_of, read_table, slot_of, threads_of, uncoloured
from otel_ebpf.runtimes.jvm_heap import Fields
from otel_ebpf.runtimes.memory import Memory

STRIDE = 56
PLACES = {"TypeName": 0, "FieldName": 8, "IsStatic": 24, "Offset": 32, "Address": 40}


class World:
    """This process's own memory, in which structures are laid out by hand. Everything stays until the test ends."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def put(self, data: bytes) -> int:
        buffer = ctypes.create_string_buffer(data, len(data))
        self._kept.append(buffer)
        return ctypes.addressof(buffer)

    def words(self, *numbers: int) -> int:
        return self.put(struct.pack(f"<{len(numbers)}Q", *(n % (1 << 64) for n in numbers)))

    def entry(self, structure: str, field: str, static: bool = False, offset: int = 0, address: int = 0) -> bytes:
        names = [self.put(name.encode() + b"\0") for name in (structure, field)]
        return struct.pack("<QQQQQQQ", *names, 0, int(static), offset, address, 0)

    def symbols(self, entries: Sequence[bytes], stride: int = STRIDE, end: bool = True) -> dict[str, int]:
        """Where the exported variables are; the library is loaded at 0."""
        table = self.put(b"".join(entries) + bytes(STRIDE if end else 0))
        places = {jvm._ENTRY[name]: self.words(place) for name, place in PLACES.items()}
        return {jvm._TABLE: self.words(table), jvm._STRIDE: self.words(stride), **places}


@pytest.fixture
def world() -> World:
    return World()


def read(world: World, symbols: dict[str, int]) -> Fields:
    with Memory(os.getpid()) as memory:
        return read_table(memory, 0, symbols)


def test_the_table_is_read_to_its_end(world: World) -> None:
    entries = [
        world.entry("JavaThread", "_vthread", offset=896),
        world.entry("Method", "_constMethod", offset=8),
        world.entry("ThreadsSMRSupport", "_java_thread_list", static=True, address=4096),
        world.entry("OSThread", "_pthread_id", offset=16),
    ]
    assert read(world, world.symbols(entries)) == {
        ("JavaThread", "_vthread"): (False, 896, 0),
        ("ThreadsSMRSupport", "_java_thread_list"): (True, 0, 4096),
        ("OSThread", "_pthread_id"): (False, 16, 0),
    }
    assert read(world, world.symbols(entries[:2])) == {}, "the library is still being loaded"


def test_a_table_that_makes_no_sense_is_empty(world: World) -> None:
    entry = world.entry("JavaThread", "_vthread", offset=896)
    assert read(world, world.symbols([entry], stride=0)) == {}
    assert read(world, world.symbols([entry], stride=1 << 40)) == {}
    assert read(world, world.symbols([entry], stride=40)) == {}, "its columns lie outside of an entry"
    assert read(world, world.symbols([entry]) | {jvm._TABLE: world.words(1 << 60)}) == {}
    assert read(world, world.symbols([entry]) | {jvm._TABLE: 8}) == {}
    endless = world.put(entry * (jvm._MOST_ENTRIES + 8))
    assert read(world, world.symbols([]) | {jvm._TABLE: world.words(endless)}) == {}


def threads(world: World, count: int, eetop: int = 16, numbers: Sequence[int] = ()) -> list[jvm._Thread]:
    made = []
    for i in range(count):
        java = world.words(*range(8))
        fields = [7] * 8
        fields[eetop // 8] = java
        fields[eetop // 8 + 1] = numbers[i] if numbers else 20 + i
        around = [5] * (2 * jvm._BELOW // 8)
        around[(jvm._BELOW + 792) // 8] = java
        around[(jvm._BELOW - 8 * i) // 8] = java
        made.append(jvm._Thread(java, world.words(*around) + jvm._BELOW, world.words(*fields)))
    return made


def test_offsets_are_where_all_threads_have_them(world: World) -> None:
    made = threads(world, 5)
    with Memory(os.getpid()) as memory:
        assert eetop_of(memory, made) == 16
        assert slot_of(memory, made) == 792
        assert eetop_of(memory, threads(world, 5, eetop=8)) == 8


def test_threads_that_disagree_have_no_offsets(world: World) -> None:
    made = threads(world, 4)
    with Memory(os.getpid()) as memory:
        assert eetop_of(memory, [*made, *threads(world, 1, eetop=8)]) == 0
        assert eetop_of(memory, threads(world, 4, numbers=[3, 4, 5, 3])) == 0, "a number of its own"
        assert eetop_of(memory, threads(world, 4, numbers=[3, 4, 5, 1 << 60])) == 0
        assert eetop_of(memory, threads(world, 4, numbers=[3, 4, 5, 0])) == 0
        assert eetop_of(memory, made[:2]) == 0
        wild = [jvm._Thread(one.java, 1 << 50, 8) for one in made]
        assert eetop_of(memory, wild) == slot_of(memory, wild) == 0
        assert slot_of(memory, []) == 0


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=8, max_size=8))
def test_a_list_of_threads_that_leads_anywhere_is_followed_nowhere(numbers: list[int]) -> None:
    world = World()
    top = world.words(world.words(*numbers))
    fields: Fields = {
        ("ThreadsSMRSupport", "_java_thread_list"): (True, 0, top),
        ("ThreadsList", "_length"): (False, 4, 0),
        ("ThreadsList", "_threads"): (False, 16, 0),
        ("Thread", "_osthread"): (False, numbers[0], 0),
        ("OSThread", "_pthread_id"): (False, numbers[1], 0),
        ("JavaThread", "_threadObj"): (False, numbers[2], 0),
    }
    with Memory(os.getpid(), budget=1 << 20) as memory:
        assert threads_of(memory, 0, fields) == []


def test_colours_of_zgc_are_taken_off() -> None:
    address = 0x4_0001_2348
    assert uncoloured(address) == address
    for bit in (12, 13, 14, 15):
        coloured = 0x400_0000_1238 << bit + 1 | 1 << bit | 0x230
        assert uncoloured(coloured) == 0x400_0000_1238


def test_other_programs_are_no_jvm() -> None:
    assert Jvm().recognise(os.getpid()) is None
    assert Jvm().recognise(1 << 21) is None


def test_classes_that_come_later_are_looked_for_less_and_less_often_until_there_are_more() -> None:
    jvm_, layout = Jvm(), Layout(Kind.JVM, "21", {"classes": np.zeros(2, np.uint32)}, refresh=1.0)
    more = replace(layout, numbers={"classes": np.zeros(3, np.uint32)})

    def refreshed(said: Layout) -> float:
        looked = jvm_._looked((17, 4096), said)
        assert isinstance(looked, Layout)
        return looked.refresh

    assert [refreshed(layout) for _ in range(16)] == [*[1.0] * 9, 2, 4, 8, 16, 32, 60, 60]
    assert refreshed(more) == 1.0
    assert refreshed(replace(more, refresh=0.0)) == 0
