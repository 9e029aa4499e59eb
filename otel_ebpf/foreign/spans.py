"""What an SDK exported, as columns: who made which span of which trace, when, and towards whom.

Source: opentelemetry-proto, trace/v1/trace.proto; the ports' names are those of the semantic conventions, old and new.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.foreign.streams import MOST, Export
from otel_ebpf.model import Attributes

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource as OtlpResource
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

_Row: TypeAlias = "tuple[int, int, bytes, bytes, bytes, int, int, int, int]"
SPANS = 1 << 14
"""At once; what is more is counted."""
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
"""OTLP `Span.SpanKind`."""
_SERVER_PORTS = frozenset({"client.port", "network.peer.port", "net.peer.port", "net.sock.peer.port"})
_CLIENT_PORTS = frozenset({"server.port", "network.peer.port", "net.peer.port", "net.sock.peer.port"})
_SYSTEMS = frozenset({"db.system", "db.system.name", "rpc.system", "rpc.system.name"})
_HTTP = frozenset({"http.method", "http.request.method"})
_NAMES = ("service.name", "service.namespace", "service.instance.id", "service.version")
_SAID = frozenset((*_NAMES, "telemetry.sdk.name"))
_OURS = "otel_ebpf"
"""`telemetry.sdk.name` of agents like this one (resource/host.py)."""
_FORWARDERS = 4096
_LONGEST_NAME = 256
_LONGEST_PORT = len("65535")
_INFLATED = 4 * MOST
"""Bytes of a request, and of all that are read at once: as many as SPANS ordinary ones take."""
PROTOCOLS = ("", "http", "redis", "postgresql", "mysql", "grpc")
"""Of calls, as spans tell them; the index is the code in `protocol`."""


@dataclass(slots=True)
class ForeignSpans:
    """n spans. Times: CLOCK_MONOTONIC ns. Ids: bytes as on the wire."""

    tgid: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    trace: NDArray[np.uint64]
    """(n, 2)"""
    span: NDArray[np.uint64]
    parent: NDArray[np.uint64]
    start: NDArray[np.uint64]
    end: NDArray[np.uint64]
    port: NDArray[np.uint16]
    """(n,) of the other end; 0: not told"""
    protocol: NDArray[np.uint8]
    """(n,) index into PROTOCOLS"""

    def __len__(self) -> int:
        return len(self.span)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> ForeignSpans:
        """The given rows (index array or mask)."""
        return ForeignSpans(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @staticmethod
    def concat(parts: Sequence[ForeignSpans]) -> ForeignSpans:
        """All rows of all parts (at least one)."""
        if len(parts) == 1:
            return parts[0]
        return ForeignSpans(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(ForeignSpans)}
        )

    @staticmethod
    def of(rows: Iterable[_Row]) -> ForeignSpans:
        """From (tgid, kind, trace id, span id, parent's, start, end, port, protocol)."""
        table = list(rows)
        tgid, kind, trace, span, parent, start, end, port, protocol = zip(*table, strict=True) if table else ((),) * 9
        return ForeignSpans(
            tgid=np.array(tgid, np.uint32),
            kind=np.array(kind, np.uint8),
            trace=np.frombuffer(b"".join(trace), np.uint64).reshape(-1, 2),
            span=np.frombuffer(b"".join(span), np.uint64),
            parent=np.frombuffer(b"".join(parent), np.uint64),
            start=np.array(start, np.uint64),
            end=np.array(end, np.uint64),
            port=np.array(port, np.uint16),
            protocol=np.array(protocol, np.uint8),
        )


class Reader:
    """Reads exports. refused: requests that are no OTLP. left_out: spans beyond the limit, or without valid ids.

    offset: Unix ns minus monotonic ns, now.
    """

    def __init__(self, offset: Callable[[], int]) -> None:
        self.forwarders: set[int] = set()
        """processes that pass on what others tell: Collectors, agents"""
        self.unmasked: set[int] = set()
        """those of them that are new since somebody cleared this: what they told before was not about themselves"""
        self.proven: set[int] = set()
        """connections of the exports that were read last, and say whom they are of"""
        self.refused = 0
        self.left_out = 0
        self._offset = offset
        self._left = 0
        """bytes that may still be read at once"""

    def read(
        self, exports: Sequence[Export], seen: Callable[[set[int]], object] = lambda _conns: None
    ) -> tuple[ForeignSpans, dict[int, Attributes]]:
        """The spans, and by process what its resource calls it; nothing of those that are forwarders by the end of it.

        seen: called with the connections that carry exports, to say by `forward` who receives them."""
        names: dict[int, Attributes] = {}
        rows: list[_Row] = []
        offset = self._offset()
        self.proven, self._left = set(), _INFLATED
        for export in exports:
            if export.tgid in self.forwarders and export.conn in self.proven:
                continue
            try:
                self._request(export, offset, rows, names)
            except Exception:  # hostile bytes may raise anything in three libraries; none of it is news
                self.refused += 1
        seen(self.proven)
        if self.unmasked:
            rows = [row for row in rows if row[0] not in self.forwarders]
            names = {tgid: name for tgid, name in names.items() if tgid not in self.forwarders}
        return ForeignSpans.of(rows), names

    def forward(self, tgid: int) -> None:
        """The process passes on what others tell: nothing of that is about itself."""
        if tgid in self.forwarders:
            return
        if len(self.forwarders) >= _FORWARDERS:
            self.forwarders.pop()
        self.forwarders.add(tgid)
        self.unmasked.add(tgid)

    @staticmethod
    def parsed(export: Export) -> ExportTraceServiceRequest:
        """The request. Raises what the libraries do when it is none: ValueError, protobuf's DecodeError, Malformed."""
        return _message(_inflated(export.body, export.coding, _INFLATED), export.json)

    def handed_in(self, request: ExportTraceServiceRequest, tgid_of: Callable[[OtlpResource], int]) -> ForeignSpans:
        """The spans of a request whose sender tells of several processes. tgid_of: 0: of none that is known."""
        rows: list[_Row] = []
        offset = self._offset()
        for resource in request.resource_spans:
            tgid = tgid_of(resource.resource)
            if tgid:
                self._rows(resource, tgid, offset, rows)
        return ForeignSpans.of(rows)

    def _request(self, export: Export, offset: int, rows: list[_Row], names: dict[int, Attributes]) -> None:
        body = _inflated(export.body, export.coding, self._left)
        self._left -= len(body)
        request = _message(body, export.json)
        told = [
            {pair.key: pair.value.string_value for pair in resource.resource.attributes if pair.key in _SAID}
            for resource in request.resource_spans
        ]
        if any(told):  # other messages may have the same form, but no such resource
            self.proven.add(export.conn)
        who = {tuple(said.get(name) for name in _NAMES) for said in told}
        if len(who) > 1 or any(said.get("telemetry.sdk.name") == _OURS for said in told):
            self.forward(export.tgid)
        if export.tgid in self.forwarders:
            return
        before = len(rows)
        for resource in request.resource_spans:
            self._rows(resource, export.tgid, offset, rows)
        if len(rows) > before and told[0].get("service.name"):
            names[export.tgid] = tuple((n, told[0][n][:_LONGEST_NAME]) for n in _NAMES if told[0].get(n))

    def _rows(self, resource: ResourceSpans, tgid: int, offset: int, rows: list[_Row]) -> None:
        for scope in resource.scope_spans:
            for span in scope.spans:
                trace, own, parent = span.trace_id, span.span_id, span.parent_span_id
                start, end = span.start_time_unix_nano - offset, span.end_time_unix_nano - offset
                valid = len(trace) == 16 and len(own) == 8 and len(parent) in (0, 8) and 0 < start <= end < 1 << 63
                if not valid or len(rows) >= SPANS:
                    self.left_out += 1
                    continue
                kind = span.kind if 0 <= span.kind <= CONSUMER else 0
                port, protocol = _towards(span.attributes, kind) if kind in (SERVER, CLIENT) else (0, 0)
                rows.append((tgid, kind, trace, own, parent or bytes(8), start, end, port, protocol))


def _towards(attributes: Iterable[object], kind: int) -> tuple[int, int]:
    """The other end's port, 0: not told; and the protocol's code."""
    ports = _SERVER_PORTS if kind == SERVER else _CLIENT_PORTS
    port = protocol = 0
    for pair in attributes:
        key = pair.key  # type: ignore[attr-defined]
        if key in ports:
            value = pair.value  # type: ignore[attr-defined]
            text = value.string_value
            number = value.int_value or (int(text) if text.isdecimal() and len(text) <= _LONGEST_PORT else 0)
            # net.sock.peer.port is nearer to the socket than net.peer.port, but both are seldom there and then equal.
            port = number if 0 < number < 1 << 16 else port
        elif key in _SYSTEMS:
            system = pair.value.string_value  # type: ignore[attr-defined]
            protocol = PROTOCOLS.index(system) if system in PROTOCOLS else protocol
        elif key in _HTTP:
            protocol = protocol or 1
    return port, protocol


def _message(body: bytes, json: bool) -> ExportTraceServiceRequest:
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

    from otel_ebpf.viewer.decode.weight import weigh

    if json:
        from otel_ebpf.viewer.receiver.json_form import to_protobuf

        body = to_protobuf("traces", body)
    weigh(body, trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR)
    return trace_service_pb2.ExportTraceServiceRequest.FromString(body)


def _inflated(body: bytes, coding: str, most: int) -> bytes:
    if coding not in ("", "gzip", "deflate"):
        raise ValueError(coding)
    if coding and most > 0:  # 0 would be no limit
        stream = zlib.decompressobj(zlib.MAX_WBITS | (16 if coding == "gzip" else 0))
        body = stream.decompress(body, most)
        if not stream.eof:
            raise ValueError("cut off, or too long")
    if len(body) > most:
        raise ValueError("too long")
    return body
