"""Where classes have their fields says the VM's own metadata; what makes no sense there is no class."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.runtimes import jvm_waits
from otel_ebpf.runtimes.base import Kind, Layout, Numbers
from otel_ebpf.runtimes.jvm_classes import Class, classes_of, offsets
from otel_ebpf.runtimes.jvm_waits import waits_of
from otel_ebpf.runtimes.memory import Memory
from tests.unit.test_runtimes_jvm import World

NAME, SUPER, NEXT, LOADER, POOL, STREAM = 24, 120, 144, 152, 224, 448
ENTRIES = 72
EETOP = 16
THREAD, VIRTUAL = "java/lang/Thread", "java/lang/VirtualThread"
THREADS = {"eetop": EETOP, "tid": 24, "name": 60, "container": 108}
TASK, WAIT = "java/util/concurrent/FutureTask", "java/util/concurrent/FutureTask$WaitNode"


def unsigned5(number: int) -> bytes:
    """As src/hotspot/share/utilities/unsigned5.hpp describes it."""
    data = []
    for _ in range(4):
        if number < 191:
            break
        number -= 191
        data.append(192 + number % 64)
        number //= 64
    return bytes([*data, number + 1])


def stream(*numbers: int) -> bytes:
    return b"".join(map(unsigned5, numbers))


class Vm:
    """A VM's metadata in this process's own memory: classes of the boot loader."""

    def __init__(self, world: World, entries: int = ENTRIES) -> None:
        self.world, self.entries = world, entries
        self.classes: dict[str, int] = {}
        self.last = 0
        self.loader = bytearray(64)
        self.at = world.put(bytes(64))
        self.fields: dict[tuple[str, str], tuple[bool, int, int]] = {
            ("Klass", "_name"): (False, NAME, 0),
            ("Klass", "_super"): (False, SUPER, 0),
            ("Klass", "_next_link"): (False, NEXT, 0),
            ("Klass", "_class_loader_data"): (False, LOADER, 0),
            ("InstanceKlass", "_fieldinfo_stream"): (False, STREAM, 0),
            ("InstanceKlass", "_constants"): (False, POOL, 0),
            ("Symbol", "_length"): (False, 4, 0),
            ("Symbol", "_body"): (False, 6, 0),
            ("Array<u1>", "_data"): (False, 4, 0),
        }

    def symbol(self, text: str) -> int:
        return self.world.put(struct.pack("<IH", 7, len(text)) + text.encode() + bytes(2))

    def add(self, name: str, fields: Mapping[str, int], above: str = "") -> None:
        numbers = [len(fields), 1]
        for i, offset in enumerate(fields.values()):
            numbers += [i + 1, 9, offset, 2, 1 if i % 2 else 0, *([5] if i % 2 else [])]  # some with an initial value
        numbers += [1, 9, 200, 2, 2]  # an injected one: its name is none of the pool's
        data = stream(*numbers)
        klass = bytearray(512)
        pool = bytes(self.entries + 8) + b"".join(struct.pack("<Q", self.symbol(one)) for one in fields)
        at = {
            NAME: self.symbol(name),
            SUPER: self.classes.get(above, 0),
            NEXT: self.last,
            STREAM: self.world.put(struct.pack("<I", len(data)) + data),
            POOL: self.world.put(pool),
        }
        for place, word in at.items():
            struct.pack_into("<Q", klass, place, word)
        self.last = self.classes[name] = self.world.put(bytes(klass))

    def table(self) -> dict[tuple[str, str], tuple[bool, int, int]]:
        loader = self.world.words(0, 0, self.last)
        known = bytearray(512)
        struct.pack_into("<Q", known, LOADER, loader)
        some = self.world.words(self.world.put(bytes(known)))
        name = ("vmClasses", "_klasses[static_cast<int>(vmClassID::Object_klass_knum)]")
        return {**self.fields, ("ClassLoaderData", "_klasses"): (False, 16, 0), name: (True, 0, some)}

    def read(self, *names: str, eetop: int = EETOP, **more: tuple[bool, int, int]) -> dict[str, Class]:
        with Memory(os.getpid(), 1 << 22) as memory:
            return classes_of(memory, 0, self.table(), names, eetop)


@pytest.fixture
def vm() -> Vm:
    vm = Vm(World())
    vm.add(THREAD, THREADS)
    vm.add(VIRTUAL, {"cont": 128, "termination": 140}, THREAD)
    vm.add(TASK, {"state": 12, "waiters": 28})
    return vm


def test_a_class_has_its_own_fields_and_those_above_it(vm: Vm) -> None:
    found = vm.read(VIRTUAL, TASK, "java/lang/Absent")
    assert found.keys() == {VIRTUAL, TASK}
    assert found[VIRTUAL].fields == {"cont": 128, "termination": 140, **THREADS}
    assert found[VIRTUAL].address == vm.classes[VIRTUAL]
    assert found[TASK].fields == {"state": 12, "waiters": 28}


@pytest.mark.parametrize("entries", [64, 80])
def test_where_a_constant_pool_begins_shows_a_field_whose_place_is_known(entries: int) -> None:
    vm = Vm(World(), entries)
    vm.add(THREAD, THREADS)
    vm.add(TASK, {"waiters": 28})
    assert vm.read(TASK)[TASK].fields == {"waiters": 28}


def test_metadata_that_does_not_say_what_is_known_is_not_believed(vm: Vm) -> None:
    assert vm.read(TASK, eetop=8) == {}
    other = Vm(World())
    other.add(TASK, {"waiters": 28})
    assert other.read(TASK) == {}, "there is no java.lang.Thread"


def test_what_is_missing_in_the_table_leaves_all_out(vm: Vm) -> None:
    whole = vm.table()
    with Memory(os.getpid(), 1 << 22) as memory:
        for name in whole:
            rest = {key: value for key, value in whole.items() if key != name}
            assert classes_of(memory, 0, rest, [TASK], EETOP) == {}, name


def test_a_list_of_classes_that_never_ends_is_left(vm: Vm) -> None:
    klass = bytearray(512)
    at = vm.world.put(bytes(klass))
    struct.pack_into("<Q", klass, NEXT, at)
    vm.world.put(bytes(klass))
    vm.last = at
    assert vm.read(TASK) == {}


@given(st.binary(max_size=64))
def test_no_bytes_make_more_fields_than_they_can_hold(data: bytes) -> None:
    assert len(offsets(data)) <= len(data) // 5


@given(st.lists(st.tuples(st.integers(1, 1 << 16), st.integers(0, 1 << 12)), max_size=12))
def test_fields_are_read_as_they_are_written(fields: list[tuple[int, int]]) -> None:
    numbers = [number for name, offset in fields for number in (name, 3, offset, 0x19, 0)]
    assert offsets(stream(len(fields), 0, *numbers)) == fields


def narrow(vm: Vm, name: str) -> int:
    return (vm.classes[name] - (vm.classes[THREAD] & ~0xFFFF_FFFF)) & 0xFFFF_FFFF


def waits(vm: Vm, word: int | None = None) -> Numbers | str:
    """A thread's object says that its class is java.lang.Thread, or what is given."""
    sample = vm.world.put(struct.pack("<QQ", 1, narrow(vm, THREAD) if word is None else word) + bytes(48))
    origin = vm.world.words(vm.classes[THREAD] & ~0xFFFF_FFFF)
    table = {
        **vm.table(),
        ("oopDesc", "_metadata._klass"): (False, 8, 0),
        ("CompressedKlassPointers", "_narrow_klass._base"): (True, 0, origin),
        ("CompressedKlassPointers", "_narrow_klass._shift"): (True, 0, vm.world.words(0)),
        ("CompressedOops", "_base"): (True, 0, vm.world.words(1 << 35)),
        ("CompressedOops", "_shift"): (True, 0, vm.world.words(3)),
    }
    with Memory(os.getpid(), 1 << 22) as memory:
        return waits_of(memory, 0, table, EETOP, [sample])


