"""The agent itself: what it lost, what it could not read, what it costs."""

from __future__ import annotations

from scripts.dashboards.board import Row, dashboard, variable
from scripts.dashboards.parts import Column, line, series, stat, table
from scripts.dashboards.promql import RANGE, WINDOW, rate, selector, total

HOST = 'host_name=~"$host"'
OURS = "and on (instance) otel_ebpf_connections"
"""Of processes' metrics: those of the agent."""


def _now(metric: str, by: str) -> str:
    return f"sum by ({by}) ({metric}{selector(HOST)})"


def _own(expr: str, by: str) -> str:
    return f"sum by ({by}) ({expr} {OURS})"


_GLANCE = Row(
    "At a glance",
    [
        stat(
            "Lost in this time",
            "short",
            f"sum(increase(otel_ebpf_losses_total{selector(HOST)}[{RANGE}]))",
            description="All losses together. The table below says where and why.",
            limits=(1, 1000),
        ),
        stat("Exchanges", "reqps", rate("otel_ebpf_exchanges_total", HOST)),
        stat("Frames of HTTP/2", "cps", rate("otel_ebpf_frames_total", HOST)),
        stat("CPU", "percentunit", f"sum(rate(process_cpu_time_seconds_total{selector(HOST)}[{WINDOW}]) {OURS})"),
        stat("Resident memory", "bytes", f"sum(process_memory_usage_bytes{selector(HOST)} {OURS})"),
    ],
)
_LOSSES = Row(
    "What is missing",
    [
        table(
            "Losses",
            {"otel_ebpf_where": "Where", "otel_ebpf_reason": "Reason", "host_name": "Host"},
            Column(
                "Lost",
                total(
                    f"increase(otel_ebpf_losses_total{selector(HOST)}[{RANGE}])",
                    "otel_ebpf_where, otel_ebpf_reason, host_name",
                ),
                "short",
                bar=True,
            ),
            description="In the time that is shown.",
        ),
        series(
            "Losses by place",
            "cps",
            line(rate("otel_ebpf_losses_total", HOST, by="otel_ebpf_where"), "{{otel_ebpf_where}}"),
        ),
        series(
            "Exchanges that could not be read",
            "cps",
            line(rate("otel_ebpf_parse_failures_total", HOST, by="otel_ebpf_protocol"), "{{otel_ebpf_protocol}}"),
            description="unknown: they are in no protocol that the agent reads.",
        ),
        series(
            "Ring fill",
            "percentunit",
            line(
                f"max by (otel_ebpf_ring, host_name) (otel_ebpf_ring_fill_ratio{selector(HOST)})",
                "{{host_name}} {{otel_ebpf_ring}}",
            ),
            description="When a ring was last read. At 100 % the kernel side drops, and counts what it dropped.",
        ),
        series(
            "BPF programs that are not attached",
            "short",
            line(
                _now("otel_ebpf_attach_failures", "otel_ebpf_program, host_name"), "{{host_name}} {{otel_ebpf_program}}"
            ),
            description="Empty: all are. `otel-ebpf doctor` says why one is not.",
        ),
    ],
)
_WORK = Row(
    "Work",
    [
        series(
            "Spans by how their parent was found",
            "cps",
            line(rate("otel_ebpf_links_total", HOST, by="otel_ebpf_link_method"), "{{otel_ebpf_link_method}}"),
            description="none: a root, or nobody knows. docs/causality.md has the ways.",
        ),
        series(
            "Requests whose context travels in TCP options",
            "cps",
            line(rate("otel_ebpf_propagation_total", HOST, by="otel_ebpf_outcome"), "{{otel_ebpf_outcome}}"),
            description="By what became of it: docs/propagation.md has the words. Empty: `propagation` is off.",
        ),
        series(
            "Processes whose units of execution are read",
            "short",
            line(_now("otel_ebpf_runtimes", "otel_ebpf_runtime, host_name"), "{{host_name}} {{otel_ebpf_runtime}}"),
        ),
        series(
            "Hits of probes in processes' own code",
            "cps",
            line(
                rate("otel_ebpf_probe_hits", HOST, by="otel_ebpf_runtime, otel_ebpf_process"),
                "{{otel_ebpf_runtime}} {{otel_ebpf_process}}",
            ),
            description="What parents by units of execution cost these processes: about 1 µs for each hit.",
        ),
        series(
            "Runtimes that are not as expected",
            "short",
            line(
                _now("otel_ebpf_runtimes_refused", "otel_ebpf_runtime_version, otel_ebpf_reason"),
                "{{otel_ebpf_runtime_version}}: {{otel_ebpf_reason}}",
            ),
            description="Calls of these processes have a parent only where their threads or their event loop tell it.",
        ),
        series(
            "Spans by protocol",
            "cps",
            line(rate("otel_ebpf_spans_total", HOST, by="otel_ebpf_protocol"), "{{otel_ebpf_protocol}}"),
        ),
        series(
            "Open connections, spans that wait for their parent",
            "short",
            line(_now("otel_ebpf_connections", "host_name"), "{{host_name}} connections"),
            line(_now("otel_ebpf_held", "host_name"), "{{host_name}} spans"),
        ),
        series(
            "Exported",
            "cps",
            line(rate("otel_ebpf_export_items_total", HOST, by="otel_ebpf_signal"), "{{otel_ebpf_signal}}"),
        ),
        series(
            "Export errors",
            "cps",
            line(
                rate("otel_ebpf_export_errors_total", HOST, by="otel_ebpf_signal, error_type"),
                "{{otel_ebpf_signal}} {{error_type}}",
            ),
            description="Each try by itself: what is tried again and then accepted is no loss.",
        ),
        series(
            "Service graph: edges, calls that wait for their other end",
            "short",
            line(_now("otel_ebpf_graph_edges", "host_name"), "{{host_name}} edges"),
            line(_now("otel_ebpf_graph_waiting", "host_name"), "{{host_name}} calls"),
        ),
        series(
            "Addresses with names from DNS",
            "short",
            line(_now("otel_ebpf_peers_addresses", "host_name"), "{{host_name}}"),
        ),
        series(
            "Waiting for export",
            "short",
            line(_now("otel_ebpf_queue_length", "otel_ebpf_signal, host_name"), "{{host_name}} {{otel_ebpf_signal}}"),
        ),
    ],
)
_SAMPLING = Row(
    "Keep-tail sampling",
    [
        series(
            "Traces, by what became of them and why",
            "cps",
            line(
                rate("otel_ebpf_sampling_traces_total", HOST, by="otel_ebpf_outcome, otel_ebpf_reason"),
                "{{otel_ebpf_outcome}}: {{otel_ebpf_reason}}",
            ),
            description="Empty unless sampling.tail.enabled. docs/sampling.md has the reasons.",
        ),
        series(
            "Their spans, and spans that came later",
            "cps",
            line(
                rate("otel_ebpf_sampling_spans_total", HOST, by="otel_ebpf_outcome, otel_ebpf_reason"),
                "{{otel_ebpf_outcome}}: {{otel_ebpf_reason}}",
            ),
        ),
        series(
            "Spans that wait until it is decided on their trace",
            "short",
            line(_now("otel_ebpf_sampling_held", "host_name"), "{{host_name}}"),
        ),
    ],
)
_COST = Row(
    "Cost",
    [
        series(
            "CPU by stage",
            "percentunit",
            line(rate("otel_ebpf_stage_time_seconds_total", HOST, by="otel_ebpf_stage"), "{{otel_ebpf_stage}}"),
            description="Time of the agent's loop; 100 % is one core.",
            stacked=True,
        ),
        series(
            "CPU of the process",
            "percentunit",
            line(
                _own(f"rate(process_cpu_time_seconds_total{selector(HOST)}[{WINDOW}])", "cpu_mode, host_name"),
                "{{host_name}} {{cpu_mode}}",
            ),
            stacked=True,
        ),
        series(
            "BPF time by program",
            "percentunit",
            line(rate("otel_ebpf_bpf_time_seconds_total", HOST, by="otel_ebpf_program"), "{{otel_ebpf_program}}"),
            description="Of one core. Counted while the sysctl kernel.bpf_stats_enabled is 1.",
            stacked=True,
        ),
        series(
            "BPF time per run",
            "s",
            line(
                f"{rate('otel_ebpf_bpf_time_seconds_total', HOST, by='otel_ebpf_program')} / "
                f"({rate('otel_ebpf_bpf_runs_total', HOST, by='otel_ebpf_program')} > 0)",
                "{{otel_ebpf_program}}",
            ),
            description="Counted while the sysctl kernel.bpf_stats_enabled is 1.",
        ),
        series(
            "Memory",
            "bytes",
            line(_own(f"process_memory_usage_bytes{selector(HOST)}", "host_name"), "{{host_name}} resident"),
            line(_now("otel_ebpf_bpf_memory_bytes", "host_name"), "{{host_name}} BPF maps"),
        ),
        series(
            "Batches by stage",
            "cps",
            line(rate("otel_ebpf_stage_runs_total", HOST, by="otel_ebpf_stage"), "{{otel_ebpf_stage}}"),
        ),
        series(
            "Open files",
            "short",
            line(_own(f"process_unix_file_descriptor_count{selector(HOST)}", "host_name"), "{{host_name}}"),
        ),
        series("Uptime", "s", line(_own(f"process_uptime_seconds{selector(HOST)}", "host_name"), "{{host_name}}")),
    ],
)

_GATEWAY = Row(
    "Gateways",
    [
        series(
            "Requests from other hosts",
            "cps",
            line(rate("otel_ebpf_gateway_joins_total", HOST, by="otel_ebpf_outcome"), "{{otel_ebpf_outcome}}"),
            description="By what became of them: docs/hosts.md has the words.",
        ),
        series(
            "Traces with another name",
            "short",
            line(_now("otel_ebpf_gateway_rules", "host_name"), "{{host_name}}"),
        ),
    ],
)

DASHBOARD = dashboard(
    "otel-ebpf-agent",
    "otel-ebpf itself",
    "What the agent lost and could not read, and what it costs: its own metrics.",
    [variable("host", "Host", "otel_ebpf_connections", "host_name")],
    [_GLANCE, _LOSSES, _WORK, _SAMPLING, _COST, _GATEWAY],
)
