"""The gateway: spans that came from several hosts leave as one trace, and what else comes leaves as it was."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ebpf.gateway.join import Join
from otel_ebpf.gateway.requests import groups, parse
from otel_ebpf.gateway.rules import HOPS, Rule, Rules, traces
from otel_ebpf.gateway.shards import Shards
from otel_ebpf.gateway.window import Window
from otel_ebpf.viewer.contract import Malformed

SERVER, CLIENT, INTERNAL = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL
_numbers = itertools.count(1)


def new_id(size: int = 8) -> bytes:
    return next(_numbers).to_bytes(4, "big") * (size // 4)


def new_key() -> str:
    return f"{next(_numbers) * 0x9E3779B97F4A7C15 % (1 << 64):016x}"


def span(trace: bytes, kind: Span.SpanKind.ValueType, parent: bytes = b"", key: str = "") -> Span:
    made = Span(trace_id=trace, span_id=new_id(), parent_span_id=parent, kind=kind, flags=0x101)
    made.attributes.add(key="server.port").value.int_value = 80
    if key:
        made.attributes.add(key="otel_ebpf.link.key").value.string_value = key
    return made


def request_of(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    request.resource_spans[0].scope_spans[0].scope.name = "otel_ebpf"
    return request


def spans_in(request: ExportTraceServiceRequest) -> list[Span]:
    return [one for group in groups(request) for one in group.items]


@dataclass
class Hosts:
    """A request that goes through hosts, each with its own agent: one batch of spans a host."""

    batches: list[list[Span]] = field(default_factory=list)

    @classmethod
    def chain(cls, length: int) -> Hosts:
        """A root on the first, and on each further one a server span, an inner one and the call to the next."""
        made = cls()
        key = ""
        for i in range(length):
            trace = traces([key])[0] if key else new_id(16)
            front = span(trace, SERVER, key=key)
            inner = span(trace, INTERNAL, front.span_id)
            key = new_key()
            call = span(trace, CLIENT, inner.span_id, key=key if i < length - 1 else "")
            made.batches.append([front, inner, call])
        return made


def with_join(join: Join, request: ExportTraceServiceRequest) -> bool:
    """Whether the request is to be sent on anew, as it is now."""
    return join.apply(request, request.SerializeToString(), 1.0)


def through(join: Join, batches: Sequence[Sequence[Span]], now: float = 1.0) -> list[list[Span]]:
    """All batches come within the window; then they leave, in the same order."""
    raw = [request_of(*batch).SerializeToString() for batch in batches]
    for data in raw:
        request = parse("traces", data)
        assert isinstance(request, ExportTraceServiceRequest)
        join.learn(request, data, now)
    out = []
    for data in raw:
        request = parse("traces", data)
        join.apply(request, data, now)
        assert isinstance(request, ExportTraceServiceRequest)
        out.append(spans_in(request))
    return out


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_request_through_three_hosts_is_one_trace_in_whatever_order_they_tell(order: tuple[int, ...]) -> None:
    chain = Hosts.chain(3).batches
    join = Join()
    out = dict(zip(order, through(join, [chain[i] for i in order]), strict=True))
    first, second, third = out[0], out[1], out[2]
    assert {one.trace_id for batch in out.values() for one in batch} == {chain[0][0].trace_id}
    assert first[0].parent_span_id == b""
    assert second[0].parent_span_id == first[2].span_id
    assert third[0].parent_span_id == second[2].span_id
    assert (join.joined, join.renamed, join.open) == (2, 6, 0)
    said = {a.key: a.value.string_value for a in second[0].attributes}
    assert said["otel_ebpf.link.method"] == "connection"
    assert second[0].flags & 0x300 == 0x300  # its parent is remote


def test_what_is_of_one_host_stays_as_it_was() -> None:
    batch = [span(new_id(16), SERVER), span(new_id(16), CLIENT)]
    data = request_of(*batch).SerializeToString()
    request = parse("traces", data)
    assert not Join().apply(request, data, 1.0)
    assert request.SerializeToString() == data


def test_a_request_whose_client_nobody_observes_stays_a_root() -> None:
    (front, inner, _), *_ = Hosts.chain(2).batches[1:]
    join = Join()
    ((left, below),) = through(join, [[front, inner]])
    assert (left.trace_id, left.parent_span_id, below.trace_id) == (front.trace_id, b"", front.trace_id)
    assert (join.joined, join.open) == (0, 1)


def test_a_client_that_comes_too_late_is_linked_to_its_server_and_later_spans_of_the_trace_follow_it() -> None:
    first, second = Hosts.chain(2).batches
    join = Join()
    through(join, [second])
    ((*_, call),) = through(join, [first], now=2.0)
    assert (join.open, join.late) == (1, 1)
    assert [(link.trace_id, link.span_id) for link in call.links] == [(second[0].trace_id, second[0].span_id)]
    ((straggler,),) = through(join, [[span(second[0].trace_id, INTERNAL, second[0].span_id)]], now=3.0)
    assert straggler.trace_id == first[0].trace_id


def test_a_context_that_came_along_keeps_the_trace_and_the_call_lies_between() -> None:
    """The first program has an SDK: its span is the parent of the call and, by traceparent, of the server's."""
    trace, key, of_sdk = new_id(16), new_key(), new_id()
    call, front = span(trace, CLIENT, of_sdk, key=key), span(trace, SERVER, of_sdk, key=key)
    front.attributes.add(key="otel_ebpf.link.method").value.string_value = "traceparent"
    join = Join()
    (_, (left,)) = through(join, [[call], [front]])
    assert (left.trace_id, left.parent_span_id) == (trace, call.span_id)
    assert [a.value.string_value for a in left.attributes if a.key == "otel_ebpf.link.method"] == ["connection"]


