"""Where functions lie in an ELF file, for probes: dynamic symbols → file offsets, and the cheapest place to probe.

The file is a stranger's, who may change it meanwhile: what is read of it is bounded whatever its numbers say, and a
file that makes no sense has no symbols.
ELF: System V gABI chapters 4 and 5.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection

_ELF64_LITTLE = b"\x7fELF\x02\x01"
_LOAD, _DYNSYM, _FUNCTION = 1, 11, 2
_MOST_SEGMENTS, _MOST_SECTIONS, _MOST_SYMBOLS, _MOST_STRINGS = 256, 1024, 1 << 16, 4 << 20
_MOST_NAMES = 32 << 20
_FILE_HEADER = struct.Struct("<32xQQ6xHHHH2x")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_PUSHES = tuple(bytes([b]) for b in range(0x50, 0x58)) + tuple(bytes([0x41, b]) for b in range(0x50, 0x58))


def functions(path: str, names: Collection[str]) -> dict[str, int]:
    """The file offsets at which to probe the exported functions `names`; those that are not there are left out.

    >>> functions("/usr/lib/x86_64-linux-gnu/libssl.so.3", {"SSL_read"})
    {'SSL_read': 231348}
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return _functions(file.fileno(), {n.encode(): n for n in names})
    except (OSError, OverflowError, struct.error):
        return {}


def mentions(path: str, name: str) -> bool:
    """Whether a file exports (or wants) a symbol of that name: one of its dynamic strings, of which 32 MiB are read.

    >>> mentions("/usr/bin/node", "uv_run")
    True
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            descriptor = file.fileno()
            return any(
                b"\0" + name.encode() + b"\0" in _strings(descriptor, start, length)
                for start, length in _string_tables(descriptor)
            )
    except (OSError, OverflowError, struct.error):
        return False


def _string_tables(file: int) -> list[tuple[int, int]]:
    """(offset, length) of the names of dynamic symbols."""
    header = os.pread(file, 64, 0)
    if header[:6] != _ELF64_LITTLE:
        return []
    _, sections, _, _, section_size, section_count = _FILE_HEADER.unpack(header)
    if section_size != _SECTION.size:
        return []
    headers = list(_SECTION.iter_unpack(_table(file, sections, min(section_count, _MOST_SECTIONS), _SECTION.size)))
    linked = [h[6] for h in headers if h[1] == _DYNSYM and h[6] < len(headers)]
    return [(headers[i][4], min(headers[i][5], _MOST_NAMES)) for i in linked[:1]]


def _strings(file: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(file, length, offset)):
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def _functions(file: int, wanted: dict[bytes, str]) -> dict[str, int]:
    # Read, not mapped: a page that its owner cuts off while we look would be a SIGBUS.
    header = os.pread(file, 64, 0)
    if header[:6] != _ELF64_LITTLE:
        return {}
    segments, sections, segment_size, segment_count, section_size, section_count = _FILE_HEADER.unpack(header)
    if segment_size != _SEGMENT.size or section_size != _SECTION.size:
        return {}
    loads = [
        (address, offset, length)
        for kind, _flags, offset, address, _physical, length, _memory, _align in _SEGMENT.iter_unpack(
            _table(file, segments, min(segment_count, _MOST_SEGMENTS), _SEGMENT.size)
        )
        if kind == _LOAD
    ]
    table = _table(file, sections, min(section_count, _MOST_SECTIONS), _SECTION.size)
    headers = list(_SECTION.iter_unpack(table))
    # gABI, "Sections": an object file has at most one section of this type.
    dynamic = next((h for h in headers if h[1] == _DYNSYM), None)
    if dynamic is None or dynamic[6] >= len(headers):
        return {}
    strings = headers[dynamic[6]]
    names = os.pread(file, min(strings[5], _MOST_STRINGS), strings[4])
    symbols = _table(file, dynamic[4], min(dynamic[5] // _SYMBOL.size, _MOST_SYMBOLS), _SYMBOL.size)
    found: dict[str, int] = {}
    for name, info, _other, _section, value, _length in _SYMBOL.iter_unpack(symbols):
        if info & 15 != _FUNCTION or not value or name >= len(names):
            continue
        text = names[name : names.find(b"\0", name)]
        if text in wanted:
            at = _file_offset(value, loads)
            if at is not None:
                found[wanted[text]] = _probe_point(file, at)
    return found


def _table(file: int, offset: int, count: int, size: int) -> bytes:
    """At most `count` whole entries of `size` bytes."""
    data = os.pread(file, count * size, offset)
    return data[: len(data) - len(data) % size]


def _file_offset(address: int, loads: list[tuple[int, int, int]]) -> int | None:
    for start, offset, length in loads:
        if start <= address < start + length:
            return address - start + offset
    return None


def _probe_point(file: int, at: int) -> int:
    """Past an `endbr64` if a `push` follows: the kernel emulates that (0.6 µs), anything else it single-steps (9 µs).

    Nothing but the landing pad was executed there, so arguments and return address are those of the entry."""
    code = os.pread(file, 6, at)
    if code[:4] == _ENDBR64 and code[4:].startswith(_PUSHES):
        return at + 4
    return at


def identity(path: str) -> tuple[int, int] | None:
    """(device, inode) of the file, or None."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino
