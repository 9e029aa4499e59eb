"""Trace and log requests alike: what both are to a gateway is items that have a trace id, by resource and scope.

Sources: opentelemetry/proto/collector/{trace,logs}/v1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_ebpf.viewer.contract import Malformed, Signal
from otel_ebpf.viewer.decode.weight import weigh

Request: TypeAlias = "ExportTraceServiceRequest | ExportLogsServiceRequest"
HOPS = "otel_ebpf.gateway.hops"
"""Scope attribute between gateways: how often the scope's items were passed on after they were renamed."""


def parse(signal: Signal, data: bytes) -> Request:
    """A trace or log request; raises Malformed."""
    kind = ExportTraceServiceRequest if signal == "traces" else ExportLogsServiceRequest
    weigh(data, kind.DESCRIPTOR)
    try:
        return kind.FromString(data)
    except (DecodeError, RecursionError) as error:
        raise Malformed(f"not an {kind.DESCRIPTOR.name}") from error


def data_points(data: bytes) -> int:
    """How many a metrics request has; raises Malformed."""
    kind = ExportMetricsServiceRequest
    weigh(data, kind.DESCRIPTOR)
    try:
        request = kind.FromString(data)
    except (DecodeError, RecursionError) as error:
        raise Malformed(f"not an {kind.DESCRIPTOR.name}") from error
    metrics = (
        metric for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
    )
    points = 0
    for metric in metrics:
        which = metric.WhichOneof("data")
        points += len(getattr(metric, which).data_points) if which else 0
    return points


@dataclass(frozen=True, slots=True)
class Group:
    """The items of one scope of one resource."""

    outer: ResourceSpans | ResourceLogs
    inner: ScopeSpans | ScopeLogs

    @property
    def scope(self) -> InstrumentationScope:
        return self.inner.scope

    @property
    def items(self) -> list[Span]:
        """Spans or log records, of which only the trace id is used here; changes of the list are the request's."""
        of = self.inner
        return cast("list[Span]", of.spans if isinstance(of, ScopeSpans) else of.log_records)

    @property
    def hops(self) -> int:
        """See HOPS."""
        return next((a.value.int_value for a in self.scope.attributes if a.key == HOPS), 0)

    def unmark(self) -> None:
        """Take out what is said between gateways only."""
        for i in range(len(self.scope.attributes) - 1, -1, -1):
            if self.scope.attributes[i].key == HOPS:
                del self.scope.attributes[i]

    def copy(self, items: Sequence[Span | LogRecord], to: Request, hops: int) -> None:
        """Some of the items, with all that is around them, as a group of another request."""
        outer: ResourceSpans | ResourceLogs
        inner: ScopeSpans | ScopeLogs
        if isinstance(to, ExportTraceServiceRequest):
            outer = to.resource_spans.add()
            inner = outer.scope_spans.add()
        else:
            outer = to.resource_logs.add()
            inner = outer.scope_logs.add()
        outer.resource.CopyFrom(self.outer.resource)
        inner.scope.CopyFrom(self.scope)
        outer.schema_url, inner.schema_url = self.outer.schema_url, self.inner.schema_url
        made = Group(outer, inner)
        made.items.extend(cast("list[Span]", items))
        made.unmark()
        if hops:
            inner.scope.attributes.add(key=HOPS).value.int_value = hops


def groups(request: Request) -> Iterator[Group]:
    """All of the request."""
    if isinstance(request, ExportTraceServiceRequest):
        for spans in request.resource_spans:
            for scope in spans.scope_spans:
                yield Group(spans, scope)
        return
    for logs in request.resource_logs:
        for scoped in logs.scope_logs:
            yield Group(logs, scoped)


def count(request: Request) -> int:
    """Its spans or log records."""
    return sum(len(group.items) for group in groups(request))
