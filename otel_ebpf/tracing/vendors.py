"""Trace contexts in the headers of tracers that have formats of their own: SkyWalking, Datadog, AWS X-Ray; by columns.

Sources: SkyWalking "Cross Process Propagation Headers Protocol" v3; the Datadog tracers' constants x-datadog-* (ids are
decimal, the high half of a 128 bit trace id is hexadecimal in the tag _dd.p.tid); AWS X-Ray "Tracing header".

SkyWalking's ids are texts. They become the ids that the Collector's skywalkingreceiver makes of them, so that both
land in one trace: a trace id is the UUID, xor thread and time where these follow it, little-endian; a span id is the
two halves of its segment's id, made likewise with the span's number in its first four bytes, xor each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.protocols.headers import Lines, Values
from otel_ebpf.tracing.values import Found, base64, behind, decimal, field, marks, pick, window

_DASH, _DOT = 45, 46
_UUID = np.array([8, 13, 18, 23])
"""Columns of the dashes in a UUID's text (RFC 9562 §4)."""
_SKYWALKING, _SEGMENT = 320, 96
"""Characters of an sw8 value that are looked at (its first four fields), and bytes of an id: those of Java have 66."""
_TAGS, _XRAY = 512, 160
_NUMBER = 24


def _skywalking(lines: Lines, values: Values) -> Found:
    """{sampled}-{trace}-{segment}-{span}-…: 0 or 1, base64, base64, decimal."""
    text = window(lines, values, _SKYWALKING)
    first, second, third, fourth = marks(text, _DASH, np.minimum(values.length, _SKYWALKING), 4)
    span, good = decimal(text, third + 1, fourth)
    good &= (first == 1) & np.isin(text[:, 0], list(b"01")) & (fourth < values.length) & (span < 1 << 32)
    traces, length, fits = base64(text, first + 1, second, _SEGMENT)
    trace, valid = _skywalking_id(traces, length, dashes=True)
    good &= fits & valid
    segments, length, fits = base64(text, second + 1, third, _SEGMENT)
    segment, valid = _skywalking_id(segments, length, dashes=False)
    good &= fits & valid
    segment[:, :4] ^= span.astype("<u4").view(np.uint8).reshape(-1, 4)
    return Found(values.row, good, trace, segment[:, :8] ^ segment[:, 8:], text[:, 0] == ord("1"))


def _skywalking_id(
    text: NDArray[np.uint8], length: NDArray[np.intp], dashes: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(k, 16) a trace's or segment's id, and which are valid: {32 digits}[.{thread}.{time}], a trace's also a UUID."""
    plain = length == 36
    if dashes and plain.any():
        plain &= (text[:, _UUID] == _DASH).all(1)
        kept = np.delete(np.arange(text.shape[1]), _UUID)
        text = text.copy()
        text[plain, : len(kept)] = text[plain][:, kept]
        length = np.where(plain, 32, length)
    end = np.full(len(text), 32)
    ids, good = field(text, np.zeros_like(end), end, 32)
    longer = length > 32
    first, second, third = marks(text, _DOT, length, 3)
    thread, is_thread = decimal(text, first + 1, second)
    time, is_time = decimal(text, second + 1, length)
    good &= (length >= 32) & (~longer | ((first == 32) & is_thread & is_time & (third == length)))
    numbers = np.stack([thread.astype(np.uint32).astype(np.uint64) << np.uint64(32), time], axis=1).astype("<u8")
    numbers[~longer] = 0
    return ids ^ numbers.view(np.uint8), good


def _datadog(lines: Lines, values: Values) -> Found:
    """x-datadog-trace-id, -parent-id; -sampling-priority: kept if above 0; -tags: the trace id's high half."""
    parents = lines.values(b"x-datadog-parent-id:")
    row, left, right = np.intersect1d(values.row, parents.row, assume_unique=True, return_indices=True)
    low, good = _number(lines, pick(values, left))
    parent, fits = _number(lines, pick(parents, right))
    good &= fits & (low != 0)
    n = len(lines.first)
    denied, high = np.zeros(n, np.bool_), np.zeros((n, 8), np.uint8)
    priority = lines.values(b"x-datadog-sampling-priority:")
    if len(priority.row):
        denied[priority.row] = np.isin(window(lines, priority, 1)[:, 0], list(b"-0"))
    tags = lines.values(b"x-datadog-tags:")
    if len(tags.row):
        text = window(lines, tags, _TAGS)
        begin = behind(text, b"_dd.p.tid=", b", ")
        half, valid = field(text, begin, begin + 16, 16)
        valid &= begin >= 0
        high[tags.row[valid]] = half[valid]
    trace = np.concatenate([high[row], _big_endian(low)], axis=1)
    return Found(row, good, trace, _big_endian(parent), ~denied[row])


def _xray(lines: Lines, values: Values) -> Found:
    """Root=1-{8 digits}-{24 digits};Parent={16 digits};Sampled={0 or 1}, in any order."""
    text = window(lines, values, _XRAY)
    root, parent, sampled = (behind(text, key, b"; ") for key in (b"Root=1-", b"Parent=", b"Sampled="))
    good = (root >= 0) & (parent >= 0) & (root + 33 <= values.length) & (parent + 16 <= values.length)
    time, fits = field(text, root, root + 8, 8)
    unique, valid = field(text, root + 9, root + 33, 24)
    span, whole = field(text, parent, parent + 16, 16)
    rows = np.arange(len(text))
    good &= fits & valid & whole & (text[rows, np.minimum(root + 8, _XRAY - 1)] == _DASH)
    denied = (sampled >= 0) & (text[rows, np.minimum(sampled, _XRAY - 1)] == ord("0"))
    return Found(values.row, good, np.concatenate([time, unique], axis=1), span, ~denied)


def _number(lines: Lines, values: Values) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    text = window(lines, values, _NUMBER)
    return decimal(text, np.zeros_like(values.length), values.length)


def _big_endian(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    raw: NDArray[np.uint8] = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
    return raw


VENDORS: tuple[tuple[Link, bytes, Callable[[Lines, Values], Found]], ...] = (
    (Link.SKYWALKING, b"sw8:", _skywalking),
    (Link.DATADOG, b"x-datadog-trace-id:", _datadog),
    (Link.XRAY, b"x-amzn-trace-id:", _xray),
)
"""Format, the header that tells it, and how it is read."""
