"""Memory: when freed blocks go back to the kernel, columns of which only a few items are ever used, what not to load.

`keep_freed` and `give_back` are for glibc's malloc; others are left as they are. A batch's columns are a few megabytes
that are freed when it is done. By default glibc returns them at once, and the next batch pays for fresh pages again:
measured, a sixth of all CPU time for batches of 20,000 rows.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""mallopt(3)"""
KEPT = 8 << 20
"""Bytes at the heap's end that are kept, and up to which a block lies in the heap."""


def keep_freed() -> None:
    """Use freed memory for the next batch. To be called before there are threads: they share one heap from then on."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_MMAP_THRESHOLD, KEPT)
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Everything that is free, now: also what lies between blocks that are in use, which the thresholds leave alone.

    What a peak took (exports that wait for a receiver, a collection of many series) would stay for good.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def distinct(values: NDArray[T]) -> NDArray[T]:
    """What np.unique(values) gives, which would load numpy.ma: 1.3 MB.

    >>> distinct(np.array([3, 1, 3]))
    array([1, 3])
    """
    ordered = np.sort(values, axis=None)
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new]


def sparse(n: int, dtype: type[T]) -> NDArray[T]:
    """(n,) zeros of which only the pages that are touched exist.

    Large arrays of numpy are in huge pages where the kernel has them: there, one item would take 2 MiB.
    """
    size = n * np.dtype(dtype).itemsize
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype)
