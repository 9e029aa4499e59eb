"""What is reported of SQL operations: names, types and rules of the OpenTelemetry conventions, for all recordings."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.semconv.attributes import db_attributes, error_attributes

from otel_ebpf.protocols.base import Options, Reading, Session, Side
from otel_ebpf.protocols.mysql import MySQL
from otel_ebpf.protocols.postgresql import PostgreSQL
from otel_ebpf.protocols.sql import Dialect, Sql, Statement
from otel_ebpf.protocols.sql_fields import FINE, Database, Operation, Outcome, fields_of
from tests.unit.recorded import conversations

STABLE = {
    value for module in (db_attributes, error_attributes) for name, value in vars(module).items() if name.isupper()
}
METRIC = {
    "db.system.name",
    "db.namespace",
    "db.collection.name",
    "db.operation.name",
    "db.query.summary",
    "db.stored_procedure.name",
    "db.response.status_code",
    "error.type",
}
DATABASE = Database("postgresql", "postgresql", "shop")


def recorded() -> Iterator[Reading]:
    for module in (PostgreSQL(), MySQL()):
        for conversation in conversations(module.name):
            session = Session()
            for request, response in conversation.exchanges:
                yield from module.parse(request, response, session, Options())


def read(text: str) -> Statement:
    return Sql(Dialect.POSTGRESQL).read(text)


def attributes(side: Side) -> dict[str, object]:
    return dict(side.attributes)


def test_every_attribute_is_a_stable_one_of_its_type() -> None:
    for reading in recorded():
        for key, value in reading.fields.client.attributes:
            assert key in STABLE
            assert isinstance(value, int if key == "db.operation.batch.size" else str)
        assert {slot.attribute for slot in reading.fields.client.slots} <= STABLE


def test_the_metric_has_the_attributes_that_the_conventions_list_for_it_and_only_the_client_has_one() -> None:
    for reading in recorded():
        client = reading.fields.client
        assert {key for key, _ in client.metric} <= METRIC
        assert set(client.metric) <= set(client.attributes)
        assert reading.fields.server.metric == ()


def test_an_error_has_a_type_and_nothing_else_has() -> None:
    for reading in recorded():
        for side in (reading.fields.client, reading.fields.server):
            assert side.error == ("error.type" in attributes(side))
            assert attributes(side).get("db.response.status_code", "") == reading.fields.status


def test_the_summary_agrees_with_the_operations_name() -> None:
    for reading in recorded():
        told = attributes(reading.fields.client)
        if "db.query.summary" in told and "db.operation.name" in told:
            assert str(told["db.query.summary"]).startswith(str(told["db.operation.name"]))


def test_a_span_is_named_by_summary_else_operation_and_target_else_system() -> None:
    nothing = Operation("mysql", "mysql")
    shop = nothing._replace(namespace="shop")
    select = shop._replace(name="SELECT")

    def name(operation: Operation) -> str:
        return fields_of(operation).client.name

    assert name(select._replace(summary="SELECT a b")) == "SELECT a b"
    assert name(select._replace(collection="t")) == "SELECT t"
    assert name(shop._replace(name="CALL", procedure="p")) == "CALL p"
    assert name(select) == "SELECT shop"
    assert name(shop) == "shop"
    assert name(nothing) == "mysql"


def test_a_batch_of_unknown_size_has_no_size() -> None:
    statement = read("INSERT INTO t VALUES ($1)")

    known = DATABASE.batch([statement] * 2, [statement.text] * 2, FINE, 2)
    unknown = DATABASE.batch([statement], [statement.text], FINE, 0)

    assert attributes(known.fields.client)["db.operation.batch.size"] == 2
    assert "db.operation.batch.size" not in attributes(unknown.fields.client)
    assert known.fields.client.name == unknown.fields.client.name == "BATCH INSERT t"


def test_an_error_whose_code_was_cut_off_is_an_error() -> None:
    failed = DATABASE.query(read("SELECT 1"), "SELECT ?", Outcome(True)).fields.client

    assert failed.error
    assert attributes(failed)["error.type"] == "_OTHER"
    assert "db.response.status_code" not in attributes(failed)


def test_a_summary_with_a_command_before_it_is_cut_between_words() -> None:
    statement = read("SELECT * FROM " + ", ".join(f"table_{n:03}" for n in range(100)))

    summary = attributes(DATABASE.query(statement, "", FINE, "COM_STMT_PREPARE").fields.client)["db.query.summary"]

    assert isinstance(summary, str) and len(summary) <= 255
    assert summary.split()[-1] == "table_022"


def test_equal_operations_have_the_same_fields() -> None:
    statement = read("SELECT 1")

    assert DATABASE.query(statement, "", FINE).fields is DATABASE.query(statement, "", FINE).fields
