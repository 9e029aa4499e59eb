"""Where virtual threads of JVMs allocated, as the kernel side marked it: `struct heap_mark` of which `unit` is set.

Threads of HotSpot allocate in buffers of their own, upwards (`marks`), and what runs on them takes turns. So what lies
behind the place where a virtual thread was seen on its carrier, and before the place where the next one was, one of
those that ran there meanwhile has made: most likely the first of them. A mark with an object is of a call: the object
is that of the virtual thread that makes it, and lies where it was made if there was no collection since (an *epoch*).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.keys import among, groups, unit_keys
from otel_ebpf.tracing.marks import CLIENT, NOWHERE, SENDS, TORN

LIMIT = 1 << 14
"""Marks that are remembered."""
_ADDRESS_BITS = np.uint64(48)
_TIME_BITS = np.uint64(44)
_TIME_MASK = (np.uint64(1) << _TIME_BITS) - np.uint64(1)

Keys = NDArray[np.uint64]
Places = NDArray[np.intp]


class Carriers:
    """The last 16,384 marks, by unit and time. A place is an index into the columns; it holds until `tell`.

    unit, t: (n,) key of the virtual thread (`keys.unit_keys`), and when. object: (n,) address of its own; 0: none.
    made_after: (n,) of a mark with an object: the place of the mark of its carrier after which it was made, or NOWHERE.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._told: NDArray[np.void] | None = None
        self.noted: NDArray[np.uint8] = np.zeros(0, np.uint8)
        """(n,) bits of whoever reads them: what was done with them"""
        self._clear()

    def __len__(self) -> int:
        return len(self.unit)

    def tell(self, records: NDArray[np.void]) -> None:
        """Records of `struct heap_mark`, all with a unit."""
        records = records[(records["bits"] & TORN) == 0]
        if not len(records):
            return
        told = records if self._told is None else np.concatenate([self._told, records])[-self._limit :]
        noted = np.concatenate([self.noted, np.zeros(len(records), np.uint8)])[-self._limit :]
        unit = unit_keys(told["tgid"], told["unit"])
        order = np.lexsort((told["t"], unit))
        self._told = told = told[order]
        self.noted, self.unit, self.t = noted[order], unit[order], told["t"].copy()
        self.object = np.where(told["count"] > 0, told["objects"][:, 0], np.uint64(0))
        self._index()

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """These processes ended, or became another program."""
        if self._told is None or not np.isin(self._told["tgid"], tgid).any():
            return
        left, self._told = self._told[~np.isin(self._told["tgid"], tgid)], None
        self._clear()
        self.tell(left)

    def seen(self, unit: Keys) -> NDArray[np.bool_]:
        """(n,) which units are virtual threads that are marked."""
        return among(self._units, unit)

    def call_of(self, unit: Keys, moment: Keys, conn: Keys) -> Places:
        """(n,) place of the mark of the call that a unit began then on a connection, or NOWHERE."""
        if not len(self) or not len(unit):
            return np.full(len(unit), NOWHERE, np.intp)
        assert self._told is not None
        group = np.minimum(np.searchsorted(self._units, unit), len(self._units) - 1)
        place = np.searchsorted(self._keys, (group.astype(np.uint64) << _TIME_BITS) | self._clock(moment))
        place = np.minimum(place, len(self) - 1)
        known = (self._units[group] == unit) & (moment >= self._origin) & (self.unit[place] == unit)
        known &= (self._told["conn"][place] == conn) & (self._told["bits"][place] == SENDS | CLIENT)
        return np.where(known, place, NOWHERE)

    def maker(self, places: Places) -> Keys:
        """(n,) key of the unit that was seen last before the one of each mark was made, 0: it is not known."""
        after = self.made_after[places]
        return np.where(after != NOWHERE, self.unit[after], np.uint64(0))

    def _clear(self) -> None:
        self.unit = self.t = self.object = self._units = self._keys = np.zeros(0, np.uint64)
        self.noted = np.zeros(0, np.uint8)
        self.made_after = np.zeros(0, np.intp)
        self._origin = np.uint64(0)

    def _index(self) -> None:
        assert self._told is not None
        told = self._told
        self._units, group = groups(self.unit)
        self._origin = self.t.min()
        self._keys = (group.astype(np.uint64) << _TIME_BITS) | self._clock(self.t)
        self.made_after = np.full(len(self), NOWHERE, np.intp)
        objects = (self.object != 0).nonzero()[0]
        _, epoch = groups(splitmix64(told["tgid"].astype(np.uint64) << np.uint64(32) | told["collections"]))
        high = epoch.astype(np.uint64) << _ADDRESS_BITS
        order = np.lexsort((self.t, high | told["top"]))
        tops = (high | told["top"])[order]
        after = np.searchsorted(tops, (high | self.object)[objects], "right")
        # In the buffer of the mark below it: made after that. Else below the next mark, in a buffer that was new then.
        below, above = order[np.maximum(after - 1, 0)], order[np.minimum(after, len(order) - 1)]
        address = self.object[objects]
        own = (after > 0) & (epoch[below] == epoch[objects])
        own &= (told["start"][below] <= address) & (address < told["end"][below])
        fresh = (after < len(order)) & (epoch[above] == epoch[objects]) & (told["start"][above] <= address)
        before = self._before_on_carrier()[above]
        fresh &= (before != NOWHERE) & (epoch[before] == epoch[above]) & (told["start"][before] != told["start"][above])
        self.made_after[objects] = np.where(own, below, np.where(fresh, before, NOWHERE))

    def _before_on_carrier(self) -> Places:
        """(n,) place of the mark before on the same thread, or NOWHERE."""
        assert self._told is not None
        thread = unit_keys(self._told["tgid"], self._told["tid"])
        order = np.lexsort((self.t, thread))
        before = np.full(len(self), NOWHERE, np.intp)
        same = thread[order[1:]] == thread[order[:-1]]
        before[order[1:][same]] = order[:-1][same]
        return before

    def _clock(self, times: Keys) -> Keys:
        after: Keys = np.where(times > self._origin, times - self._origin, np.uint64(0))
        np.minimum(after, _TIME_MASK, out=after)
        return after
