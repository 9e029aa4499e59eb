"""Request logs: one OTLP log record per span row, by the same columns as the spans.

    LogEncoder(shapes, endpoints, resources).encode(spans, offset_ns)

The body reads as an access log does: "GET /cart 200 1.23 ms", "SELECT * FROM orders 0.41 ms". Severity is ERROR where
the span's status is; attributes, trace and span id are the span's. Source of the fields:
opentelemetry/proto/logs/v1/logs.proto.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Kind, Spans
from otel_ebpf.otlp import wire
from otel_ebpf.otlp.columns import Bytes, Piece, padded4, rows_of, total_length
from otel_ebpf.otlp.encoder import trace_flags
from otel_ebpf.otlp.rows import Batch, Layout, RowEncoder
from otel_ebpf.otlp.templates import POOLED
from otel_ebpf.protocols.base import Side

_INFO = wire.tag(2, wire.VARINT) + b"\x09" + wire.delimited(3, b"INFO")
_ERROR = wire.tag(2, wire.VARINT) + b"\x11" + wire.delimited(3, b"ERROR")
"""Severity number and text (logs data model, "Field: SeverityNumber")."""

_BODY = Layout(wire.tag(5, wire.BYTES), ("any_value", "<u4"), wire.ANY_STRING, ("text", "<u4"))
_UNIT = b" ms"
_DIGITS = 14
"""Digits before the point: what 2^64 ns are in milliseconds."""


class LogEncoder(RowEncoder):
    """Columnar encoder of `ExportLogsServiceRequest`."""

    attributes_field = 6
    head = (
        b"\x12",
        ("length", "<u4"),
        b"\x09",
        ("time", "<u8"),
        wire.tag(11, wire.FIXED64),
        ("observed", "<u8"),
        wire.tag(8, wire.FIXED32),
        ("flags", "<u4"),
        b"\x4a\x10",
        ("trace_id", "u8", 2),
        b"\x52\x08",
        ("span_id", "u8"),
    )

    def _constant(self, side: Side, kind: Kind) -> bytes:
        return _ERROR if side.error else _INFO

    def _fill(self, head: NDArray[np.void], batch: Batch, offset_ns: int) -> None:
        spans = batch.spans
        end = np.maximum(spans.start, spans.end) + np.uint64(offset_ns % (1 << 64))
        head["time"] = end
        head["observed"] = end
        head["flags"] = trace_flags(spans.link, spans.remote_flags)
        head["trace_id"] = spans.trace
        head["span_id"] = spans.span_id

    def _end(self, batch: Batch) -> list[Piece]:
        """The body: what the side leads with, the first text if there is one, status, duration."""
        side, slot = batch.side, batch.slots(0)
        start, length = batch.pool.add("leads", lambda: _leads([s.side for s in batch.sides]))
        lead = np.where(slot.present, side + len(batch.sides), side)
        status_start, status_length = batch.pool.add(
            "status", lambda: [wire.utf8(f" {s.status}" if s.status else "") for s in batch.sides]
        )
        pieces = [
            Piece(POOLED, start[lead], length[lead]),
            Piece(batch.spans.text, slot.start, slot.length),
            Piece(POOLED, status_start[side], status_length[side]),
            _duration(batch.spans),
        ]
        text = total_length(pieces, len(side))
        body = _BODY.rows(len(side))
        body["text"] = padded4(text)
        body["any_value"] = padded4(text + 5)
        return [rows_of(_BODY.matrix(body)), *pieces]


def body_lead(side: Side, has_text: bool) -> str:
    """What a side's line begins with: the method where the text is a target, nothing where the text says it all.

    >>> body_lead(Side("GET /cart/{id}", (("http.request.method", "GET"),), ()), has_text=True)
    'GET '
    """
    if not has_text:
        return side.name
    method = next((value for name, value in side.attributes if name == "http.request.method"), "")
    return f"{method} " if method else ""


def _leads(sides: list[Side]) -> list[bytes]:
    """Of all sides without a text, then of all with one."""
    return [wire.utf8(body_lead(side, has_text)) for has_text in (False, True) for side in sides]


def _duration(spans: Spans) -> Piece:
    """The end of each row's line, e.g. " 1.23 ms": hundredths of a millisecond, rounded down."""
    hundredths = (np.maximum(spans.start, spans.end) - spans.start) // np.uint64(10_000)
    n = len(hundredths)
    width = 1 + _DIGITS + 3 + len(_UNIT)
    text: Bytes = np.empty((n, width), np.uint8)
    text[:, width - len(_UNIT) :] = np.frombuffer(_UNIT, np.uint8)
    whole, rest = np.divmod(hundredths, np.uint64(100))
    point = 1 + _DIGITS
    text[:, point] = ord(".")
    text[:, point + 1] = rest // np.uint64(10) + np.uint64(48)
    text[:, point + 2] = rest % np.uint64(10) + np.uint64(48)
    digits = np.ones(n, np.intp)
    for place in range(_DIGITS):
        whole, digit = np.divmod(whole, np.uint64(10))
        text[:, point - 1 - place] = digit + np.uint64(48)
        digits += whole != 0
        if not whole.any():
            break
    digits = np.minimum(digits, _DIGITS)
    begin = point - digits - 1
    text[np.arange(n), begin] = ord(" ")
    rows = np.arange(0, n * width, width)
    return Piece(text.reshape(-1), rows + begin, width - begin)
