"""Go programs from outside: their functions, what their code says, and what hostile files do to that."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.runtimes import go_code
from otel_ebpf.runtimes.base import Layout, Refusal
from otel_ebpf.runtimes.go import Go
from otel_ebpf.runtimes.go_binary import Elf, Functions, Unreadable
from otel_ebpf.runtimes.go_offsets import known, offsets_of, release
from scripts.go_offsets import measure, toolchain

PROGRAM = """package main

import (
	"io"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) > 9 {
		answer, _ := http.Get("")
		http.ListenAndServe("", nil)
		io.Copy(os.Stdout, answer.Body)
	}
	os.Stdout.WriteString("ready\\n")
	io.Copy(io.Discard, os.Stdin)
}
"""
WAYS = {
    "plain": (),
    "stripped": ("-ldflags=-s -w",),
    "position-independent": ("-buildmode=pie", "-ldflags=-s -w"),
}


def build(folder: Path, *flags: str, cgo: str = "0") -> Path:
    (folder / "main.go").write_text(PROGRAM)
    environment = {**os.environ, "CGO_ENABLED": cgo, "GOFLAGS": "", "GOTOOLCHAIN": "local"}
    program = folder / "program"
    subprocess.run(["go", "build", *flags, "-o", program, "main.go"], cwd=folder, env=environment, check=True)
    return program


def recognise(program: Path) -> Layout | Refusal | None:
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        said = Go().recognise(running.pid)
        running.communicate()
    return said


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("go"))


@pytest.fixture
def functions(program: Path) -> Iterator[Functions]:
    descriptor = os.open(program, os.O_RDONLY)
    yield Functions(Elf(descriptor))
    os.close(descriptor)


def test_the_table_says_what_the_toolchain_says() -> None:
    assert offsets_of(release(f"go{toolchain()}")) == measure()


def test_every_release_since_1_18_has_its_row() -> None:
    oldest, newest = known()
    assert oldest == "1.18"
    assert all(offsets_of((1, minor)) for minor in range(18, int(newest.split(".")[1]) + 1))


def test_only_releases_have_one() -> None:
    said = [release(v) for v in ("go1.22.1", "go1.18", "go1.24.1-acme", "go1.23rc1", "devel go1.28-abc", "go2", "")]
    assert said == [(1, 22), (1, 18), (1, 24), None, None, None, None]


@pytest.mark.parametrize("way", WAYS)
def test_a_program_is_recognised_however_it_was_built(way: str, tmp_path: Path) -> None:
    said = recognise(build(tmp_path, *WAYS[way]))
    assert isinstance(said, Layout)
    # The first frame of a goroutine is the same in all versions so far: 5 words and the starter's own two.
    assert said.numbers["loop_slot"] == 56
    assert {"read_loop", "write_loop", "background", "net_http", "thread_slot"} <= said.numbers.keys()
    needs = Counter(probe.need for probe in said.on_need)
    assert needs[1] == 9 and needs[2] >= 2 and np.size(said.numbers["read_frames"]) == 1
    assert all(probe.offset for probe in said.on_need)
    assert len(said.packed(Btf.of_object(object_path("requests")))) > 0


def test_symbols_and_the_table_of_functions_agree(program: Path, functions: Functions) -> None:
    if not shutil.which("nm"):
        pytest.fail("nm not found: install binutils")
    lines = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = {
        name: int(address, 16) for address, kind, name in (line.split(None, 2) for line in lines) if kind in "Tt"
    }
    start = symbols["runtime.text"]
    wanted = {"runtime.chansend", "net/http.(*persistConn).readLoop", "main.main"}
    assert functions.named(wanted) == {name: symbols[name] - start for name in wanted}
    first, end = (start + at for at in functions.package("net/http"))
    inside = [name for name, at in symbols.items() if first <= at < end]
    assert len(inside) > 500
    assert not [name for name in inside if name.startswith(("main.", "runtime.", "database/"))]


def test_what_is_no_go_program_is_none_of_ours() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        assert Go().recognise(running.pid) is None
        running.communicate()
    assert Go().recognise(0) is None


def test_an_unknown_version_is_refused_by_its_name(program: Path, tmp_path: Path) -> None:
    data = program.read_bytes()
    version = f"go{toolchain()}".encode()
    other = b"go1.99" + b"." * (len(version) - 7) + b"9"
    newer = tmp_path / "newer"
    at = data.index(b"\xff Go buildinf:")
    newer.write_bytes(data[:at] + data[at : at + 64].replace(version, other) + data[at + 64 :])
    newer.chmod(0o755)
    said = recognise(newer)
    assert isinstance(said, Refusal)
    assert said.what.startswith("Go 1.99")
    assert "1.18 to" in said.why


@given(st.data())
def test_a_hostile_file_ends_in_a_refusal(
    program: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(program.read_bytes()[: 1 << 22])
    table = whole.find(struct.pack("<IHBB", 0xFFFFFFF1, 0, 1, 8))
    places = st.sampled_from([0, struct.unpack_from("<Q", whole, 40)[0], table])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(places) + data.draw(st.integers(0, 127))
        whole[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = tmp_path_factory.mktemp("hostile") / "file"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    descriptor = os.open(path, os.O_RDONLY)
    try:
        functions = Functions(Elf(descriptor))
        functions.named(["runtime.chansend", "main.main"])
        functions.package("net/http")
        functions.length(int(functions.entries[0]))
    except (Unreadable, ValueError, OverflowError, IndexError, OSError, struct.error):
        pass  # what `Go.recognise` makes a Refusal of
    finally:
        os.close(descriptor)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_code_of_any_kind_is_read(first: bytes, second: bytes) -> None:
    go_code.calls(first, 4096, 5000)
    go_code.thread_slot(first, 4096)
    assert go_code.first_argument(first, second) >= 0


def test_calls_are_found_by_their_target() -> None:
    code = b"\x90\xe8" + struct.pack("<i", 100) + b"\xe8" + struct.pack("<i", 95) + b"\xe8\x00"
    assert go_code.calls(code, 0x1000, 0x1000 + 6 + 100) == [0x1001, 0x1006]


def test_the_slot_of_g_is_found_in_each_form() -> None:
    assert go_code.thread_slot(b"\x90" + bytes.fromhex("644c8b3425f8ffffff"), 0) == (-8, 0)
    assert go_code.thread_slot(bytes.fromhex("49c7c6a8ffffff644d8b36"), 0) == (-88, 0)
    assert go_code.thread_slot(b"\x90" + bytes.fromhex("4c8b3510000000644d8b36"), 0x1000) == (0, 0x1018)
    assert go_code.thread_slot(b"\x90" * 20, 0) == (0, 0)
