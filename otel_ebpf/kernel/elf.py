"""Where functions lie in an ELF file, for probes: dynamic symbols → file offsets, and the cheapest place to probe.

The file is a stranger's, who may change it meanwhile: what is read of it is bounded whatever its numbers say, and a
file that makes no sense has no symbols.
ELF: System V gABI chapters 4 and 5.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ELF64_LITTLE = b"\x7fELF\x02\x01"
_LOAD, _DYNSYM, _OBJECT, _FUNCTION = 1, 11, 1, 2
_RELA, _RUNS, _TLS = 4, 1, 7
_RELATIVE = (8, 1027)
"""R_X86_64_RELATIVE, R_AARCH64_RELATIVE"""
_MODULE = (16,)
"""R_X86_64_DTPMOD64"""
_MOST_RELOCATIONS = 1 << 20
_EXECUTABLE = 2
"""ET_EXEC: mapped where its addresses say."""
_PAGE = 4096
_MOST_SEGMENTS, _MOST_SECTIONS, _MOST_SYMBOLS, _MOST_STRINGS = 256, 1024, 1 << 16, 4 << 20
_MOST_NAMES = 32 << 20
_FILE_HEADER = struct.Struct("<32xQQ6xHHHH2x")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_PUSHES = tuple(bytes([b]) for b in range(0x50, 0x58)) + tuple(bytes([0x41, b]) for b in range(0x50, 0x58))


@dataclass(frozen=True, slots=True)
class Image:
    """What was asked for of one file.

    fixed: it is mapped at its own addresses (ET_EXEC). loads: (address, offset, length) of its segments; code: of the
    executable ones. relocations: (offset, length) of its tables of them. tls: bytes of a thread's variables. symbols:
    those of the names that it exports; name → address.
    """

    fixed: bool
    loads: list[tuple[int, int, int]]
    code: list[tuple[int, int, int]]
    relocations: list[tuple[int, int]]
    tls: int
    symbols: dict[str, int]

    def file_offset(self, address: int) -> int | None:
        """Where an address of the file's own lies in it."""
        return _file_offset(address, self.loads)

    def code_offset(self, address: int) -> int | None:
        """The same of an instruction's address."""
        return _file_offset(address, self.code)

    def address(self, offset: int) -> int | None:
        """The file's own address of what lies there in it, whole pages of segments included."""
        for start, at, length in self.loads:
            if at - at % _PAGE <= offset < at + length:
                return offset - at + start
        return None


def functions(path: str, names: Collection[str]) -> dict[str, int]:
    """The file offsets at which to probe the exported functions `names`; those that are not there are left out.

    >>> functions("/usr/lib/x86_64-linux-gnu/libssl.so.3", {"SSL_read"})
    {'SSL_read': 231348}
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            found = _image(file.fileno(), names, (_FUNCTION,))
            offsets = {n: found.file_offset(at) for n, at in found.symbols.items()} if found else {}
            return {n: _probe_point(file.fileno(), at) for n, at in offsets.items() if at is not None}
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


def image(path: str, names: Collection[str]) -> Image | None:
    """Exported functions and variables `names`, and what is needed to find them in a process that maps the file."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return _image(file.fileno(), names, (_FUNCTION, _OBJECT))
    except (OSError, OverflowError, struct.error):
        return None


def pointers(path: str, image: Image, addresses: Sequence[int]) -> list[int]:
    """What the pointers at these addresses of the file's own point to when it is loaded, as its own addresses; 0: to
    nothing, or to what another file exports."""
    found = dict.fromkeys(addresses, 0)
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            for address in addresses:
                at = image.file_offset(address)
                if at is not None:
                    found[address] = int.from_bytes(os.pread(file.fileno(), 8, at), "little")
            for table in _relocations(file.fileno(), image):
                asked = table[np.isin(table["offset"], np.array(addresses, np.uint64))]
                for entry in asked[np.isin(asked["type"], _RELATIVE)]:
                    found[int(entry["offset"])] = int(entry["addend"])
    except (OSError, OverflowError, ValueError):
        pass
    return [found[address] for address in addresses]


