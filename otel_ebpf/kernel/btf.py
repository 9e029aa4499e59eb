"""BTF of a compiled object → numpy dtypes and enums: the C structs of bpf/include/records.h are the schema.

Reads the `.BTF` section of an ELF64 little-endian file. Format: Linux Documentation/bpf/btf.rst.

>>> btf = Btf.of_object(object_path("requests"))
>>> btf.dtype("exchange").itemsize
128
>>> btf.enum("exchange_flags")["EXCHANGE_TLS"]
8
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from otel_ebpf.errors import UnsupportedError

_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
"""Bytes after the 12 that all types share, by kind: INT, ARRAY, VAR, DECL_TAG."""
_PER_MEMBER = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""The same for each of vlen members: STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64."""
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _VAR = 1, 3, 4, 5, 6, 8, 9, 10, 11, 14


def object_path(name: str) -> Path:
    """Where the compiled object `bpf/NAME.bpf.c` lies inside the installed package."""
    path = Path(__file__).resolve().parents[1] / "_bpf" / f"{name}.bpf.o"
    if not path.exists():
        raise UnsupportedError(f"{path.name} is missing: build it with `make bpf`, or install the wheel")
    return path


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    vlen: int
    size: int  # or the type it refers to
    body: bytes = field(repr=False)


class Btf:
    """The types of one object, by name."""

    def __init__(self, raw: bytes) -> None:
        magic, _version, _flags, header, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", raw)
        if magic != 0xEB9F:
            raise UnsupportedError("BTF of the object is not little-endian BTF: rebuild it with `make bpf`")
        strings = raw[header + str_off : header + str_off + str_len]
        self._types = [_Type("void", 0, 0, 0, b"")]
        at, end = header + type_off, header + type_off + type_len
        while at < end:
            name_off, info, size = struct.unpack_from("<III", raw, at)
            kind, vlen = info >> 24 & 31, info & 0xFFFF
            extra = _FIXED.get(kind, 0) + _PER_MEMBER.get(kind, 0) * vlen
            name = strings[name_off : strings.index(b"\0", name_off)].decode()
            self._types.append(_Type(name, kind, vlen, size, raw[at + 12 : at + 12 + extra]))
            at += 12 + extra
        self._strings = strings

    @classmethod
    def of_object(cls, path: Path) -> Btf:
        """Of the ELF file at `path`."""
        data = path.read_bytes()
        offset, entry, count, names_index = (
            struct.unpack_from("<Q", data, 40)[0],
            *struct.unpack_from("<HHH", data, 58),
        )
        sections = [struct.unpack_from("<IIQQQQ", data, offset + i * entry) for i in range(count)]
        names = sections[names_index][4]
        for name, _type, _flags, _addr, start, size in sections:
            if data[names + name : names + name + 5] == b".BTF\0":
                return cls(data[start : start + size])
        raise UnsupportedError(f"{path.name} has no BTF: rebuild it with `make bpf`")

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _find(self, name: str, kind: int) -> _Type:
        for t in self._types:
            if t.kind == kind and t.name == name:
                return t
        raise KeyError(name)

    def dtype(self, name: str) -> np.dtype[np.void]:
        """The numpy structured dtype of `struct NAME`: same offsets, same size; char arrays become bytes.

        The members of a union overlap; one without a name has the name "".
        """
        return self._dtype(self._find(name, _STRUCT))

    def enum(self, name: str) -> dict[str, int]:
        """The enumerators of `enum NAME`."""
        body = self._find(name, _ENUM).body
        return {self._name(n): v for n, v in struct.iter_unpack("<Ii", body)}

    def variable(self, name: str) -> np.dtype[np.void]:
        """The layout of the global variable NAME, which must be a struct (qualifiers are looked through)."""
        t = self._types[self._find(name, _VAR).size]
        while t.kind in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT):
            t = self._types[t.size]
        return self._dtype(t)

    def _dtype(self, t: _Type) -> np.dtype[np.void]:
        members = list(struct.iter_unpack("<III", t.body))
        return np.dtype(
            {
                "names": [self._name(n) for n, _, _ in members],
                "formats": [self._format(type_id) for _, type_id, _ in members],
                "offsets": [bits // 8 for _, _, bits in members],
                "itemsize": t.size,
            }
        )

    def _format(self, type_id: int) -> np.dtype[np.void] | str | tuple[str, tuple[int, ...]]:
        t = self._types[type_id]
        while t.kind in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT):
            t = self._types[t.size]
        if t.kind in (_STRUCT, _UNION):
            return self._dtype(t)
        if t.kind == _ARRAY:
            element, _index, count = struct.unpack("<III", t.body)
            inner = self._types[element]
            if inner.kind == _INT and inner.size == 1 and inner.name == "char":
                return f"S{count}"
            base = self._format(element)
            if not isinstance(base, str):
                raise UnsupportedError(f"array of {inner.name} is not used in records")
            return (base, (count,))
        if t.kind == _INT:
            signed = t.body[3] & 1
            return f"<{'i' if signed else 'u'}{t.size}"
        if t.kind == _ENUM:
            return f"<u{t.size}"
        raise UnsupportedError(f"BTF kind {t.kind} is not used in records")
