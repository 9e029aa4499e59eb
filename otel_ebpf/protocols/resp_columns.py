"""RESP for whole batches: where plain commands and the replies to them begin and end, without a step per row.

Theory of operation. A batch's requests are one run of bytes, cut into lines at every CRLF. A plain command is the line
`*c`, then c times the line `$length` and a line that is so long. That is not walked but guessed and then proved: each
line that looks like `*c` is taken for a command's first, and a row is read here only if its first line is one, after
each such line the next one, or the row's end, comes exactly 2c lines later, and every other line between them states
the length of the one behind it. By induction from the row's first line no byte of a value can pass for structure.
The last value of a row may be cut: what is left of it is its line.
Replies likewise: the line behind a `$length` is data, and a row where data looks like a length is not read here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.protocols.resp import ARGUMENT

Bytes = NDArray[np.uint8]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

MAX_ARGUMENTS = 9
"""The name included; `*9` is the longest first line with one digit."""
LONGEST_VALUE = 1024
PAD = 24
"""Zeros behind the last row, so that words can be read from any byte."""
_CR, _LF, _STAR, _DOLLAR = 13, 10, 42, 36

KEEP = np.array([(1 << 8 * i) - 1 for i in range(9)], np.uint64)
"""KEEP[i] keeps the first i bytes of a little-endian word."""


def words_of(texts: list[bytes]) -> NDArray[np.uint64]:
    """(n, 2) little-endian words of texts of at most 16 bytes."""
    words: NDArray[np.uint64] = np.frombuffer(b"".join(t.ljust(16, b"\0") for t in texts), "<u8").reshape(-1, 2)
    return words


def _short_lines(words: NDArray[np.uint64], start: Index, length: Index) -> NDArray[np.uint64]:
    """(k,) one number for each line of at most 7 bytes: its bytes and its length, since a byte may be 0."""
    size = np.clip(length, 0, 8)
    lines: NDArray[np.uint64] = words[start] & KEEP[size]
    lines |= size.astype(np.uint64) << np.uint64(56)
    return lines


_STATING = [b"$%d" % size for size in range(LONGEST_VALUE)]
_LENGTHS = _short_lines(words_of(_STATING)[:, 0], np.arange(LONGEST_VALUE), np.array([len(line) for line in _STATING]))
"""The line that states each length."""
_NIL = _short_lines(words_of([b"$-1"])[:, 0], np.zeros(1, np.intp), np.array([3]))[0]
NEVER, _LAST, _ANYWHERE = 0, 1, 2
REPLY = np.full(1 << 16, NEVER, np.uint8)
"""Where a reply may stand that begins with these two bytes: _LAST: its end is not looked for."""
for _first in b"$:*_#%~,(+-":
    REPLY[_first::256] = _LAST if _first in b"*%~" else _ANYWHERE
REPLY[[ord("+") + 256 * digit for digit in b"0123456789"]] = NEVER  # may be a line of MONITOR


@dataclass(slots=True)
class Commands:
    """The commands of some rows, m in all, with v values (names among them).

    row: (m,). start, length: (v,) of values in the flat bytes. first: (m,) each command's first value; size: how many.
    cut: values of which the end is missing; each is the last of its row.
    """

    row: Index
    first: Index
    size: Index
    start: Index
    length: Index
    cut: list[int]


def flat_of(matrix: Bytes, longest: int) -> tuple[Bytes, int]:
    """A copy of the rows as one run of bytes with zeros behind, and how long each row is there."""
    n, width = len(matrix), min(matrix.shape[1], -(-longest // 8) * 8)
    flat = np.empty(n * width + PAD, np.uint8)
    flat[: n * width].reshape(n, width)[:] = matrix[:, :width]
    flat[n * width :] = 0
    return flat, width


def _breaks(flat: Bytes, end: Index) -> tuple[Index, Index, Index]:
    """Where each CRLF is; and (n,) which of them are each row's: from, to. end: (n,) behind each row."""
    feeds = (flat == _LF).nonzero()[0]
    breaks = feeds[flat.take(feeds - 1) == _CR] - 1
    until = breaks.searchsorted(end)
    return breaks[: until[-1]], np.append(0, until[:-1]), until


