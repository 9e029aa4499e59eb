"""From the kernel's connection ids to rows of a table, for whole columns at a time.

Theory of operation: an array of slots, of which each id has one by its hash. Who finds its slot taken goes to a
dictionary instead; since at most one slot in eight is in use these are few. So a look-up is one gather, and nothing has
to be moved when an id goes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOT_THERE = -1
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SLOTS_PER_ID = 8
_BITS = 10


class Index:
    """Ids (never 0) → rows.

    >>> index = Index()
    >>> index.put(np.array([7, 9], np.uint64), np.array([0, 1], np.int32))
    >>> index.find(np.array([9, 8, 9], np.uint64))
    array([ 1, -1,  1], dtype=int32)
    """

    def __init__(self) -> None:
        self._elsewhere: dict[int, int] = {}
        self._in_slots = 0
        self._resize(_BITS)

    def __len__(self) -> int:
        return self._in_slots + len(self._elsewhere)

    def find(self, ids: NDArray[np.uint64]) -> NDArray[np.int32]:
        """(n,) row of each id; NOT_THERE for one that was not put."""
        slot = self._slot(ids)
        rows: NDArray[np.int32] = self._rows[slot]
        missed = self._ids[slot] != ids
        if missed.any():
            get = self._elsewhere.get
            rows[missed] = [get(number, NOT_THERE) for number in ids[missed].tolist()]
        return rows

    def put(self, ids: NDArray[np.uint64], rows: NDArray[np.int32]) -> None:
        """Add ids that are not there; all distinct."""
        if _SLOTS_PER_ID * (len(self) + len(ids)) > len(self._ids):
            self._grow(len(self) + len(ids))
        slot = self._slot(ids)
        free = self._ids[slot] == 0
        self._ids[slot[free]], self._rows[slot[free]] = ids[free], rows[free]
        beaten = self._ids[slot] != ids  # of several new ids for one slot the last has it
        self._in_slots += len(ids) - int(np.count_nonzero(beaten))
        self._elsewhere.update(zip(ids[beaten].tolist(), rows[beaten].tolist(), strict=True))

    def drop(self, ids: NDArray[np.uint64]) -> None:
        """Forget ids; all distinct."""
        slot = self._slot(ids)
        there = self._ids[slot] == ids
        self._ids[slot[there]] = 0
        self._in_slots -= int(np.count_nonzero(there))
        for number in ids[~there].tolist():
            self._elsewhere.pop(number, None)

    def _slot(self, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        slot: NDArray[np.uint64] = ids * _SPREAD
        slot >>= self._shift
        return slot

    def _resize(self, bits: int) -> None:
        self._shift = np.uint64(64 - bits)
        self._ids = np.zeros(1 << bits, np.uint64)
        self._rows = np.full(1 << bits, NOT_THERE, np.int32)

    def _grow(self, ids: int) -> None:
        used = self._ids.nonzero()[0]
        elsewhere = self._elsewhere
        numbers = np.concatenate([self._ids[used], np.fromiter(elsewhere.keys(), np.uint64, len(elsewhere))])
        rows = np.concatenate([self._rows[used], np.fromiter(elsewhere.values(), np.int32, len(elsewhere))])
        self._elsewhere, self._in_slots = {}, 0
        self._resize((_SLOTS_PER_ID * 2 * ids).bit_length())
        self.put(numbers, rows)