def module_numbers(path: str, image: Image) -> list[int]:
    """The file's own addresses of words that hold, when it is loaded, the number of its thread-local variables."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return [
                int(at)
                for table in _relocations(file.fileno(), image)
                for at in table["offset"][np.isin(table["type"], _MODULE) & (table["symbol"] == 0)]
            ]
    except (OSError, OverflowError, ValueError):
        return []


def _relocations(file: int, image: Image) -> Iterator[NDArray[np.void]]:
    for offset, length in image.relocations:
        count = min(length // _RELOCATION.itemsize, _MOST_RELOCATIONS)
        yield np.frombuffer(_table(file, offset, count, _RELOCATION.itemsize), _RELOCATION)


def text(path: str, image: Image, address: int) -> bytes:
    """The string at an address of the file's own, up to 63 bytes of it."""
    at = image.file_offset(address)
    if at is None:
        return b""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return os.pread(file.fileno(), 63, at).partition(b"\0")[0]
    except (OSError, OverflowError):
        return b""


def probe_point(path: str, offset: int) -> int:
    """The cheapest place to probe the function that begins at this offset; see `functions`."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return _probe_point(file.fileno(), offset)
    except (OSError, OverflowError):
        return offset


def _image(file: int, names: Collection[str], types: Collection[int]) -> Image | None:
    # Read, not mapped: a page that its owner cuts off while we look would be a SIGBUS.
    header = os.pread(file, 64, 0)
    if header[:6] != _ELF64_LITTLE:
        return None
    segments, sections, segment_size, segment_count, section_size, section_count = _FILE_HEADER.unpack(header)
    if segment_size != _SEGMENT.size or section_size != _SECTION.size:
        return None
    table = _table(file, segments, min(segment_count, _MOST_SEGMENTS), _SEGMENT.size)
    headed = list(_SEGMENT.iter_unpack(table))
    loads = [
        (flags, address, offset, length)
        for kind, flags, offset, address, _physical, length, _memory, _align in headed
        if kind == _LOAD
    ]
    found = Image(
        fixed=header[16:18] == _EXECUTABLE.to_bytes(2, "little"),
        loads=[(address, offset, length) for _flags, address, offset, length in loads],
        code=[(address, offset, length) for flags, address, offset, length in loads if flags & _RUNS],
        relocations=[],
        tls=next((h[6] for h in headed if h[0] == _TLS), 0),
        symbols={},
    )
    table = _table(file, sections, min(section_count, _MOST_SECTIONS), _SECTION.size)
    headers = list(_SECTION.iter_unpack(table))
    found.relocations.extend((h[4], h[5]) for h in headers if h[1] == _RELA)
    # gABI, "Sections": an object file has at most one section of this type.
    dynamic = next((h for h in headers if h[1] == _DYNSYM), None)
    if dynamic is None or dynamic[6] >= len(headers):
        return found
    strings = headers[dynamic[6]]
    texts = os.pread(file, min(strings[5], _MOST_STRINGS), strings[4])
    wanted = {n.encode(): n for n in names}
    if not any(name in texts for name in wanted):
        return found
    symbols = _table(file, dynamic[4], min(dynamic[5] // _SYMBOL.size, _MOST_SYMBOLS), _SYMBOL.size)
    for name, info, _other, _section, value, _length in _SYMBOL.iter_unpack(symbols):
        if info & 15 not in types or not value or name >= len(texts):
            continue
        text = texts[name : texts.find(b"\0", name)]
        if text in wanted:
            found.symbols[wanted[text]] = value
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


def version(path: str) -> tuple[int, int, int, int] | None:
    """(device, inode, modified in ns, size): what is known of a file with the same is still true."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
