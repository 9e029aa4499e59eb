"""Parents for the calls of spans: which are sought, what is found, and how it is written into the spans."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from otel_ebpf.infer.spans import INTERNAL, REQUEST, Spans
from otel_ebpf.tracing.statistics import NONE, Assignment, Columns, Delays, assign_all

METHOD = "statistics"
PARENT, LINK = 0.95, 0.5
"""From which confidence on a request is the parent, and a linked span."""
_REQUEST_KINDS, _CALL_KINDS = 8, 24
_CLIMB = 64


@dataclass(slots=True)
class Tally:
    """What became of the calls of a service."""

    requests: int = 0
    calls: int = 0
    given: int = 0
    """They had a parent."""
    parents: int = 0
    links: int = 0
    declined: int = 0
    outside: int = 0
    """No request contains them."""

    def add(self, other: Tally) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Service:
    """What is kept of a service from one batch of spans to the next."""

    request_kinds: dict[str, int] = field(default_factory=dict)
    call_kinds: dict[tuple[str, str], int] = field(default_factory=dict)
    delays: Delays | None = None
    tally: Tally = field(default_factory=Tally)


class Linker:
    """Infers batch by batch; remembers of each service (at most `most`) what it learned."""

    def __init__(self, most: int = 10_000) -> None:
        self.services: dict[str, Service] = {}
        self._most = most

    def link(self, spans: Spans) -> None:
        """Changes the objects of the spans."""
        at = {identity: i for i, identity in enumerate(spans.id)}
        callee = {parent: i for i, parent in enumerate(spans.parent) if parent and spans.kind[i] == REQUEST}
        by_service: dict[str, tuple[list[int], list[int]]] = {}
        for i, kind in enumerate(spans.kind):
            if kind != INTERNAL:
                by_service.setdefault(spans.service[i], ([], []))[kind].append(i)
        above: dict[int, int] = {}
        for name, (requests, calls) in by_service.items():
            if len(self.services) >= self._most and name not in self.services:
                del self.services[next(iter(self.services))]
            service = self.services.setdefault(name, Service())
            self._link_service(spans, service, np.array(requests, np.int64), calls, at, callee, above)
        _hand_down(spans, at, above)

    def _link_service(
        self,
        spans: Spans,
        service: Service,
        requests: np.ndarray[tuple[int], np.dtype[np.int64]],
        calls: list[int],
        at: dict[str, int],
        callee: dict[str, int],
        above: dict[int, int],
    ) -> None:
        number = {int(i): k for k, i in enumerate(requests)}
        known = [_known(spans, i, at, number) for i in calls]
        sought = [k for k, i in enumerate(calls) if not spans.parent[i]]
        used = [k for k, i in enumerate(calls) if not spans.parent[i] or known[k] != NONE]
        service.tally.requests += len(requests)
        service.tally.calls += len(calls)
        service.tally.given += len(calls) - len(sought)
        if not sought:
            return
        if not len(requests):
            service.tally.outside += len(sought)
            return
        rows = [calls[k] for k in used]
        columns = _columns(spans, service, requests, rows, [known[k] for k in used], callee)
        found = assign_all(columns, service.delays)
        service.delays = found.delays
        for row, i in enumerate(rows):
            if not spans.parent[i]:
                self._write(spans, service.tally, i, row, requests, found, above)

    @staticmethod
    def _write(
        spans: Spans,
        tally: Tally,
        i: int,
        row: int,
        requests: np.ndarray[tuple[int], np.dtype[np.int64]],
        found: Assignment,
        above: dict[int, int],
    ) -> None:
        parent, confidence = int(found.parent[row]), float(found.confidence[row])
        candidates = int(found.candidates[row])
        if not candidates:
            tally.outside += 1
            return
        if parent == NONE or confidence < LINK:
            tally.declined += 1
            return
        request = int(requests[parent])
        span = spans.span[i]
        evidence: list[dict[str, object]] = [
            {"key": "otel_ebpf.link.method", "value": {"stringValue": METHOD}},
            {"key": "otel_ebpf.link.confidence", "value": {"doubleValue": round(confidence, 4)}},
            {"key": "otel_ebpf.link.candidates", "value": {"intValue": str(candidates)}},
        ]
        if confidence >= PARENT:
            tally.parents += 1
            above[i] = request
            span["parentSpanId"] = spans.span[request]["spanId"]
            _append(span, "attributes", evidence)
        else:
            tally.links += 1
            linked = {"traceId": spans.span[request].get("traceId", ""), "spanId": spans.span[request]["spanId"]}
            _append(span, "links", [{**linked, "attributes": evidence}])


def _append(span: dict[str, object], key: str, values: list[dict[str, object]]) -> None:
    old = span.get(key)
    span[key] = [*old, *values] if isinstance(old, list) else values


def _known(spans: Spans, i: int, at: dict[str, int], number: dict[int, int]) -> int:
    """The request, as a number, that a call's parents lead to; NONE if they lead elsewhere, or it has none."""
    for _ in range(_CLIMB):
        parent = at.get(spans.parent[i])
        if parent is None:
            return NONE
        if parent in number:
            return number[parent]
        i = parent
    return NONE


