"""The protobuf wire format, as far as OTLP needs it: what is encoded once per distinct set of attributes.

https://protobuf.dev/programming-guides/encoding/ ; field numbers: opentelemetry/proto/common/v1/common.proto.
Per-row encoding lives in `columns`; nothing here runs once per span.
"""

from __future__ import annotations

import struct

from otel_ebpf.model import Attributes, AttributeValue

VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5

_INT64 = range(-(1 << 63), 1 << 63)
_UINT64 = (1 << 64) - 1

ANY_STRING = b"\x0a"
"""Tag of `AnyValue.string_value`; a length and the text follow."""
ANY_INT = b"\x18"
"""Tag of `AnyValue.int_value`; a varint follows."""


def varint(value: int) -> bytes:
    """An unsigned integer in as few bytes as it takes.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def padded_varint(value: int, width: int) -> bytes:
    """An unsigned integer in exactly `width` bytes: the upper ones say 0 more, which every decoder accepts.

    >>> padded_varint(1, 3).hex()
    '818000'
    """
    out = bytearray(width)
    for i in range(width):
        out[i] = value & 0x7F | 0x80
        value >>= 7
    out[-1] &= 0x7F
    return bytes(out)


def tag(field: int, wire_type: int) -> bytes:
    """What precedes a field: its number and wire type."""
    return varint(field << 3 | wire_type)


def delimited(field: int, content: bytes) -> bytes:
    """A length-delimited field: bytes, text or an embedded message."""
    return tag(field, BYTES) + varint(len(content)) + content


def utf8(text: str) -> bytes:
    """Valid UTF-8 whatever the text: receivers refuse a whole batch for one bad byte; lone surrogates become '?'."""
    return text.encode("utf-8", "replace")


def any_value(value: AttributeValue) -> bytes:
    """The content of an `AnyValue`.

    Integers that do not fit 64 bits become text, as the specification maps them (common/attribute-type-mapping.md).
    """
    if isinstance(value, str):
        return delimited(1, utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return ANY_INT + varint(value & _UINT64) if value in _INT64 else delimited(1, b"%d" % value)
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    return delimited(5, b"".join(delimited(1, any_value(item)) for item in value))


def key(name: str) -> bytes:
    """`KeyValue.key`, complete with tag and length."""
    return delimited(1, utf8(name))


def key_value(field: int, name: str, value: AttributeValue) -> bytes:
    """One attribute, as the repeated `KeyValue` field of the given number."""
    return delimited(field, key(name) + delimited(2, any_value(value)))


def key_values(field: int, attributes: Attributes) -> bytes:
    """All attributes, in order."""
    return b"".join(key_value(field, name, value) for name, value in attributes)
