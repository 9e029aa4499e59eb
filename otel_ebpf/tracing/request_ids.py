"""The id in `X-Request-Id`, by columns: what a proxy or a service passes on with the calls that it makes for a request.

Only ids that nobody can guess count: 32 hexadecimal digits, or a UUID (RFC 9562) of a version that is random. Else a
client could name the id that a service is about to give to somebody else's request (counters, addresses, times).
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.protocols.headers import Lines
from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.values import ANY_CASE, NONE, bytes_of, window

NO_ID, UNKNOWN = np.uint64(0), np.uint64(1)
"""The message bears none that counts; it cannot be known which one it bears."""
_HEADER = b"x-request-id:"
_DIGITS, _UUID = 32, 36
_DASH = ord("-")
_DASHES = np.array([8, 13, 18, 23])
_PLACES = np.delete(np.arange(_UUID), _DASHES)
_VERSION = 12
_GUESSABLE = np.array([1, 2, 6], np.uint8)
"""Versions made of an address and the time (RFC 9562 §5.1, 5.2, 5.6)."""
_SECRET = np.frombuffer(os.urandom(16), "<u8")
"""Nobody can make two ids that give the same number."""


def request_ids(lines: Lines) -> NDArray[np.uint64]:
    """(n,) a number for the id that each of n messages bears, NO_ID, or UNKNOWN: there are several, or the head was not
    kept to its end.

    >>> request_ids(Lines.of(matrix([b"GET / HTTP/1.1\\r\\nX-Request-Id: 7\\r\\n\\r\\n"])))
    array([0], dtype=uint64)
    """
    ids: NDArray[np.uint64] = np.where(lines.block < 0, UNKNOWN, NO_ID)
    found = lines.lines(_HEADER)
    if not len(found):
        return ids
    row = lines.row[found]
    several = np.bincount(row)[row] > 1
    values = lines.strip(row, lines.start[found] + len(_HEADER), lines.end[found])
    text = window(lines, values, _UUID)
    is_uuid = (values.length == _UUID) & (text[:, _DASHES] == _DASH).all(1)
    nibble = np.where(is_uuid[:, None], ANY_CASE[text[:, _PLACES]], ANY_CASE[text[:, :_DIGITS]])
    good = (is_uuid | (values.length == _DIGITS)) & (nibble != NONE).all(1)
    good &= ~(is_uuid & np.isin(nibble[:, _VERSION], _GUESSABLE))
    # It tells no two ids apart, and Envoy notes there whether it traces the request (pack_trace_reason).
    nibble[is_uuid, _VERSION] = 0
    halves = bytes_of(nibble).view("<u8")
    mixed = splitmix64(splitmix64(halves[:, 0] ^ _SECRET[0]) ^ halves[:, 1] ^ _SECRET[1])
    ids[row[good]] = np.maximum(mixed[good], np.uint64(2))
    ids[row[several]] = UNKNOWN
    return ids
