"""What a request would take in memory, told from its bytes before it is parsed.

A protobuf message without fields is two bytes on the wire and some 200 in memory: 16 MB of these are gigabytes. So the
messages of a large request are counted first: roughly and quickly, and exactly (slowly) only if that is not enough.
Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from functools import cache

import numpy as np
from google.protobuf.descriptor import Descriptor

from otel_ebpf.viewer.contract import Malformed

MESSAGES = 1_000_000
"""Messages within a request, attributes and their values counted as two: 16 MB of ordinary spans have as many."""
SMALL = 1 << 20
"""Bytes of a request that need not be weighed: it has too few messages to matter."""
DEPTH = 100
"""Where protobuf's parser stops."""
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_GROUP = (3, 4)
"""Its beginning and its end. OTLP has none, and the parser steps over what is in one; here that is counted."""
_Shape = dict[int, Descriptor]


def weigh(request: bytes, kind: Descriptor) -> None:
    """Malformed if the request has more than MESSAGES messages in it. What is no protobuf, the parser says better.

    >>> weigh(b"\\n\\x00" * 2_000_000, ExportTraceServiceRequest.DESCRIPTOR)
    Traceback (most recent call last):
    otel_ebpf.viewer.contract.Malformed: more than 1,000,000 messages in one request: send less at once
    """
    if len(request) <= SMALL or _at_most(request) <= MESSAGES:
        return
    if _count(request, kind) > MESSAGES:
        raise Malformed(f"more than {MESSAGES:,} messages in one request: send less at once")


def _at_most(request: bytes) -> int:
    """No fewer than there are: each has a tag, whose first byte ends in the wire type of bytes."""
    return int(np.count_nonzero((np.frombuffer(request, np.uint8) & 7) == _BYTES))


@cache
def _shape(kind: Descriptor) -> _Shape:
    """The fields that are messages, by number."""
    return {field.number: field.message_type for field in kind.fields if field.message_type is not None}


def _count(request: bytes, kind: Descriptor) -> int:
    """Messages within; stops beyond MESSAGES, and where the bytes are no protobuf."""
    found = 0
    around = [(0, len(request), _shape(kind))]
    while around:
        at, end, shape = around.pop()
        while at < end:
            tag, at = _varint(request, at)
            wire = tag & 7
            if wire == _VARINT:
                _, at = _varint(request, at)
            elif wire in _FIXED:
                at += _FIXED[wire]
            elif wire == _BYTES:
                length, at = _varint(request, at)
                inner = shape.get(tag >> 3)
                after = at + length
                if inner is None:
                    at = after
                    continue
                found += 1
                if found > MESSAGES or after > end or len(around) > DEPTH:
                    return found
                around.append((after, end, shape))
                end, shape = after, _shape(inner)
            elif wire not in _GROUP:
                return found
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends; 0 at the end of the data."""
    if at >= len(data):
        return 0, at + 1
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    for number in range(at + 1, min(at + 10, len(data))):
        byte = data[number]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, number + 1
        shift += 7
    return value, at + 10
