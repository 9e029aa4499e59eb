"""The viewer itself."""

from __future__ import annotations

import time

from otel_ebpf.viewer.api.answers import IngestState, Listen, Status, StoreState
from otel_ebpf.viewer.api.ask import Ask
from otel_ebpf.viewer.api.gaps import gaps
from otel_ebpf.viewer.api.values import ms, whole
from otel_ebpf.viewer.api.window import SECOND, Window

_GAPS_OF = 900 * SECOND
_COUNTS = """
SELECT (SELECT count(*) FROM spans) AS spans, (SELECT count(*) FROM logs) AS logs,
    (SELECT count(*) FROM points) AS points,
    least((SELECT min(start) FROM spans), (SELECT min(time) FROM logs), (SELECT min(time) FROM points)) AS oldest
"""


def status(ask: Ask) -> Status:
    """GET /status; the gaps are those of the last 15 minutes."""
    process, now = ask.status.status(), time.time_ns()
    counts = ask.reader.rows(_COUNTS)[0]
    return Status(
        version=process.version,
        started=process.started * 1e3,
        now=ms(now),
        listen=Listen(page=process.page, grpc=process.grpc, http=process.http),
        store=StoreState(
            path=process.store_path,
            bytes=process.store_bytes,
            limit_bytes=process.limit_bytes,
            oldest=None if counts["oldest"] is None else ms(counts["oldest"]),
            spans=whole(counts["spans"]),
            logs=whole(counts["logs"]),
            points=whole(counts["points"]),
        ),
        ingest=IngestState(
            spans_per_second=process.spans_per_second, accepted=process.accepted, refused=process.refused
        ),
        problems=list(process.problems),
        gaps=gaps(ask.reader, Window(now - _GAPS_OF, now)),
    )
