"""Requests, errors and durations of services and their routes."""

from __future__ import annotations

from scripts.dashboards.board import Row, dashboard, traces_link, variable
from scripts.dashboards.parts import Column, heatmap, line, series, stat, table
from scripts.dashboards.promql import RANGE, failed, quantile, rate

SERVER = "http_server_request_duration_seconds"
CLIENT = "http_client_request_duration_seconds"
SERVICE = 'service_name=~"$service"'
CHOSEN = (SERVICE, 'http_route=~"$route"')
ROUTE = "service_name, http_request_method, http_route"
CALL = "service_name, server_address, server_port, http_request_method"
ROUTE_LEGEND = "{{service_name}} {{http_request_method}} {{http_route}}"

_GLANCE = Row(
    "At a glance",
    [
        stat("Requests", "reqps", rate(f"{SERVER}_count", *CHOSEN)),
        stat("Failed", "percentunit", failed(SERVER, *CHOSEN), limits=(0.01, 0.05)),
        stat("Half are answered within", "s", quantile(0.5, SERVER, *CHOSEN)),
        stat("99 % are answered within", "s", quantile(0.99, SERVER, *CHOSEN)),
    ],
)
_SERVICES = Row(
    "Services",
    [
        table(
            "Services",
            {"service_name": "Service"},
            Column("Requests", rate(f"{SERVER}_count", *CHOSEN, by="service_name", window=RANGE), "reqps", bar=True),
            Column("Failed", failed(SERVER, *CHOSEN, by="service_name", window=RANGE), "percentunit"),
            Column("p50", quantile(0.5, SERVER, *CHOSEN, by="service_name", window=RANGE), "s"),
            Column("p99", quantile(0.99, SERVER, *CHOSEN, by="service_name", window=RANGE), "s"),
            links=[traces_link()],
        ),
        series(
            "Requests by service",
            "reqps",
            line(rate(f"{SERVER}_count", *CHOSEN, by="service_name"), "{{service_name}}"),
        ),
        series(
            "Failed, by service",
            "percentunit",
            line(failed(SERVER, *CHOSEN, by="service_name"), "{{service_name}}"),
            description="The share of requests that were answered with 5xx, or not at all.",
        ),
    ],
)
_LATENCY = Row(
    "Durations",
    [
        heatmap(
            "Durations",
            rate(f"{SERVER}_bucket", *CHOSEN, by="le"),
            description="Requests a second in each bucket. A dot is one request: it leads to its trace.",
        ),
        series(
            "Quantiles",
            "s",
            *(line(quantile(q, SERVER, *CHOSEN), f"p{q * 100:g}", exemplars=q == 0.99) for q in (0.5, 0.9, 0.99)),
        ),
        series("p99 by service", "s", line(quantile(0.99, SERVER, *CHOSEN, by="service_name"), "{{service_name}}")),
        series(
            "Answers by status",
            "reqps",
            line(rate(f"{SERVER}_count", *CHOSEN, by="http_response_status_code"), "{{http_response_status_code}}"),
            stacked=True,
        ),
    ],
)
_ROUTES = Row(
    "Routes",
    [
        table(
            "Top operations",
            {"service_name": "Service", "http_request_method": "Method", "http_route": "Route"},
            Column("Time", rate(f"{SERVER}_sum", *CHOSEN, by=ROUTE, window=RANGE), "percentunit", bar=True),
            Column("Requests", rate(f"{SERVER}_count", *CHOSEN, by=ROUTE, window=RANGE), "reqps"),
            Column("Failed", failed(SERVER, *CHOSEN, by=ROUTE, window=RANGE), "percentunit"),
            Column("p50", quantile(0.5, SERVER, *CHOSEN, by=ROUTE, window=RANGE), "s"),
            Column("p99", quantile(0.99, SERVER, *CHOSEN, by=ROUTE, window=RANGE), "s"),
            description="Time: how many requests are under way at once, on average; 100 % is one.",
            links=[traces_link()],
        ),
        series(
            "Requests by route", "reqps", line(f"topk(10, {rate(f'{SERVER}_count', *CHOSEN, by=ROUTE)})", ROUTE_LEGEND)
        ),
        series("p99 by route", "s", line(f"topk(10, {quantile(0.99, SERVER, *CHOSEN, by=ROUTE)})", ROUTE_LEGEND)),
    ],
)
_SENT = Row(
    "Requests that services send",
    [
        table(
            "Calls",
            {"service_name": "Service", "server_address": "To", "server_port": "Port", "http_request_method": "Method"},
            Column("Requests", rate(f"{CLIENT}_count", SERVICE, by=CALL, window=RANGE), "reqps", bar=True),
            Column("Failed", failed(CLIENT, SERVICE, by=CALL, window=RANGE), "percentunit"),
            Column("p50", quantile(0.5, CLIENT, SERVICE, by=CALL, window=RANGE), "s"),
            Column("p99", quantile(0.99, CLIENT, SERVICE, by=CALL, window=RANGE), "s"),
            description="HTTP as the caller sees it: 4xx is a failure here, too.",
            links=[traces_link()],
        ),
    ],
)

DASHBOARD = dashboard(
    "otel-ebpf-red",
    "Services and routes",
    "Rate, errors and durations of the requests that services answer, by http.server.request.duration.",
    [
        variable("service", "Service", f"{SERVER}_count", "service_name"),
        variable("route", "Route", f'{SERVER}_count{{service_name=~"$service"}}', "http_route"),
    ],
    [_GLANCE, _SERVICES, _LATENCY, _ROUTES, _SENT],
)
