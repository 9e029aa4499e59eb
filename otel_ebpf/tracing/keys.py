"""Numbers that stand for a combination of columns, to be sorted and compared at once instead of column by column.

They are sums of products with odd constants: different combinations give the same number with a chance of about 2^-64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.ids import splitmix64

_PAIR = np.uint64(0xE7037ED1A0B428DB)
_SEQ = np.uint64(0xA0761D6478BD642F)
_PROCESS = np.uint64(0xD6E8FEB86659FD93)
_UNIT = np.uint64(0x9E3779B97F4A7C15)
_TRACE = np.uint64(0xBF58476D1CE4E5B9)


def place(pair: NDArray[np.uint64], seq: NDArray[np.uint32], ordinal: NDArray[np.integer]) -> NDArray[np.uint64]:
    """(n,) where on which connection an exchange lies, as one number: equal for both of its ends."""
    key: NDArray[np.uint64] = (
        pair * _PAIR + (seq.astype(np.uint64) + (ordinal.astype(np.uint64) << np.uint64(32))) * _SEQ
    )
    return key


def exchange_keys(key: NDArray[np.uint64], seq: NDArray[np.uint32], ordinal: NDArray[np.integer]) -> NDArray[np.uint64]:
    """(n,) the same for both ends of an exchange, on whatever hosts they are; 0 where the kernel could not tell.

    key: of the connection. It is as random as initial sequence numbers are, and so is what comes out.
    """
    mixed = splitmix64(place(key, seq, ordinal))
    keys: NDArray[np.uint64] = np.where((key == 0) | (seq == 0), np.uint64(0), np.maximum(mixed, np.uint64(1)))
    return keys


def unit_keys(tgid: NDArray[np.uint32], unit: NDArray[np.uint64] | NDArray[np.uint32]) -> NDArray[np.uint64]:
    """(n,) one number for a thread, or a unit of execution, of a process; 0 where there was none."""
    numbers = unit.astype(np.uint64)
    keys: NDArray[np.uint64] = np.where(numbers == 0, np.uint64(0), numbers * _UNIT + tgid * _PROCESS)
    return keys


def trace_keys(trace: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(n,) an even number for each of (n, 2) trace ids."""
    keys: NDArray[np.uint64] = (trace[:, 0] * _TRACE + trace[:, 1] * _UNIT) & ~np.uint64(1)
    return keys


def groups(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """The distinct keys, ascending, and (n,) which of them each one is: `np.unique` at a third of its price."""
    order = np.argsort(keys)
    ordered = keys[order]
    first = np.ones(len(keys), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    which = np.empty(len(keys), np.intp)
    which[order] = np.cumsum(first) - 1
    return ordered[first], which


def among(keys: NDArray[np.uint64], asked: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(n,) which of `asked` are among the keys: `np.isin` at a part of its price, where the keys are not many more."""
    if not len(keys) or not len(asked):
        return np.zeros(len(asked), np.bool_)
    ordered = np.sort(keys)
    there: NDArray[np.bool_] = ordered[np.minimum(np.searchsorted(ordered, asked), len(ordered) - 1)] == asked
    return there
