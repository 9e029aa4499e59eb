"""Remote procedure calls: gRPC."""

from __future__ import annotations

from scripts.dashboards.board import Row, dashboard, traces_link, variable
from scripts.dashboards.parts import Column, heatmap, line, series, stat, table
from scripts.dashboards.promql import RANGE, failed, quantile, rate

SERVER = "rpc_server_call_duration_seconds"
CLIENT = "rpc_client_call_duration_seconds"
CHOSEN = ('service_name=~"$service"',)
METHOD = "service_name, rpc_method"
CALL = "service_name, server_address, server_port, rpc_method"

_GLANCE = Row(
    "At a glance",
    [
        stat("Calls", "reqps", rate(f"{SERVER}_count", *CHOSEN)),
        stat("Failed", "percentunit", failed(SERVER, *CHOSEN), limits=(0.01, 0.05)),
        stat("Half are answered within", "s", quantile(0.5, SERVER, *CHOSEN)),
        stat("99 % are answered within", "s", quantile(0.99, SERVER, *CHOSEN)),
    ],
)
_COURSE = Row(
    "Over time",
    [
        series(
            "Calls by service", "reqps", line(rate(f"{SERVER}_count", *CHOSEN, by="service_name"), "{{service_name}}")
        ),
        series(
            "Calls by status",
            "reqps",
            line(rate(f"{SERVER}_count", *CHOSEN, by="rpc_status_code"), "{{rpc_status_code}}"),
            stacked=True,
        ),
        heatmap(
            "Durations",
            rate(f"{SERVER}_bucket", *CHOSEN, by="le"),
            description="Calls a second in each bucket. A dot is one call: it leads to its trace.",
        ),
        series("Quantiles", "s", *(line(quantile(q, SERVER, *CHOSEN), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99))),
    ],
)
_METHODS = Row(
    "Methods",
    [
        table(
            "Answered",
            {"service_name": "Service", "rpc_method": "Method"},
            Column("Calls", rate(f"{SERVER}_count", *CHOSEN, by=METHOD, window=RANGE), "reqps", bar=True),
            Column("Failed", failed(SERVER, *CHOSEN, by=METHOD, window=RANGE), "percentunit"),
            Column("p50", quantile(0.5, SERVER, *CHOSEN, by=METHOD, window=RANGE), "s"),
            Column("p99", quantile(0.99, SERVER, *CHOSEN, by=METHOD, window=RANGE), "s"),
            description="_OTHER: methods that the server does not know, and what came after many had been told apart.",
            links=[traces_link()],
        ),
        table(
            "Sent",
            {"service_name": "Service", "server_address": "To", "server_port": "Port", "rpc_method": "Method"},
            Column("Calls", rate(f"{CLIENT}_count", *CHOSEN, by=CALL, window=RANGE), "reqps", bar=True),
            Column("Failed", failed(CLIENT, *CHOSEN, by=CALL, window=RANGE), "percentunit"),
            Column("p50", quantile(0.5, CLIENT, *CHOSEN, by=CALL, window=RANGE), "s"),
            Column("p99", quantile(0.99, CLIENT, *CHOSEN, by=CALL, window=RANGE), "s"),
            description="As the caller sees it: each status but OK is a failure here.",
            links=[traces_link()],
        ),
    ],
)

DASHBOARD = dashboard(
    "otel-ebpf-rpc",
    "RPC",
    "Calls by gRPC, by rpc.server.call.duration and rpc.client.call.duration.",
    [variable("service", "Service", f"{SERVER}_count", "service_name")],
    [_GLANCE, _COURSE, _METHODS],
)
