"""The map, the list of services, and one service."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.viewer.api.answers import KINDS, MapEdge, MapNode, Operation, Red, Service, ServiceDetail, ServiceMap
from otel_ebpf.viewer.api.answers import Services as ServicesAnswer
from otel_ebpf.viewer.api.ask import Ask, NotFound
from otel_ebpf.viewer.api.gaps import gaps
from otel_ebpf.viewer.api.graph import graph
from otel_ebpf.viewer.api.graph_model import Edge, Graph, Node
from otel_ebpf.viewer.api.guesses import by_port
from otel_ebpf.viewer.api.quantiles import BUCKETS, quantile, summed
from otel_ebpf.viewer.api.resources import by_service, group_of, groupings
from otel_ebpf.viewer.api.roots import ROOTS
from otel_ebpf.viewer.api.values import ms, reals, text, whole, whole_numbers
from otel_ebpf.viewer.api.window import Steps, Window
from otel_ebpf.viewer.contract import Reader

_SPARK = 30
_OPERATIONS = 200
_SPARKS = """
SELECT {name} AS name, (time - $3) // $4 AS step, sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed
FROM {table} WHERE time >= $1 AND time < $2 AND {which} GROUP BY ALL
"""
_BY_OPERATION = """
WITH summed AS (
    SELECT name, kind, system, bucket, sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed,
        sum(sum)::DOUBLE AS took
    FROM {table} WHERE time >= $1 AND time < $2 AND {which} GROUP BY ALL
)
SELECT name, kind::INTEGER AS kind, system, sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed,
    list(bucket::INTEGER) AS buckets, list(calls) AS weights, list(took) AS sums
