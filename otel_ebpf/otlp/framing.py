"""Where each row goes: rows grouped by resource, cut into export requests of bounded size.

    Export*ServiceRequest { repeated Resource* resource_* = 1 }
    Resource*             { Resource resource = 1; repeated Scope* scope_* = 2 }
    Scope*                { InstrumentationScope scope = 1; repeated Span/LogRecord = 2 }

Traces and logs have the same numbers, so one module frames both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from otel_ebpf import __version__
from otel_ebpf.otlp import wire
from otel_ebpf.otlp.columns import Index

SCOPE = wire.delimited(1, wire.delimited(1, b"otel_ebpf") + wire.delimited(2, __version__.encode()))
"""Field 1 of ScopeSpans and ScopeLogs: who made the rows."""

_LENGTH = 4
"""Bytes of the padded varints that hold the lengths of a header's messages."""


class Message(NamedTuple):
    """One export request, and how many spans, log records or data points it carries."""

    data: bytes
    items: int


@dataclass(slots=True)
class Plan:
    """The layout of one batch in one buffer.

    at: (n,) where each row begins. headers: what goes in front of each run of rows of one resource.
    messages: begin, end and number of rows of each request.
    """

    at: Index
    size: int = 0
    headers: list[tuple[int, bytes]] = field(default_factory=list)
    messages: list[tuple[int, int, int]] = field(default_factory=list)


def plan(total: Index, group: Index, resources: list[bytes], max_bytes: int, max_items: int) -> Plan:
    """Lay out n rows, of at most 65,536 resources.

    total: (n,) length of each row. group: (n,) which of `resources` (encoded, `Templates.resource`) it belongs to.
    A message is longer than `max_bytes` only where a single row is.
    """
    n = len(total)
    layout = Plan(np.empty(n, np.intp))
    order = np.argsort(group.astype(np.uint16), kind="stable") if len(resources) > 1 else np.arange(n)
    ends = np.cumsum(total[order])
    last_rows = np.cumsum(np.bincount(group, minlength=len(resources))).tolist()
    begins = np.empty(n, np.intp)
    position = start = items = row = 0
    for resource, last in zip(resources, last_rows, strict=True):
        overhead = _header_size(resource)
        while row < last:
            before = int(ends[row - 1]) if row else 0
            room = max_bytes - (position - start) - overhead
            fit = int(np.searchsorted(ends, before + room, side="right")) - row
            fit = min(fit, last - row, max_items - items)
            if fit <= 0:
                if items:
                    layout.messages.append((start, position, items))
                    start, items = position, 0
                    continue
                fit = 1
            length = int(ends[row + fit - 1]) - before
            layout.headers.append((position, _header(resource, length)))
            position += overhead
            begins[row : row + fit] = ends[row : row + fit] + (position - before)
            position += length
            items += fit
            row += fit
    if items:
        layout.messages.append((start, position, items))
    layout.at[order] = begins
    layout.at -= total
    layout.size = position
    return layout


def _header_size(resource: bytes) -> int:
    return 2 + 2 * _LENGTH + len(resource) + len(SCOPE)


def _header(resource: bytes, length: int) -> bytes:
    scope = len(SCOPE) + length
    whole = len(resource) + 1 + _LENGTH + scope
    return b"".join(
        (b"\x0a", wire.padded_varint(whole, _LENGTH), resource, b"\x12", wire.padded_varint(scope, _LENGTH), SCOPE)
    )
