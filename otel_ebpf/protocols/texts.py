"""Texts from the network that become part of shapes (hosts, user agents), by number, and not too many of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.protocols.headers import Lines, Values
from otel_ebpf.protocols.http import LONGEST_VALUE
from otel_ebpf.protocols.memo import Memo, hash_texts

RENEW_NS = 600 * 10**9
_FEW = 64
"""So many texts are faster looked up one by one."""


class Texts:
    """Texts from the network by number: at most `limit` new ones in RENEW_NS, so that nobody can fill memory with them.

    Number 0 is a text that was left out, or that `valid` does not want.
    """

    def __init__(self, limit: int, valid: Callable[[str], bool] = bool) -> None:
        self.limit = limit
        self._valid = valid
        self.left_out = 0
        self.texts: dict[int, str] = {}
        self._numbers: dict[bytes, int] = {}
        self._memo = Memo(4 * limit)
        self._next = 1
        self._renewed: int | None = None

    def renew(self, now: int) -> None:
        """Make room for new texts if there is none, but not more often than every RENEW_NS."""
        if self._renewed is None:
            self._renewed = now
        elif len(self._numbers) >= self.limit and now - self._renewed > RENEW_NS:
            self.texts.clear()
            self._numbers.clear()
            self._memo = Memo(4 * self.limit)
            self._renewed = now

    def number(self, raw: bytes) -> int:
        """The text's number."""
        number = self._numbers.get(raw)
        if number is None:
            text = raw.decode("utf-8", "replace")
            if not self._valid(text):
                return 0
            if len(self._numbers) >= self.limit:
                self.left_out += 1
                return 0
            number = self._numbers[raw] = self._next
            self.texts[number] = text
            self._next += 1
        return number

    def find(self, lines: Lines, values: Values, n: int) -> NDArray[np.int64]:
        """(n,) the number of each row's value; 0: it has none, or it was left out."""
        numbers = np.zeros(n, np.int64)
        fits = (values.length > 0) & (values.length <= LONGEST_VALUE)
        if not fits.all():
            values = Values(values.row[fits], values.start[fits], values.length[fits])
        if not len(values.row):
            return numbers
        if len(values.row) <= _FEW:
            spans = zip(values.start.tolist(), values.length.tolist(), strict=True)
            numbers[values.row] = [self.number(lines.flat[start : start + k].tobytes()) for start, k in spans]
            return numbers
        keys = hash_texts(lines.words, values.start, values.length)
        found = self._memo.find(keys)
        new = (found < 0).nonzero()[0]
        if len(new):
            distinct, first, inverse = np.unique(keys[new], return_index=True, return_inverse=True)
            starts, lengths = values.start[new[first]].tolist(), values.length[new[first]].tolist()
            got = [self.number(lines.flat[s : s + k].tobytes()) for s, k in zip(starts, lengths, strict=True)]
            fresh = np.array(got, np.int64)
            found[new] = fresh[inverse]
            self._memo.add(distinct[fresh > 0], fresh[fresh > 0])
        numbers[values.row] = found
        return numbers
