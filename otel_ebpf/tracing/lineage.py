"""Where units of execution came from, as the kernel side told it: unit → the unit that made it, and when it was born.

Bounded: what was told longest ago is forgotten; a unit without known origin is nobody's child.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.keys import unit_keys

GENERATIONS = 12
"""As far as the kernel side looks (bpf/include/lineage.h)."""
_LIMIT = 1 << 17
_RUNS = 8

Keys = NDArray[np.uint64]
_Run = tuple[Keys, Keys, Keys]


class Lineage:
    """Units by key (`keys.unit_keys`): their parents and times of birth, monotonic ns."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run[0]) for run in self._runs)

    def tell(self, records: NDArray[np.void]) -> None:
        """Records of `struct lineage`."""
        if not len(records):
            return
        tgid = records["tgid"]
        self._add((unit_keys(tgid, records["unit"]), unit_keys(tgid, records["parent"]), records["t"].copy()))
        while len(self) > self._limit:
            self._runs.pop(0)

    def _add(self, told: _Run) -> None:
        """Runs get longer to the front, each at least twice as long as the next, none beyond a quarter of all."""
        parts = [told]
        length = len(told[0])
        while self._runs and len(self._runs[-1][0]) < 2 * length <= self._limit // 4:
            parts.append(self._runs.pop())
            length += len(parts[-1][0])
        while len(self._runs) >= _RUNS and len(self._runs) > 1:  # many short ones behind long ones
            parts.append(self._runs.pop())
        keys = np.concatenate([part[0] for part in reversed(parts)])
        order = np.argsort(keys, kind="stable")
        columns = [np.concatenate([part[i] for part in reversed(parts)])[order] for i in (1, 2)]
        self._runs.append((keys[order], columns[0], columns[1]))

    def origin(self, units: Keys) -> tuple[Keys, Keys]:
        """(n,) the parent of each unit, and the time of its own birth; 0 where they are not known."""
        parent, born = np.zeros(len(units), np.uint64), np.zeros(len(units), np.uint64)
        for keys, parents, births in self._runs:  # what was told later holds
            at = np.minimum(np.searchsorted(keys, units, "right"), len(keys)) - 1
            hit = (at >= 0) & (keys[at] == units) & (units != 0)
            parent[hit], born[hit] = parents[at[hit]], births[at[hit]]
        return parent, born
