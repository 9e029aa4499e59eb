"""PostgreSQL: what recorded conversations of real clients become, and that no bytes do harm."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_ebpf.model import Attributes
from otel_ebpf.protocols.base import Options, Reading, Session
from otel_ebpf.protocols.extras import Leave
from otel_ebpf.protocols.postgresql import PostgreSQL
from otel_ebpf.protocols.sql_session import REMEMBERED
from tests.unit.recorded import attributes, conversations, exchanges, readings

MODULE = PostgreSQL()
RECORDED = list(exchanges("postgresql"))
READY = b"Z\0\0\0\x05I"


def of(name: str, nth: int = 0, options: Options | None = None) -> list[Reading]:
    return readings(MODULE, "postgresql", name, options, nth)


def parse(request: bytes, response: bytes = b"", session: Session | None = None, redact: bool = True) -> list[Reading]:
    return list(MODULE.parse(request, response, session or Session(), Options(redact=redact)))


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def query(text: str) -> bytes:
    return message("Q", text.encode() + b"\0")


def extended(name: str, text: str | None, portal: str = "") -> bytes:
    """Parse (if there is a text), Bind, Execute."""
    parsed = b"" if text is None else message("P", f"{name}\0{text}\0".encode() + b"\0\0")
    bound = message("B", f"{portal}\0{name}\0".encode() + b"\0\0\0\0\0\0")
    return parsed + bound + message("E", portal.encode() + b"\0\0\0\0\0")


SYNC = message("S", b"")


def error(code: str) -> bytes:
    return message("E", f"SERROR\0VERROR\0C{code}\0Msomething\0\0".encode())


# --- recorded --------------------------------------------------------------------------------------------------------


def test_simple_queries_are_named_by_their_summary_and_carry_redacted_text() -> None:
    first = of("psql: simple queries")[0]

    assert first.fields.client.name == first.fields.server.name == "SELECT users"
    assert attributes(first) == {
        "db.system.name": "postgresql",
        "db.namespace": "postgres",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT users",
        "db.query.text": "SELECT name FROM users WHERE id = ?;",
    }
    assert not first.fields.client.error


def test_each_statement_of_a_session_is_one_reading() -> None:
    assert [reading.fields.client.name for reading in of("psql: simple queries")] == [
        "SELECT users",
        "SELECT missing",
        "SELECT users SELECT",
        "INSERT users",
        "DELETE users",
        "DO",
        "LISTEN news",
        "NOTIFY news",
        "SELECT generate_series",
        "SELECT generate_series",
    ]


def test_errors_carry_their_sqlstate() -> None:
    missing = of("psql: simple queries")[1]

    assert missing.fields.client.error and missing.fields.server.error
    assert missing.fields.status == "42P01"
    assert attributes(missing)["db.response.status_code"] == "42P01"
    assert attributes(missing)["error.type"] == "42P01"


def test_an_error_behind_rows_is_seen() -> None:
    assert [reading.fields.status for reading in of("psql: simple queries")][-1] == "22012"
    assert [reading.fields.status for reading in of("psql: simple queries")][2] == "22012"


def test_a_notice_is_no_error() -> None:
    notice = of("psql: simple queries")[5]

    assert not notice.fields.client.error
    assert notice.texts == ("DO ?;",)


def test_a_refused_login_is_reported_and_a_login_is_not() -> None:
    (no_database,) = of("psql: refused login, no such database")
    (wrong_password,) = of("psql: SCRAM, right and wrong password", nth=1)
    right_password = of("psql: SCRAM, right and wrong password", nth=0)

    assert no_database.fields.client.name == "CONNECT nowhere"
    assert no_database.fields.status == "3D000"
    assert wrong_password.fields.status == "28P01"
    assert [reading.fields.client.name for reading in right_password] == ["SELECT"]


def test_the_namespace_is_the_database_and_the_schema_that_was_asked_for() -> None:
    (reading,) = of("psql: search_path in the options")

    assert attributes(reading)["db.namespace"] == "postgres|shop"


def test_prepared_statements_bear_the_text_that_was_prepared() -> None:
    names = [reading.fields.client.name for reading in of("psycopg 3")]

    assert names == [
        "SELECT users",
        *["SELECT users"] * 5,
        "PREPARE SELECT users",
        *["SELECT users"] * 2,
        "BATCH INSERT users",
        "SELECT",
        "SELECT missing",
        "BEGIN",
        "UPDATE users",
        "COMMIT",
    ]
    prepared = of("psycopg 3")[8]
    assert prepared.texts == ("SELECT id FROM users WHERE name = $1",)


def test_executemany_is_a_batch() -> None:
    batch = of("psycopg 3")[9]

    assert attributes(batch)["db.operation.batch.size"] == 3
    assert attributes(batch)["db.operation.name"] == "BATCH INSERT"
    assert batch.texts == ("INSERT INTO users (id, name) VALUES ($1, $2)",)
    assert "db.operation.batch.size" not in dict(batch.fields.client.metric)


def test_errors_of_the_extended_protocol() -> None:
    division, missing = of("psycopg 3")[10:12]

    assert (division.fields.status, missing.fields.status) == ("22012", "42P01")


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("pg8000", ["PREPARE SELECT users", "SELECT users", "PREPARE SELECT users", "SELECT users", "SELECT users"]),
        (
            "asyncpg",
            [
                "PREPARE SELECT users",
                "SELECT users",
                "SELECT users",
                "DELETE users",
                "BEGIN",
                "PREPARE SELECT users",
                "SELECT users",  # two fetches from a portal
                "SELECT users",
                "COMMIT",
                "PREPARE SELECT missing",
            ],
        ),
        ("psycopg 3: named cursor", ["BEGIN", "DECLARE SELECT users", "FETCH", "CLOSE", "COMMIT"]),
        ("psycopg 3: pipeline with two syncs", ["SELECT", "SELECT users"]),
        ("raw: two Syncs and an error in one write", ["SELECT users", "SELECT missing", "DELETE users"]),
        ("psql: walsender", ["IDENTIFY_SYSTEM"]),
        ("raw: START_REPLICATION", ["START_REPLICATION"]),
        ("psql: TLS", []),
        ("psql: cancelled", ["SELECT"]),
    ],
)
def test_other_clients(client: str, expected: list[str]) -> None:
    assert [reading.fields.client.name for reading in of(client)] == expected


def test_the_answers_of_a_pipeline_belong_to_their_requests() -> None:
    assert [reading.fields.status for reading in of("raw: two Syncs and an error in one write")] == ["", "42P01", ""]


def test_copy_in_is_one_operation_that_ends_with_the_answer_to_its_data() -> None:
    fine, wrong, out = of("psycopg 3: COPY")

    assert [reading.fields.client.name for reading in (fine, wrong, out)] == [
        "COPY users",
        "COPY users",
        "COPY SELECT users",
    ]
    assert (fine.fields.status, wrong.fields.status) == ("", "23505")
    assert fine.texts == ("COPY users (id, name) FROM STDIN",)


def test_a_function_call_has_no_text() -> None:
    calls = [reading for reading in of("psycopg2: large object (FunctionCall)") if not reading.texts]

    assert len(calls) == 4
    assert attributes(calls[0])["db.operation.name"] == "FunctionCall"


def test_redaction_can_be_turned_off() -> None:
    first = of("psql: simple queries", options=Options(redact=False))[0]

    assert first.texts == ("SELECT name FROM users WHERE id = 1;",)
    assert first.fields.client.name == "SELECT users"


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_pgjdbc_sends_begin_with_the_first_statement_which_makes_no_batch() -> None:
    both = extended("", "BEGIN") + extended("", "SELECT * FROM t WHERE a = 5") + SYNC

    (reading,) = parse(both, message("C", b"SELECT 1\0") + READY)

    assert reading.fields.client.name == "SELECT t"
    assert reading.texts == ("SELECT * FROM t WHERE a = ?",)


def test_a_batch_of_different_statements_names_no_single_operation() -> None:
    (reading,) = parse(extended("", "INSERT INTO a VALUES (1)") + extended("", "DELETE FROM b") + SYNC)

    assert reading.fields.client.name == "BATCH"
    assert attributes(reading)["db.operation.batch.size"] == 2
    assert reading.texts == ("INSERT INTO a VALUES (?); DELETE FROM b",)


def test_a_statement_that_was_prepared_before_the_connection_was_seen_is_named_by_its_command_tag() -> None:
    (reading,) = parse(extended("s1", None) + SYNC, message("2", b"") + message("C", b"INSERT 0 1\0") + READY)

    assert reading.fields.client.name == "INSERT"
    assert reading.texts == ()


def test_a_name_that_is_prepared_again_means_the_new_text() -> None:
    session = Session()
    parse(extended("s", "SELECT 1 FROM a") + SYNC, session=session)
    parse(message("C", b"Ss\0") + extended("s", "SELECT 1 FROM b") + SYNC, session=session)

    assert parse(extended("s", None) + SYNC, session=session)[0].fields.client.name == "SELECT b"


def test_the_version_changes_only_with_what_is_remembered() -> None:
    session = Session()
    parse(extended("s", "SELECT 1 FROM a") + SYNC, session=session)
    version = session.version
    for _ in range(3):
        parse(extended("s", None) + SYNC, session=session)
        parse(extended("", "SELECT 2 FROM b") + SYNC, session=session)
        parse(query("SELECT 3"), session=session)

    assert session.version == version
    parse(extended("t", "SELECT 1 FROM a") + SYNC, session=session)
    assert session.version > version


def test_what_a_connection_remembers_is_bounded_and_the_oldest_goes_first() -> None:
    session = Session()
    parse(b"\0\0\0\x1f\0\3\0\0user\0me\0database\0shop\0\0"[:31], session=session)
    parse(extended("first", "SELECT 1 FROM kept") + SYNC, session=session)
    for n in range(2 * REMEMBERED):
        parse(extended(f"s{n}", "SELECT 1 FROM t") + SYNC, session=session)
        parse(extended("first", None) + SYNC, session=session)

    assert len(session.remembered) <= REMEMBERED
    (reading,) = parse(extended("first", None) + SYNC, session=session)
    assert reading.fields.client.name == "SELECT kept"
    assert attributes(reading)["db.namespace"] == "shop"


def test_a_long_query_that_was_cut_keeps_what_there_is() -> None:
    request = query("SELECT * FROM users WHERE id IN (" + ", ".join(map(str, range(2000))) + ")")[:1024]

    (reading,) = parse(request, message("T", b"\0\0") + READY)

    assert reading.fields.client.name == "SELECT users"
    assert reading.texts == ("SELECT * FROM users WHERE id IN (?",)


def test_a_bind_with_a_parameter_that_was_cut_is_an_execution() -> None:
    session = Session()
    parse(message("P", b"s\0INSERT INTO t VALUES ($1)\0\0\0") + SYNC, session=session)
    bind = message("B", b"\0s\0\0\0\0\1" + struct.pack("!I", 5000) + b"x" * 5000)

    (reading,) = parse(bind[:1024], message("2", b"") + error("23505") + READY, session)

    assert reading.fields.client.name == "INSERT t"
    assert reading.fields.status == "23505"


def test_a_statement_of_a_pool_in_the_middle_of_a_copy_is_not_confused_with_data() -> None:
    assert parse(message("d", b"1\tQ\0\0\0\x05\n"), b"") == []


def test_plain_queries_need_no_session_and_the_others_do() -> None:
    assert not MODULE.stateful(query("SELECT 1"))
    assert MODULE.stateful(query("copy t from stdin"))
    assert MODULE.stateful(extended("", "SELECT 1") + SYNC)


def test_the_metric_has_the_attributes_of_the_conventions_and_the_server_has_none() -> None:
    (reading,) = parse(query("SELECT * FROM t"), error("42P01") + READY)

    allowed = {
        "db.system.name",
        "db.collection.name",
        "db.namespace",
        "db.operation.name",
        "db.response.status_code",
        "error.type",
        "db.query.summary",
        "db.stored_procedure.name",
    }
    metric: Attributes = reading.fields.client.metric
    assert {key for key, _ in metric} <= allowed
    assert reading.fields.server.metric == ()


def test_a_response_is_whole_when_the_server_is_ready_again() -> None:
    request, rows = query("SELECT 1"), message("T", b"\0\0") + message("D", b"\0\0")

    def whole(request: bytes, response: bytes, more: int = 0) -> bool | None:
        return MODULE.complete(request, response, len(request), len(response) + more)

    assert whole(request, rows + READY) is True
    assert whole(request, rows) is False
    assert whole(extended("", "SELECT 1") + SYNC, message("1", b"")) is False
    assert whole(request, rows, 1000) is None
    assert whole(request, message("E", b"C42P01\0\0"), len(READY)) is True
    assert whole(request, rows[:-1], len(READY)) is None
    assert whole(query("COPY t FROM STDIN"), message("G", b"\0\0\0")) is None
    assert whole(message("H", b""), rows) is None


def test_a_connection_that_goes_on_encrypted_may_become_anything() -> None:
    request = b"\0\0\0\x08\x04\xd2\x16\x2f"

    assert MODULE.leaves(request, b"S") == Leave.UNDECIDED
    assert MODULE.leaves(request, b"N") == Leave.NO
    assert MODULE.leaves(query("SELECT 1"), READY) == Leave.NO


# --- is it PostgreSQL? -----------------------------------------------------------------------------------------------


def test_every_recorded_exchange_is_recognised_from_the_middle_of_its_connection_on() -> None:
    for conversation in conversations("postgresql"):
        for request, response in conversation.exchanges:
            if request[:1] not in b"\0p\x16\x17\x14" and response:  # login, TLS records
                assert MODULE.detect(request, response) >= 0.9, (conversation.name, request, response)
                assert MODULE.detect(request[:192], response[:64]) >= 0.6


def test_the_startup_packet_and_the_requests_before_it_are_recognised_alone() -> None:
    for request, _ in RECORDED:
        if request[:1] == b"\0":
            assert MODULE.detect(request, b"") >= 0.9


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"DELETE /a HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"PING\r\n", b"+PONG\r\n"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 40, b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03"),
        (b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x04test\0\0\x01\0\x01", b""),
        (b"\x09\0\0\0\x03SELECT 1", b"\x01\0\0\x01\x01"),
        (b"get foo\r\n", b"END\r\n"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\x12\x04\0\0\0\0\0"),
        (b"", b""),
        (b"Q", b""),
        (b"S", b""),
        (b"SELECT 1", b"E"),
    ],
)
def test_other_protocols_are_not(request_: bytes, response: bytes) -> None:
    assert MODULE.detect(request_, response) == 0.0


def test_mysql_is_not() -> None:
    for request, response in exchanges("mysql"):
        assert MODULE.detect(request, response) < 0.5


def test_random_bytes_are_not() -> None:
    random = Random(5432)
    for _ in range(20_000):
        request, response = random.randbytes(random.randrange(80)), random.randbytes(random.randrange(80))
        assert MODULE.detect(request, response) < 0.9
        assert MODULE.detect(request, b"") < 0.9
        assert MODULE.detect(b"", response) < 0.9


@given(st.text(max_size=200))
@example("P00\x80AA")
def test_random_text_is_not(text: str) -> None:
    assert MODULE.detect(text.encode(), b"") < 0.5


# --- hostile bytes ---------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_bytes_are_read_without_an_error(request: bytes, response: bytes) -> None:
    MODULE.detect(request, response)
    parse(request, response)
