"""Span ids that follow from others, and trace ids.

The kernel gives every record a random span id. A record that turns out to be several exchanges (16 Redis commands in
one write) needs as many ids, and the two ends of the connection must be able to make theirs without asking each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014)."""
    z: NDArray[np.uint64] = state + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z ^= z >> np.uint64(31)
    return z


def derive(span_id: NDArray[np.uint64], k: NDArray[np.integer]) -> NDArray[np.uint64]:
    """(n,) id of the k-th exchange of the record with `span_id`; never 0. The 0-th keeps the record's own id.

    >>> derive(np.array([7, 7, 7], np.uint64), np.arange(3))  # doctest: +NORMALIZE_WHITESPACE
    array([                  7, 8581286081765471666, 1988111358474182198],
          dtype=uint64)
    """
    ordinal = k.astype(np.uint64)
    mixed = splitmix64(span_id ^ splitmix64(ordinal))
    return np.where(ordinal == 0, span_id, np.where(mixed == 0, _GOLDEN, mixed))


def traces_of(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(n, 2) the trace ids of requests that came from other hosts and bear no context, from the exchanges' keys.

    Who has the other end knows the key, and so the trace, without being told (otel_ebpf/gateway).
    """
    mixed = np.stack([splitmix64(keys ^ _GOLDEN), splitmix64(keys ^ _MIX_1)], axis=1)
    ids: NDArray[np.uint64] = np.maximum(mixed, np.uint64(1))
    return ids


def trace_ids(random: Callable[[int], bytes], n: int) -> NDArray[np.uint64]:
    """(n, 2) random trace ids, none of them zero (W3C Trace Context §3.2.2.3: all bytes zero is invalid).

    random: gives so many bytes, as os.urandom does (numpy.random would take 1.3 MB of memory).
    """
    drawn = np.frombuffer(random(16 * n), "<u8").reshape(n, 2)
    ids: NDArray[np.uint64] = np.maximum(drawn, np.uint64(1))
    return ids
