"""The service graph of a window: from the sums of spans, and from the service-graph metrics of agents.

Spans may be sampled; the metrics (`traces_service_graph_request_*`, as Tempo makes them) count every exchange. Where
they count more calls of an edge than the spans do, the edge's numbers are the metrics'. A node's numbers are those of
what it serves: of its server spans, or of the edges to it where these add up to more. What nobody calls has those of
its internal roots.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.viewer.api.graph_metrics import metric_edges
from otel_ebpf.viewer.api.graph_model import EDGES, Edge, Graph, Node
from otel_ebpf.viewer.api.quantiles import summed
from otel_ebpf.viewer.api.roots import count_roots
from otel_ebpf.viewer.api.values import Row, reals, text, whole, whole_numbers
from otel_ebpf.viewer.api.window import Window
from otel_ebpf.viewer.contract import Reader

MORE = 1.1
"""Metrics and spans are cut differently at the edges of the window: so much more must metrics count to be believed."""
SERVICES = 2000
"""Of one answer; those with the most spans."""
_BY_EDGE = f"""
WITH summed AS (
    SELECT client, server, connection_type, client_kind, server_kind, system, bucket, server_bucket,
        sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed,
        sum(sum)::DOUBLE AS took, sum(server_sum)::DOUBLE AS server_took
    FROM edges WHERE time >= ? AND time < ? GROUP BY ALL
)
SELECT client, server,
    arg_max(connection_type, calls) AS connection_type, arg_max(client_kind, calls) AS client_kind,
    arg_max(server_kind, calls) AS server_kind, arg_max(system, calls) AS system,
    sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed,
    list(bucket::INTEGER) AS buckets, list(server_bucket::INTEGER) AS server_buckets, list(calls) AS weights,
    list(took) AS sums, list(server_took) AS server_sums
FROM summed GROUP BY client, server ORDER BY calls DESC, client, server LIMIT {EDGES}
"""
_BY_SERVICE = f"""
WITH summed AS (
    SELECT service, kind IN (2, 5) AS served, kind < 2 AS internal, system, bucket,
        sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed, sum(sum)::DOUBLE AS took
    FROM operations WHERE time >= ? AND time < ? GROUP BY ALL
)
SELECT service,
    coalesce(arg_max(system, calls) FILTER (served), '') AS system,
    coalesce(sum(calls) FILTER (served), 0)::BIGINT AS calls,
    coalesce(sum(failed) FILTER (served), 0)::BIGINT AS failed,
    list(bucket::INTEGER) FILTER (served) AS buckets, list(calls) FILTER (served) AS weights,
    list(took) FILTER (served) AS sums, bool_or(internal) AS internal
FROM summed GROUP BY service ORDER BY sum(summed.calls) DESC LIMIT {SERVICES}
"""


def graph(reader: Reader, window: Window) -> Graph:
    """The graph of a window."""
    found = graph_of_spans(reader, window)
    _count_all(found, reader, window)
    incoming: dict[str, list[Edge]] = {}
    for edge in found.edges.values():
        for name, kind in ((edge.client, edge.client_kind), (edge.server, edge.server_kind)):
            node = found.nodes.setdefault(name, Node(name, kind))
            if node.kind == "external":
                node.kind = kind
        incoming.setdefault(edge.server, []).append(edge)
    for name, edges in incoming.items():
        _serve(found.nodes[name], edges)
    idle = [node for node in found.nodes.values() if node.internal and not node.calls and node.kind == "service"]
    count_roots(reader, window, idle)
    # The same question has the same answer: what is equally much stands by name.
    found.nodes = dict(sorted(found.nodes.items(), key=lambda item: (-item[1].calls, item[0])))
    found.edges = dict(sorted(found.edges.items(), key=lambda item: (-item[1].calls, item[0])))
    return found


def graph_of_spans(reader: Reader, window: Window) -> Graph:
    """What spans alone tell: services, and edges between whatever."""
    return Graph(_services(reader, window), _span_edges(reader, window))


def _serve(node: Node, edges: list[Edge]) -> None:
    """What the node is for most of its callers; its numbers from their edges, if they know of more calls."""
    by_kind: dict[str, int] = {}
    for edge in edges:
        by_kind[edge.server_kind] = by_kind.get(edge.server_kind, 0) + edge.calls
    kind = max(by_kind, key=by_kind.__getitem__)
    if kind != "external":
        node.kind = kind
    node.system = node.system or max(edges, key=lambda edge: edge.calls).system
    calls = sum(edge.calls for edge in edges)
    if calls > node.calls:
        node.calls, node.failed = calls, sum(edge.failed for edge in edges)
        node.took = np.sum([edge.server_took for edge in edges], axis=0)


def _took(row: Row, buckets: str, sums: str) -> NDArray[np.float64]:
    return summed(whole_numbers(row[buckets]), whole_numbers(row["weights"]), reals(row[sums]))


def _services(reader: Reader, window: Window) -> dict[str, Node]:
    return {
        name: Node(
            name,
            "service",
            text(row["system"]),
            whole(row["calls"]),
            whole(row["failed"]),
            _took(row, "buckets", "sums"),
            internal=bool(row["internal"]),
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
            _took(row, "buckets", "sums"),
            _took(row, "server_buckets", "server_sums"),
        )
        found[edge.client, edge.server] = edge
    return found


def _count_all(found: Graph, reader: Reader, window: Window) -> None:
    """Take the metrics' numbers for edges that they count more calls of."""
    for key, counted in metric_edges(reader, window, found).items():
        known = found.edges.get(key)
        if known is None:
            if len(found.edges) < EDGES:
                found.edges[key] = counted
        elif known.calls * MORE < counted.calls:
            known.calls, known.failed = counted.calls, counted.failed
            known.took = counted.took if counted.took.any() else known.took
            known.server_took = counted.server_took if counted.server_took.any() else known.server_took