def test_ends_with_different_contexts_are_left_apart() -> None:
    key = new_key()
    call, front = span(new_id(16), CLIENT, key=key), span(new_id(16), SERVER, new_id(), key=key)
    join = Join()
    (_, (left,)) = through(join, [[call], [front]])
    assert (left.trace_id, left.parent_span_id) == (front.trace_id, front.parent_span_id)
    assert join.crossed == 1


def test_of_two_calls_with_one_key_the_first_holds() -> None:
    first, second = Hosts.chain(2).batches
    impostor = span(new_id(16), CLIENT, key=first[2].attributes[-1].value.string_value)
    join = Join()
    _, _, (front, *_) = through(join, [first, [impostor], second])
    assert front.parent_span_id == first[2].span_id
    assert join.rules.conflicts == 1


def test_the_same_request_twice_is_no_conflict() -> None:
    """Exporters send again what was not answered in time."""
    first, second = Hosts.chain(2).batches
    join = Join()
    through(join, [first, first, second])
    assert (join.joined, join.rules.conflicts) == (1, 0)


def test_rules_in_a_ring_end() -> None:
    a, b = new_id(16), new_id(16)
    rules = Rules()
    rules.learn(a, Rule(b, b"x", b""), 0)
    rules.learn(b, Rule(a, b"y", b""), 0)
    assert rules.final(a) in (a, b)


def test_a_chain_longer_than_any_is_left() -> None:
    ids = [new_id(16) for _ in range(HOPS + 3)]
    rules = Rules()
    for one, following in itertools.pairwise(ids):
        rules.learn(one, Rule(following, b"x", b""), 0)
    assert rules.final(ids[0]) == ids[0]
    assert rules.final(ids[-3]) == ids[-1]


def test_rules_are_bounded_in_number_and_age() -> None:
    rules = Rules(most=3, forget_s=10)
    ids = [new_id(16) for _ in range(5)]
    for i, trace in enumerate(ids):
        rules.learn(trace, Rule(new_id(16), new_id(), b""), now=float(i))
    assert (len(rules), rules.forgotten) == (3, 2)
    rules.expire(13.0)
    assert [rules.of(trace) is not None for trace in ids] == [False, False, False, False, True]


@pytest.mark.parametrize("key", ["", "abc", "zzzzzzzzzzzzzzzz", "0" * 16, "1_2_3_4_5_6_7_8_", "ﬀ" * 16])
def test_what_is_no_key_is_none(key: str) -> None:
    join = Join()
    through(join, [[span(new_id(16), CLIENT, key=key)], [span(new_id(16), SERVER, key=key)]])
    assert len(join.rules) == join.joined == 0


def test_ids_that_are_none_make_no_rule() -> None:
    call, other = span(b"short", CLIENT, key=new_key()), span(new_id(16), CLIENT, key=new_key())
    other.span_id = b""
    join = Join()
    through(join, [[call, other]])
    assert len(join.rules) == 0


