"""A BPF ring buffer of equal records as a numpy array, straight from its pages.

The layout is the kernel's (kernel/bpf/ringbuf.c): page 0 holds the consumer position, page 1 the producer position, and
the data pages follow. Each record has an 8 byte header: its length, bit 31 while it is being written, bit 30 if it was
discarded. Since all records of one of our rings have one size, what lies between the two positions is an array with a
constant stride. (The kernel offers the data pages twice in a row, so that no record is ever split; we map them once and
put together the one run in a round that crosses the end: the second mapping would only count twice in our RSS.)
"""

from __future__ import annotations

import ctypes as C
import mmap
import threading

import numpy as np
from numpy.typing import NDArray

_BUSY, _DISCARDED, _HEADER = 1 << 31, 1 << 30, 8


class Ring:
    """Reader of one ring; `read` copies the records out and frees their room.

    >>> ring = Ring(requests.maps["exchanges_head"], requests.btf.dtype("record_head"))
    >>> ring.read()["exchange"]["t_req"]
    """

    def __init__(self, fd: int, size: int, record: np.dtype[np.void]) -> None:
        page = mmap.PAGESIZE
        self.size = size
        self.stride = _HEADER + (record.itemsize + 7 & ~7)
        self._head = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._body = mmap.mmap(fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = C.c_uint64.from_buffer(self._head)
        self._producer = np.frombuffer(self._body, "<u8", 1)
        self._data = np.frombuffer(self._body, np.uint8, size, page)
        self._row = np.dtype(
            {
                "names": ["header", "record"],
                "formats": ["<u4", record],
                "offsets": [0, _HEADER],
                "itemsize": self.stride,
            }
        )
        self._record = record
        self._order = threading.Lock()

    @property
    def fill(self) -> float:
        """Part of the ring that is in use, 0 … 1."""
        return (int(self._producer[0]) - self._consumer.value) / self.size

    def read(self) -> NDArray[np.void]:
        """(n,) copy of all records that are complete; n may be 0."""
        with self._order:  # a lock is an acquire barrier: the records must not be read before the position (arm64)
            end = int(self._producer[0])
        at = self._consumer.value
        n = (end - at) // self.stride
        if not n:
            return np.empty(0, self._record)
        rows = np.frombuffer(self._run(at & (self.size - 1), n * self.stride), self._row)
        headers = rows["header"]
        busy = headers >= _BUSY
        if busy.any():
            n = int(busy.argmax())
            rows, headers = rows[:n], headers[:n]
        kept = (headers & _DISCARDED) == 0
        records: NDArray[np.void] = rows["record"].copy() if kept.all() else rows["record"][kept]
        self._consumer.value = at + n * self.stride
        return records

    def _run(self, at: int, length: int) -> NDArray[np.uint8]:
        """The bytes of the ring from `at`, across its end if need be."""
        before_end = self.size - at
        if length <= before_end:
            return self._data[at : at + length]
        return np.concatenate([self._data[at:], self._data[: length - before_end]])

    def close(self) -> None:
        """Unmap."""
        del self._consumer, self._producer, self._data
        self._head.close()
        self._body.close()
