"""Attributes as a Bloom filter of 192 bits, so that a search for one reads 24 bytes of a span instead of all its text.

Each pair sets 12 bits. Of spans with 11 attributes, one in 5,000 has those of a pair that it lacks; what is found is
compared by its text afterwards. Stored spans depend on what is here: a change is a new version of the schema.
"""

from __future__ import annotations

from hashlib import blake2b
from zlib import crc32

from otel_ebpf.viewer.decode.attributes import Value

BITS, WORDS = 192, 3
_MASK = (1 << 64) - 1
_ENTRIES = 2048


def _table(name: bytes) -> list[int]:
    """_ENTRIES masks with 6 bits each."""
    masks = []
    for number in range(_ENTRIES):
        drawn = blake2b(number.to_bytes(4, "big"), digest_size=6, person=name).digest()
        masks.append(sum({1 << (byte % BITS) for byte in drawn}))
    return masks


_LOW, _HIGH = _table(b"low"), _table(b"high")


def bits(key: str, value: Value) -> int:
    """What one pair sets.

    >>> bits("server.port", 8080) == bits("server.port", "8080")
    False
    """
    written = f"{key}\0{value}" if isinstance(value, str) else f"{key}\1{value!r}"
    number = crc32(written.encode("utf-8", "surrogatepass"))
    return _LOW[number & 2047] | _HIGH[(number >> 11) & 2047]


def words(signature: int) -> tuple[int, int, int]:
    """As the store keeps it.

    >>> words(1 << 64)
    (0, 1, 0)
    """
    return signature & _MASK, (signature >> 64) & _MASK, signature >> 128
