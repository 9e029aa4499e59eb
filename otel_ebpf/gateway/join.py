"""Spans of several hosts as one trace: what requests say of exchanges between hosts, and how they are rewritten.

    join = Join()
    join.learn(request, now)      # as soon as a request has come
    join.apply(request)           # when it has waited for what others say

A server span whose key a client span bears is its child, and the whole trace that began with the server span goes on in
the client's. Nothing else is changed. A server span that has a context of its own (traceparent) stays where it is, but
hangs below the client span if both have that context: the network's span lies between them then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ebpf.gateway.requests import Request, groups
from otel_ebpf.gateway.rules import FORGET_S, MOST, Rule, Rules, traces
from otel_ebpf.model import Link
from otel_ebpf.otlp.encoder import HAS_IS_REMOTE, IS_REMOTE
from otel_ebpf.otlp.templates import LINK_KEY, LINK_METHOD

New: TypeAlias = tuple[bytes, str, Rule]
"""The trace that a rule is for, the key that it follows from, and what it becomes."""
_SERVER, _CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
_KEY = LINK_KEY.encode()


class _Left(NamedTuple):
    """A server span that left without a client's."""

    when: float
    trace: bytes
    span: bytes


class Join:
    """The rules, what they were applied to, and what came too late for them.

    joined: server spans that became children of client spans on other hosts. renamed: spans and log records whose
    trace has another id now. late: server spans that had left before their client's span came, which is linked to them
    then (an OTLP span link): what has left cannot be changed. open: server spans that left without any (nobody observes
    the other end, or it is late). crossed: server spans that bear another context than their client does; they stay in
    their trace.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.joined = self.renamed = self.late = self.open = self.crossed = 0
        self._left: OrderedDict[bytes, _Left] = OrderedDict()
        """by trace"""
        self._linked: OrderedDict[bytes, _Left] = OrderedDict()
        """by the client span that came afterwards"""

    def learn(self, request: ExportTraceServiceRequest, raw: bytes, now: float) -> list[New]:
        """Take over what client spans say; returns the rules that are new. raw: the same request, serialized."""
        found = [(key, span) for key, span in keyed(request, raw) if span.kind == _CLIENT and _has_ids(span)]
        if not found:
            return []
        new = []
        for trace, (key, span) in zip(traces([key for key, _ in found]), found, strict=True):
            rule = Rule(span.trace_id, span.span_id, span.parent_span_id)
            if trace and self._take(trace, rule, now):
                new.append((trace, key, rule))
        return new

    def _take(self, trace: bytes, rule: Rule, now: float) -> bool:
        """One rule; False if it was known."""
        if trace == rule.trace or not self.rules.learn(trace, rule, now):
            return False
        left = self._left.pop(trace, None)
        if left is not None:
            self.late += 1
            self._linked[rule.span] = left._replace(when=now)
        return True

    def apply(self, request: Request, raw: bytes, now: float) -> bool:
        """Rewrite what rules are for; whether there was anything."""
        changed = False
        if isinstance(request, ExportTraceServiceRequest):
            changed = self._adopt(request, raw, now)
        if not self.rules:
            return changed
        before, final = self.renamed, self.rules.final
        finals: dict[bytes, bytes] = {}
        for item in (item for group in groups(request) for item in group.items):
            trace = item.trace_id
            last = finals.get(trace)
            if last is None:
                last = finals[trace] = final(trace)
            if last is not trace and last != trace:
                item.trace_id = last
                self.renamed += 1
            if isinstance(item, Span) and item.links:
                changed |= self._rename_links(item)
        changed |= self.renamed > before
        if self._linked and isinstance(request, ExportTraceServiceRequest):
            changed |= self._link(request, raw)  # last: what has left has its old name
        return changed

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        self.rules.expire(now)
        _forget(self._left, now)
        _forget(self._linked, now)

    def _adopt(self, request: ExportTraceServiceRequest, raw: bytes, now: float) -> bool:
        """Server spans get their parents; before traces are renamed."""
        found = [(key, span) for key, span in keyed(request, raw) if span.kind == _SERVER]
        if not found:
            return False
        adopted = False
        for trace, (_, span) in zip(traces([key for key, _ in found]), found, strict=True):
            rule = self.rules.of(trace)
            if rule is None:
                if span.trace_id == trace:
                    self.open += 1
                    self._left[trace] = _Left(now, trace, span.span_id)
            elif span.trace_id == trace or (span.trace_id == rule.trace and span.parent_span_id == rule.parent):
                _set_parent(span, rule.span)
                self.joined += 1
                adopted = True
            elif span.parent_span_id != rule.span:
                self.crossed += 1
        return adopted

    def _link(self, request: ExportTraceServiceRequest, raw: bytes) -> bool:
        """Client spans that came too late for their servers are linked to them; whether there were any."""
        linked = False
        for _, span in keyed(request, raw):
            left = self._linked.pop(span.span_id, None)
            if left is not None:
                span.links.add(trace_id=left.trace, span_id=left.span)
                linked = True
        return linked

    def _rename_links(self, span: Span) -> bool:
        renamed = False
        for link in span.links:
            last = self.rules.final(link.trace_id)
            if last != link.trace_id:
                link.trace_id = last
                renamed = True
        return renamed


def _forget(table: OrderedDict[bytes, _Left], now: float) -> None:
    while table and (next(iter(table.values())).when + FORGET_S <= now or len(table) > MOST):
        table.popitem(last=False)


def keyed(request: ExportTraceServiceRequest, raw: bytes) -> Iterator[tuple[str, Span]]:
    """Spans that bear a key, and it. raw: the same request, serialized: how often the key's name is in it tells at once
    that there are none, or no more."""
    left = raw.count(_KEY)
    if not left:
        return
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                for attribute in reversed(span.attributes):  # agents write it last
                    if attribute.key == LINK_KEY:
                        yield attribute.value.string_value, span
                        left -= 1
                        break
                if left <= 0:
                    return


def _has_ids(span: Span) -> bool:
    return len(span.trace_id) == 16 and len(span.span_id) == 8


def _set_parent(span: Span, parent: bytes) -> None:
    span.parent_span_id = parent
    span.flags |= HAS_IS_REMOTE | IS_REMOTE
    for attribute in span.attributes:
        if attribute.key == LINK_METHOD:
            attribute.value.string_value = Link.CONNECTION.label
            return
    span.attributes.add(key=LINK_METHOD).value.string_value = Link.CONNECTION.label
