"""What a service graph is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.viewer.api.quantiles import BUCKETS

EDGES = 5000
"""Of one graph."""


def _empty() -> NDArray[np.float64]:
    return np.zeros((2, BUCKETS))


@dataclass(slots=True)
class Edge:
    """Who calls whom. took, server_took: (2, BUCKETS) durations (`quantiles.summed`) of client and server."""

    client: str
    server: str
    connection_type: str = ""
    client_kind: str = "service"
    server_kind: str = "service"
    system: str = ""
    calls: int = 0
    failed: int = 0
    took: NDArray[np.float64] = field(default_factory=_empty)
    server_took: NDArray[np.float64] = field(default_factory=_empty)


@dataclass(slots=True)
class Node:
    """Who is called or calls. took: (2, BUCKETS) durations of what it serves.

    internal: whether it has spans of what goes on in it. by_itself: its numbers are those of its root spans.
    """

    name: str
    kind: str
    system: str = ""
    calls: int = 0
    failed: int = 0
    took: NDArray[np.float64] = field(default_factory=_empty)
    internal: bool = False
    by_itself: bool = False


@dataclass(slots=True)
class Graph:
    """Nodes by name, edges by (client, server)."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)
