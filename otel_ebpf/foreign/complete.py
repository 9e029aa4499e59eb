"""`POST /v1/complete`: the spans of a foreign tracer in, the same spans and ours of the same traces out, joined.

Theory of operation. A request comes in a thread of the admin address and waits (`otel_ebpf.foreign.asked`); the agent's
loop takes its spans as if it had read them from the wire, and answers when all that happened by then has been decided.
What was exported of traces that others take part in is remembered for a while. A foreign root whose caller was observed
becomes that call's child; whether it was is known then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.foreign.asked import Questions, Recent
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


class Completing:
    """Answers requests: `ask` (see `Questions`) from any thread, all else from the agent's loop.

    encode: batch → messages of OTLP. identified: `Resources.identified`. callers: foreign root → our client span.
    """

    def __init__(
        self,
        listening: Listening,
        encode: Callable[[Spans], Iterable[Message]],
        identified: Callable[[int, str], int],
        callers: Mapping[bytes, bytes],
    ) -> None:
        self.enabled = False
        """Whether anything is remembered."""
        self._listening = listening
        self._encode = encode
        self._identified = identified
        self._callers = callers
        self._recent = Recent()
        self._questions = Questions(ANSWER_S)
        self._arrived: list[ExportTraceServiceRequest] = []
        """since the turn before: whose processes they tell of is known after the next drain"""
        self.ask = self._questions.ask

    def keep(self, spans: Spans, now: int, mine: NDArray[np.bool_] | None = None) -> None:
        """Spans that are being exported, or may be. mine: (n,) those of them that this is true of; None: all."""
        if not self.enabled:
            return
        others = spans.remote_link != NO_LINK
        rows = (others if mine is None else others & mine).nonzero()[0]
        if not len(rows):
            return
        for message in self._encode(spans.take(rows)):
            self._recent.keep(bytes(message.data), now)

    def turn(self, now: int) -> None:
        """Take what was asked since, answer what is due."""
        for request in self._arrived:
            self._listening.hear(self._listening.reader.handed_in(request, self._tgid), now)
        self._arrived = list(self._questions.arrived(now + SETTLE_NS))
        for asked in self._questions.due(now):
            asked.reply(self._completed(asked.request))

    def _tgid(self, resource: Resource) -> int:
        """The process that a resource is of, 0: not one that is known here."""
        pid = next((p.value.int_value for p in resource.attributes if p.key == "process.pid"), 0)
        name = next((p.value.string_value for p in resource.attributes if p.key == "service.name"), "")
        return self._identified(pid, name)

    def _completed(self, request: ExportTraceServiceRequest) -> bytes:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if not span.parent_span_id:
                        span.parent_span_id = self._callers.get(span.span_id, b"")
        return self._recent.beside(request)


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
