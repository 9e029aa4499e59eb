"""`Spans` to OTLP trace export requests, by columns.

    encoder = SpanEncoder(shapes, endpoints, resources)
    for message in encoder.encode(spans, offset_ns):
        exporter.submit("traces", message)

Source of the fields: opentelemetry/proto/trace/v1/trace.proto. Attributes are the side's own, its texts, the endpoint's
(`server.*` only where the protocol's bytes do not name the server), `network.peer.port`, `otel_ebpf.link.method` and
`otel_ebpf.first_byte_ns` (docs/semconv/otel_ebpf.yaml).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf import model
from otel_ebpf.model import Kind, Link, Spans
from otel_ebpf.otlp import wire
from otel_ebpf.otlp.columns import Piece
from otel_ebpf.otlp.rows import Batch, Layout, RowEncoder
from otel_ebpf.otlp.templates import LINK_KEY
from otel_ebpf.protocols.base import Side

SAMPLED = 0x01
HAS_IS_REMOTE = 0x100
IS_REMOTE = 0x200
"""`Span.flags`: the W3C trace flags in the low byte, then whether it is known, and is, that the parent is remote."""

FROM_MESSAGE = np.isin(np.arange(256), model.FROM_MESSAGE)
"""By `Link` value: the context came with the request, and its trace flags with it."""
_KEPT_FLAGS = FROM_MESSAGE * np.uint8(0xFF)
REMOTE = FROM_MESSAGE | np.isin(np.arange(256), (Link.CONNECTION, Link.TCP_OPTION))
"""By `Link` value: the parent is in another process."""

_PARENT_TAG = np.array([0x22, 0x12], np.uint8)
"""Tags of `parent_span_id`, and of `span_id` for roots."""
_STATUS_ERROR = wire.delimited(15, b"\x18\x02")


HEX = np.array([f"{byte:02x}" for byte in range(256)], "S2")
"""By byte: its two digits."""
_KEY = Layout(wire.key_value(9, LINK_KEY, "0" * 16)[:-16], ("digits", "S16"))


_LIKE = Layout(wire.tag(13, wire.BYTES) + b"\x1c\x0a\x10", ("trace_id", "u8", 2), b"\x12\x08", ("span_id", "u8"))
"""`Span.links`: one `Link` with its two ids."""


def _likely(spans: Spans) -> list[Piece]:
    """A link to the span that is likely the parent, where there is one."""
    present = spans.like_span != 0
    if not present.any():
        return []
    rows = _LIKE.rows(len(spans))
    rows["trace_id"], rows["span_id"] = spans.like_trace, spans.like_span
    begins = np.arange(0, len(spans) * _LIKE.width, _LIKE.width)
    return [Piece(_LIKE.matrix(rows).reshape(-1), begins, present * _LIKE.width)]


def trace_flags(link: NDArray[np.uint8], remote_flags: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(n,) W3C trace flags: what is exported is sampled; other bits are those of the context that came in."""
    flags: NDArray[np.uint32] = (_KEPT_FLAGS[link] & remote_flags | np.uint8(SAMPLED)).astype(np.uint32)
    return flags


class SpanEncoder(RowEncoder):
    """Columnar encoder of `ExportTraceServiceRequest`."""

    attributes_field = 9
    head = (
        b"\x12",
        ("length", "<u4"),
        b"\x0a\x10",
        ("trace_id", "u8", 2),
        b"\x12\x08",
        ("span_id", "u8"),
        ("parent_tag", "u1"),
        b"\x08",
        ("parent_span_id", "u8"),
        b"\x39",
        ("start", "<u8"),
        b"\x41",
        ("end", "<u8"),
        wire.tag(16, wire.FIXED32),
        ("flags", "<u4"),
    )

    def _constant(self, side: Side, kind: Kind) -> bytes:
        status = _STATUS_ERROR if side.error else b""
        return wire.delimited(5, wire.utf8(side.name)) + wire.tag(6, wire.VARINT) + wire.varint(kind) + status

    def _end(self, batch: Batch) -> list[Piece]:
        """The key of the exchange, where the other end is on another host: 16 hexadecimal digits. And span links."""
        keys = batch.spans.key
        present = keys != 0
        likely = _likely(batch.spans)
        if not present.any():
            return likely
        rows = _KEY.rows(len(keys))
        rows["digits"] = HEX[keys.astype(">u8").view(np.uint8)].view("S16").ravel()
        begins = np.arange(0, len(keys) * _KEY.width, _KEY.width)
        return [Piece(_KEY.matrix(rows).reshape(-1), begins, present * _KEY.width), *likely]

    def _fill(self, head: NDArray[np.void], batch: Batch, offset_ns: int) -> None:
        spans = batch.spans
        offset = np.uint64(offset_ns % (1 << 64))
        head["trace_id"] = spans.trace
        head["span_id"] = spans.span_id
        # A root has no parent_span_id field at all. To keep the head's width it says its span_id twice instead: of a
        # singular field that occurs again the last one counts (protobuf encoding guide, "Last One Wins").
        root = spans.parent == 0
        head["parent_tag"] = _PARENT_TAG[root.view(np.uint8)]
        head["parent_span_id"] = np.where(root, spans.span_id, spans.parent)
        head["start"] = spans.start + offset
        head["end"] = np.maximum(spans.start, spans.end) + offset
        remote = (REMOTE[spans.link] & ~root) * np.uint32(IS_REMOTE)
        head["flags"] = trace_flags(spans.link, spans.remote_flags) | remote | np.uint32(HAS_IS_REMOTE)
