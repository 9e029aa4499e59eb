"""Who calls whom: the service graph, in the names that Tempo and the Collector's servicegraph connector use."""

from __future__ import annotations

from scripts.dashboards.board import Row, dashboard, dashboard_link, variable
from scripts.dashboards.parts import Column, line, node_graph, series, table
from scripts.dashboards.promql import RANGE, WINDOW, mean, quantile, quantile_of, rate, selector, share, total

TOTAL = "traces_service_graph_request_total"
FAILED = "traces_service_graph_request_failed_total"
CLIENT = "traces_service_graph_request_client_seconds"
SERVER = "traces_service_graph_request_server_seconds"
CHOSEN = ('client=~"$client"', 'server=~"$server"')
EDGE = "client, server, connection_type"
LEGEND = "{{client}} → {{server}}"


def _failed(window: str) -> str:
    return share(rate(FAILED, *CHOSEN, by=EDGE, window=window), rate(TOTAL, *CHOSEN, by=EDGE, window=window))


def _named(metric: str, more: str = "", **fields: str) -> str:
    """The rate over the dashboard's range by the fields of a frame, each made of other labels ("client server")."""
    series = f"rate({metric}{selector(*CHOSEN)}[{RANGE}])"
    for name, labels in fields.items():
        sources = ", ".join(f'"{label}"' for label in labels.split())
        series = f'label_join({series}, "{name}", " ", {sources})'
    return total(series, ", ".join((*more.split(), *fields)))


def _nodes() -> dict[str, object]:
    """What a node answers. Who only asks is a node, too: one that answers nothing."""
    asked = _named(TOTAL, id="server", title="server")
    asking = _named(TOTAL, id="client", title="client")
    failures = f"({share(_named(FAILED, id='server', title='server'), asked)} or 0 * {asked} or 0 * {asking})"
    durations = _named(f"{SERVER}_bucket", "le", id="server", title="server")
    return {
        "mainstat": f"{asked} or 0 * {asking}",
        "secondarystat": quantile_of(0.95, durations),
        "arc__ok": f"1 - {failures}",
        "arc__failed": failures,
    }


def _edges() -> dict[str, object]:
    frame = {"id": EDGE.replace(",", ""), "source": "client", "target": "server", "detail__type": "connection_type"}
    requests = _named(TOTAL, **frame)
    return {
        "mainstat": requests,
        "secondarystat": quantile_of(0.95, _named(f"{CLIENT}_bucket", "le", **frame)),
        "detail__failed": share(_named(FAILED, **frame), requests),
    }


_MAP = Row(
    "Map",
    [
        node_graph(
            "Service graph",
            _nodes(),
            _edges(),
            description="In a circle: requests a second that the service answers, and what 95 % of them took; its red "
            "part is what failed. On an edge: the same, as the caller sees it.",
        )
    ],
)
_EDGES = Row(
    "Edges",
    [
        table(
            "Edges",
            {"client": "Client", "server": "Server", "connection_type": "Type"},
            Column("Requests", rate(TOTAL, *CHOSEN, by=EDGE, window=RANGE), "reqps", bar=True),
            Column("Failed", _failed(RANGE), "percentunit"),
            Column("Client p50", quantile(0.5, CLIENT, *CHOSEN, by=EDGE, window=RANGE), "s"),
            Column("Client p95", quantile(0.95, CLIENT, *CHOSEN, by=EDGE, window=RANGE), "s"),
            Column("Server p95", quantile(0.95, SERVER, *CHOSEN, by=EDGE, window=RANGE), "s"),
            Column(
                "Between them",
                f"{mean(CLIENT, *CHOSEN, by=EDGE, window=RANGE)} - {mean(SERVER, *CHOSEN, by=EDGE, window=RANGE)}",
                "s",
            ),
            description="Between them: the mean time of a request that the server did not see, the network and queues.",
            links=[dashboard_link("Requests that it sends", "otel-ebpf-red", "service")],
        ),
        series("Requests", "reqps", line(f"topk(10, {rate(TOTAL, *CHOSEN, by=EDGE)})", LEGEND)),
        series("Failed", "percentunit", line(f"topk(10, {_failed(WINDOW)})", LEGEND)),
        series("p95 at the client", "s", line(f"topk(10, {quantile(0.95, CLIENT, *CHOSEN, by=EDGE)})", LEGEND)),
        series("p95 at the server", "s", line(f"topk(10, {quantile(0.95, SERVER, *CHOSEN, by=EDGE)})", LEGEND)),
    ],
)

DASHBOARD = dashboard(
    "otel-ebpf-service-graph",
    "Service graph",
    "Which service calls which, how often, with what success and how long, by the metrics traces_service_graph_*.",
    [variable("client", "Client", TOTAL, "client"), variable("server", "Server", TOTAL, "server")],
    [_MAP, _EDGES],
)
