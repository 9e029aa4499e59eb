"""Rows of different length, written by columns: a message is a few pieces laid end to end, and each piece is moved for
all rows at once.

A row of bytes is never touched in Python. A piece (`Piece`) says where in a source each row's bytes lie; `lay_out`
computes where they go; `move` copies them with two strided copies per power of two of length. Integers whose length
would depend on their value are written as varints of fixed width (protobuf decoders accept leading zero groups), so
that whatever is not text sits at a fixed place of an (n, width) array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Index = NDArray[np.intp]

_DENSE = 4096
_EXPONENT = np.frexp(np.arange(_DENSE))[1].astype(np.uint8)
"""Bit length of small numbers, by table."""
_ROWS_PER_COPY = 64
"""A copy for each distinct length pays while there are so many rows of each."""
_SMALL = 80
"""Up to so many rows are moved one by one: below, numpy's fixed costs are greater than the work."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of each row: `source[start[i] : start[i] + length[i]]`; a length of 0 leaves it out.

    source: flat uint8. start: (n,), or None: one row behind the other.
    length: (n,), or one number for all rows.
    """

    source: Bytes
    start: Index | None
    length: Index | int


def rows_of(matrix: Bytes, optional: Sequence[tuple[int, int, NDArray[np.bool_]]] = ()) -> Piece:
    """The rows of an (n, width) uint8 array as a piece.

    optional: column ranges (from, to, present), left out of the rows where `present` is false.
    """
    n, width = matrix.shape
    if not optional:
        return Piece(matrix.reshape(-1), None, width)
    variant = np.zeros(n, np.uint8)
    for bit, (_, _, present) in enumerate(optional):
        variant |= present.view(np.uint8) << bit
    start, length = np.empty(n, np.intp), np.empty(n, np.intp)
    blocks: list[Bytes] = []
    size = 0
    for code in np.bincount(variant).nonzero()[0].tolist():
        rows = (variant == code).nonzero()[0]
        keep = np.ones(width, np.bool_)
        for bit, (low, high, _) in enumerate(optional):
            keep[low:high] = code >> bit & 1
        block = matrix[rows][:, keep]
        start[rows] = np.arange(size, size + block.size, block.shape[1])
        length[rows] = block.shape[1]
        size += block.size
        blocks.append(block.reshape(-1))
    return Piece(np.concatenate(blocks), start, length)


def total_length(pieces: list[Piece], n: int) -> Index:
    """(n,) the length of each row."""
    total = np.zeros(n, np.intp)
    for piece in pieces:
        total += piece.length
    return total


def write(out: Bytes, at: Index, pieces: list[Piece]) -> None:
    """Write row i, all its pieces end to end, to `out[at[i]:]`. `at` is not changed."""
    at = at.copy()
    for piece in pieces:
        move(out, at, piece.source, piece.start, piece.length)
        at += piece.length


def move(out: Bytes, at: Index, source: Bytes, start: Index | None, length: Index | int) -> None:
    """`out[at[i] : at[i] + length[i]] = source[start[i] : start[i] + length[i]]` for all i; see `Piece`.

    Both arrays are seen as overlapping items of one size, so that a fancy index moves whole texts: one copy for each
    distinct length, while those are few. Else lengths from 2^k to 2^(k+1)-1 are moved together, as their first and
    their last 2^k bytes, which overlap: the number of copies is bounded whatever the lengths.
    """
    if start is None:
        assert isinstance(length, int), "rows behind each other are of one length"
        _strided(out, length)[at] = source.view(_item(length))
        return
    if len(at) <= _SMALL:
        _move_each(out, at, source, start, length)
        return
    if isinstance(length, int):
        if length:
            _strided(out, length)[at] = _strided(source, length)[start]
        return
    longest = int(np.maximum.reduce(length))
    if longest == 0:
        return
    shortest = int(np.minimum.reduce(length))
    if shortest == 0:
        rows = length.nonzero()[0]
        at, start, length = at[rows], start[rows], length[rows]
        shortest = int(np.minimum.reduce(length))
    if longest == shortest:
        _strided(out, longest)[at] = _strided(source, longest)[start]
        return
    classes = length.astype(np.uint16) if longest < _DENSE else np.frexp(length)[1].astype(np.uint16)
    counts = np.bincount(classes)
    exact = longest < _DENSE and np.count_nonzero(counts) <= len(at) // _ROWS_PER_COPY
    if not exact and longest < _DENSE:
        classes = _EXPONENT[length].astype(np.uint16)
        counts = np.bincount(classes)
    order = np.argsort(classes, kind="stable")  # a radix sort, for integers this small
    at, start = at[order], start[order]
    length = length if exact else length[order]
    begin = 0
    for each in counts.nonzero()[0].tolist():
        end = begin + int(counts[each])
        to, origin = at[begin:end], start[begin:end]
        width = each if exact else 1 << (each - 1)
        wide_out, wide_source = _strided(out, width), _strided(source, width)
        wide_out[to] = wide_source[origin]
        if not exact:
            rest = length[begin:end] - width
            wide_out[to + rest] = wide_source[origin + rest]
        begin = end


def _move_each(out: Bytes, at: Index, source: Bytes, start: Index, length: Index | int) -> None:
    """`move` row by row: cheaper while there are few rows."""
    lengths = [length] * len(at) if isinstance(length, int) else length.tolist()
    to, origin = out.data, source.data
    for a, s, size in zip(at.tolist(), start.tolist(), lengths, strict=True):
        to[a : a + size] = origin[s : s + size]


@lru_cache(4096)
def _item(width: int) -> np.dtype[np.void]:
    return np.dtype((np.void, width))


def _strided(flat: Bytes, width: int) -> NDArray[np.void]:
    items: NDArray[np.void] = np.ndarray(flat.size - width + 1, _item(width), flat, strides=1)
    return items


def factorize(ids: NDArray[np.integer]) -> tuple[list[int], Index]:
    """The distinct values, and for each row the index of its own among them.

    >>> factorize(np.array([7, 5, 7]))
    ([5, 7], array([1, 0, 1]))
    """
    if not len(ids):
        return [], np.zeros(0, np.intp)
    low, high = int(np.minimum.reduce(ids)), int(np.maximum.reduce(ids))
    span = high - low + 1
    if span == 1:
        return [low], np.zeros(len(ids), np.intp)
    if span > 8 * len(ids) + 1024:
        distinct, inverse = np.unique(ids, return_inverse=True)
        return distinct.tolist(), inverse
    place = ids - low
    present = np.zeros(span, np.bool_)
    present[place] = True
    found = present.nonzero()[0]
    rank = np.empty(span, np.intp)
    rank[found] = np.arange(len(found))
    return (found + low).tolist(), rank[place]


def padded4(value: NDArray[np.integer]) -> NDArray[np.uint32]:
    """(n,) numbers below 2^28 as varints of 4 bytes, each in one little-endian uint32."""
    v: NDArray[np.uint32] = value.astype(np.uint32)
    v = (v & np.uint32(0x0FFFC000)) << np.uint32(2) | v & np.uint32(0x3FFF)
    v = (v & np.uint32(0x3F803F80)) << np.uint32(1) | v & np.uint32(0x007F007F)
    v |= np.uint32(0x00808080)
    return v


def padded8(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(n,) numbers below 2^56 as varints of 8 bytes, each in one little-endian uint64; greater ones become 2^56-1."""
    v: NDArray[np.uint64] = np.minimum(value, np.uint64((1 << 56) - 1))
    v = (v & np.uint64(0x00FFFFFFF0000000)) << np.uint64(4) | v & np.uint64(0x0FFFFFFF)
    v = (v & np.uint64(0x0FFFC0000FFFC000)) << np.uint64(2) | v & np.uint64(0x00003FFF00003FFF)
    v = (v & np.uint64(0x3F803F803F803F80)) << np.uint64(1) | v & np.uint64(0x007F007F007F007F)
    v |= np.uint64(0x0080808080808080)
    return v


SMALL4 = padded4(np.arange(_DENSE))
"""The same by table, for numbers below its length."""
