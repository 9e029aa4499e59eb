"""The service graph of a window: from the sums of spans, and from the service-graph metrics of agents.

Spans may be sampled; the metrics (`traces_service_graph_request_*`, as Tempo makes them) count every exchange. Where
they count more calls of an edge than the spans do, the edge's numbers are the metrics'. A node's numbers are those of
what it serves: of its server spans, or of the edges to it where these add up to more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.viewer.api.counters import Growth, growths
from otel_ebpf.viewer.api.quantiles import BUCKETS, histogram, of_bounds
from otel_ebpf.viewer.api.values import Row, text, whole, whole_numbers
from otel_ebpf.viewer.api.window import Window
from otel_ebpf.viewer.contract import Reader

_REQUEST = "traces_service_graph_request_"
TOTAL, FAILED = f"{_REQUEST}total", f"{_REQUEST}failed_total"
CLIENT_SECONDS, SERVER_SECONDS = f"{_REQUEST}client_seconds", f"{_REQUEST}server_seconds"
_RANK = {"service": 3, "database": 2, "messaging": 1, "external": 0}
"""What a node is if edges disagree: the most definite."""
_EDGES = 20_000

_BY_EDGE = f"""
WITH summed AS (
    SELECT client, server, connection_type, client_kind, server_kind, system, bucket, server_bucket,
        sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed
    FROM edges WHERE time >= ? AND time < ? GROUP BY ALL
)
SELECT client, server,
    arg_max(connection_type, calls) AS connection_type, arg_max(client_kind, calls) AS client_kind,
    arg_max(server_kind, calls) AS server_kind, arg_max(system, calls) AS system,
    sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed,
    list(bucket::INTEGER) AS buckets, list(server_bucket::INTEGER) AS server_buckets, list(calls) AS weights
FROM summed GROUP BY client, server ORDER BY calls DESC LIMIT {_EDGES}
"""
_BY_SERVICE = """
WITH summed AS (
    SELECT service, kind IN (2, 5) AS served, system, bucket, sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed
    FROM operations WHERE time >= ? AND time < ? GROUP BY ALL
)
SELECT service,
    coalesce(arg_max(system, calls) FILTER (served), '') AS system,
    coalesce(sum(calls) FILTER (served), 0)::BIGINT AS calls,
    coalesce(sum(failed) FILTER (served), 0)::BIGINT AS failed,
    list(bucket::INTEGER) FILTER (served) AS buckets, list(calls) FILTER (served) AS weights
FROM summed GROUP BY service
"""


def _empty() -> NDArray[np.float64]:
    return np.zeros(BUCKETS)


@dataclass(slots=True)
class Edge:
    """Who calls whom. took, server_took: (BUCKETS,) durations at the client's, and at the server's end."""

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
    """Who is called or calls. took: (BUCKETS,) durations of what it serves."""

    name: str
    kind: str
    system: str = ""
    calls: int = 0
    failed: int = 0
    took: NDArray[np.float64] = field(default_factory=_empty)


@dataclass(slots=True)
class Graph:
    """Nodes by name, edges by (client, server)."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)


def graph(reader: Reader, window: Window) -> Graph:
    """The graph of a window."""
    found = Graph(_services(reader, window), _span_edges(reader, window))
    _count_all(found, reader, window)
    incoming: dict[str, list[Edge]] = {}
    for edge in found.edges.values():
        for name, kind in ((edge.client, edge.client_kind), (edge.server, edge.server_kind)):
            node = found.nodes.setdefault(name, Node(name, kind))
            if _RANK.get(kind, 0) > _RANK.get(node.kind, 0):
                node.kind = kind
        incoming.setdefault(edge.server, []).append(edge)
    for name, edges in incoming.items():
        _serve(found.nodes[name], edges)
    return found


def _serve(node: Node, edges: list[Edge]) -> None:
    """A node's numbers from the edges to it, if they know of more calls than its own spans."""
    node.system = node.system or max(edges, key=lambda edge: edge.calls).system
    calls = sum(edge.calls for edge in edges)
    if calls > node.calls:
        node.calls, node.failed = calls, sum(edge.failed for edge in edges)
        node.took = np.sum([edge.server_took for edge in edges], axis=0)


