"""Several gateways as one: each trace has an owner among them, told by its id.

Theory of operation. Agents send to any gateway. It keeps what it owns and passes on the rest, span by span. A rule (see
`rules`) is of use where the trace is that it is for, so it is told to that trace's owner at once. When the owner has
renamed spans, their new trace may be another's: they are passed on again, wait there for what that one knows, and so
on to the trace that nothing is known of, whose owner sends them to the backend. So a trace through k hosts may wait k
times the window. Whether all gateways agree on their number is for who starts them; whoever is not reached is retried
as any receiver is, and what is lost then is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ebpf.gateway.requests import Request, groups
from otel_ebpf.gateway.rules import Rule
from otel_ebpf.otlp.templates import LINK_KEY
from otel_ebpf.viewer.contract import Signal

RULES = "otel_ebpf.gateway.rules"
"""Scope of spans that tell a rule, and are none."""
MOST_HOPS = 16


@dataclass(frozen=True, slots=True)
class Shards:
    """This one is `own` of `count`. send: takes another's number, signal, request and number of items."""

    own: int = 0
    count: int = 1
    send: Callable[[int, Signal, bytes, int], object] = field(default=lambda *_: None)

    def owner(self, trace: bytes) -> int:
        """Whose trace it is, by the half of the id that is random in all formats."""
        return int.from_bytes(trace[8:], "big") % self.count

    def tell(self, rules: Sequence[tuple[bytes, str, Rule]]) -> None:
        """Rules (trace, key, what it becomes) to the owners of the traces that they are for."""
        requests: dict[int, ExportTraceServiceRequest] = {}
        for trace, key, rule in rules:
            owner = self.owner(trace)
            if owner == self.own:
                continue
            request = requests.setdefault(owner, ExportTraceServiceRequest())
            if not request.resource_spans:
                request.resource_spans.add().scope_spans.add().scope.name = RULES
            span = (
                request.resource_spans[0]
                .scope_spans[0]
                .spans.add(
                    trace_id=rule.trace, span_id=rule.span, parent_span_id=rule.parent, kind=Span.SPAN_KIND_CLIENT
                )
            )
            span.attributes.add(key=LINK_KEY).value.string_value = key
        for owner, request in requests.items():
            count = len(request.resource_spans[0].scope_spans[0].spans)
            self.send(owner, "traces", request.SerializeToString(), count)

    def pass_on(self, request: Request, signal: Signal, again: bool) -> int:
        """Send what is others' to them, and take it out of the request; returns how many items stay.

        again: it was here before, and renamed. What has been passed on too often stays.
        """
        parts: dict[int, Request] = {}
        counts: dict[int, int] = {}
        stay = 0
        for scoped in groups(request):
            owners = [self.owner(item.trace_id) for item in scoped.items]
            hops = scoped.hops + again
            if hops > MOST_HOPS or owners.count(self.own) == len(owners):
                stay += len(owners)
                continue
            for owner in set(owners):
                chosen = [item for item, whose in zip(scoped.items, owners, strict=True) if whose == owner]
                if owner != self.own:
                    scoped.copy(chosen, parts.setdefault(owner, type(request)()), hops)
                    counts[owner] = counts.get(owner, 0) + len(chosen)
            for i in range(len(owners) - 1, -1, -1):
                if owners[i] != self.own:
                    del scoped.items[i]
            stay += len(scoped.items)
        for owner, part in parts.items():
            self.send(owner, signal, part.SerializeToString(), counts[owner])
        return stay
