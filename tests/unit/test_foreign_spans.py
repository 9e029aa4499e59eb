"""What SDKs export is read: spans, names, the other end's port; and nothing of what is no OTLP."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ebpf.foreign.known import LIMIT, NONE, SETTLED_NS, Known
from otel_ebpf.foreign.listening import port_of
from otel_ebpf.foreign.spans import CLIENT, SERVER, ForeignSpans, Reader
from otel_ebpf.foreign.streams import MOST, Export

OFFSET = 1_700_000_000_000_000_000
TRACE, OWN, PARENT = b"t" * 16, b"o" * 8, b"p" * 8


def request(
    *services: str, sdk: str = "opentelemetry", attributes: Mapping[str, str | int] | None = None
) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    for service in services:
        resource = made.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = service
        resource.resource.attributes.add(key="telemetry.sdk.name").value.string_value = sdk
        span = resource.scope_spans.add().spans.add(trace_id=TRACE, span_id=OWN, parent_span_id=PARENT)
        span.kind = Span.SPAN_KIND_SERVER
        span.start_time_unix_nano, span.end_time_unix_nano = OFFSET + 5, OFFSET + 9
        for key, value in (attributes or {}).items():
            pair = span.attributes.add(key=key.replace("_", "."))
            if isinstance(value, int):
                pair.value.int_value = value
            else:
                pair.value.string_value = value
    return made


def read(body: bytes, coding: str = "", json: bool = False) -> tuple[ForeignSpans, dict[int, object], Reader]:
    reader = Reader(lambda: OFFSET)
    spans, names = reader.read([Export(7, 1, body, coding, json)])
    return spans, dict(names), reader


def as_json(made: ExportTraceServiceRequest) -> bytes:
    span = {"traceId": TRACE.hex(), "spanId": OWN.hex(), "parentSpanId": PARENT.hex(), "kind": 2}
    times = {"startTimeUnixNano": str(OFFSET + 5), "endTimeUnixNano": str(OFFSET + 9)}
    name = {
        "key": "service.name",
        "value": {"stringValue": made.resource_spans[0].resource.attributes[0].value.string_value},
    }
    scopes = [{"spans": [span | times]}]
    return json.dumps({"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": scopes}]}).encode()


@pytest.mark.parametrize("form", ["plain", "gzip", "json"])
def test_a_span_is_read_in_each_form(form: str) -> None:
    made = request("shop")
    plain = made.SerializeToString()
    body = {"plain": plain, "gzip": gzip.compress(plain), "json": as_json(made)}[form]
    spans, names, reader = read(body, "gzip" if form == "gzip" else "", form == "json")
    assert (spans.tgid.tolist(), spans.kind.tolist(), spans.start.tolist(), spans.end.tolist()) == ([7], [2], [5], [9])
    assert (spans.trace.tobytes(), spans.span.tobytes(), spans.parent.tobytes()) == (TRACE, OWN, PARENT)
    assert names == {7: (("service.name", "shop"),)}
    assert (reader.refused, reader.left_out) == (0, 0)


@pytest.mark.parametrize(
    ("attributes", "port"),
    [
        ({"client_port": 4000}, 4000),
        ({"network_peer_port": 4000}, 4000),
        ({"net_peer_port": 4000}, 4000),
        ({"net_peer_port": "4000"}, 4000),
        ({"server_port": 80}, 0),
        ({"client_port": 70000}, 0),
        ({"client_port": -1}, 0),
        ({"net_peer_port": "²"}, 0),
        ({"net_peer_port": "4" * 5000}, 0),
    ],
)
def test_the_clients_port_has_many_names(attributes: dict[str, str | int], port: int) -> None:
    assert read(request("shop", attributes=attributes).SerializeToString())[0].port.tolist() == [port]


@pytest.mark.parametrize("made", [request("shop", "stock"), request("x", sdk="otel_ebpf")])
def test_who_passes_on_what_others_tell_is_no_author(made: ExportTraceServiceRequest) -> None:
    spans, names, reader = read(made.SerializeToString())
    assert (len(spans), names, reader.forwarders) == (0, {}, {7})


def test_what_is_handed_in_may_name_any_port() -> None:
    """Nobody catches what it raises."""
    made = request("shop", attributes={"net_peer_port": "²"})
    assert len(Reader(lambda: OFFSET).handed_in(made, lambda _resource: 7)) == 1


def test_of_what_inflates_to_much_no_more_is_read_at_once_than_of_one_request() -> None:
    made = request("shop", attributes={"note": "x" * (3 * MOST)})
    body = gzip.compress(made.SerializeToString())
    assert len(body) < 1 << 16
    reader = Reader(lambda: OFFSET)
    for _ in range(2):
        assert len(reader.read([Export(7, 1, body, "gzip")] * 5)[0]) == 1
    assert reader.refused == 8


def test_spans_that_cannot_be_are_left_out_and_counted() -> None:
    made = request("shop")
    made.resource_spans[0].scope_spans[0].spans[0].span_id = b"short"
    assert read(made.SerializeToString())[2].left_out == 1
    made = request("shop")
    made.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = 2**64 - 1
    assert read(made.SerializeToString())[2].left_out == 1


@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "deflate", "br"]), st.booleans())
@settings(max_examples=200)
def test_no_bytes_make_it_fail(body: bytes, coding: str, json: bool) -> None:
    read(body, coding, json)
    read(request("shop").SerializeToString()[: len(body)] + body, coding, json)


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("http://c:4318/x", 4318), ("https://c", 443), ("c:55680", 55680), ("http://c:x", 0), ("", 0), ("http://[::1", 0)],
)
def test_ports_of_endpoints(endpoint: str, port: int) -> None:
    assert port_of(endpoint) == port


# The plain twin of matching requests by the client's port


Times = st.tuples(st.integers(0, 400), st.integers(0, 60))


@given(
    st.lists(st.tuples(Times, st.integers(1, 3)), max_size=12),
    st.lists(st.tuples(Times, st.integers(1, 3)), max_size=12),
)
@settings(max_examples=200)
def test_requests_are_matched_by_port_as_their_plain_twin_does(
    told: list[tuple[tuple[int, int], int]], rows: list[tuple[tuple[int, int], int]]
) -> None:
    ms = 10**7
    base = 10**12
    spans = ForeignSpans.of(
        (9, SERVER, TRACE, i.to_bytes(8, "little"), bytes(8), base + s * ms, base + (s + d) * ms, port, 0)
        for i, ((s, d), port) in enumerate(told, 1)
    )
    known = Known()
    known.hear(spans, base)
    start = np.array([base + s * ms for (s, _), _ in rows], np.uint64)
    end = np.array([base + (s + d) * ms for (s, d), _ in rows], np.uint64)
    port = np.array([p for _, p in rows], np.uint16)
    none = np.zeros(len(rows), np.uint64)
    found = known.requests(
        np.full(len(rows), 9, np.uint32), start, end, port, np.zeros((len(rows), 2), np.uint64), none, base
    )
    fits = [[i for i, ((s, _), at) in enumerate(told) if at == p and a <= s <= a + d] for (a, d), p in rows]
    for row, candidates in enumerate(fits):
        if found[row] != NONE:
            assert candidates == [found[row]]
            assert sum(candidates == other for other in fits) == 1
        elif len(candidates) == 1:
            assert sum(candidates == other for other in fits) > 1


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=8),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=8),
    st.booleans(),
)
def test_where_no_port_is_told_both_have_to_be_the_only_one(
    told: list[tuple[int, int]], rows: list[tuple[int, int]], settled: bool
) -> None:
    ms, base = 10**7, 10**12
    spans = ForeignSpans.of(
        (9, SERVER, TRACE, i.to_bytes(8, "little"), bytes(8), base + s * ms, base + (s + d) * ms, 0, 0)
        for i, (s, d) in enumerate(told, 1)
    )
    known = Known()
    known.hear(spans, base)
    start = np.array([base + s * ms for s, _ in rows], np.uint64)
    end = np.array([base + (s + d) * ms for s, d in rows], np.uint64)
    none = np.zeros(len(rows), np.uint64)
    now = base + 50 * ms + (SETTLED_NS if settled else 0)
    tgid, port = np.full(len(rows), 9, np.uint32), np.full(len(rows), 4000, np.uint16)
    found = known.requests(tgid, start, end, port, np.zeros((len(rows), 2), np.uint64), none, now)
    fits = [[i for i, (s, _) in enumerate(told) if a <= s <= a + d] for a, d in rows]
    only = [
        mine[0] if settled and len(mine) == 1 and sum(mine[0] in other for other in fits) == 1 else NONE
        for mine in fits
    ]
    assert found.tolist() == only


def test_a_call_within_two_spans_is_told_of_but_not_by_which() -> None:
    known = Known()
    rows = [(9, CLIENT, TRACE, bytes([i]) * 8, PARENT, 100 * 10**6, 200 * 10**6, 6379, 2) for i in (1, 2)]
    known.hear(ForeignSpans.of(rows), 0)
    one = np.array([9], np.uint32), np.array([120 * 10**6], np.uint64), np.array([130 * 10**6], np.uint64)
    trace = np.frombuffer(TRACE, np.uint64).reshape(1, 2)
    found = known.calls(*one, np.array([6379], np.uint16), np.array([2], np.uint8), trace)
    assert (found.covered.tolist(), found.span.tolist()) == ([True], [NONE])
    other = known.calls(*one, np.array([5432], np.uint16), np.array([3], np.uint8), trace)
    assert other.covered.tolist() == [False]


HOURS = 3600 * 10**9


@pytest.mark.parametrize("began", [1, 2**62], ids=["at boot", "in the future"])
def test_a_span_of_another_process_that_began_at_a_strange_time_changes_nothing(began: int) -> None:
    """On a host that is up for a day, whose clocks have not so many bits."""
    base, victim, stranger = 24 * HOURS, 9, 8
    told = [
        (victim, SERVER, TRACE, bytes([i]) * 8, bytes(8), base + i * 10**8, base + i * 10**8 + 10**7, 4000, 0)
        for i in range(1, 4)
    ]
    strange = (stranger, SERVER, TRACE, OWN, bytes(8), began, max(began, base) + HOURS, 4000, 0)
    known = Known()
    known.hear(ForeignSpans.of([strange, *told]), base)
    start = np.array([base, *(row[5] for row in told)], np.uint64)
    none = np.zeros(4, np.uint64)
    tgid, port = np.array([stranger] + [victim] * 3, np.uint32), np.full(4, 4000, np.uint16)
    found = known.requests(tgid, start, start + np.uint64(10**7), port, np.zeros((4, 2), np.uint64), none, base)
    assert found.tolist() == [NONE, 1, 2, 3]


def test_nobody_makes_the_context_of_anothers_request_its_own() -> None:
    """Who called it knows the context, and can make one that is like it but for its own process id."""
    victim, stranger = 9, 8
    first, second = np.frombuffer(TRACE, np.uint64).tolist()
    made = (first ^ victim ^ stranger).to_bytes(8, "little") + second.to_bytes(8, "little")
    known = Known()
    known.hear(ForeignSpans.of([(stranger, SERVER, made, OWN, PARENT, 105, 109, 0, 0)]), 0)
    context = np.frombuffer(TRACE * 2, np.uint64).reshape(2, 2), np.frombuffer(PARENT * 2, np.uint64)
    start = np.array([100, 100], np.uint64)
    tgid = np.array([victim, stranger], np.uint32)
    found = known.requests(tgid, start, start + np.uint64(20), np.zeros(2, np.uint16), *context, 0)
    assert found.tolist() == [NONE, NONE]


def test_what_is_told_twice_counts_once() -> None:
    """Retries, two exporters in one process, spans that are handed in as well."""
    known = Known()
    row = (9, SERVER, TRACE, OWN, PARENT, 5, 9, 0, 0)
    other = (9, SERVER, TRACE, PARENT, OWN, 5, 9, 0, 0)
    known.hear(ForeignSpans.of([row, row]), 0)
    known.hear(ForeignSpans.of([other, row]), 0)
    assert known.spans.span.tobytes() == OWN + PARENT


def test_who_tells_much_makes_nobody_else_forgotten() -> None:
    known = Known()
    known.hear(ForeignSpans.of((9, SERVER, TRACE, n.to_bytes(8, "big"), PARENT, 5, 9, 0, 0) for n in range(10)), 0)
    for first in range(0, 3 * LIMIT // 2, LIMIT // 2):
        more = (n.to_bytes(8, "big") for n in range(first, first + LIMIT // 2))
        known.hear(ForeignSpans.of((8, SERVER, TRACE, own, PARENT, 5, 9, 0, 0) for own in more), 0)
    assert np.count_nonzero(known.spans.tgid == 9) == 10
    assert (len(known.spans), known.forgotten) == (LIMIT, LIMIT // 2 + 10)
