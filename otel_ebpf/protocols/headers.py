"""The header lines of a whole matrix of HTTP/1.x messages, found in one pass over its line feeds.

The one scan serves everything that looks at headers: Host, User-Agent, Content-Length and the trace contexts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.protocols.memo import words_at

_SPACE, _TAB, _LF, _CR = 32, 9, 10, 13
_BLANK = np.zeros(256, np.bool_)
_BLANK[[_SPACE, _TAB]] = True
PAD = 16
"""Bytes behind the matrix that may be read past the end of its last line."""


NAMES = (
    *(b"host:", b"user-agent:", b"content-length:", b"transfer-encoding:"),
    *(b"traceparent:", b"b3:", b"x-b3-traceid:", b"x-b3-spanid:", b"x-b3-sampled:", b"uber-trace-id:"),
    *(b"sw8:", b"x-datadog-trace-id:", b"x-datadog-parent-id:", b"x-datadog-sampling-priority:", b"x-datadog-tags:"),
    *(b"x-amzn-trace-id:", b"x-request-id:"),
)
"""The headers that are looked for, lower-case."""


@dataclass(slots=True)
class Values:
    """The values of one header, surrounding blanks stripped: at most one per row, in ascending order of rows.

    row: (k,). start: (k,) position in the flat bytes. length: (k,).
    """

    row: NDArray[np.intp]
    start: NDArray[np.intp]
    length: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name as its bytes are compared: as it is, after `| lower`, 8 bytes at a time."""

    group: int
    parts: tuple[tuple[int, np.uint64, np.uint64, np.uint64], ...]
    """(offset, lower, mask, word)"""

    @classmethod
    def of(cls, name: bytes, group: int) -> _Name:
        parts = []
        for at in range(0, len(name), 8):
            part = name[at : at + 8]
            lower = bytes(32 if 97 <= byte <= 122 else 0 for byte in part)
            words = (int.from_bytes(w.ljust(8, b"\0"), "little") for w in (lower, b"\xff" * len(part), part))
            parts.append((at, *(np.uint64(w) for w in words)))
        return cls(group, tuple(parts))