FROM summed GROUP BY name, kind, system ORDER BY calls DESC, name, kind, system LIMIT $3
"""


def reds(found: list[tuple[int, int]], took: list[NDArray[np.float64]], seconds: float) -> list[Red]:
    """RED of several things. found: calls and failed of each; took: (2, BUCKETS) durations of each."""
    stacked = np.array(took).reshape(len(took), 2, BUCKETS)
    middle, high = (quantile(stacked[:, 0], share, stacked[:, 1]) for share in (0.5, 0.99))
    return [
        Red(calls=calls, failed=failed, rate=round(calls / seconds, 6), p50=p50, p99=p99)
        for (calls, failed), p50, p99 in zip(found, middle, high, strict=True)
    ]


def _edges(edges: list[Edge], seconds: float) -> list[MapEdge]:
    numbers = reds([(edge.calls, edge.failed) for edge in edges], [edge.took for edge in edges], seconds)
    return [
        MapEdge(**red, client=edge.client, server=edge.server, connection_type=edge.connection_type, system=edge.system)
        for edge, red in zip(edges, numbers, strict=True)
    ]


def _node_reds(nodes: list[Node], seconds: float) -> list[Red]:
    return reds([(node.calls, node.failed) for node in nodes], [node.took for node in nodes], seconds)


def service_map(ask: Ask) -> ServiceMap:
    """GET /map"""
    window, group_by = ask.window, ask.given.text("group_by")
    found = graph(ask.reader, window)
    seconds = window.seconds(ask.reader)
    nodes = list(found.nodes.values())
    resources = by_service(ask.reader, [node.name for node in nodes if node.kind == "service"])
    return ServiceMap(
        start=ms(window.start),
        end=ms(window.end),
        nodes=[
            MapNode(
                **red,
                id=node.name,
                name=node.name,
                kind=cast(Literal["service"], node.kind),
                system=node.system or guess,
                group=group_of(resources.get(node.name, []), group_by) if group_by else None,
                guessed=bool(guess),
            )
            for node, red in zip(nodes, _node_reds(nodes, seconds), strict=True)
            for guess in (by_port(node.name) if node.kind == "external" and not node.system else "",)
        ],
        edges=_edges(list(found.edges.values()), seconds),
        gaps=gaps(ask.reader, window),
        groupings=groupings(resources),
    )


def services(ask: Ask) -> ServicesAnswer:
    """GET /services"""
    window = ask.window
    found = graph(ask.reader, window)
    return ServicesAnswer(
        start=ms(window.start),
        end=ms(window.end),
        services=_described(ask.reader, window, [node for node in found.nodes.values() if node.kind != "external"]),
        gaps=gaps(ask.reader, window),
    )


def service(ask: Ask) -> ServiceDetail:
    """GET /services/NAME"""
    window, name = ask.window, ask.given.text("name") or ""
    found = graph(ask.reader, window)
    node = found.nodes.get(name)
    if node is None:
        if not ask.reader.rows("SELECT 1 FROM resources WHERE service = ? LIMIT 1", [name]):
            raise NotFound(f"service {name!r}: nothing was seen of it")
        node = Node(name, "service")
    seconds = window.seconds(ask.reader)
    return ServiceDetail(
        start=ms(window.start),
        end=ms(window.end),
        service=_described(ask.reader, window, [node])[0],
        serves=_serves(ask.reader, window, node, found, seconds),
        calls=_operations(ask.reader, window, "service = $4 AND kind IN (3, 4)", [name], seconds),
        callers=_edges([edge for edge in found.edges.values() if edge.server == name], seconds),
        callees=_edges([edge for edge in found.edges.values() if edge.client == name], seconds),
        gaps=gaps(ask.reader, window),
    )


def _serves(reader: Reader, window: Window, node: Node, found: Graph, seconds: float) -> list[Operation]:
    if node.by_itself:
        return _operations(reader, window, "service = $4", [node.name], seconds, ROOTS)
    served = _operations(reader, window, "service = $4 AND kind IN (2, 5)", [node.name], seconds)
    if served or node.kind == "service":
        return served
    # A database without spans of its own: what its callers ask of a system of its kind.
    callers = [edge.client for edge in found.edges.values() if edge.server == node.name]
    which = "list_contains($4, service) AND kind IN (3, 4) AND system = $5"
    return _operations(reader, window, which, [callers, node.system], seconds)


def _operations(
    reader: Reader, window: Window, which: str, parameters: list[object], seconds: float, table: str = "operations"
) -> list[Operation]:
    rows = reader.rows(_BY_OPERATION.format(table=table, which=which), [*window.sums, _OPERATIONS, *parameters])
    took = [summed(whole_numbers(row["buckets"]), whole_numbers(row["weights"]), reals(row["sums"])) for row in rows]
    numbers = reds([(whole(row["calls"]), whole(row["failed"])) for row in rows], took, seconds)
    return [
        Operation(**red, name=text(row["name"]), kind=KINDS[min(whole(row["kind"]), 5)], system=text(row["system"]))
        for row, red in zip(rows, numbers, strict=True)
    ]


def _described(reader: Reader, window: Window, nodes: list[Node]) -> list[Service]:
    steps = window.steps(_SPARK)
    sparks = _sparks(reader, window, steps, nodes)
    resources = by_service(reader, [node.name for node in nodes if node.kind == "service"])
    nothing = np.zeros((2, steps.count), np.int64)
    return [
        Service(
            **red,
            name=node.name,
            kind=cast(Literal["service"], node.kind),
            system=node.system,
            spark=sparks.get(node.name, nothing)[0].tolist(),
            spark_failed=sparks.get(node.name, nothing)[1].tolist(),
            resources=resources.get(node.name, []),
        )
        for node, red in zip(nodes, _node_reds(nodes, window.seconds(reader)), strict=True)
    ]


def _sparks(reader: Reader, window: Window, steps: Steps, nodes: list[Node]) -> dict[str, NDArray[np.int64]]:
    """(2, steps) calls and failed calls that each node served."""
    own = [node.name for node in nodes if node.kind == "service" and not node.by_itself]
    working = [node.name for node in nodes if node.by_itself]
    others = [node.name for node in nodes if node.kind != "service"]
    found: dict[str, NDArray[np.int64]] = {}
    served = _SPARKS.format(name="service", table="operations", which="kind IN (2, 5) AND list_contains($5, service)")
    asked = _SPARKS.format(name="server", table="edges", which="list_contains($5, server)")
    worked = _SPARKS.format(name="service", table=ROOTS, which="list_contains($5, service)")
    for sql, names in ((served, own), (worked, working), (asked, others)):
        if not names:
            continue
        for row in reader.rows(sql, [*window.sums, steps.start, steps.step, names]):
            spark = found.setdefault(text(row["name"]), np.zeros((2, steps.count), np.int64))
            step = min(max(whole(row["step"]), 0), steps.count - 1)
            spark[:, step] += whole(row["calls"]), whole(row["failed"])
    return found
