"""`POST /v1/complete`: the spans of a foreign tracer in, the same spans and ours of the same traces out, joined.

Theory of operation. A request comes in a thread of the admin address and waits; the agent's loop takes its spans as if
it had read them from the wire, and answers when all that happened by then has been decided. What was exported of traces
that others take part in is remembered for a while, encoded, at most MOST bytes of it. A foreign root whose caller was
observed becomes that call's child; whether it was is known then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.foreign.spans import Reader
from otel_ebpf.foreign.streams import Export
from otel_ebpf.model import Spans
from otel_ebpf.otlp.framing import Message
from otel_ebpf.tracing.bits import NO_LINK

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    from otel_ebpf.foreign.listening import Listening

SETTLE_NS = 2_500_000_000
"""After so long what happened before a request came is decided."""
ANSWER_S = 15.0
WAITING = 8
MOST = 8 << 20
KEEP_NS = 60 * 10**9


class Busy(Exception):
    """Too many requests wait, or the agent does not get to them."""


@dataclass(slots=True)
class _Asked:
    request: ExportTraceServiceRequest
    due: int = 0
    answer: bytes = b""
    done: threading.Event = field(default_factory=threading.Event)


class Completing:
    """Answers requests: `ask` from any thread, all else from the agent's loop.

    encode: batch → messages of OTLP. called: the processes of a service name. callers: foreign root → our client span.
    """

    def __init__(
        self,
        listening: Listening,
        encode: Callable[[Spans], Iterable[Message]],
        called: Callable[[str], list[int]],
        callers: Mapping[bytes, bytes],
    ) -> None:
        self.enabled = False
        """Whether anything is remembered."""
        self._listening = listening
        self._encode = encode
        self._called = called
        self._callers = callers
        self._asked: deque[_Asked] = deque()
        self._ours: deque[tuple[int, bytes]] = deque()
        self._bytes = 0

    def ask(self, body: bytes, coding: str = "", json: bool = False) -> bytes:
        """The completed request, protobuf. Raises ValueError, or protobuf's DecodeError, for what is no OTLP; Busy."""
        asked = _Asked(Reader.parsed(Export(0, 0, body, coding, json)))
        if len(self._asked) >= WAITING:
            raise Busy("too many requests wait")
        self._asked.append(asked)
        if not asked.done.wait(ANSWER_S):
            raise Busy("not completed in time")
        return asked.answer

    def keep(self, spans: Spans, now: int, mine: NDArray[np.bool_] | None = None) -> None:
        """Spans that are being exported, or may be. mine: (n,) those of them that this is true of; None: all."""
        if not self.enabled:
            return
        others = spans.remote_link != NO_LINK
        rows = (others if mine is None else others & mine).nonzero()[0]
        if not len(rows):
            return
        for message in self._encode(spans.take(rows)):
            self._ours.append((now, bytes(message.data)))
            self._bytes += len(message.data)
        while self._ours and (self._bytes > MOST or self._ours[0][0] + KEEP_NS < now):
            self._bytes -= len(self._ours.popleft()[1])

    def turn(self, now: int) -> None:
        """Take what was asked since, answer what is due."""
        for asked in list(self._asked):
            if not asked.due:
                asked.due = now + SETTLE_NS
                spans = self._listening.reader.handed_in(asked.request, self._tgid)
                self._listening.hear(spans, now)
        while self._asked and self._asked[0].due <= now:
            asked = self._asked.popleft()
            asked.answer = self._completed(asked.request)
            asked.done.set()

    def _tgid(self, resource: Resource) -> int:
        """The process that a resource is of, 0: not one that is known here."""
        pid = next((p.value.int_value for p in resource.attributes if p.key == "process.pid"), 0)
        if 0 < pid < 1 << 22:
            return pid
        name = next((p.value.string_value for p in resource.attributes if p.key == "service.name"), "")
        found = self._called(name) if name else []
        return found[0] if len(found) == 1 else 0

    def _completed(self, request: ExportTraceServiceRequest) -> bytes:
        traces = set()
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    traces.add(span.trace_id)
                    if not span.parent_span_id:
                        span.parent_span_id = self._callers.get(span.span_id, b"")
        parts = [request.SerializeToString()]
        for _, message in self._ours:
            if any(trace in message for trace in traces):
                parts.append(_only(message, traces))
        return b"".join(parts)  # repeated fields one after the other are one message (protobuf.dev, "Encoding")


def _only(message: bytes, traces: set[bytes]) -> bytes:
    """Of an ExportTraceServiceRequest what is of these traces."""
    request = Reader.parsed(Export(0, 0, message))
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            kept = [span for span in scope.spans if span.trace_id in traces]
            del scope.spans[:]
            scope.spans.extend(kept)
    kept_resources = [r for r in request.resource_spans if any(scope.spans for scope in r.scope_spans)]
    del request.resource_spans[:]
    request.resource_spans.extend(kept_resources)
    return request.SerializeToString()


class Callers(dict[bytes, bytes]):
    """Foreign roots → the client spans of ours that called them; the oldest of more than `limit` go."""

    def __init__(self, limit: int = 1 << 14) -> None:
        super().__init__()
        self._limit = limit

    def note(
        self, roots: np.ndarray[tuple[int], np.dtype[np.uint64]], calls: np.ndarray[tuple[int], np.dtype[np.uint64]]
    ) -> None:
        """roots, calls: (n,) span ids."""
        for root, call in zip(roots, calls, strict=True):
            self[root.tobytes()] = call.tobytes()
        while len(self) > self._limit:
            del self[next(iter(self))]
