"""Trace contexts that requests carry in their HTTP headers, by columns: W3C traceparent, B3 (single, multi), Jaeger,
and those of vendors (tracing/vendors.py): SkyWalking, Datadog, X-Ray.

Sources: W3C Trace Context §3.2; github.com/openzipkin/b3-propagation; Jaeger client libraries, "Propagation format".
Where several are present the first of this order that is valid holds. `tracestate` and baggage are not read.

A sampling decision that was left to us (B3 without a state) counts as sampled: dropping a trace that its owner has not
dropped would tear it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.protocols.headers import Lines, Values
from otel_ebpf.tracing.request_ids import request_ids
from otel_ebpf.tracing.values import NIBBLE, NONE, Found, bytes_of, field, marks, pick, window
from otel_ebpf.tracing.vendors import VENDORS

_DASH, _COLON, _PERCENT = 45, 58, 37
_TRACEPARENT = 55
_LONGEST = 128  # characters of a B3 or Jaeger value that are looked at; the longest valid ones have 67 and 76


@dataclass(slots=True)
class Remote:
    """The context of each of n requests.

    link: (n,) the format (`model.FROM_MESSAGE`) or Link.NONE. trace: (n, 2) uint64, the 16 bytes of the trace id as on
    the wire. parent: (n,) uint64, likewise the 8 bytes of the span id. flags: (n,) uint8, bit 0: sampled.
    request_id: (n,) uint64, see `request_ids`.
    """

    link: NDArray[np.uint8]
    trace: NDArray[np.uint64]
    parent: NDArray[np.uint64]
    flags: NDArray[np.uint8]
    request_id: NDArray[np.uint64]

    @classmethod
    def none(cls, n: int) -> Remote:
        """No request carries any."""
        byte, word = np.zeros(n, np.uint8), np.zeros(n, np.uint64)
        return cls(byte, np.zeros((n, 2), np.uint64), word, byte.copy(), word.copy())

    @property
    def tells(self) -> NDArray[np.bool_]:
        """(n,) which rows have anything."""
        anything: NDArray[np.bool_] = (self.link != Link.NONE) | (self.request_id != 0)
        return anything

    def take(self, which: NDArray[np.intp]) -> Remote:
        """Some of the rows."""
        return Remote(*(getattr(self, f.name)[which] for f in fields(self)))

    def _put(self, link: Link, found: Found) -> None:
        """Take over what is valid, in rows that have nothing yet."""
        good = found.good & (self.link[found.row] == Link.NONE)
        good &= (found.trace != 0).any(1) & (found.parent != 0).any(1)
        if not good.any():
            return
        row = found.row[good]
        self.link[row] = link
        self.trace[row] = np.ascontiguousarray(found.trace[good]).view(np.uint64)
        self.parent[row] = np.ascontiguousarray(found.parent[good]).view(np.uint64).ravel()
        self.flags[row] = found.sampled[good]


def remote(lines: Lines) -> Remote:
    """The contexts in the header blocks of n messages; nothing in targets or bodies is taken for one."""
    result = Remote.none(len(lines.first))
    result.request_id = request_ids(lines)
    if not len(lines.row):
        return result
    found = lines.lines(b"traceparent:")
    if len(found):
        result._put(Link.TRACEPARENT, _traceparent(lines, found))
    for link, name, reads in ((Link.B3, b"b3:", _b3), (Link.JAEGER, b"uber-trace-id:", _jaeger)):
        values = lines.values(name)
        if len(values.row):
            result._put(link, reads(lines, values))
        if link == Link.B3:
            _multi(lines, result)
    for link, name, reader in VENDORS:
        values = lines.values(name)
        if len(values.row):
            result._put(link, reader(lines, values))
    return result


def _traceparent(lines: Lines, found: NDArray[np.intp]) -> Found:
    row = lines.row[found]
    # More than one is as good as none: it cannot be known which one is meant.
    single = np.bincount(row)[row] == 1
    values = lines.strip(row, lines.start[found] + 12, lines.end[found])
    text = window(lines, values, _TRACEPARENT + 1)
    nibble = NIBBLE[text]
    version = nibble[:, 0].astype(np.int16) * 16 + nibble[:, 1]
    good = single & (nibble[:, :2] != NONE).all(1) & (version != 255) & (values.length >= _TRACEPARENT)
    good &= (text[:, [2, 35, 52]] == _DASH).all(1) & (nibble[:, 53:55] != NONE).all(1)
    # Version 00 is exactly so long; a later one may go on behind a dash.
    good &= (values.length == _TRACEPARENT) | ((version > 0) & (text[:, 55] == _DASH))
    good &= (nibble[:, 3:35] != NONE).all(1) & (nibble[:, 36:52] != NONE).all(1)
    return Found(row, good, bytes_of(nibble[:, 3:35]), bytes_of(nibble[:, 36:52]), nibble[:, 54] & 1 > 0)


def _b3(lines: Lines, values: Values) -> Found:
    """{trace}-{span}[-{state}[-{parent}]], 16 or 32 and 16 digits; the state is 0, 1 or d."""
    text = window(lines, values, _LONGEST)
    first, second, third = marks(text, _DASH, values.length, 3)
    trace, good = field(text, np.zeros_like(first), first, 32)
    parent, fits = field(text, first + 1, second, 16)
    good &= fits & ((first == 16) | (first == 32)) & (second - first == 17) & (values.length <= _LONGEST)
    state = text[np.arange(len(text)), np.minimum(second + 1, _LONGEST - 1)]
    absent = second >= values.length
    good &= absent | ((third == second + 2) & np.isin(state, list(b"01d")))
    return Found(values.row, good, trace, parent, absent | (state != ord("0")))


def _multi(lines: Lines, result: Remote) -> None:
    traces = lines.values(b"x-b3-traceid:")
    spans = lines.values(b"x-b3-spanid:")
    if not len(traces.row) or not len(spans.row):
        return
    row, left, right = np.intersect1d(traces.row, spans.row, assume_unique=True, return_indices=True)
    size = traces.length[left]
    zero = np.zeros_like(size)
    trace, good = field(window(lines, pick(traces, left), 32), zero, size, 32)
    parent, fits = field(window(lines, pick(spans, right), 16), zero, spans.length[right], 16)
    good &= fits & ((size == 16) | (size == 32)) & (spans.length[right] == 16)
    denied = np.zeros(len(result.link), np.bool_)
    sampled = lines.values(b"x-b3-sampled:")
    if len(sampled.row):
        denied[sampled.row] = np.isin(window(lines, sampled, 1)[:, 0], list(b"0fF"))  # 0 or, in old tracers, false
    result._put(Link.B3, Found(row, good, trace, parent, ~denied[row]))


def _jaeger(lines: Lines, values: Values) -> Found:
    """{trace}:{span}:{parent}:{flags}, hexadecimal, leading zeros may be missing; the colons may be %3A."""
    text = window(lines, values, _LONGEST)
    length = values.length.copy()
    escaped = (text == _PERCENT).any(1)
    if escaped.any():
        _unescape(text, length, escaped)
    first, second, third = marks(text, _COLON, length, 3)
    trace, good = field(text, np.zeros_like(first), first, 32)
    parent, fits = field(text, first + 1, second, 16)
    flags, whole = field(text, third + 1, length, 2)
    good &= fits & whole & (length <= _LONGEST)
    return Found(values.row, good, trace, parent, flags[:, 0] & 1 > 0)


def _unescape(text: NDArray[np.uint8], length: NDArray[np.intp], rows: NDArray[np.bool_]) -> None:
    """Replace `%3A` by a colon in the given rows of `text`, in place."""
    part, size = text[rows], length[rows]
    at = np.minimum(np.arange(_LONGEST) + np.array([[1], [2]]), _LONGEST - 1)
    escape = (part == _PERCENT) & (part[:, at[0]] == ord("3")) & (part[:, at[1]] | 32 == ord("a"))
    keep = np.ones_like(escape)
    keep[:, 1:] &= ~escape[:, :-1]
    keep[:, 2:] &= ~escape[:, :-2]
    order = np.argsort(~keep, axis=1, kind="stable")
    part[escape] = _COLON
    moved = np.take_along_axis(part, order, 1)
    size = size - 2 * escape.sum(1)
    moved[np.arange(_LONGEST) >= size[:, None]] = 0
    text[rows], length[rows] = moved, size
