"""Request logs: the columnar encoder says what `opentelemetry-proto` says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from otel_ebpf.model import Endpoint, Kind, Link, Resource
from otel_ebpf.otlp.logs import LogEncoder
from otel_ebpf.protocols.base import Fields, Side, Slot
from tests.unit.otlp_twin import (
    OFFSET,
    Row,
    Tables,
    attributes_of,
    flags_of,
    raw,
    row_attributes,
    side_of,
    simple_tables,
    spans_of,
)


def encode(tables: Tables, rows: list[Row]) -> list[LogRecord]:
    records: list[LogRecord] = []
    for message in LogEncoder(*tables.all()).encode(spans_of(rows), OFFSET):
        for resource in ExportLogsServiceRequest.FromString(message.data).resource_logs:
            assert resource.scope_logs[0].scope.name == "otel_ebpf"
            records += resource.scope_logs[0].log_records
    return records


def sort(record: LogRecord) -> LogRecord:
    ordered = sorted(record.attributes, key=lambda a: a.key)
    del record.attributes[:]
    record.attributes.extend(ordered)
    return record


def body_of(tables: Tables, row: Row) -> str:
    """The line, in plain Python."""
    side = side_of(tables, row)
    text = row.texts[side.slots[0].index] if side.slots and side.slots[0].index < len(row.texts) else ""
    line = side.name
    if text:
        method = dict(side.attributes).get("http.request.method", "")
        line = f"{method} {text}" if method else text
    status = tables.shapes[row.shape].status
    hundredths = (max(row.start, row.end) - row.start) // 10_000
    return f"{line}{' ' + status if status else ''} {hundredths // 100}.{hundredths % 100:02d} ms"


def record_of(tables: Tables, row: Row) -> LogRecord:
    error = side_of(tables, row).error
    return LogRecord(
        time_unix_nano=max(row.start, row.end) + OFFSET,
        observed_time_unix_nano=max(row.start, row.end) + OFFSET,
        severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR if error else SeverityNumber.SEVERITY_NUMBER_INFO,
        severity_text="ERROR" if error else "INFO",
        body=AnyValue(string_value=body_of(tables, row)),
        attributes=attributes_of(row_attributes(tables, row).items()),
        flags=flags_of(row),
        trace_id=raw(row.trace[0]) + raw(row.trace[1]),
        span_id=raw(row.span_id),
    )


def mixed_tables() -> Tables:
    tables = simple_tables(slots=(Slot("url.path", 0), Slot("url.query", 1)))
    select = Side("SELECT orders", (("db.system.name", "mysql"),), (), slots=(Slot("db.query.text", 0),), error=True)
    dns = Side("A", (("dns.question.name", "example.com"),), ())
    tables.shapes.id(Fields("mysql", dns, select, "1064"))
    tables.shapes.id(Fields("dns", dns, dns, ""))
    tables.endpoints.id(Endpoint((), ()))
    tables.resources.id(Resource("cart", (("service.name", "cart"),)))
    return tables


durations = st.one_of(
    st.integers(0, 2**59), st.sampled_from((0, 9_999, 10_000, 999_999, 1_000_000, 9_999_999, 10**10, 10**16))
)
rows = st.builds(
    lambda start, duration, **fields: Row(start=start, end=start + duration, **fields),
    start=st.integers(0, 2**59),
    duration=durations,
    shape=st.integers(0, 2),
    kind=st.sampled_from(Kind),
    endpoint=st.integers(0, 1),
    texts=st.lists(st.text(max_size=200), max_size=2),
    link=st.sampled_from(Link),
    remote_flags=st.integers(0, 255),
    span_id=st.integers(0, 2**64 - 1),
)


@settings(max_examples=100)
@given(st.lists(rows, min_size=1, max_size=90))
def test_what_is_written_parses_to_what_the_messages_say(batch: list[Row]) -> None:
    tables = mixed_tables()
    assert [sort(r) for r in encode(tables, batch)] == [sort(record_of(tables, row)) for row in batch]


def test_a_line_reads_as_an_access_log_does() -> None:
    tables = mixed_tables()
    served = Row(texts=("/cart",), start=0, end=1_234_567)
    queried = Row(shape=1, kind=Kind.CLIENT, texts=("SELECT 1",), start=0, end=410_000)
    resolved = Row(shape=2, kind=Kind.CLIENT, start=0, end=12_000_000_000)
    bodies = [record.body.string_value for record in encode(tables, [served, queried, resolved])]
    assert bodies == ["GET /cart 200 1.23 ms", "SELECT 1 1064 0.41 ms", "A 12000.00 ms"]