def commands_of(flat: Bytes, words: NDArray[np.uint64], base: Index, end: Index, good: Mask) -> Commands:
    """The commands of all rows in `good` that have no others; the rest is taken out of it."""
    stop, since, until = _breaks(flat, end)
    good &= until > since
    rest = end - np.where(until > since, stop[until - 1] + 2, end) if len(stop) else end - end
    good &= rest >= 0  # else the line feed is the next row's
    tails = (rest > 0).nonzero()[0]
    if len(tails):
        stop = np.insert(stop, until[tails], end[tails])
        until = until + np.cumsum(rest > 0)
        since = np.append(0, until[:-1])
    lines = until - since
    start = np.empty(len(stop), np.intp)
    start[1:] = stop[:-1] + 2
    begins = since[lines > 0]
    start[begins] = base[lines > 0]
    row = np.repeat(np.arange(len(base)), lines)
    length = stop - start
    heads = (flat.take(start) == _STAR).nonzero()[0]
    sizes = flat.take(start[heads] + 1) - np.uint8(ord("0"))
    likely = (length[heads] == 2) & (sizes - np.uint8(1) < MAX_ARGUMENTS)
    heads, sizes = heads[likely], sizes[likely].astype(np.intp)
    other = np.ones(len(row), np.bool_)
    other[heads] = False
    good[row[begins[other[begins]]]] = False
    following = np.minimum(np.append(heads[1:], len(row)), until[row[heads]])
    good[row[heads[following - heads != 1 + 2 * sizes]]] = False
    if not good.all():
        keep = good[row]
        sizes = sizes[keep[heads]]
        row, start, length, other = row[keep], start[keep], length[keep], other[keep]
        heads = (~other).nonzero()[0]
    cut: list[int] = []
    others = other.nonzero()[0]
    told, value = others[::2], others[1::2]
    stated = _short_lines(words, start[told], length[told])
    wrong = stated != _LENGTHS[np.minimum(length[value], LONGEST_VALUE - 1)]
    wrong |= (length[told] > 7) | (length[value] >= LONGEST_VALUE)
    if len(tails):
        ends = start[value] + length[value] == end[row[value]]
        for i in (wrong & ends).nonzero()[0].tolist():
            at = int(start[told[i]])
            line = ARGUMENT.fullmatch(flat[at : at + int(length[told[i]]) + 2].tobytes())
            wrong[i] = line is None or int(line[1]) <= length[value[i]]
            cut.append(i)
    good[row[told[wrong]]] = False
    return Commands(row[heads], np.cumsum(sizes) - sizes, sizes, start[value], length[value], cut)


def replies_of(
    flat: Bytes, words: NDArray[np.uint64], base: Index, end: Index, count: Index, good: Mask
) -> tuple[Index, Index]:
    """Where the reply to each of all m commands begins, -1: not kept; and (n,) how many replies each row has.

    Takes rows out of `good` in which a reply that another one follows has no plain end.
    """
    stop, since, until = _breaks(flat, end)
    # Each row's last line is what is behind its last CRLF.
    lines = until - since + 1
    row = np.repeat(np.arange(len(base)), lines)
    final = np.cumsum(lines) - 1
    last = np.zeros(len(row), np.bool_)
    last[final] = True
    start, length = np.empty(len(row), np.intp), np.empty(len(row), np.intp)
    start[final - lines + 1] = base
    start[1:][~last[:-1]] = stop + 2
    length[~last], length[final] = stop, end
    length -= start

    stated = _short_lines(words, start, length)
    sized = (flat[start] == _DOLLAR) & (stated != _NIL) & ~last
    data = np.append(False, sized[:-1])
    good[row[sized & data]] = False
    sizes = sized.nonzero()[0]
    size = length[sizes + 1]
    proper = (stated[sizes] == _LENGTHS[np.clip(size, 0, LONGEST_VALUE - 1)]) & (size < LONGEST_VALUE)
    proper &= length[sizes] <= 7
    good[row[sizes[~(proper | last[sizes + 1])]]] = False

    heads = (~data & ~(last & (length <= 0))).nonzero()[0]
    row = row[heads]
    found = np.bincount(row, minlength=len(base))
    rank = np.arange(len(heads)) - np.repeat(np.cumsum(found) - found, found)
    wanted = rank < count[row]
    heads, row, rank = heads[wanted], row[wanted], rank[wanted]
    inner = ~last[heads] & (rank < count[row] - 1)
    kind = REPLY[(words[start[heads]] & np.uint64(0xFFFF)).astype(np.intp)]
    good[row[inner & (kind == _LAST)]] = False
    begin = np.full(int(count.sum()), -1, np.intp)
    begin[(np.cumsum(count) - count)[row] + rank] = start[heads]
    return begin, found
