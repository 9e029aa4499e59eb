"""Seeded 64-bit hashes of bytes, and the bounded map from such hashes to numbers: both work on whole columns.

The bytes come from the network: without the per-process seed somebody could choose two requests that share a hash, and
one would be reported as the other.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

MAX_WORDS = 256
"""Longest row that can be hashed, in 8-byte words."""


def random_odd(count: int) -> NDArray[np.uint64]:
    """(count,) odd numbers that nobody outside this process knows."""
    numbers: NDArray[np.uint64] = np.frombuffer(os.urandom(8 * count), np.uint64) | np.uint64(1)
    return numbers


_FIRST, _SECOND = random_odd(MAX_WORDS), random_odd(MAX_WORDS)
_MIX = random_odd(8)
_KEEP = np.array([(1 << 8 * i) - 1 for i in range(9)], np.uint64)
"""_KEEP[i] keeps the first i bytes of a little-endian word."""
_HALF = np.uint64(32)
_CHUNK = 512  # rows; the intermediate words of that many stay in the second-level cache
_masks: dict[int, NDArray[np.uint64]] = {}


def _prefixes(words: int) -> NDArray[np.uint64]:
    """(8 * words + 1, words): row i keeps the first i bytes of a row of `words` words."""
    table = _masks.get(words)
    if table is None:
        lengths = np.arange(8 * words + 1)[:, None] - 8 * np.arange(words)
        table = _masks[words] = _KEEP[np.clip(lengths, 0, 8)]
    return table


def mix(*columns: NDArray[np.uint64] | int) -> NDArray[np.uint64]:
    """One hash per row of columns of numbers, e.g. `mix(method, status)`; at most 8 columns."""
    total: NDArray[np.uint64] = np.zeros(1, np.uint64)
    for column, odd in zip(columns, _MIX, strict=False):
        total = (total ^ (total >> np.uint64(29))) * odd + np.asarray(column, np.uint64)
    total = total * _MIX[0]
    total ^= total >> _HALF
    return total


def hash_rows(words: NDArray[np.uint64], length: NDArray[np.intp] | None = None) -> NDArray[np.uint64]:
    """(n,) hashes of (n, k) little-endian words; with `length`, of only the first so many bytes of each row.

    Multiply, fold, multiply: two rows that differ collide with a probability of about 2^-40 whatever their structure.
    """
    n, k = words.shape
    hashes = np.empty(n, np.uint64)
    masks = None if length is None else _prefixes(k)
    for at in range(0, n, _CHUNK):
        part = words[at : at + _CHUNK]
        if masks is not None and length is not None:
            part = part & masks[length[at : at + _CHUNK]]
        part = part * _FIRST[:k]
        part ^= part >> _HALF
        hashes[at : at + _CHUNK] = part @ _SECOND[:k]
    return hashes if length is None else mix(hashes, length.astype(np.uint64))


def hash_matrix(matrix: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n,) hashes of the rows of an (n, W) matrix; W is a multiple of 8, or 0."""
    if not matrix.shape[1]:
        return np.zeros(len(matrix), np.uint64)
    return hash_rows(np.ascontiguousarray(matrix).view("<u8"))


def words_at(flat: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """View of flat bytes: item i is the little-endian word that begins at byte i (so the last 7 bytes begin none)."""
    view: NDArray[np.uint64] = np.ndarray((max(len(flat) - 7, 0),), "<u8", flat, strides=(1,))
    return view


def hash_texts(words: NDArray[np.uint64], start: NDArray[np.intp], length: NDArray[np.intp]) -> NDArray[np.uint64]:
    """(n,) hashes of the texts at `start` that are `length` bytes long; `words` is `words_at` of the bytes."""
    hashes = np.zeros(len(start), np.uint64)
    if not len(start):
        return hashes
    longest = min(int(length.max()), 8 * MAX_WORDS)
    if len(start) <= _CHUNK:
        # Few texts: fewer steps count for more than the words read in vain behind the shorter ones.
        offset = np.arange(0, max(longest, 1), 8)
        left = np.clip(length[:, None] - offset, 0, 8)
        word = words[np.minimum(start[:, None] + offset, len(words) - 1)] & _KEEP[left]
        word *= _FIRST[: len(offset)]
        word ^= word >> _HALF
        return mix(word @ _SECOND[: len(offset)], length.astype(np.uint64))
    rows: NDArray[np.intp] | slice = slice(None)
    begin, left = start, length
    for j, at in enumerate(range(0, longest, 8)):
        if at and (left <= 8).any():
            going = (left > 8).nonzero()[0]
            rows = going if isinstance(rows, slice) else rows[going]
            begin, left = begin[going] + 8, left[going] - 8
        elif at:
            begin, left = begin + 8, left - 8
        word = (words[begin] & _KEEP[np.minimum(left, 8)]) * _FIRST[j]
        word ^= word >> _HALF
        hashes[rows] += word * _SECOND[j]
    return mix(hashes, length.astype(np.uint64))


def gather(
    flat: NDArray[np.uint8], start: NDArray[np.intp], length: NDArray[np.intp]
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """The texts of `flat` at (start, length), one behind the other, 8 zeros after the last; and where each begins."""
    ends = np.cumsum(length)
    begins = ends - length
    total = int(ends[-1]) if len(ends) else 0
    text = np.zeros(total + 8, np.uint8)
    # In chunks: index arrays of the whole would be fresh pages each time, and cost more than the copy.
    for at in range(0, len(start), _CHUNK):
        here = slice(at, at + _CHUNK)
        first, last = int(begins[at]), int(ends[here][-1])
        text[first:last] = flat.take(np.arange(first, last) + np.repeat(start[here] - begins[here], length[here]))
    return text, begins


class Memo:
    """Bounded map from 64-bit hashes to non-negative numbers; look-ups are of whole columns.

    At `limit` the half that was not asked for recently goes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._keys = np.zeros(0, np.uint64)
        self._values = np.zeros(0, np.int64)
        self._used = np.zeros(0, np.int64)
        self._forgotten: set[int] = set()
        self._clock = 0

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the number of each key; -1 where it is not known."""
        if self._forgotten:
            self._purge()
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        self._clock += 1
        at = self._keys.searchsorted(keys)
        at[at == len(self._keys)] = 0
        hit = self._keys[at] == keys
        self._used[at[hit]] = self._clock
        return np.where(hit, self._values[at], -1)

    def recent(self) -> NDArray[np.int64]:
        """The numbers that the last `find` gave."""
        values: NDArray[np.int64] = self._values[self._used == self._clock]
        return values

    def add(self, keys: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
        """Remember keys that `find` did not know; they are distinct."""
        order = np.argsort(keys)
        keys, values = keys[order], values[order]
        at = self._keys.searchsorted(keys)
        self._keys = np.insert(self._keys, at, keys)
        self._values = np.insert(self._values, at, values)
        self._used = np.insert(self._used, at, self._clock)
        if len(self._keys) > self.limit:
            recent = np.sort(np.argsort(self._used, kind="stable")[-max(self.limit // 2, 1) :])
            self._keys, self._values, self._used = self._keys[recent], self._values[recent], self._used[recent]

    def forget(self, value: int) -> None:
        """Whatever led to this number leads nowhere from the next `find` on."""
        self._forgotten.add(value)

    def _purge(self) -> None:
        keep = ~np.isin(self._values, np.fromiter(self._forgotten, np.int64, len(self._forgotten)))
        self._keys, self._values, self._used = self._keys[keep], self._values[keep], self._used[keep]
        self._forgotten.clear()
