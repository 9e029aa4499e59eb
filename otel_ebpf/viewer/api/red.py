"""Rate, errors and durations over time: of services, operations, or an edge."""

from __future__ import annotations

import numpy as np

from otel_ebpf.viewer.api.answers import KINDS, Heat, RedSeries
from otel_ebpf.viewer.api.ask import Ask
from otel_ebpf.viewer.api.gaps import gaps
from otel_ebpf.viewer.api.graph import MORE, graph_of_spans
from otel_ebpf.viewer.api.graph_metrics import TOTAL
from otel_ebpf.viewer.api.graph_steps import EdgeSteps, edge_steps
from otel_ebpf.viewer.api.parameters import BadParameter, Given
from otel_ebpf.viewer.api.quantiles import histograms, quantile, upper_ms
from otel_ebpf.viewer.api.roots import ROOTS, works_by_itself
from otel_ebpf.viewer.api.values import ms
from otel_ebpf.viewer.api.window import Steps, Window
from otel_ebpf.viewer.contract import Columns, Reader

_SERVED = (2, 5)


def red(ask: Ask) -> RedSeries:
    """GET /red"""
    window, given = ask.window, ask.given
    steps = window.steps(given.sure("steps"))
    found = _sums(ask.reader, window, steps, given)
    index = found["step"].astype(np.int64).clip(0, steps.count - 1)
    took = histograms(index, steps.count, found["bucket"], found["calls"])
    sums = histograms(index, steps.count, found["bucket"], found["sum"])
    calls = took.sum(axis=1)
    failed = np.bincount(index, found["failed"].astype(np.float64), steps.count).astype(np.float64)
    counted = _counted(ask, window, steps)
    if counted is not None and counted.calls.sum() > MORE * calls.sum():
        calls, failed, took = counted.calls, counted.failed, counted.took
        sums = np.zeros_like(took)
    used = np.flatnonzero(took.sum(axis=0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
    return RedSeries(
        start=ms(window.start),
        end=ms(window.end),
        step=ms(steps.step),
        times=steps.times,
        calls=np.rint(calls).astype(np.int64).tolist(),
        failed=np.rint(failed).astype(np.int64).tolist(),
        p50=quantile(took, 0.5, sums),
        p99=quantile(took, 0.99, sums),
        heat=Heat(
            bounds=[float(f"{upper_ms(bucket):.6g}") for bucket in range(low, high)],
            counts=np.rint(took[:, low:high]).astype(np.int64).tolist(),
        ),
        gaps=gaps(ask.reader, window),
    )


def _counted(ask: Ask, window: Window, steps: Steps) -> EdgeSteps | None:
    """What agents' metrics count; None: it is no edge that is asked for, or nobody counts."""
    client, server = ask.given.text("client"), ask.given.text("server")
    if not client and not server:
        return None
    if not ask.reader.rows(
        "SELECT 1 FROM points WHERE name = ? AND time > ? AND time <= ? LIMIT 1", [TOTAL, window.start, window.end]
    ):
        return None
    return edge_steps(ask.reader, window, steps, graph_of_spans(ask.reader, window), client, server)


def _sums(reader: Reader, window: Window, steps: Steps, given: Given) -> Columns:
    """Columns step, bucket, calls, failed, sum (of durations, ns)."""
    table, which, parameters = _which(reader, given, window)
    return reader.columns(
        "SELECT (time - $3) // $4 AS step, bucket, sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed,"
        " sum(sum)::DOUBLE AS sum"
        f" FROM {table} WHERE time >= $1 AND time < $2 AND {which} GROUP BY ALL",
        [*window.sums, steps.start, steps.step, *parameters],
    )


def _which(reader: Reader, given: Given, window: Window) -> tuple[str, str, list[object]]:
    """Table, condition and its parameters, from $5 on."""
    client, server, service = (given.text(name) for name in ("client", "server", "service"))
    operation, kind = given.text("operation"), given.text("kind")
    if client or server:
        if service or operation or kind:
            raise BadParameter("client, server: not together with service, operation or kind")
        conditions = [f"{name} = " for name, value in (("client", client), ("server", server)) if value]
        values: list[object] = [value for value in (client, server) if value]
        return "edges", _numbered(conditions), values
    if service and not operation and not kind and not _has_spans(reader, service):
        return "(SELECT * REPLACE (server_bucket AS bucket, server_sum AS sum) FROM edges)", "server = $5", [service]
    if service and not operation and not kind and works_by_itself(reader, service, window):
        return ROOTS, "service = $5", [service]
    kinds = [KINDS.index(name) for name in KINDS if name == kind] if kind else None if operation else list(_SERVED)
    conditions = [f"{name} = " for name, value in (("service", service), ("name", operation)) if value]
    values = [value for value in (service, operation) if value]
    condition = _numbered(conditions)
    return "operations", condition + (f" AND kind IN ({', '.join(map(str, kinds))})" if kinds else ""), values


def _numbered(conditions: list[str]) -> str:
    return " AND ".join(f"{text}${number}" for number, text in enumerate(conditions, 5)) or "true"


def _has_spans(reader: Reader, service: str) -> bool:
    """Databases and outside peers have none of their own: what they serve is known from the edges to them."""
    return bool(reader.rows("SELECT 1 FROM operations WHERE service = ? LIMIT 1", [service]))