def _columns(
    spans: Spans,
    service: Service,
    requests: np.ndarray[tuple[int], np.dtype[np.int64]],
    calls: list[int],
    known: list[int],
    callee: dict[str, int],
) -> Columns:
    places: dict[str, int] = {}
    start, end = np.array(spans.start, np.int64), np.array(spans.end, np.int64)
    work = [callee.get(spans.id[i], i) for i in calls]
    request_kind, request_kinds = _request_kinds(spans, service, requests.tolist())
    call_kind, call_kinds = _call_kinds(spans, service, calls)
    return Columns(
        request_start=start[requests],
        request_end=end[requests],
        request_kind=request_kind,
        request_place=np.array([places.setdefault(spans.place[i], len(places)) for i in requests], np.int64),
        call_start=start[calls],
        call_end=end[calls],
        call_kind=call_kind,
        call_place=np.array([places.setdefault(spans.place[i], len(places)) for i in calls], np.int64),
        work=end[work] - start[work],
        known=np.array(known, np.int64),
        request_kinds=request_kinds,
        call_kinds=call_kinds,
    )


def _request_kinds(
    spans: Spans, service: Service, requests: list[int]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """By name: the most frequent ones, the others are one kind. The first batch decides."""
    if not service.request_kinds:
        names = Counter(spans.name[i] for i in requests).most_common(_REQUEST_KINDS - 1)
        service.request_kinds = {name: k for k, (name, _) in enumerate(names)}
    kinds = service.request_kinds
    return np.array([kinds.get(spans.name[i], len(kinds)) for i in requests], np.int64), len(kinds) + 1


def _call_kinds(
    spans: Spans, service: Service, calls: list[int]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """By callee and name, if these are few; else by callee: names may bear ids. The first batch decides."""
    if not service.call_kinds:
        both = Counter((spans.peer[i], spans.name[i]) for i in calls)
        if len(both) >= _CALL_KINDS:
            both = Counter((spans.peer[i], "") for i in calls)
        service.call_kinds = {kind: k for k, (kind, _) in enumerate(both.most_common(_CALL_KINDS - 1))}
    kinds = service.call_kinds
    rest = len(kinds)
    of = [kinds.get((spans.peer[i], spans.name[i]), kinds.get((spans.peer[i], ""), rest)) for i in calls]
    return np.array(of, np.int64), rest + 1


def _hand_down(spans: Spans, at: dict[str, int], above: dict[int, int]) -> None:
    """A call that got a parent joins its trace, and so does all that is below the call."""
    traces: dict[int, object] = {}
    for i in range(len(spans)):
        path: list[int] = []
        while i not in traces and len(path) <= len(spans):
            path.append(i)
            parent = above.get(i)
            if parent is None:
                parent = at.get(spans.parent[i], NONE)
                if parent != NONE and spans.span[parent].get("traceId") != spans.span[i].get("traceId"):
                    parent = NONE  # the document's own matter
            if parent == NONE or parent in path[-2:]:
                traces[i] = spans.span[i].get("traceId")
                break
            i = parent
        for k in path:
            traces[k] = traces.get(i, spans.span[k].get("traceId"))
    for i, trace in traces.items():
        if trace is not None and spans.span[i].get("traceId") != trace:
            spans.span[i]["traceId"] = trace
