"""The columnar trace encoder says what `opentelemetry-proto` says, byte for byte of meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_ebpf.model import SLOTS, Attributes, Endpoint, Intern, Kind, Link, Resource
from otel_ebpf.otlp.encoder import SpanEncoder
from otel_ebpf.otlp.rows import MAX_ITEMS, MAX_TEXT
from otel_ebpf.protocols.base import Fields, Side, Slot
from tests.unit.otlp_twin import (
    OFFSET,
    Row,
    Tables,
    by_resource,
    parse_traces,
    resource_attributes,
    simple_tables,
    sort_attributes,
    span_of,
    spans_of,
)

EDGES = (0, 1, 2, 127, 128, 129, 16_383, 16_384)

texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(EDGES).map("x".__mul__),
    st.sampled_from(EDGES).map(lambda n: "é" * (n // 2) + "x" * (n % 2)),
)
values = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((0, -1, 127, 128, 16_383, 16_384, 2**63 - 1, -(2**63))),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(tuple),
)


def attributes(where: str) -> st.SearchStrategy[Attributes]:
    """Keys are unique within a span, as the specification wants: each place has names of its own."""
    pairs = st.dictionaries(st.text(max_size=20), values, max_size=4)
    return pairs.map(lambda found: tuple((f"{where}.{key}", value) for key, value in found.items()))


@st.composite
def sides(draw: st.DrawFn, name: str) -> Side:
    count = draw(st.integers(0, SLOTS))
    slots = tuple(
        Slot(f"slot.{i}", draw(st.integers(0, SLOTS - 1)), draw(st.sampled_from(("", "http://shop:80", "é" * 64))))
        for i in range(count)
    )
    return Side(name + draw(texts), draw(attributes("side")), (), draw(st.booleans()), slots, draw(st.booleans()))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tables, list[Row]]:
    tables = Tables()
    for i in range(draw(st.integers(1, 3))):
        tables.shapes.id(Fields("http", draw(sides(f"s{i}")), draw(sides(f"c{i}"))))
    for i in range(draw(st.integers(1, 3))):
        tables.endpoints.id(
            Endpoint((("endpoint", i), *draw(attributes("peer"))), (("server.address", f"10.0.0.{i}"),))
        )
    for i in range(draw(st.integers(1, 3))):
        tables.resources.id(Resource(f"r{i}", (("service.name", f"r{i}"), *draw(attributes("who")))))
    ids = st.integers(0, 2**64 - 1)
    times = st.integers(0, 2**60)
    rows = st.builds(
        Row,
        shape=st.integers(0, len(tables.shapes) - 1),
        kind=st.sampled_from(Kind),
        resource=st.integers(-1, len(tables.resources) - 1),
        endpoint=st.integers(-1, len(tables.endpoints) - 1),
        texts=st.lists(texts, max_size=SLOTS),
        start=times,
        end=times,
        first_byte=st.integers(0, 2**55),
        port=st.integers(0, 65_535),
        link=st.sampled_from(Link),
        parent=st.one_of(st.just(0), ids),
        remote_flags=st.integers(0, 255),
        span_id=ids,
        trace=st.tuples(ids, ids),
        key=st.one_of(st.just(0), ids),
        confidence=st.sampled_from((50, 85, 100)),
        candidates=st.sampled_from((1, 7, 255)),
        like_span=st.one_of(st.just(0), ids),
        like_trace=st.tuples(ids, ids),
    )
    return tables, draw(st.lists(rows, min_size=1, max_size=12))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases(), st.sampled_from((600, 5_000, 2_000_000)), st.sampled_from((1, 3, 8192)))
def test_what_is_written_parses_to_what_the_messages_say(
    case: tuple[Tables, list[Row]], max_bytes: int, max_items: int
) -> None:
    tables, rows = case
    encoder = SpanEncoder(*tables.all(), max_bytes=max_bytes, max_items=max_items)

    messages = list(encoder.encode(spans_of(rows), OFFSET))

    seen: dict[int, list[object]] = {}
    names = {bytes(str(resource_attributes(tables, r)), "utf8"): r for r in {row.resource for row in rows}}
    for message in messages:
        request = parse_traces(message.data)
        count = sum(len(scope.spans) for rs in request.resource_spans for scope in rs.scope_spans)
        assert count == message.items <= max_items
        assert len(message.data) <= max_bytes or count == 1
        for rs in request.resource_spans:
            number = names[bytes(str(list(rs.resource.attributes)), "utf8")]
            (scope,) = rs.scope_spans
            assert scope.scope.name == "otel_ebpf"
            seen.setdefault(number, []).extend(sort_attributes(span) for span in scope.spans)
    assert seen == by_resource(rows, lambda row: sort_attributes(span_of(tables, row)))


@pytest.mark.parametrize("n", [1, 2, 499, 500, 501, MAX_ITEMS, MAX_ITEMS + 1])
def test_batches_of_every_size_keep_each_row_together(n: int) -> None:
    """Given n rows with texts of all lengths, when encoded, then each span has its own ids, times and text."""
    tables = simple_tables(slots=(Slot("url.path", 0), Slot("url.query", 1, "?")))
    rows = [
        Row(
            kind=Kind.CLIENT if i % 3 else Kind.SERVER,
            texts=("/" + "p" * (i * 7 % 300), "q" * (i * 13 % 40)),
            span_id=i + 1,
            parent=i % 2,
            start=i,
            end=i + i % 5,
            port=i % 65_536,
        )
        for i in range(n)
    ]
    encoder = SpanEncoder(*tables.all())

    got = [
        span
        for message in encoder.encode(spans_of(rows), OFFSET)
        for rs in parse_traces(message.data).resource_spans
        for span in rs.scope_spans[0].spans
    ]

    step = max(1, n // 500)
    assert len(got) == n
    assert [sort_attributes(s) for s in got[::step]] == [sort_attributes(span_of(tables, r)) for r in rows[::step]]


def test_a_root_has_no_parent_at_all() -> None:
    tables = simple_tables()
    (message,) = SpanEncoder(*tables.all()).encode(spans_of([Row(parent=0)]), OFFSET)
    span = parse_traces(message.data).resource_spans[0].scope_spans[0].spans[0]
    assert span.parent_span_id == b""
    assert len(span.span_id) == 8


def test_rows_without_a_readable_shape_are_left_out_and_counted() -> None:
    tables = simple_tables()
    encoder = SpanEncoder(*tables.all())
    messages = list(encoder.encode(spans_of([Row(shape=-1), Row(), Row(shape=-2), Row(shape=77)]), OFFSET))
    assert [message.items for message in messages] == [1]
    assert encoder.unreadable == 3


def test_no_rows_and_only_unreadable_rows_give_no_empty_envelope() -> None:
    encoder = SpanEncoder(*simple_tables().all())
    assert list(encoder.encode(spans_of([]), OFFSET)) == []
    assert list(encoder.encode(spans_of([Row(shape=-1)]), OFFSET)) == []


def test_a_text_beyond_the_limit_is_cut_between_characters() -> None:
    tables = simple_tables(slots=(Slot("db.query.text", 0),))
    rows = [Row(texts=("x" + "é" * MAX_TEXT,)), Row(texts=("short",))]
    (message,) = SpanEncoder(*tables.all(), max_bytes=10 * MAX_TEXT).encode(spans_of(rows), OFFSET)
    long, short = (
        next(a.value.string_value for a in span.attributes if a.key == "db.query.text")
        for span in parse_traces(message.data).resource_spans[0].scope_spans[0].spans
    )
    assert short == "short"
    assert long == "x" + "é" * ((MAX_TEXT - 1) // 2)


def test_what_the_tables_forget_is_forgotten_here_too() -> None:
    tables = Tables(shapes=Intern(1), endpoints=Intern(1), resources=Intern(1))
    encoder = SpanEncoder(*tables.all())
    for i in range(5):
        side = Side(f"n{i}", (), ())
        row = Row(
            shape=tables.shapes.id(Fields("http", side, side)),
            endpoint=tables.endpoints.id(Endpoint((("e", i),), ())),
            resource=tables.resources.id(Resource("r", (("service.name", f"r{i}"),))),
        )
        (message,) = encoder.encode(spans_of([row]), OFFSET)
        (rs,) = parse_traces(message.data).resource_spans
        assert rs.scope_spans[0].spans[0].name == f"n{i}"
        assert rs.resource.attributes[0].value.string_value == f"r{i}"
    held = encoder._templates
    assert (len(held._side), len(held._endpoint), len(held._resource)) == (1, 1, 1)


def test_integers_beyond_64_bits_and_lone_surrogates_become_text_that_every_receiver_takes() -> None:
    tables = simple_tables(attributes=(("big", 2**70), ("odd", "a\ud800b")))
    (message,) = SpanEncoder(*tables.all()).encode(spans_of([Row()]), OFFSET)
    found = {
        a.key: a.value.string_value
        for a in parse_traces(message.data).resource_spans[0].scope_spans[0].spans[0].attributes
    }
    assert found["big"] == str(2**70)
    assert found["odd"] == "a?b"


def test_many_resources_share_one_message() -> None:
    tables = simple_tables()
    for i in range(1, 40):
        tables.resources.id(Resource(f"r{i}", (("service.name", f"r{i}"),)))
    rows = [Row(resource=i % 40, span_id=i) for i in range(400)]
    (message,) = SpanEncoder(*tables.all()).encode(spans_of(rows), OFFSET)
    request = parse_traces(message.data)
    assert len(request.resource_spans) == 40
    for rs in request.resource_spans:
        ids = [int(np.frombuffer(s.span_id, np.uint64)[0]) for s in rs.scope_spans[0].spans]
        assert ids == sorted(ids)
        assert len(ids) == 10
