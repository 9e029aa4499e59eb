"""What a Go program says of itself: version of Go, and the path of its main module. Survives stripping.

Format: Go's debug/buildinfo (since Go 1.18): the section `.go.buildinfo` holds 14 bytes of magic, the size of a
pointer, flags (bit 1: strings follow inline), padding up to offset 32, then version and module information, each as
varint length and bytes; the latter wrapped in two 16-byte marks. The file is hostile: every offset is checked.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

_MAGIC = b"\xff Go buildinf:"
_INLINE = 2
_SECTION = 64
"""Bytes of an ELF64 section header."""
_MOST_SECTIONS = 1024
_MOST_TEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class GoBuild:
    """version: "go1.22.1". module: "github.com/acme/shop", or "" if built without modules.

    information: lines of tab-separated `path`, `mod`, `dep`, `=>`, `build`.
    """

    version: str
    module: str
    information: str = field(default="", repr=False)

    def version_of(self, module: str) -> str:
        """The version of a module that is linked, "v1.67.3"; "" if that is not said, or another one is in its place.

        >>> GoBuild("go1.22.1", "", "dep\\texample.com/a\\tv1.2.0\\th1:x=").version_of("example.com/a")
        "v1.2.0"
        """
        lines = self.information.splitlines()
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            words = line.split("\t")
            if words[0] == "dep" and words[1:2] == [module]:
                return "" if after.startswith("=>") else "".join(words[2:3])
        return ""


def go_build(descriptor: int) -> GoBuild | None:
    """Of an open ELF file; None if it is no Go program, or one older than Go 1.18.

    The file is read, not mapped: one that is cut meanwhile would end us by SIGBUS."""
    try:
        found = _section(descriptor, b".go.buildinfo")
        data = os.pread(descriptor, min(found[1], _MOST_TEXT), found[0]) if found else b""
        if not data.startswith(_MAGIC) or not data[15] & _INLINE:
            return None
        version, at = _text(data, 32)
        information, _ = _text(data, at)
    except (OSError, ValueError, IndexError, OverflowError, struct.error):
        return None
    if not version.startswith(b"go"):
        return None
    said = information[16:-16].decode(errors="replace")
    return GoBuild(version.split()[0].decode(errors="replace"), _module(said), said)


def _section(descriptor: int, wanted: bytes) -> tuple[int, int] | None:
    """(offset, size) of a section of a 64-bit little-endian ELF file."""
    head = os.pread(descriptor, 64, 0)
    if head[:6] != b"\x7fELF\x02\x01":
        return None
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count, names_index = struct.unpack_from("<HHH", head, 58)
    if size != _SECTION or count > _MOST_SECTIONS:
        return None
    sections = list(struct.iter_unpack("<IIQQQQ24x", os.pread(descriptor, count * _SECTION, table)))
    names = os.pread(descriptor, min(sections[names_index][5], _MOST_TEXT), sections[names_index][4])
    for name, _type, _flags, _address, offset, length in sections:
        if names[name : name + len(wanted) + 1] == wanted + b"\0":
            return offset, length
    return None


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    length = shift = 0
    while True:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 28:
            raise ValueError
    if length > len(data) - at:
        raise ValueError
    return data[at : at + length], at + length


def _module(information: str) -> str:
    """The second field of `mod`."""
    for line in information.splitlines():
        kind, _, rest = line.partition("\t")
        if kind == "mod":
            return rest.split("\t")[0]
    return ""
