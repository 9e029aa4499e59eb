"""What the protocol engine reads out of the records that a test has captured."""

from __future__ import annotations

import time

from otel_ebpf.capture.connections import Connections
from otel_ebpf.model import Exchanges, Intern, Spans
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.engine import Engine
from tests.e2e.capture import Capture, Seen


def said(capture: Capture, end: Seen) -> list[tuple[str, ...]]:
    """Span name, and texts unredacted, of each span on the connection of that end, in order of time."""
    spans, shapes = _spans(capture, end.conn)
    rows = [row for row in range(len(spans)) if spans.shape[row] >= 0]
    found = []
    for row in sorted(rows, key=lambda row: int(spans.start[row])):
        texts = []
        for start, length in zip(spans.slot_start[row], spans.slot_length[row], strict=True):
            if length:
                texts.append(spans.text[start : start + length].tobytes().decode())
        found.append((shapes[int(spans.shape[row])].server.name, *texts))
    return found


def _spans(capture: Capture, conn: int) -> tuple[Spans, Intern[Fields]]:
    connections = Connections(capture.source.object.btf.dtype("connection"))
    shapes = Intern[Fields](4096)
    engine = Engine(connections, shapes, Options(redact=False))
    spans = []
    for drain in capture.drains:
        now = time.monotonic_ns()
        connections.update(drain.connections[drain.connections["id"] == conn], now)
        batches = []
        for batch in drain.exchanges:
            rows = (batch.head["conn"] == conn).nonzero()[0]
            batches.append(Exchanges(batch.head[rows], batch.request[rows], batch.response[rows]))
        spans.append(engine.parse_batches(batches, now))
    return Spans.concat(spans), shapes
