"""What a service does of itself: a batch job, a worker, that nobody asks for anything and whose spans are all internal.

Its root spans count as what it serves. The sums do not tell roots from the spans below them, so the spans are asked;
only for such services, of which there are few.
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.viewer.api.graph_model import Node
from otel_ebpf.viewer.api.quantiles import summed
from otel_ebpf.viewer.api.values import reals, text, whole, whole_numbers
from otel_ebpf.viewer.api.window import Window
from otel_ebpf.viewer.contract import Reader

ROOTS = """(
    SELECT start AS time, service, kind, name, '' AS system,
        least(floor(4 * log2(greatest(duration, 1))), 255)::UTINYINT AS bucket,
        1 AS calls, (status = 2)::INTEGER AS failed, duration AS sum
    FROM spans WHERE parent_id = 0 AND kind < 2
)"""
"""Such spans, in the form of the table `operations`."""
_BY_SERVICE = f"""
WITH summed AS (
    SELECT service, bucket, sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed, sum(sum)::DOUBLE AS took
    FROM {ROOTS} WHERE time >= $1 AND time < $2 AND list_contains($3, service) GROUP BY ALL
)
SELECT service, sum(calls)::BIGINT AS calls, sum(failed)::BIGINT AS failed,
    list(bucket::INTEGER) AS buckets, list(calls) AS weights, list(took) AS sums
FROM summed GROUP BY service
"""


def count_roots(reader: Reader, window: Window, nodes: list[Node]) -> None:
    """Set the numbers of those that work of themselves. nodes: services that serve nothing and have internal spans."""
    if not nodes:
        return
    by_name = {node.name: node for node in nodes}
    for row in reader.rows(_BY_SERVICE, [*window.sums, list(by_name)]):
        node = by_name[text(row["service"])]
        node.by_itself = True
        node.calls, node.failed = whole(row["calls"]), whole(row["failed"])
        node.took = np.array(
            summed(whole_numbers(row["buckets"]), whole_numbers(row["weights"]), reals(row["sums"])), np.float64
        )


def works_by_itself(reader: Reader, service: str, window: Window) -> bool:
    """Whether nobody asked this service for anything, and it has internal spans."""
    asked = "SELECT 1 FROM edges WHERE server = $3 AND time >= $1 AND time < $2 LIMIT 1"
    kinds = "SELECT DISTINCT kind FROM operations WHERE service = $3 AND time >= $1 AND time < $2"
    found = {whole(row["kind"]) for row in reader.rows(kinds, [*window.sums, service])}
    return bool(found & {0, 1}) and not found & {2, 5} and not reader.rows(asked, [*window.sums, service])
