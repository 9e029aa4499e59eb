"""One JSON object a line for machines, one line an exchange; the keys are stable.

| key | value |
|---|---|
| time | start of the request, RFC 3339, UTC, nanoseconds |
| duration_ns, first_byte_ns | from the start to the response's last, and first, byte; first_byte_ns null: no answer |
| service, pid, kind | who saw it, its process id, "server" or "client" |
| peer, peer_port | the other end: name if known, else address; port null for unix sockets |
| protocol, name, status, error | as on the span; status as on the wire, "" if there is none; error: true or false |
| request_bytes, response_bytes | on the wire; plaintext where the TLS library gave it |
| tls, answered | true or false |
| trace_id, span_id, parent_id | lower-case hex as W3C Trace Context writes them; parent_id "" for a root |
| link | how the parent was found, as `otel_ebpf.link.method` |
| attributes | all attributes of the span, OpenTelemetry semantic conventions |

Lines are ASCII: whatever a stranger sent is escaped, so they are safe on a terminal too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.control.lines import UNKNOWN, Lines, peer_name, slot_text
from otel_ebpf.control.tables import Tables, known, side_of
from otel_ebpf.model import AttributeValue, Flag, Kind, Link, Spans

_MAX_TEXT = 1 << 16
_METHODS = {link.value: link.label for link in Link}
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


class JsonLines:
    """Rows as JSON objects."""

    def __init__(self) -> None:
        self._lines = Lines()

    def format(self, spans: Spans, tables: Tables, rows: NDArray[np.intp]) -> Iterator[str]:
        """A line, without its end, for each of the rows."""
        trace = np.ascontiguousarray(spans.trace[rows]).view(np.uint8).reshape(len(rows), 16)
        span_id = np.ascontiguousarray(spans.span_id[rows]).view(np.uint8).reshape(len(rows), 8)
        parent = np.ascontiguousarray(spans.parent[rows]).view(np.uint8).reshape(len(rows), 8)
        for i, row in enumerate(rows.tolist()):
            kind, flags = int(spans.kind[row]), int(spans.flags[row])
            start, first = int(spans.start[row]), int(spans.first_byte[row])
            shape, endpoint = int(spans.shape[row]), int(spans.endpoint[row])
            port, parent_id = int(spans.peer_port[row]), parent[i].tobytes().hex()
            said = self._lines.said(tables, shape, kind)
            who = known(tables.resources, int(spans.resource[row]))
            line = {
                "time": _timestamp(start + tables.offset_ns),
                "duration_ns": max(int(spans.end[row]) - start, 0),
                "first_byte_ns": max(first - start, 0) if first else None,
                "service": who.service if who else "",
                "pid": int(spans.tgid[row]),
                "kind": "client" if kind == Kind.CLIENT else "server",
                "peer": peer_name(known(tables.endpoints, endpoint), kind, said.address),
                "peer_port": port or None,
                "protocol": said.protocol or UNKNOWN,
                "name": said.name,
                "status": said.status,
                "error": said.error or bool(flags & Flag.UNANSWERED),
                "request_bytes": int(spans.req_bytes[row]),
                "response_bytes": int(spans.rsp_bytes[row]),
                "tls": bool(flags & Flag.TLS),
                "answered": not flags & Flag.UNANSWERED,
                "trace_id": trace[i].tobytes().hex(),
                "span_id": span_id[i].tobytes().hex(),
                "parent_id": parent_id if any(parent[i]) else "",
                "link": _METHODS.get(int(spans.link[row]), ""),
                "attributes": attributes(spans, tables, row),
            }
            yield _ENCODER.encode(line).replace("\x7f", "\\u007f")


def attributes(spans: Spans, tables: Tables, row: int) -> dict[str, AttributeValue]:
    """All attributes of a row's span, as they are exported."""
    out: dict[str, AttributeValue] = {}
    fields = known(tables.shapes, int(spans.shape[row]))
    endpoint = known(tables.endpoints, int(spans.endpoint[row]))
    side = side_of(fields, int(spans.kind[row])) if fields else None
    if endpoint is not None:
        out.update(endpoint.always)
        if side is None or not side.addressed:
            out.update(endpoint.unless_addressed)
    if side is not None:
        out.update(side.attributes)
        for slot in side.slots:
            text = slot_text(spans, row, slot.index, _MAX_TEXT)
            if text:
                out[slot.attribute] = slot.prefix + text
    if spans.peer_port[row]:
        out["network.peer.port"] = int(spans.peer_port[row])
    return out


def _timestamp(unix_ns: int) -> str:
    seconds, ns = divmod(unix_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ns:09d}Z"
