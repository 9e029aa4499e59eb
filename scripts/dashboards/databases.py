"""Databases, as their clients see them."""

from __future__ import annotations

from scripts.dashboards.board import Row, dashboard, traces_link, variable
from scripts.dashboards.parts import Column, heatmap, line, series, stat, table
from scripts.dashboards.promql import RANGE, failed, quantile, quantile_of, rate, share, total

METRIC = "db_client_operation_duration_seconds"
CHOSEN = ('service_name=~"$service"', 'db_system_name=~"$system"')
SYSTEM = "db_system_name"
CALL = "service_name, db_system_name, server_address, server_port"
ERROR = "db_system_name, db_response_status_code, error_type"
BY = "db_system_name, db_namespace, operation"


def _by_operation(metric: str, by: str, window: str, *more: str) -> str:
    """The rate by a label that the series have not: `operation`, the summary of the query where there is one, else the
    name of the command (Redis)."""
    series = f"rate({metric}{{{','.join((*CHOSEN, *more))}}}[{window}])"
    for label in ("db_operation_name", "db_query_summary"):
        series = f'label_replace({series}, "operation", "$1", "{label}", "(.+)")'
    return total(series, by)


def _quantile(q: float, window: str) -> str:
    return quantile_of(q, _by_operation(f"{METRIC}_bucket", f"le, {BY}", window))


_GLANCE = Row(
    "At a glance",
    [
        stat("Operations", "ops", rate(f"{METRIC}_count", *CHOSEN)),
        stat("Failed", "percentunit", failed(METRIC, *CHOSEN), limits=(0.01, 0.05)),
        stat("Half are done within", "s", quantile(0.5, METRIC, *CHOSEN)),
        stat("99 % are done within", "s", quantile(0.99, METRIC, *CHOSEN)),
    ],
)
_SYSTEMS = Row(
    "Systems",
    [
        series("Operations by system", "ops", line(rate(f"{METRIC}_count", *CHOSEN, by=SYSTEM), "{{db_system_name}}")),
        series("Failed, by system", "percentunit", line(failed(METRIC, *CHOSEN, by=SYSTEM), "{{db_system_name}}")),
        series("p99 by system", "s", line(quantile(0.99, METRIC, *CHOSEN, by=SYSTEM), "{{db_system_name}}")),
        heatmap(
            "Durations",
            rate(f"{METRIC}_bucket", *CHOSEN, by="le"),
            description="Operations a second in each bucket. A dot is one operation: it leads to its trace.",
        ),
    ],
)
_OPERATIONS = Row(
    "Operations",
    [
        table(
            "Top operations",
            {"operation": "Operation", "db_system_name": "System", "db_namespace": "Database"},
            Column("Time", _by_operation(f"{METRIC}_sum", BY, RANGE), "percentunit", bar=True),
            Column("Operations", _by_operation(f"{METRIC}_count", BY, RANGE), "ops"),
            Column(
                "Failed",
                share(
                    _by_operation(f"{METRIC}_count", BY, RANGE, 'error_type!=""'),
                    _by_operation(f"{METRIC}_count", BY, RANGE),
                ),
                "percentunit",
            ),
            Column("p50", _quantile(0.5, RANGE), "s"),
            Column("p99", _quantile(0.99, RANGE), "s"),
            description="By the summary of the query, or the command. Time: how many are under way at once.",
        ),
        series(
            "Errors by status code",
            "ops",
            line(
                rate(
                    f"{METRIC}_count",
                    *CHOSEN,
                    'error_type!=""',
                    by=ERROR,
                ),
                "{{db_system_name}} {{db_response_status_code}} ({{error_type}})",
            ),
            description="db.response.status_code is what the server said: an SQLSTATE, an error's number or prefix.",
            width=24,
        ),
    ],
)
_CALLERS = Row(
    "Who asks whom",
    [
        table(
            "Clients",
            {
                "service_name": "Service",
                "db_system_name": "System",
                "server_address": "Server",
                "server_port": "Port",
            },
            Column("Operations", rate(f"{METRIC}_count", *CHOSEN, by=CALL, window=RANGE), "ops", bar=True),
            Column("Failed", failed(METRIC, *CHOSEN, by=CALL, window=RANGE), "percentunit"),
            Column("p99", quantile(0.99, METRIC, *CHOSEN, by=CALL, window=RANGE), "s"),
            links=[traces_link()],
        ),
    ],
)

DASHBOARD = dashboard(
    "otel-ebpf-databases",
    "Databases",
    "Operations on databases as their clients see them, by db.client.operation.duration.",
    [
        variable("service", "Service", f"{METRIC}_count", "service_name"),
        variable("system", "System", f"{METRIC}_count", "db_system_name"),
    ],
    [_GLANCE, _SYSTEMS, _OPERATIONS, _CALLERS],
)
