"""CPython from outside: real interpreters are recognised, memory of any content says nothing wrong and ends."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.kernel import elf
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.runtimes import python
from otel_ebpf.runtimes.base import Layout, Refusal
from otel_ebpf.runtimes.memory import Memory
from otel_ebpf.runtimes.python import Python
from otel_ebpf.runtimes.python_offsets import OFFSETS
from scripts.python_offsets import at_hand, measure

WAIT = "import sys; print(flush=True); sys.stdin.read()"
INTERPRETERS = [path for path in at_hand() if "/3.6." not in path]


@contextmanager
def running(*command: str) -> Iterator[int]:
    """A program that has said a line and waits."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdin
    try:
        process.stdout.readline()
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(20)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_every_interpreter_of_this_machine_is_recognised(interpreter: str) -> None:
    said = subprocess.run(
        [interpreter, "-c", "import sys; print(sys.version.split()[0])"], capture_output=True, text=True
    )
    version = said.stdout.strip()
    with running(interpreter, "-c", WAIT) as pid:
        found = Python().recognise(pid)
    assert isinstance(found, Layout)
    assert version.startswith(found.version)
    offsets = OFFSETS[tuple(int(n) for n in version.split(".")[:2])]  # type: ignore[index]
    assert found.numbers["thread_id"] == offsets.thread_id
    assert found.numbers["births"] == 1
    assert found.numbers["greenlets"] == 0
    assert found.refresh, "the greenlet library may come later"


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_the_probes_lie_at_functions_of_the_interpreters_own(interpreter: str) -> None:
    """Not one is at an offset that the file's code does not have; PyContext_CopyCurrent is among them."""
    with running(interpreter, "-c", WAIT) as pid:
        found = Python().recognise(pid)
        assert isinstance(found, Layout)
        file = found.probes[0].file
        assert {probe.file for probe in found.probes} == {file}
        offsets = {probe.offset for probe in found.probes}
        image = elf.image(file, {"PyContext_CopyCurrent"})
        assert image is not None
        assert set(elf.functions(file, {"PyContext_CopyCurrent"}).values()) < offsets
        for offset in offsets:
            assert any(at <= offset < at + length for _, at, length in image.code)


def test_the_table_says_what_the_interpreters_say() -> None:
    """As `scripts/python_offsets.py` does, for one of them: the table was written by it for all."""
    measured = measure(sys.executable, {})
    assert measured is not None
    version, found = measured
    offsets = OFFSETS[tuple(int(n) for n in version.split(".")[:2])]  # type: ignore[index]
    assert {name: getattr(offsets, name) for name in found} == found


def test_a_program_that_is_not_python_is_none() -> None:
    with running("/bin/sh", "-c", "echo; read x") as pid:
        assert Python().recognise(pid) is None


def test_a_process_that_is_gone_is_none() -> None:
    with running(sys.executable, "-c", WAIT) as pid:
        pass
    assert Python().recognise(pid) is None


def test_a_child_that_was_forked_is_recognised_by_itself(tmp_path: Path) -> None:
    program = "import os, sys\nif not os.fork():\n print(os.getpid(), flush=True)\nsys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdin
    child = int(process.stdout.readline())
    found = [Python().recognise(pid) for pid in (process.pid, child)]
    process.stdin.close()
    process.wait(20)
    assert all(isinstance(layout, Layout) for layout in found)
    (one, other) = ({k: v for k, v in f.numbers.items() if k != "epoch"} for f in found if isinstance(f, Layout))
    assert one == other


def test_the_layout_fits_the_kernel_sides_struct() -> None:
    with running(sys.executable, "-c", WAIT) as pid:
        found = Python().recognise(pid)
    assert isinstance(found, Layout)
    btf = Btf.of_object(object_path("requests"))
    assert len(found.packed(btf)) == btf.dtype("runtime").itemsize