def test_bytes_that_are_no_request_are_said_to_be_none() -> None:
    with pytest.raises(Malformed):
        parse("traces", b"\xff\xff")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        request = parse("traces", data)
    except Malformed:
        return
    assert isinstance(request, ExportTraceServiceRequest)
    join = Join()
    join.learn(request, data, 1.0)
    join.apply(request, data, 1.0)
    assert Shards(0, 3).pass_on(request, "traces", again=False) >= 0


def test_log_records_and_span_links_follow_their_trace() -> None:
    first, second = Hosts.chain(2).batches
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(trace_id=second[0].trace_id, span_id=second[0].span_id)
    linked = span(new_id(16), INTERNAL)
    linked.links.add(trace_id=second[0].trace_id, span_id=second[0].span_id)
    join = Join()
    *_, (left,) = through(join, [first, second, [linked]])
    assert left.links[0].trace_id == first[0].trace_id
    assert with_join(join, request_of(linked))
    assert not with_join(join, request_of(left))
    assert join.apply(logs, b"", 1.0)
    assert logs.resource_logs[0].scope_logs[0].log_records[0].trace_id == first[0].trace_id


def test_the_window_lets_go_in_time_and_early_when_there_is_no_room() -> None:
    window = Window(5.0, most_bytes=25)
    window.put("traces", b"x" * 10, 2, now=0.0)
    window.put("traces", b"y" * 10, 3, now=1.0)
    assert window.take(4.9) is None
    assert window.due == 5.0
    window.put("traces", b"z" * 10, 1, now=2.0)
    early = window.take(2.0)
    assert early is not None
    assert (early.data[:1], window.early, window.items) == (b"x", 2, 4)
    on_time = window.take(6.0)
    assert on_time is not None
    assert (on_time.data[:1], window.early) == (b"y", 2)
    assert window.take(6.0) is None


class Cluster:
    """Gateways that share the work, without a network: what one sends to another is there at once."""

    def __init__(self, count: int) -> None:
        self.joins = [Join() for _ in range(count)]
        self.held: list[list[bytes]] = [[] for _ in range(count)]
        self.out: list[Span] = []
        self.shards = [Shards(i, count, lambda to, _signal, data, _items: self.receive(to, data)) for i in range(count)]

    def receive(self, at: int, data: bytes) -> None:
        request = parse("traces", data)
        assert isinstance(request, ExportTraceServiceRequest)
        self.shards[at].tell(self.joins[at].learn(request, data, 1.0))
        for group in groups(request):
            if group.scope.name == "otel_ebpf.gateway.rules":
                del group.items[:]
        if self.shards[at].pass_on(request, "traces", again=False):
            self.held[at].append(request.SerializeToString())

    def release(self) -> None:
        """All that waits, until nothing does."""
        while any(self.held):
            for at, held in enumerate(self.held):
                while held:
                    data = held.pop()
                    request = parse("traces", data)
                    assert isinstance(request, ExportTraceServiceRequest)
                    self.joins[at].apply(request, data, 1.0)
                    self.shards[at].pass_on(request, "traces", again=True)
                    for group in groups(request):
                        group.unmark()
                        assert not group.scope.attributes
                    self.out += spans_in(request)


def test_several_gateways_say_what_one_says() -> None:
    """Whichever of them each host sends to."""
    chains = [Hosts.chain(4).batches for _ in range(20)]
    cluster = Cluster(3)
    for i, batch in enumerate(itertools.chain(*chains)):
        cluster.receive(i % 3, request_of(*batch).SerializeToString())
    cluster.release()
    one = through(Join(), list(itertools.chain(*chains)))

    def said(spans: Sequence[Span]) -> list[tuple[bytes, bytes, bytes]]:
        return sorted((s.span_id, s.trace_id, s.parent_span_id) for s in spans)

    assert said(cluster.out) == said(list(itertools.chain(*one)))
    assert sum(join.joined for join in cluster.joins) == 20 * 3
    assert sum(join.open for join in cluster.joins) == 0


@pytest.mark.parametrize("_", range(8))
def test_forged_rules_in_a_ring_do_not_keep_spans_going_round(_: int) -> None:
    """Whether one gateway has both, or two have one each."""
    keys = [new_key() for _ in range(2)]
    a, b = traces(keys)
    cluster = Cluster(2)
    cluster.receive(0, request_of(span(b, CLIENT, key=keys[0]), span(a, CLIENT, key=keys[1])).SerializeToString())
    cluster.receive(0, request_of(span(a, SERVER, key=keys[0])).SerializeToString())
    cluster.release()
    assert len(cluster.out) == 3