_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def _group(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """12 bits of the first three bytes of lines, regardless of case: most lines are told apart by that."""
    groups: NDArray[np.uint64] = (((words | np.uint64(0x202020)) & np.uint64(0xFFFFFF)) * _MULTIPLIER) >> np.uint64(52)
    return groups


_PREFIXES = sorted({name[:3] for name in NAMES})
_GROUPS = np.zeros(1 << 12, np.uint8)
_GROUPS[_group(np.array([int.from_bytes(p, "little") for p in _PREFIXES], np.uint64))] = range(1, len(_PREFIXES) + 1)
_NAMED = {name: _Name.of(name, _PREFIXES.index(name[:3]) + 1) for name in NAMES}
_NO_LINES = np.zeros(0, np.intp)
_CHUNK = 1024  # messages; what is found in so many stays in the cache


@dataclass(slots=True)
class Lines:
    """The complete header lines of n messages, request or status line excluded, none beyond the empty line.

    flat: the bytes of the (n, width) matrix and PAD zeros. words: `words_at(flat)`.
    row, start, end: (k,) message, first byte and end (line break excluded) of each line, positions in `flat`.
    first: (n,) length of the request or status line, without its line break; -1: longer than what was kept.
    block: (n,) length of the message's head including the empty line; -1: not all of it was kept.
    """

    flat: NDArray[np.uint8]
    words: NDArray[np.uint64]
    width: int
    row: NDArray[np.intp]
    start: NDArray[np.intp]
    end: NDArray[np.intp]
    first: NDArray[np.intp]
    block: NDArray[np.intp]
    _group: NDArray[np.uint8]
    _present: list[bool]

    @classmethod
    def of(cls, matrix: NDArray[np.uint8]) -> Lines:
        """Of an (n, width) uint8 matrix of messages, zero padded."""
        n, width = matrix.shape
        flat = np.empty(n * width + PAD, np.uint8)
        flat[: n * width].reshape(n, width)[:] = matrix
        flat[n * width :] = 0
        words = words_at(flat)
        first, block = np.full(n, -1, np.intp), np.full(n, -1, np.intp)
        found = [_scan(flat, words, width, at, min(at + _CHUNK, n), first, block) for at in range(0, n, _CHUNK)]
        if len(found) == 1:
            row, start, end, group = found[0]
        elif found:
            row, start, end = (np.concatenate([f[i] for f in found]) for i in range(3))
            group = np.concatenate([f[3] for f in found])
        else:
            row, start, end, group = _NO_LINES, _NO_LINES, _NO_LINES, np.zeros(0, np.uint8)
        present = (np.bincount(group, minlength=len(_PREFIXES) + 1) > 0).tolist()
        return cls(flat, words, width, row, start, end, first, block, group, present)

    def lines(self, name: bytes) -> NDArray[np.intp]:
        """Which lines bear this header of NAMES, e.g. `lines(b"content-length:")`."""
        known = _NAMED[name]
        if not self._present[known.group]:
            return _NO_LINES
        found: NDArray[np.intp] = (self._group == known.group).nonzero()[0]
        for at, lower, mask, word in known.parts:
            found = found[((self.words[self.start[found] + at] | lower) & mask) == word]
        return found

    def values(self, name: bytes) -> Values:
        """The first value of this header of NAMES in each row that has it."""
        found = self.lines(name)
        if not len(found):
            return Values(found, found, found)
        row = self.row[found]
        again = row[1:] == row[:-1]
        if again.any():
            found = np.delete(found, again.nonzero()[0] + 1)
            row = self.row[found]
        return self.strip(row, self.start[found] + len(name), self.end[found])

    def strip(self, row: NDArray[np.intp], start: NDArray[np.intp], end: NDArray[np.intp]) -> Values:
        """The ranges without the blanks around them (RFC 9110 §5.5: optional white space is no part of a value)."""
        start = start + (self.flat[start] == _SPACE)
        blank = _BLANK[self.flat[start]] | _BLANK[self.flat[end - 1]]
        if blank.any():
            for i in blank.nonzero()[0].tolist():
                value = self.flat[start[i] : end[i]].tobytes()
                start[i] += len(value) - len(value.lstrip(b" \t"))
                end[i] = start[i] + len(value.strip(b" \t"))
        return Values(row, start, np.maximum(end - start, 0))


def _scan(
    flat: NDArray[np.uint8],
    words: NDArray[np.uint64],
    width: int,
    low: int,
    high: int,
    first: NDArray[np.intp],
    block: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """Row, start, end and group of the header lines of the messages low … high; fills in their `first` and `block`."""
    feed = (flat[low * width : high * width] == _LF).nonzero()[0] + low * width
    if not len(feed):
        return feed, feed, feed, np.zeros(0, np.uint8)
    row = feed // width
    end = feed - (flat[feed - 1] == _CR)  # position -1 is padding, hence no carriage return
    opens = np.empty(len(row), np.bool_)
    opens[0] = True
    np.not_equal(row[1:], row[:-1], out=opens[1:])
    opening = opens.nonzero()[0]
    one = row[opening]
    first[one] = end[opening] - one * width
    # A line lies between two feeds of one row.
    follows = (~opens).nonzero()[0]
    start = feed[follows - 1] + 1
    row, end = row[follows], end[follows]
    empty = (end <= start).nonzero()[0]
    if len(empty):
        back = empty[::-1]  # the first of each row is assigned last
        block[row[back]] = feed[follows[back]] + 1 - row[back] * width
        limit = block[row]
        inside = ((end > start) & ((limit < 0) | (start < row * width + limit))).nonzero()[0]
        row, start, end = row[inside], start[inside], end[inside]
    return row, start, end, _GROUPS[_group(words[start])]


def numbers(lines: Lines, values: Values, digits: int = 18) -> NDArray[np.int64]:
    """(k,) decimal numbers; -1 where a value is none (empty, more than `digits` digits, other characters)."""
    longest = int(values.length.max(initial=0))
    if longest == 0:
        return np.full(len(values.row), -1, np.int64)
    if longest > digits:
        longest = digits
    offset = np.arange(longest)
    at = np.minimum(values.start[:, None] + offset, len(lines.flat) - 1)
    figure = lines.flat[at] - np.uint8(48)
    inside = offset < values.length[:, None]
    result = np.zeros(len(values.row), np.int64)
    for j in range(longest):
        result = np.where(inside[:, j], result * 10 + figure[:, j], result)
    good = ((figure < 10) | ~inside).all(1) & (values.length > 0) & (values.length <= digits)
    return np.where(good, result, -1)
