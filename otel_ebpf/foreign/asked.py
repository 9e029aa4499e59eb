"""What completing the spans of another tracer takes, whoever does it: questions that wait, and spans that have gone by.

An agent and a gateway both get requests in threads of their admin address, and answer each of them from their own loop
when all that belongs to it has been seen.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_ebpf.foreign.spans import Reader
from otel_ebpf.foreign.streams import Export

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAITING = 8
MOST = 8 << 20
KEEP_NS = 60 * 10**9
SOUGHT = 16
"""Traces that are looked for in a message before it is read: more take longer than to read it."""


class Busy(Exception):
    """Too many requests wait, or nobody gets to them."""


@dataclass(slots=True)
class Asked:
    """One request, and when it is to be answered, ns; 0: not known yet."""

    request: ExportTraceServiceRequest
    due: int = 0
    answer: bytes = b""
    done: threading.Event = field(default_factory=threading.Event)

    def reply(self, answer: bytes) -> None:
        """Whoever has asked goes on."""
        self.answer = answer
        self.done.set()


class Questions:
    """Those that wait, at most WAITING: `ask` from any thread, all else from the loop that answers.

    >>> questions = Questions(answer_s=15.0)
    >>> for request in questions.arrived(due=now + 10**9): ...
    >>> for asked in questions.due(now): asked.reply(recent.beside(asked.request))
    """

    def __init__(self, answer_s: float) -> None:
        self._answer_s = answer_s
        self._asked: deque[Asked] = deque()

    def ask(self, body: bytes, coding: str = "", json: bool = False) -> bytes:
        """The completed request, protobuf. Raises ValueError, or protobuf's DecodeError, for what is no OTLP; Busy."""
        asked = Asked(Reader.parsed(Export(0, 0, body, coding, json)))
        if len(self._asked) >= WAITING:
            raise Busy("too many requests wait")
        self._asked.append(asked)
        if not asked.done.wait(self._answer_s):
            raise Busy("not completed in time")
        return asked.answer

    def arrived(self, due: int) -> Iterator[ExportTraceServiceRequest]:
        """What was asked since, to be answered then."""
        for asked in list(self._asked):
            if not asked.due:
                asked.due = due
                yield asked.request

    def due(self, now: int) -> Iterator[Asked]:
        """What is to be answered."""
        while self._asked and 0 < self._asked[0].due <= now:
            yield self._asked.popleft()


class Recent:
    """Serialized ExportTraceServiceRequests of the last KEEP_NS, at most MOST bytes."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0

    def keep(self, message: bytes, now: int) -> None:
        """From now on, ns."""
        self._kept.append((now, message))
        self._bytes += len(message)
        while self._kept and (self._bytes > MOST or self._kept[0][0] + KEEP_NS < now):
            self._bytes -= len(self._kept.popleft()[1])

    def beside(self, request: ExportTraceServiceRequest) -> bytes:
        """The request, and all spans here that are of its traces, serialized."""
        traces = {s.trace_id for r in request.resource_spans for scope in r.scope_spans for s in scope.spans}
        parts = [request.SerializeToString()]
        many = len(traces) > SOUGHT
        for _, message in self._kept:
            if many or any(trace in message for trace in traces):
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
