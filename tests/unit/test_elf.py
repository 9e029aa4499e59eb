"""Probe points of functions in files that anybody may have written."""

from __future__ import annotations

import glob
import struct
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.kernel.elf import functions

NAMES = {"SSL_read", "SSL_write"}
REAL = sorted(glob.glob("/usr/lib/*/libssl.so.[0-9]*"))[-1]  # noqa: PTH207
CONTENT = Path(REAL).read_bytes()
SECTIONS = struct.unpack_from("<Q", CONTENT, 40)[0]
COUNT = struct.unpack_from("<H", CONTENT, 60)[0]
DYNAMIC = next(
    at for at in range(SECTIONS, SECTIONS + 64 * COUNT, 64) if struct.unpack_from("<I", CONTENT, at + 4)[0] == 11
)
"""Where the header of the dynamic symbols' section lies: type at 4, offset at 24, size at 32, link at 40."""


def found(tmp_path: Path, content: bytes) -> dict[str, int]:
    path = tmp_path / "libssl.so.3"
    path.write_bytes(content)
    return functions(str(path), NAMES)


def changed(at: int, layout: str, *values: int) -> bytes:
    content = bytearray(CONTENT)
    struct.pack_into(layout, content, at, *values)
    return bytes(content)


def test_the_functions_of_the_hosts_openssl_are_found(tmp_path: Path) -> None:
    offsets = functions(REAL, NAMES)
    assert offsets.keys() == NAMES
    assert all(0 < offset < len(CONTENT) for offset in offsets.values())
    assert found(tmp_path, CONTENT) == offsets


def test_a_file_that_is_cut_has_no_functions(tmp_path: Path) -> None:
    for size in (0, 4, 63, 64, 4096, len(CONTENT) // 2):
        assert found(tmp_path, CONTENT[:size]) == {}


def test_what_is_said_of_sizes_is_not_believed(tmp_path: Path) -> None:
    huge = 0x7FFF_FFFF_FFFF_FFFF
    assert found(tmp_path, changed(DYNAMIC + 32, "<Q", huge)).keys() == NAMES  # the rest of the file is no function
    assert found(tmp_path, changed(DYNAMIC + 24, "<Q", huge)) == {}
    assert found(tmp_path, changed(DYNAMIC + 40, "<I", 0xFFFF_FFF0)) == {}
    assert found(tmp_path, changed(40, "<Q", huge)) == {}
    assert found(tmp_path, changed(40, "<Q", 2**64 - 1)) == {}
    assert found(tmp_path, changed(58, "<HH", 1, 0xFFFF)) == {}
    assert found(tmp_path, changed(60, "<H", 0xFFFF)).keys() == NAMES


def test_thousands_of_tables_of_symbols_over_each_other_are_one(tmp_path: Path) -> None:
    table = struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, 64, 0x7FFF_FFFF_FFFF, 0, 0, 0, 24) * 0xFFFF
    header = CONTENT[:40] + struct.pack("<Q", 64) + CONTENT[48:58] + struct.pack("<HHH", 64, 0xFFFF, 0)
    assert found(tmp_path, header + table) == {}


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), max_size=60))
def test_no_bytes_raise(changes: list[tuple[int, int]]) -> None:
    content = bytearray(CONTENT)
    for at, byte in changes:
        content[at if at % 2 else at % 64] = byte
    content[:6] = CONTENT[:6]
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        assert functions(file.name, NAMES).keys() <= NAMES
