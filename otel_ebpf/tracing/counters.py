"""What tracing did, for the agent's own telemetry."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link


@dataclass(slots=True)
class Counters:
    """All but `held` only ever grow."""

    held: int = 0
    """rows that wait now"""
    joined: int = 0
    """exchanges of which both ends were found"""
    unjoined_heads: int = 0
    """client ends without payload whose server end never came: released with shape -1"""
    timed_out: int = 0
    """rows decided because what they waited for did not come in time"""
    conflicts: int = 0
    """calls for which two rungs named different requests"""
    no_time: int = 0
    """calls that the statistical rung had no time for"""
    overflow: int = 0
    """rows released before their time, because too many waited"""
    amended: int = 0
    """rows replaced by their amendment"""
    amended_late: int = 0
    """amendments dropped, since the row had been released"""
    cycles: int = 0
    """rings of rows that were their own ancestors, cut"""
    by_link: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    @property
    def released(self) -> dict[str, int]:
        """Rows released by `Link.label`."""
        return {link.label: int(self.by_link[link]) for link in Link if link is not Link.PENDING}
