"""Where a HotSpot's heap is says its own table; only collectors of which it is known when objects move are followed."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.runtimes.base import Layout, Refusal
from otel_ebpf.runtimes.jvm import Jvm
from otel_ebpf.runtimes.jvm_heap import Fields, heap_of
from otel_ebpf.runtimes.memory import Memory
from tests.unit.test_runtimes_jvm import World

HEAP, SIZE = 0xF000_0000, 1 << 24
DEEP = 12 << 10
PLACE = 5600
"""Bytes below the base of its stack at which a thread has its outermost object."""


class Vm:
    """A VM in this process's own memory: one thread, flags, a heap."""

    def __init__(self, world: World, collector: str = "UseG1GC", stride: int = 24, buffers: bool = True) -> None:
        stack = bytearray(DEEP)
        struct.pack_into("<Q", stack, DEEP - PLACE, HEAP + 64)
        struct.pack_into("<Q", stack, DEEP - PLACE - 96, HEAP + 128)
        struct.pack_into("<Q", stack, DEEP - 40, HEAP + 1)  # no object: it is not aligned
        base = world.put(bytes(stack)) + DEEP
        self.threads = [world.words(0, 0, base)]
        on = {collector, "UseTLAB"} if buffers else {collector}
        names = ["UseNUMA", "UseCompressedOops", "UseTLAB", "UseSerialGC", "UseParallelGC", "UseG1GC", "UseZGC"]
        flags = b"".join(
            struct.pack("<QQ", world.put(bytes([name in on])), world.put(name.encode() + b"\0")).ljust(stride, b"\0")
            for name in names
        )
        heap = world.words(0, 0, 0, 0, HEAP, SIZE // 8, 0, 0, 7)
        self.heap = heap
        self.fields: dict[tuple[str, str], tuple[bool, int, int]] = {
            ("Thread", "_tlab"): (False, 256, 0),
            ("JavaThread", "_stack_base"): (False, 16, 0),
            ("ThreadLocalAllocBuffer", "_start"): (False, 0, 0),
            ("ThreadLocalAllocBuffer", "_top"): (False, 8, 0),
            ("ThreadLocalAllocBuffer", "_end"): (False, 24, 0),
            ("Universe", "_collectedHeap"): (True, 0, world.words(heap)),
            ("CollectedHeap", "_reserved"): (False, 32, 0),
            ("CollectedHeap", "_is_gc_active"): (False, 48, 0),
            ("CollectedHeap", "_total_collections"): (False, 64, 0),
            ("MemRegion", "_start"): (False, 0, 0),
            ("MemRegion", "_word_size"): (False, 8, 0),
            ("JVMFlag", "flags"): (True, 0, world.words(world.put(flags + bytes(64)))),
            ("JVMFlag", "numFlags"): (True, 0, world.words(len(names))),
            ("JVMFlag", "_addr"): (False, 0, 0),
            ("JVMFlag", "_name"): (False, 8, 0),
        }

    def read(self, fields: Fields | None = None) -> object:
        with Memory(os.getpid()) as memory:
            return heap_of(memory, 0, self.fields if fields is None else fields, self.threads)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("collector", ["UseG1GC", "UseParallelGC", "UseSerialGC"])
@pytest.mark.parametrize("stride", [24, 32, 40])
def test_the_heap_is_where_the_table_says(world: World, collector: str, stride: int) -> None:
    vm = Vm(world, collector, stride)
    assert vm.read() == {
        "start": 256,
        "top": 264,
        "end": 280,
        "base": 16,
        "native": PLACE - 8,
        "heap": HEAP,
        "heap_end": HEAP + SIZE,
        "collections": vm.heap + 64,
        "collecting": vm.heap + 48,
    }


def test_other_collectors_are_not_followed(world: World) -> None:
    assert Vm(world, "UseZGC").read() == "its collector moves objects while threads run"
    assert "no allocation buffers" in str(Vm(world, buffers=False).read())


def test_what_is_missing_is_said(world: World) -> None:
    vm = Vm(world)
    for name in vm.fields:
        rest = {key: value for key, value in vm.fields.items() if key != name}
        assert isinstance(vm.read(rest), str), name
    vm.threads = []
    assert "no thread" in str(vm.read())


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=15, max_size=15))
def test_a_table_that_leads_anywhere_is_followed_nowhere(numbers: list[int]) -> None:
    vm = Vm(World())
    wild = {
        name: (static, number if not static else 0, number if static else 0)
        for (name, (static, _, _)), number in zip(vm.fields.items(), numbers, strict=True)
    }
    assert isinstance(vm.read(wild), str)


@pytest.mark.parametrize("collector", ["G1", "Parallel", "Serial", "Z"])
def test_a_real_vm(collector: str, tmp_path: Path) -> None:
    java = shutil.which("java")
    assert java, "this test needs a JVM: apt-get install default-jdk-headless"
    (tmp_path / "Sleep.java").write_text(
        "class Sleep { public static void main(String[] a) throws Exception { Thread.sleep(600_000); } }"
    )
    vm = subprocess.Popen([java, "-Xmx64m", f"-XX:+Use{collector}GC", str(tmp_path / "Sleep.java")])
    try:
        recogniser, until = Jvm(), time.monotonic() + 30
        while not isinstance(said := recogniser.recognise(vm.pid), Layout):
            assert time.monotonic() < until, said
            time.sleep(0.1)
    finally:
        vm.kill()
        vm.wait()
    if collector == "Z":
        assert [part for part in said.without if isinstance(part, Refusal)] and "heap" not in said.numbers
    else:
        assert not said.without
        assert said.numbers["heap_end"] - said.numbers["heap"] == 64 << 20
