"""What a sender means badly costs the viewer neither its memory nor its store, and hides nothing that others sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import duckdb
import pytest
from google.protobuf.descriptor import Descriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as Message

from otel_ebpf.viewer import ingest as ingest_module
from otel_ebpf.viewer.api import trace as trace_module
from otel_ebpf.viewer.api.counters import MOST, bounded, grown
from otel_ebpf.viewer.api.trace import spans_of
from otel_ebpf.viewer.contract import Malformed, Outcome, Refused
from otel_ebpf.viewer.decode import weight
from otel_ebpf.viewer.decode.attributes import NAME, TEXT, TOTAL, Attributes, as_json
from otel_ebpf.viewer.decode.batch import ITEMS, Batch
from otel_ebpf.viewer.decode.context import Context
from otel_ebpf.viewer.decode.logs import decode_logs
from otel_ebpf.viewer.decode.resources import Resources
from otel_ebpf.viewer.decode.traces import decode_traces
from otel_ebpf.viewer.decode.weight import weigh
from otel_ebpf.viewer.ingest import Ingest
from otel_ebpf.viewer.store import Database, Writer
from otel_ebpf.viewer.store.keep import Keeper
from otel_ebpf.viewer.store.names import ALL, NAMES, OTHER, Operations
from otel_ebpf.viewer.store.write import WAIT_NS
from tests.unit.viewer_requests import CLIENT, pair, request, span

DAY = 24 * 3600 * 10**9
TRACES, LOGS = ExportTraceServiceRequest.DESCRIPTOR, ExportLogsServiceRequest.DESCRIPTOR
METRICS = ExportMetricsServiceRequest.DESCRIPTOR


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def few_messages(monkeypatch: pytest.MonkeyPatch) -> int:
    """So many are allowed, which is quick to test."""
    monkeypatch.setattr(weight, "MESSAGES", 10_000)
    monkeypatch.setattr(weight, "SMALL", 1000)
    return 10_000


def field(number: int, value: bytes) -> bytes:
    """A field of bytes, as protobuf writes it."""
    length, size = b"", len(value)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


@pytest.mark.parametrize(
    ("kind", "around"),
    [
        (TRACES, (1,)),  # resources without anything
        (TRACES, (1, 2, 2)),  # spans
        (TRACES, (1, 1, 1)),  # attributes of a resource
        (METRICS, (1, 2, 2, 5, 1)),  # points of a gauge
        (LOGS, (1, 2, 2, 5, 5, 1)),  # a list in a body
    ],
)
def test_a_request_of_empty_messages_is_refused_before_it_is_parsed(
    kind: Descriptor, around: tuple[int, ...], few_messages: int
) -> None:
    data = field(around[-1], b"") * (few_messages + 1)
    for number in reversed(around[:-1]):
        data = field(number, data)
    with pytest.raises(Malformed, match="send less at once"):
        weigh(data, kind)


def test_a_group_does_not_hide_messages(few_messages: int) -> None:
    # field 9 as a group (wire type 3), which the parser steps over
    with pytest.raises(Malformed):
        weigh(b"\x4b\x4c" + field(1, b"") * (few_messages + 1), TRACES)


def test_a_large_request_of_ordinary_spans_is_taken() -> None:
    message = ExportTraceServiceRequest.FromString(request({"shop": [span(1, attributes={"a": "x" * 400})]}))
    data = message.SerializeToString() * 5000
    assert len(data) > 2 << 20
    weigh(data, TRACES)


@pytest.mark.parametrize("data", [b"\xff" * (2 << 20), b"\x0a\xff\xff\xff\xff\x7f" + b"\x0a" * (2 << 20)])
def test_what_is_no_protobuf_is_left_to_the_parser(data: bytes) -> None:
    weigh(data, TRACES)
    with pytest.raises(Malformed, match="not an Export"):
        decode_traces(data, Context(time.time_ns(), 0))


def test_a_request_has_a_bounded_number_of_items_and_the_sender_is_told() -> None:
    batch = decode_logs(field(1, field(2, field(2, b"") * (ITEMS + 7))), Context(time.time_ns(), 0))
    assert len(batch.rows) == ITEMS
    assert batch.rejected == {f"beyond the {ITEMS:,} of one request": 7}


def test_an_item_has_a_bounded_amount_of_text_and_the_rest_is_counted() -> None:
    attributes = Attributes()
    found = attributes.text([pair(f"k{i}", "v" * TEXT) for i in range(100)])
    assert len(found) < TOTAL + 1000
    assert attributes.left_out >= 98


def test_values_within_values_share_the_room_of_their_item() -> None:
    leaf = AnyValue(string_value="v" * 1000)
    nested = AnyValue(array_value=ArrayValue(values=[leaf] * 500))
    attributes = Attributes()
    found = attributes.text([KeyValue(key=f"k{i}", value=nested) for i in range(500)])
    assert len(found) < TOTAL + 10_000
    assert attributes.left_out


def test_a_key_that_nobody_could_ask_for_is_left_out() -> None:
    attributes = Attributes()
    assert attributes.pairs([pair("k" * 5000, 1), pair("ok", 2)]) == {"ok": 2}
    assert attributes.left_out == 1


def test_large_resources_are_not_remembered() -> None:
    attributes = Attributes()
    resources = Resources(attributes)
    large = Message(attributes=[pair("text", "x" * TEXT)])
    assert resources.of(large) == resources.of(large)
    assert resources.of(large) is not resources.of(large)
    small = Message(attributes=[pair("service.name", "shop")])
    assert resources.of(small) is resources.of(small)


def test_names_are_cut_to_what_can_be_asked_for() -> None:
    context = Context(time.time_ns(), 0)
    batch = decode_traces(request({"s" * 5000: [span(1, name="n" * 5000)]}), context)
    row = dict(zip(["service", "name"], (batch.rows[0][6], batch.rows[0][10]), strict=True))
    assert row == {"service": "s" * NAME, "name": "n" * NAME}
    assert batch.cut


def test_operations_are_bounded_over_all_services() -> None:
    operations = Operations()
    for number in range(ALL // NAMES):
        for name in range(NAMES):
            operations.bounded((0,) * 6 + (f"s{number}",) + (0,) * 3 + (f"n{name}",))
    assert operations.bounded((0,) * 6 + ("new",) + (0,) * 3 + ("name",)) == OTHER
    assert operations.bounded((0,) * 6 + ("s0",) + (0,) * 3 + ("n0",)) == "n0"


def test_spans_that_all_have_one_id_do_not_multiply(database: Database) -> None:
    """3000 clients and 3000 servers of one id: 9 million pairs, if each were joined with each."""
    spans = [span(7, kind=CLIENT) for _ in range(3000)] + [span(8 + i, parent=7) for i in range(3000)]
    now, writer = time.time_ns(), Writer(database)
    writer.write([decode_traces(request({"shop": spans}), Context(now, 0))], [], now)
    writer.join(now)
    assert database.rows("SELECT sum(calls)::INT AS calls FROM edges") == [{"calls": 3000}]
    writer.join(now + WAIT_NS + 1)
    assert database.rows("SELECT sum(calls)::INT AS calls FROM edges") == [{"calls": 3000}]
    assert database.rows("SELECT count(*) AS left FROM ends") == [{"left": 0}]


def test_durations_that_no_sum_can_hold_stop_neither_writing_nor_gathering(database: Database) -> None:
    now, year = time.time_ns(), 365 * DAY
    spans = [span(i + 1, kind=kind, at=now - year, milliseconds=year / 1e6) for i in range(700) for kind in (2, 3)]
    writer = Writer(database)
    batch = decode_traces(request({"shop": spans}), Context(now, 0))
    for _ in range(2):
        writer.write([batch], [], now)
    writer.join(now + WAIT_NS + 1)
    Keeper(database, 2 * year, 1 << 40).run(now)
    assert database.rows("SELECT sum(calls)::INT AS calls FROM operations") == [{"calls": 2800}]


def test_one_request_that_the_store_cannot_hold_does_not_take_others_with_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Writer.write

    def write(self: Writer, found: Iterable[Batch], losses: Sequence[tuple[str, str, int]], now: int) -> None:
        batches = list(found)
        if any(row[10] == "poison" for batch in batches for row in batch.rows):
            raise duckdb.ConversionException("does not fit")
        written(self, batches, losses, now)

    monkeypatch.setattr(Writer, "write", write)
    ingest = Ingest(database, age_ns=DAY, size=1 << 30)
    ends = [ingest.submit("traces", request({"shop": [span(1, name=name)]})) for name in ("a", "poison", "b")]
    ingest.start()
    assert [_said(end) for end in ends] == [Outcome, Malformed, Outcome]
    ingest.close(10)
    assert database.rows("SELECT name FROM spans ORDER BY name") == [{"name": "a"}, {"name": "b"}]


def test_a_listener_that_fails_does_not_make_spans_be_stored_twice(database: Database) -> None:
    def fails(_: object) -> None:
        raise MemoryError

    ingest = Ingest(database, age_ns=DAY, size=1 << 30, on_spans=fails)
    ends = [ingest.submit("traces", request({"shop": [span(number)]})) for number in (1, 2)]
    ingest.start()
    assert [_said(end) for end in ends] == [Outcome, Outcome]
    ingest.close(10)
    assert database.rows("SELECT count(*) AS spans FROM spans") == [{"spans": 2}]


def test_requests_of_many_rows_are_written_in_several_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "ROWS", 10)
    sizes: list[int] = []
    ingest = Ingest(database, age_ns=DAY, size=1 << 30, on_spans=lambda rows: sizes.append(len(rows)))
    ends = [ingest.submit("traces", request({"shop": [span(n + 1) for n in range(6)]})) for _ in range(5)]
    ingest.start()
    assert [_said(end) for end in ends] == [Outcome] * 5
    ingest.close(10)
    assert sizes == [12, 12, 6]


def test_trouble_with_the_disk_ends_soon_after_its_cause(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "LOOK", 0.01)
    ingest = Ingest(database, age_ns=DAY, size=1 << 30, reserve=1 << 60)
    ingest.start()
    assert _said(ingest.submit("traces", request({"shop": [span(1)]}))) in (Refused, Outcome)
    _until(lambda: bool(ingest.trouble))
    ingest._reserve = 0
    _until(lambda: not ingest.trouble)
    assert _said(ingest.submit("traces", request({"shop": [span(2)]}))) is Outcome
    ingest.close(10)


def test_a_database_that_could_not_be_opened_anew_is_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = Ingest(database, age_ns=DAY, size=1 << 30)
    ingest.start()
    database._connection.close()  # as after an error that ended it, and a disk too full to open it
    database._local.__dict__.clear()
    assert _said(ingest.submit("traces", request({"shop": [span(1)]}))) is Refused
    assert _said(ingest.submit("traces", request({"shop": [span(2)]}))) is Outcome
    ingest.close(10)


def test_attributes_are_json_whatever_is_in_them() -> None:
    hostile = {"'; DROP TABLE spans; --": "'; DROP TABLE spans; --", "\x00": "\x00\x1f", "\u202e": "</script>", "": ""}
    assert as_json(dict(hostile)).startswith("{")


def _said(end: Future[Outcome]) -> type:
    error = end.exception(20)
    return type(error) if error is not None else type(end.result())


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_store_that_is_far_too_large_becomes_small_at_once(database: Database) -> None:
    now, writer = time.time_ns(), Writer(database)
    for minute in range(40):
        spans = [span(i + 1, trace=i + 1, at=now - (40 - minute) * 60 * 10**9, name=f"{i}") for i in range(500)]
        writer.write([decode_traces(request({"shop": spans}), Context(now, 0))], [], now)
    database.cursor().execute("CHECKPOINT")
    wanted = database.bytes() // 4
    Keeper(database, DAY, wanted).run(now)
    left = database.rows("SELECT count(*)::INT AS spans, min(start) AS oldest FROM spans")[0]
    assert 0 < int(str(left["spans"])) < 20_000 * 0.3
    assert int(str(left["oldest"])) > now - 12 * 60 * 10**9


def test_sums_are_gathered_again_after_the_clock_was_set_back(database: Database) -> None:
    now, writer = time.time_ns(), Writer(database)
    keeper = Keeper(database, DAY, 1 << 40)
    keeper.run(now + 300 * DAY)
    for _ in range(3):
        batch = decode_traces(request({"shop": [span(1, at=now - 60 * 10**9)]}), Context(now, 0))
        writer.write([batch], [], now)
    keeper.run(now)
    assert database.rows("SELECT calls FROM operations") == [{"calls": 3}]


@pytest.mark.parametrize(
    "text", ["\x01" * 50_000, "\x01" * 9000 + "a" * 50_000, "𝕏" * 50_000, "a\n" * 20_000, "é" * 9000]
)
def test_texts_are_measured_as_they_are_written(text: str) -> None:
    attributes = Attributes()
    found = attributes.text([pair("k", text)])
    assert TOTAL // 12 < len(found.encode()) < TOTAL + 100
    assert attributes.left_out == 1


def test_a_trace_of_large_spans_is_told_as_far_as_an_answer_may_go(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_module, "BYTES", 100_000)
    now, writer = time.time_ns(), Writer(database)
    spans = [span(i + 1, at=now + i, attributes={"k": "v" * 10_000}) for i in range(50)]
    writer.write([decode_traces(request({"shop": spans}), Context(now, 0))], [], now)
    rows = spans_of(database, 1)
    assert [row["span_id"] for row in rows] == list(range(1, len(rows) + 1))
    assert 5 <= len(rows) < 10
    assert rows[0]["total"] == 50


def test_counters_without_measure_stay_numbers() -> None:
    assert grown(1.7e308, -1.7e308, None) == MOST
    assert bounded(float("nan")) == 0.0
