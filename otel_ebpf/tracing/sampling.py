"""Sampling of whole traces, after their spans are known and before attributes are built.

The decisions are those of the samplers of the same names in the OpenTelemetry SDKs (OTEL_TRACES_SAMPLER): what an SDK
keeps of a trace and what this agent keeps of it are the same. A decision depends on nothing but the trace's id and on
how the trace came to this host, so it is the same for rows of one trace that are released at different times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.errors import ConfigError
from otel_ebpf.model import Spans
from otel_ebpf.tracing.bits import NO_LINK

NAMES = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
_PARENT_BASED = "parentbased_"
_SAMPLED = np.uint8(1)
_ALL = 2**64 - 1


class Sampler:
    """One of `NAMES`; `ratio` (0 … 1) is asked by those that end in traceidratio.

    >>> Sampler("traceidratio", 0.1).sample(Spans.empty())
    array([], dtype=bool)
    """

    def __init__(self, name: str = "parentbased_always_on", ratio: float = 1.0) -> None:
        if name not in NAMES:
            raise ConfigError(f"traces.sampler: {name!r} is not one of {', '.join(NAMES)}")
        if not 0.0 <= ratio <= 1.0:
            raise ConfigError(f"traces.sampler_arg: {ratio!r} is not a ratio between 0 and 1")
        self.name = name
        self._parent_based = name.startswith(_PARENT_BASED)
        own = name.removeprefix(_PARENT_BASED)
        share = {"always_on": 1.0, "always_off": 0.0}.get(own, ratio)
        # As the SDKs do: keep the trace if the low 64 bits of its id are below ratio · 2^64. That is one more than fits
        # for ratio 1, so the bound is the last id that is kept, and there is none for ratio 0.
        self._last = round(share * 2**64) - 1

    def sample(self, spans: Spans) -> NDArray[np.bool_]:
        """(n,) whether the row's trace is kept, for rows that came out of `Assembler`."""
        if self._last < 0:
            kept = np.zeros(len(spans), np.bool_)
        elif self._last == _ALL:
            kept = np.ones(len(spans), np.bool_)
        else:
            low = np.ascontiguousarray(spans.trace[:, 1]).view(">u8")
            kept = low <= np.uint64(self._last)
        if not self._parent_based:
            return kept
        begun_elsewhere = (spans.remote_link != NO_LINK).nonzero()[0]
        if len(begun_elsewhere):
            kept[begun_elsewhere] = (spans.remote_flags[begun_elsewhere] & _SAMPLED) != 0
        return kept