def test_whoever_waits_for_a_virtual_thread_is_reached_by_fields_that_are_known(vm: Vm) -> None:
    vm.add(WAIT, {"thread": 12, "next": 16})
    numbers = waits(vm)
    assert not isinstance(numbers, str)
    assert (numbers["objects"], numbers["shift"], numbers["narrow"], numbers["class_word"]) == (1 << 35, 3, 1, 8)
    assert numbers["virtual_class"] == narrow(vm, VIRTUAL)
    assert list(np.array(numbers["starts"])) == [128, 140, 108]
    ways = dict(zip(np.array(numbers["classes"]).tolist(), np.array(numbers["fields"]).tolist(), strict=True))
    assert ways == {narrow(vm, TASK): 28, narrow(vm, WAIT): (12 | jvm_waits.THREAD) | 16 << 16}


def test_classes_that_are_not_loaded_yet_are_left_out(vm: Vm) -> None:
    numbers = waits(vm)
    assert not isinstance(numbers, str)
    assert np.array(numbers["classes"]).tolist() == [narrow(vm, TASK)]
    assert not jvm_waits.complete(numbers)


def test_where_objects_do_not_tell_their_class_as_expected_nobody_is_looked_for(vm: Vm) -> None:
    assert waits(vm, word=0x1234) == "its objects do not tell their class as expected"


def test_all_ways_fit_into_what_the_kernel_side_has() -> None:
    layout = Btf.of_object(object_path("requests")).dtype("jvm_runtime")
    assert layout["classes"].shape == layout["fields"].shape == (jvm_waits.MOST_CLASSES,)
    assert len(jvm_waits._WAYS) <= jvm_waits.MOST_CLASSES
    assert all(0 < len(ways) <= 2 for ways in jvm_waits._WAYS.values())
    assert Layout(Kind.JVM, "21", {"classes": np.arange(16, dtype=np.uint32)}).packed(
        Btf.of_object(object_path("requests"))
    )