class Forged(Memory):
    """The memory of a process that lies: words that point to each other, at random, with some of the truth."""

    def __init__(self, seed: int, truth: Memory, lies: float) -> None:
        super().__init__(os.getpid(), 1 << 20)
        self.random = random.Random(seed)
        self.truth = truth
        self.lies = lies
        self.reads = 0

    def read(self, address: int, length: int) -> bytes:
        self.reads += 1
        data = self.truth.read(address, length)
        if self.random.random() >= self.lies:
            return data
        choice = self.random.randrange(4)
        if choice == 0:
            return b""
        if choice == 1:
            return bytes(length)
        if choice == 2:
            word = self.random.choice([address, address + 8, 1, 1 << 32 | 1, (1 << 64) - 1, 0x7FFF_FFFF_F000])
            return ((word % (1 << 64)).to_bytes(8, "little") * (length // 8 + 1))[:length]
        return self.random.randbytes(length)

    def _some(self, address: int, length: int) -> bytes:
        return self.read(address, length)


@pytest.fixture(scope="module")
def victim() -> Iterator[int]:
    with running(sys.executable, "-c", WAIT) as pid:
        yield pid


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), lies=st.floats(0.01, 1))
def test_memory_that_lies_is_refused_or_told_from_what_confirms_itself(victim: int, seed: int, lies: float) -> None:
    """Given any memory, then it ends soon, raises nothing, and what it says has a thread whose key leads to it."""
    recogniser = Python()
    with Memory(victim) as truth:
        mapped = truth.mappings()
        found = recogniser._find(victim, mapped)
        assert found is not None
        image, first = found
        own = image.address(first.offset)
        assert own is not None
        forged = Forged(seed, truth, lies)
        forged.pid = victim
        said = recogniser._look(forged, mapped, image, first, 0 if image.fixed else first.start - own)
        assert isinstance(said, Layout | Refusal)
        assert forged.reads < 200_000
        if isinstance(said, Layout):  # offsets come from the table, probes from the file: never from memory
            assert said.version.startswith("3.")
            assert {p.offset for p in said.probes} == {p.offset for p in _honest(victim).probes}


def _honest(pid: int) -> Layout:
    found = Python().recognise(pid)
    assert isinstance(found, Layout)
    return found


def test_a_version_that_nobody_has_measured_is_refused(victim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "OFFSETS", {})
    found = Python().recognise(victim)
    assert isinstance(found, Refusal)
    assert found.what.startswith("CPython 3.")
    assert "offsets" in found.why and not found.again


def test_structures_that_moved_a_little_are_found(victim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a minor version internal structures grow: the list of threads and the key are looked for nearby."""
    from dataclasses import replace

    minor = tuple(int(n) for n in sys.version.split()[0].split(".")[:2])
    here = OFFSETS[minor]  # type: ignore[index]
    for step in (-64, -8, 8, 128):
        moved = replace(
            here, runtime_key=here.runtime_key + step, interpreter_threads=max(here.interpreter_threads + step, 0)
        )
        monkeypatch.setattr(python, "OFFSETS", {minor: moved})
        found = Python().recognise(victim)
        assert isinstance(found, Layout), step
        assert found.numbers == _with_table(victim, monkeypatch)


def _with_table(pid: int, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(python, "OFFSETS", OFFSETS)
    return _honest(pid).numbers


def test_structures_that_moved_far_are_refused(victim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    minor = tuple(int(n) for n in sys.version.split()[0].split(".")[:2])
    moved = replace(OFFSETS[minor], thread_id=0x40)  # type: ignore[index]
    monkeypatch.setattr(python, "OFFSETS", {minor: moved})
    found = Python().recognise(victim)
    assert isinstance(found, Refusal) and found.again


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(0, 255)), max_size=40)


@settings(max_examples=30)
@given(changes=CHANGES)
def test_no_file_raises(changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Given a libpython with any bytes changed, then its pointers and makers are found or not, and it ends."""
    source = Path(os.path.realpath("/usr/bin/python3"))
    content = bytearray(source.read_bytes())
    for at, byte in changes:
        content[at % (len(content) if at % 2 else 4096)] = byte
    content[:6] = source.read_bytes()[:6]
    path = tmp_path_factory.mktemp("elf") / "python3"
    path.write_bytes(content)
    image = elf.image(str(path), python._EXPORTED)
    if image is not None:
        makers = python._makers(str(path), image)
        assert len(makers) <= 8
        elf.module_numbers(str(path), image)
    path.unlink()
