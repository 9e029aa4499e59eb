"""One edge of the service graph over time, as the agents' metrics count it: for edges whose spans are sampled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.viewer.api.counters import BEFORE, bounded, grown, grown_counts
from otel_ebpf.viewer.api.graph_metrics import CLIENT_SECONDS, FAILED, SERVER_SECONDS, TOTAL, is_edge
from otel_ebpf.viewer.api.graph_model import Graph
from otel_ebpf.viewer.api.quantiles import BUCKETS, of_bounds
from otel_ebpf.viewer.api.values import Row, attributes, real, reals, text, whole
from otel_ebpf.viewer.api.window import Steps, Window
from otel_ebpf.viewer.contract import Reader

_ROWS = 200_000
_STEPPED = f"""
SELECT name, resource, attributes, start, bounds, delta,
    CASE WHEN time <= $1 THEN -1 ELSE (time - $5) // $6 END AS step,
    arg_max(value, time) AS value, sum(value) AS total, arg_max(counts, time) AS counts, list(counts) AS all_counts
FROM points WHERE list_contains($4, name) AND time > $2 AND time <= $3 AND (step >= 0 OR NOT delta)
GROUP BY ALL ORDER BY name, resource, attributes, start, bounds, step LIMIT {_ROWS}
"""


@dataclass(slots=True)
class EdgeSteps:
    """calls, failed: (steps,); took: (steps, BUCKETS) durations as the client saw them, else as the server did."""

    calls: NDArray[np.float64]
    failed: NDArray[np.float64]
    took: NDArray[np.float64]


def edge_steps(
    reader: Reader, window: Window, steps: Steps, spans: Graph, client: str | None, server: str | None
) -> EdgeSteps:
    """Of the edges from `client`, to `server`, or both. spans: the graph by spans, which names ends."""
    totals = {name: np.zeros(steps.count) for name in (TOTAL, FAILED)}
    took = {name: np.zeros((steps.count, BUCKETS)) for name in (CLIENT_SECONDS, SERVER_SECONDS)}
    names = [*totals, *took]
    rows = reader.rows(_STEPPED, [window.start, window.start - BEFORE, window.end, names, steps.start, steps.step])
    senders = {row["resource"] for row in rows if whole(row["step"]) < 0}
    for piece in _pieces(rows):
        if not is_edge(attributes(piece[0]["attributes"]), spans, client, server):
            continue
        new = whole(piece[0]["start"]) >= window.start or piece[0]["resource"] in senders
        name, before = text(piece[0]["name"]), piece[0] if whole(piece[0]["step"]) < 0 or not new else None
        for row in piece:
            step = min(whole(row["step"]), steps.count - 1)
            if step >= 0 and name in totals:
                totals[name][step] += _value(row, before)
            elif step >= 0:
                took[name][step] += of_bounds(reals(row["bounds"]), _counts(row, before))
            before = row
    client_took, server_took = took[CLIENT_SECONDS], took[SERVER_SECONDS]
    unseen = client_took.sum(axis=1) == 0
    client_took[unseen] = server_took[unseen]
    return EdgeSteps(totals[TOTAL], totals[FAILED], client_took)


def _pieces(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows of one series and start, in order of time."""
    piece: list[Row] = []
    for row in rows:
        if piece and any(row[key] != piece[0][key] for key in ("name", "resource", "attributes", "start", "bounds")):
            yield piece
            piece = []
        piece.append(row)
    if piece:
        yield piece


def _value(row: Row, before: Row | None) -> float:
    if row["delta"]:
        return bounded(real(row["total"]))
    return grown(real(row["value"]), before["value"] if before else None, None)


def _counts(row: Row, before: Row | None) -> list[float]:
    if row["delta"]:
        several = row["all_counts"]
        return [sum(column) for column in zip(*map(reals, several if isinstance(several, list) else []), strict=False)]
    return grown_counts(reals(row["counts"]), reals(before["counts"]) if before else [])