def _took(row: Row, buckets: str) -> NDArray[np.float64]:
    return histogram(whole_numbers(row[buckets]), whole_numbers(row["weights"]))


def _services(reader: Reader, window: Window) -> dict[str, Node]:
    return {
        name: Node(
            name,
            "service",
            text(row["system"]),
            whole(row["calls"]),
            whole(row["failed"]),
            _took(row, "buckets"),
        )
        for row in reader.rows(_BY_SERVICE, window.sums)
        for name in (text(row["service"]),)
    }


def _span_edges(reader: Reader, window: Window) -> dict[tuple[str, str], Edge]:
    found = {}
    for row in reader.rows(_BY_EDGE, window.sums):
        edge = Edge(
            text(row["client"]),
            text(row["server"]),
            text(row["connection_type"]),
            text(row["client_kind"]),
            text(row["server_kind"]),
            text(row["system"]),
            whole(row["calls"]),
            whole(row["failed"]),
            _took(row, "buckets"),
            _took(row, "server_buckets"),
        )
        found[edge.client, edge.server] = edge
    return found


def _count_all(found: Graph, reader: Reader, window: Window) -> None:
    """Take the metrics' numbers for edges that they count more calls of."""
    for key, counted in metric_edges(reader, window, found.nodes).items():
        known = found.edges.get(key)
        if known is not None and known.calls >= counted.calls:
            continue
        if known is not None:
            counted.connection_type, counted.system = known.connection_type, known.system or counted.system
            counted.client_kind, counted.server_kind = known.client_kind, known.server_kind
            counted.took = counted.took if counted.took.any() else known.took
            counted.server_took = counted.server_took if counted.server_took.any() else known.server_took
        if len(found.edges) < _EDGES or known is not None:
            found.edges[key] = counted


def metric_edges(reader: Reader, window: Window, services: dict[str, Node]) -> dict[tuple[str, str], Edge]:
    """The edges that the metrics count. services: the names that are known to be services."""
    found: dict[tuple[str, str], Edge] = {}
    for growth in growths(reader, [TOTAL, FAILED, CLIENT_SECONDS, SERVER_SECONDS], window):
        client, server = (str(growth.attributes.get(end, "")) for end in ("client", "server"))
        if not client or not server or (growth.value <= 0 and not any(growth.counts)):
            continue
        edge = found.get((client, server))
        if edge is None:
            edge = found[client, server] = _named(client, server, growth, services)
        _add(edge, growth)
    for edge in found.values():
        # Of an edge without server (or client) in sight there is one of the two histograms only.
        if not edge.server_took.any():
            edge.server_took = edge.took
        if not edge.took.any():
            edge.took = edge.server_took
    return {key: edge for key, edge in found.items() if edge.calls}


def _add(edge: Edge, growth: Growth) -> None:
    if growth.name == TOTAL:
        edge.calls += round(growth.value)
    elif growth.name == FAILED:
        edge.failed += round(growth.value)
    elif growth.name == CLIENT_SECONDS:
        edge.took += of_bounds(growth.bounds, growth.counts)
    else:
        edge.server_took += of_bounds(growth.bounds, growth.counts)


def _named(client: str, server: str, growth: Growth, services: dict[str, Node]) -> Edge:
    """What the metric's attributes say of both ends; where they say nothing, a virtual end is one that has no spans."""
    said = {name: str(growth.attributes.get(name, "")) for name in ("connection_type", "client_kind", "server_kind")}
    connection_type = said["connection_type"]
    virtual = connection_type == "virtual_node"
    by_type = {"database": "database", "messaging_system": "messaging", "virtual_node": "external"}
    server_kind = "service" if server in services else by_type.get(connection_type, "service")
    client_kind = "service" if client in services or not virtual or server_kind == "external" else "external"
    return Edge(
        client,
        server,
        connection_type,
        said["client_kind"] if said["client_kind"] in _RANK else client_kind,
        said["server_kind"] if said["server_kind"] in _RANK else server_kind,
        str(growth.attributes.get("system", "")),
    )
