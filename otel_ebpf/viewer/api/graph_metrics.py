"""Edges as agents count them in their service-graph metrics, under the names that they have in this store.

A metric knows one sender's view: it calls an end that it did not see by its address, where here the spans of both ends
may have been joined. So names are brought to the form of `decode.peers`, and an edge to an end without spans is left
out where the spans show that this address has been joined to something else.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from otel_ebpf.viewer.api.counters import Growth, growths
from otel_ebpf.viewer.api.graph_model import Edge, Graph
from otel_ebpf.viewer.api.quantiles import of_bounds
from otel_ebpf.viewer.api.values import text
from otel_ebpf.viewer.api.window import Window
from otel_ebpf.viewer.contract import Reader
from otel_ebpf.viewer.decode.peers import INTERNET, UNKNOWN

_REQUEST = "traces_service_graph_request_"
TOTAL, FAILED = f"{_REQUEST}total", f"{_REQUEST}failed_total"
CLIENT_SECONDS, SERVER_SECONDS = f"{_REQUEST}client_seconds", f"{_REQUEST}server_seconds"
_SYSTEMS = ("client_db.system.name", "server_db.system.name", "client_db.system", "server_db.system")
_LOOKED_AT = 20_000
_HOSTS = f"""
SELECT DISTINCT service, CASE WHEN kind IN (3, 4)
    THEN coalesce(json_extract_string(attributes, '/server.address'), '')
    ELSE coalesce(json_extract_string(attributes, '/client.address'), '') END AS host
FROM (
    SELECT service, kind, attributes FROM spans
    WHERE start >= ? AND start < ? AND kind BETWEEN 2 AND 5 AND list_contains(?, service) LIMIT {_LOOKED_AT}
)
"""


def metric_edges(reader: Reader, window: Window, spans: Graph) -> dict[tuple[str, str], Edge]:
    """The edges that the metrics count. spans: what is known by spans."""
    found: dict[tuple[str, str], Edge] = {}
    for growth in growths(reader, [TOTAL, FAILED, CLIENT_SECONDS, SERVER_SECONDS], window):
        client, server = (str(growth.attributes.get(end, "")) for end in ("client", "server"))
        if not client or not server or (growth.value <= 0 and not any(growth.counts)):
            continue
        client, server = _client(client, spans), _server(client, server, spans)
        edge = found.get((client, server))
        if edge is None:
            edge = found[client, server] = _named(client, server, growth, spans)
        _add(edge, growth)
    for edge in found.values():
        # Of an edge without server (or client) in sight there is one of the two histograms only.
        if not edge.server_took.any():
            edge.server_took = edge.took
        if not edge.took.any():
            edge.took = edge.server_took
    counted = {key: edge for key, edge in found.items() if edge.calls}
    for key in _joined(reader, window, spans, counted):
        del counted[key]
    return counted


def is_edge(said: dict[str, object], spans: Graph, client: str | None, server: str | None) -> bool:
    """Whether a series with these attributes counts an edge from `client` to `server` (None: any)."""
    at_client, at_server = (str(said.get(end, "")) for end in ("client", "server"))
    if not at_client or not at_server:
        return False
    named = _client(at_client, spans)
    return client in (None, named) and server in (None, _server(named, at_server, spans))


def _client(name: str, spans: Graph) -> str:
    if name in spans.nodes:
        return name
    if name == "user":
        return UNKNOWN
    return INTERNET if _is_address(name) and ip_address(name).is_global else name


def _server(client: str, name: str, spans: Graph) -> str:
    """Without the port of a host that has a name; with that of an address, as the spans know it."""
    if name in spans.nodes or (client, name) in spans.edges:
        return name
    if _is_address(name):
        written = f"[{name}]" if ":" in name else name
        return next((at for at in (f"{written}:80", f"{written}:443") if (client, at) in spans.edges), name)
    host, colon, port = name.rpartition(":")
    return host if colon and port.isdecimal() and host and not _is_address(host.strip("[]")) else name


def _host(name: str) -> str:
    """Without its port.

    >>> _host("[::1]:80"), _host("::1"), _host("10.0.0.1:80")
    ('::1', '::1', '10.0.0.1')
    """
    return name if _is_address(name) else re.sub(r":[0-9]+$", "", name).strip("[]")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _named(client: str, server: str, growth: Growth, spans: Graph) -> Edge:
    """What the metric's attributes say of both ends; a virtual end is one that has no spans."""
    connection_type = str(growth.attributes.get("connection_type", ""))
    by_type = {"database": "database", "messaging_system": "messaging", "virtual_node": "external"}
    outside = connection_type == "virtual_node" and not _is_service(client, spans) and _is_outside(client)
    client_is = "external" if outside else "service"
    system = next((str(growth.attributes[name]) for name in _SYSTEMS if growth.attributes.get(name)), "")
    seen = "database" if system else "service"
    server_is = seen if outside or _is_service(server, spans) else by_type.get(connection_type, seen)
    return Edge(client, server, connection_type, client_is, server_is, system)


def _is_outside(name: str) -> bool:
    """Of a client: one that was not seen has no name but its address. The metric does not say which end is virtual."""
    return name in (UNKNOWN, INTERNET) or _is_address(_host(name))


def _is_service(name: str, spans: Graph) -> bool:
    return name in spans.nodes and spans.nodes[name].kind == "service"


def _add(edge: Edge, growth: Growth) -> None:
    if growth.name == TOTAL:
        edge.calls += round(growth.value)
    elif growth.name == FAILED:
        edge.failed += round(growth.value)
    elif growth.name == CLIENT_SECONDS:
        edge.took[0] += of_bounds(growth.bounds, growth.counts)
    else:
        edge.server_took[0] += of_bounds(growth.bounds, growth.counts)


def _joined(
    reader: Reader, window: Window, spans: Graph, counted: dict[tuple[str, str], Edge]
) -> list[tuple[str, str]]:
    """Edges with an end that was not seen, although spans with just this address are there: they are part of others."""
    doubtful = {}
    for key, edge in counted.items():
        if not edge.connection_type or key in spans.edges:
            continue
        seen, unseen = (edge.client, edge.server) if _is_service(edge.client, spans) else (edge.server, edge.client)
        if _is_service(seen, spans) and not _is_service(unseen, spans):
            doubtful[key] = seen, _host(unseen)
    if not doubtful:
        return []
    services = sorted({seen for seen, _ in doubtful.values()})
    rows = reader.rows(_HOSTS, [window.start, window.end, services])
    there = {(text(row["service"]), text(row["host"])) for row in rows}
    public = {service for service, host in there if _is_address(host) and ip_address(host).is_global}
    return [
        key
        for key, (seen, host) in doubtful.items()
        if (seen, host) in there or (host == INTERNET and seen in public) or host == UNKNOWN
    ]
