"""DNS lookups."""

from __future__ import annotations

from scripts.dashboards.board import Row, dashboard, traces_link, variable
from scripts.dashboards.parts import Column, heatmap, line, series, stat, table
from scripts.dashboards.promql import RANGE, failed, quantile, rate

METRIC = "dns_lookup_duration_seconds"
CHOSEN = ('service_name=~"$service"',)
NAME = "dns_question_name"

_GLANCE = Row(
    "At a glance",
    [
        stat("Lookups", "ops", rate(f"{METRIC}_count", *CHOSEN)),
        stat("Failed", "percentunit", failed(METRIC, *CHOSEN), limits=(0.05, 0.2)),
        stat("Half are answered within", "s", quantile(0.5, METRIC, *CHOSEN)),
        stat("99 % are answered within", "s", quantile(0.99, METRIC, *CHOSEN)),
    ],
)
_COURSE = Row(
    "Over time",
    [
        series(
            "Lookups by service", "ops", line(rate(f"{METRIC}_count", *CHOSEN, by="service_name"), "{{service_name}}")
        ),
        series(
            "Failures by code",
            "ops",
            line(rate(f"{METRIC}_count", *CHOSEN, 'error_type!=""', by="error_type"), "{{error_type}}"),
            description="NXDOMAIN: there is no such name. timeout and the like: nobody answered.",
        ),
        heatmap(
            "Durations",
            rate(f"{METRIC}_bucket", *CHOSEN, by="le"),
            description="Lookups a second in each bucket. A dot is one lookup: it leads to its trace.",
        ),
        series("Quantiles", "s", *(line(quantile(q, METRIC, *CHOSEN), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99))),
    ],
)
_NAMES = Row(
    "Names",
    [
        table(
            "Names",
            {NAME: "Name"},
            Column("Lookups", rate(f"{METRIC}_count", *CHOSEN, by=NAME, window=RANGE), "ops", bar=True),
            Column("Failed", failed(METRIC, *CHOSEN, by=NAME, window=RANGE), "percentunit"),
            Column("p99", quantile(0.99, METRIC, *CHOSEN, by=NAME, window=RANGE), "s"),
            description="The row without a name: all that came after the agent had told many apart.",
        ),
        table(
            "Services",
            {"service_name": "Service"},
            Column("Lookups", rate(f"{METRIC}_count", *CHOSEN, by="service_name", window=RANGE), "ops", bar=True),
            Column("Failed", failed(METRIC, *CHOSEN, by="service_name", window=RANGE), "percentunit"),
            Column("p99", quantile(0.99, METRIC, *CHOSEN, by="service_name", window=RANGE), "s"),
            links=[traces_link()],
        ),
    ],
)

DASHBOARD = dashboard(
    "otel-ebpf-dns",
    "DNS",
    "Lookups as those who ask see them, by dns.lookup.duration.",
    [variable("service", "Service", f"{METRIC}_count", "service_name")],
    [_GLANCE, _COURSE, _NAMES],
)
