"""MySQL and MariaDB: what recorded conversations of real clients become, and that no bytes do harm."""

from __future__ import annotations

import struct
import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.protocols.base import Options, Reading, Session
from otel_ebpf.protocols.extras import Leave
from otel_ebpf.protocols.mysql import MySQL
from otel_ebpf.protocols.mysql_packets import INFLATED_LIMIT, is_tls, plain
from otel_ebpf.protocols.postgresql import PostgreSQL
from otel_ebpf.protocols.sql_session import REMEMBERED
from tests.unit.recorded import attributes, conversations, exchanges, readings

MODULE = MySQL()
RECORDED = list(exchanges("mysql"))
OK = b"\0\0\0\x02\0\0\0"


def of(name: str, nth: int = 0, options: Options | None = None) -> list[Reading]:
    return readings(MODULE, "mysql", name, options, nth)


def names(name: str) -> list[str]:
    return [reading.fields.client.name for reading in of(name)]


def parse(request: bytes, response: bytes = b"", session: Session | None = None, redact: bool = True) -> list[Reading]:
    return list(MODULE.parse(request, response, session or Session(), Options(redact=redact)))


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload


def query(text: str) -> bytes:
    return packet(b"\x03" + text.encode())


def error(number: int, sequence: int = 1) -> bytes:
    return packet(b"\xff" + struct.pack("<H", number) + b"#42000message", sequence)


# --- recorded --------------------------------------------------------------------------------------------------------


def test_a_text_query_is_named_by_its_summary_and_carries_redacted_text() -> None:
    first = of("mariadb: text queries")[0]

    assert first.fields.client.name == first.fields.server.name == "SELECT users"
    assert attributes(first) == {
        "db.system.name": "mariadb",
        "db.namespace": "shop",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT users",
        "db.query.text": "SELECT name FROM users WHERE name = ?",
    }


def test_each_command_of_an_application_is_one_reading_and_those_of_drivers_are_none() -> None:
    assert names("mariadb: text queries") == [
        "SELECT users",
        "SELECT missing",
        "SELECT",
        "COM_INIT_DB mysql",
        "SHOW",
        "SELECT",
        "COM_INIT_DB shop",
        "PREPARE",
        "SET",
        "EXECUTE",
        "CALL add_user",
        "SELECT nowhere.users",
    ]
    assert names("mysql-connector: prepared statements") == [
        "SET",
        "SET",
        "COM_STMT_PREPARE SELECT users",
        "SELECT users",
        "SELECT users",
        "COM_STMT_PREPARE INSERT users",
        "INSERT users",
        "COM_STMT_PREPARE SELECT missing",
        "SET",
        "SET",
        "SET",
        "SET",
    ]


def test_errors_carry_the_servers_number() -> None:
    missing = of("mariadb: text queries")[1]

    assert missing.fields.client.error and missing.fields.server.error
    assert missing.fields.status == "1146"
    assert attributes(missing)["db.response.status_code"] == "1146"
    assert attributes(missing)["error.type"] == "1146"


def test_errors_of_prepared_statements() -> None:
    executed, prepared = of("mysql-connector: prepared statements")[6:8]

    assert executed.fields.status == "1062"
    assert executed.texts == ("INSERT INTO users (id, name) VALUES (?, ?)",)
    assert prepared.fields.status == "1146"


def test_an_error_of_the_second_of_several_statements_is_seen() -> None:
    fine, wrong = of("PyMySQL: several statements")[2:]

    assert fine.fields.client.name == "SELECT users UPDATE users"
    assert "db.operation.name" not in attributes(fine)
    assert (fine.fields.status, wrong.fields.status) == ("", "1146")


def test_the_namespace_follows_the_connection() -> None:
    namespaces = [attributes(reading)["db.namespace"] for reading in of("mariadb: text queries")]

    assert namespaces == ["shop"] * 3 + ["mysql"] * 3 + ["shop"] * 6


def test_a_database_that_was_refused_is_not_selected() -> None:
    refused, commit = of("PyMySQL")[-2:]

    assert refused.fields.client.name == "COM_INIT_DB nowhere"
    assert refused.fields.status == "1049"
    assert attributes(refused)["db.namespace"] == "nowhere"
    assert attributes(commit)["db.namespace"] == "shop"


def test_a_stored_procedure_is_named() -> None:
    call = next(reading for reading in of("PyMySQL") if reading.fields.client.name.startswith("CALL"))

    assert attributes(call)["db.stored_procedure.name"] == "`add_user`"


def test_a_local_file_is_loaded_by_one_operation_that_ends_with_the_answer_to_its_content() -> None:
    (load,) = [reading for reading in of("PyMySQL") if reading.fields.client.name.startswith("LOAD")]

    assert load.fields.client.name == "LOAD DATA users"
    assert load.texts == ("LOAD DATA LOCAL INFILE ? INTO TABLE users",)


def test_a_refused_login_is_reported() -> None:
    (password,) = of("PyMySQL: refused logins", nth=0)
    (database,) = of("PyMySQL: refused logins", nth=1)

    assert password.fields.client.name == "CONNECT"
    assert password.fields.status == "1045"
    assert database.fields.status == "1049"


def test_a_connection_that_goes_on_with_tls_says_nothing() -> None:
    assert of("mysql-connector: TLS") == []


def test_compressed_packets_are_read() -> None:
    assert names("mariadb: compressed") == ["SELECT users"]
    assert names("mysql-connector: compressed") == ["SET", "SET", "SELECT users", "SELECT", "SELECT missing"]
    assert of("mysql-connector: compressed")[-1].fields.status == "1146"


def test_prepare_and_execute_in_one_write_are_one_operation() -> None:
    (reading,) = of("raw: prepare and execute in one write")

    assert reading.fields.client.name == "SELECT users"


def test_a_bulk_execution_is_a_batch_and_a_cursor_is_fetched_from() -> None:
    prepared, bulk, _, opened, fetched, listed = of("raw: bulk, cursor, field list")

    assert prepared.fields.client.name == "COM_STMT_PREPARE INSERT users"
    assert bulk.fields.client.name == "BATCH INSERT users"
    assert attributes(bulk)["db.operation.batch.size"] == 3
    assert opened.fields.client.name == "SELECT users"
    assert fetched.fields.client.name == "COM_STMT_FETCH SELECT users"
    assert attributes(listed)["db.collection.name"] == "users"
    assert listed.texts == ()


def test_redaction_can_be_turned_off() -> None:
    first = of("mariadb: text queries", options=Options(redact=False))[0]

    assert first.texts == ("SELECT name FROM users WHERE name = 'alice'",)


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes_",
    [
        b"\0\1",
        # one attribute: not null, types follow, VARCHAR "n" = "value"
        b"\1\1" + b"\0" + b"\1" + b"\xfd\0" + b"\1n" + b"\5value",
        # two: the first is null, the second BIGINT
        b"\2\1" + b"\1" + b"\1" + b"\xfd\0\1a" + b"\x08\0\1b" + struct.pack("<q", 7),
    ],
)
def test_query_attributes_are_no_part_of_the_text(attributes_: bytes) -> None:
    request = packet(b"\x03" + attributes_ + b"SELECT 1 FROM t")

    (reading,) = parse(request, packet(OK, 1))

    assert reading.texts == ("SELECT ? FROM t",)
    assert MODULE.detect(request, packet(OK, 1)) >= 0.9


def test_the_namespace_follows_use_and_the_servers_session_tracking() -> None:
    session = Session()
    parse(query("USE `one`"), packet(OK, 1), session)
    assert attributes(parse(query("SELECT 1"), session=session)[0])["db.namespace"] == "one"

    tracked = b"\0\0\0" + struct.pack("<HH", 0x4002, 0) + b"\0" + b"\5\1\3\2is"
    parse(query("CALL p()"), packet(tracked, 1), session)
    assert attributes(parse(query("SELECT 1"), session=session)[0])["db.namespace"] == "is"

    parse(query("USE nowhere"), error(1049), session)
    assert attributes(parse(query("SELECT 1"), session=session)[0])["db.namespace"] == "is"


def test_a_server_that_did_not_say_what_it_is_counts_as_mysql() -> None:
    assert attributes(parse(query("SELECT 1"))[0])["db.system.name"] == "mysql"


def test_a_statement_that_was_prepared_before_the_connection_was_seen_is_an_execution() -> None:
    (reading,) = parse(packet(b"\x17\x09\0\0\0\0\1\0\0\0"), error(1062))

    assert reading.fields.client.name == "COM_STMT_EXECUTE"
    assert reading.fields.status == "1062"
    assert reading.texts == ()


def test_a_closed_statement_is_forgotten() -> None:
    session = Session()
    prepared = packet(b"\0" + struct.pack("<IHHBH", 5, 0, 0, 0, 0), 1)
    parse(packet(b"\x16SELECT 1 FROM a"), prepared, session)
    execute = packet(b"\x17\5\0\0\0\0\1\0\0\0")
    assert parse(execute, session=session)[0].fields.client.name == "SELECT a"

    parse(packet(b"\x19\5\0\0\0") + query("SELECT 2"), packet(OK, 1), session)

    assert parse(execute, session=session)[0].fields.client.name == "COM_STMT_EXECUTE"


def test_what_needs_no_answer_does_not_shift_the_answers() -> None:
    request = packet(b"\x19\5\0\0\0") + packet(b"\x18\5\0\0\0\0\0data") + query("SELECT 1 FROM a") + query("SELECT 2")

    first, second = parse(request, packet(OK, 1) + error(1064))

    assert (first.fields.status, second.fields.status) == ("", "1064")


def test_a_progress_report_is_no_error() -> None:
    progress = packet(b"\xff\xff\xff\1\1\2\0\0\0\x05stage", 1)

    (reading,) = parse(query("ALTER TABLE t ADD x INT"), progress + packet(OK, 2))

    assert not reading.fields.client.error


def test_a_long_query_that_was_cut_keeps_what_there_is() -> None:
    request = query("SELECT * FROM users WHERE id IN (" + ", ".join(map(str, range(2000))) + ")")[:1024]

    (reading,) = parse(request, packet(OK, 1))

    assert reading.fields.client.name == "SELECT users"
    assert reading.texts == ("SELECT * FROM users WHERE id IN (?",)


def test_what_a_connection_remembers_is_bounded() -> None:
    session = Session()
    session.remembered[b"system"] = "mariadb"
    for number in range(2 * REMEMBERED):
        prepared = packet(b"\0" + struct.pack("<IHHBH", number, 0, 3, 0, 0), 1)
        parse(packet(b"\x16SELECT 1"), prepared, session)

    assert len(session.remembered) <= REMEMBERED
    assert session.remembered[b"system"] == "mariadb"


def test_a_bomb_is_not_inflated() -> None:
    squeezed = zlib.compress(bytes(10_000_000))
    data = struct.pack("<I", len(squeezed))[:3] + b"\0" + b"\xff\xff\xff" + squeezed

    assert len(plain(data[:1024])) <= INFLATED_LIMIT


def test_packets_compressed_with_zstd_are_left_alone() -> None:
    assert plain(b"\x30\0\0\0\x80\0\0\x28\xb5\x2f\xfd" + b"x" * 44)[:4] == b""


def test_plain_queries_need_no_session_and_the_others_do() -> None:
    assert not MODULE.stateful(query("SELECT * FROM users"))
    assert MODULE.stateful(query("/* a */ use shop"))
    assert MODULE.stateful(query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"))
    assert MODULE.stateful(packet(b"\x02shop"))
    assert MODULE.stateful(packet(b"\x16SELECT 1"))


def test_a_response_is_whole_when_its_only_packet_is() -> None:
    def whole(response: bytes, more: int = 0) -> bool | None:
        return MODULE.complete(b"", response, 0, len(response) + more)

    assert whole(packet(OK, 1)) is True
    assert whole(error(1064)) is True
    assert whole(packet(OK, 1)[:-1]) is False
    assert whole(packet(b"\1", 1)) is None
    assert whole(packet(OK, 1), 1000) is None
    assert whole(b"") is None


def test_a_connection_that_goes_on_with_tls_may_become_anything() -> None:
    left = [
        MODULE.leaves(request, response)
        for conversation in conversations("mysql")
        for request, response in conversation.exchanges
        if MODULE.leaves(request, response) != Leave.NO
    ]

    assert left == [Leave.UNDECIDED]


# --- is it MySQL? ----------------------------------------------------------------------------------------------------


def test_every_recorded_exchange_is_recognised_from_the_middle_of_its_connection_on() -> None:
    for conversation in conversations("mysql"):
        for request, response in conversation.exchanges:
            command = request[3:4] == b"\0" and request[4:5] != b"\x1c"
            if command and response and not is_tls(request):
                assert MODULE.detect(request, response) >= 0.9, (conversation.name, request, response)
                assert MODULE.detect(request[:192], response[:64]) >= 0.8, (conversation.name, request, response)


def test_a_greeting_and_a_login_are_recognised_alone() -> None:
    for conversation in conversations("mysql"):
        assert MODULE.detect(b"", conversation.exchanges[0][1]) >= 0.9
        assert MODULE.detect(conversation.exchanges[1][0], b"") >= 0.9


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"PING\r\n", b"+PONG\r\n"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 40, b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03"),
        (b"\x17\x03\x03\0\x16" + b"\x5a" * 22, b""),
        (b"\0\x1d\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x04test\0\0\x01\0\x01", b""),
        (b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x04test\0\0\x01\0\x01", b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0"),
        # MongoDB's OP_MSG: the length counts itself, and a request id is where the command would be
        (struct.pack("<iiii", 21, 3, 0, 2013) + b"\0\0\0\0\0", b""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\x12\x04\0\0\0\0\0"),
        (b"", b""),
        (b"\x01", b""),
        (b"\x01\0\0\0", b""),
    ],
)
def test_other_protocols_are_not(request_: bytes, response: bytes) -> None:
    assert MODULE.detect(request_, response) == 0.0


def test_postgresql_is_not() -> None:
    for request, response in exchanges("postgresql"):
        assert MODULE.detect(request, response) < 0.5
        assert MODULE.detect(request, b"") < 0.5
        assert MODULE.detect(b"", response) < 0.5


def test_one_of_both_is_sure_and_the_other_is_not() -> None:
    other = PostgreSQL()
    for request, response in RECORDED:
        assert not (MODULE.detect(request, response) >= 0.5 and other.detect(request, response) >= 0.5)


def test_random_bytes_are_not() -> None:
    random = Random(3306)
    for _ in range(20_000):
        request, response = random.randbytes(random.randrange(80)), random.randbytes(random.randrange(80))
        assert MODULE.detect(request, response) < 0.9
        assert MODULE.detect(request, b"") < 0.9
        assert MODULE.detect(b"", response) < 0.9


@given(st.text(max_size=200))
def test_random_text_is_not(text: str) -> None:
    assert MODULE.detect(text.encode(), b"") < 0.5


# --- hostile bytes ---------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(st.binary(max_size=200), st.binary(max_size=100), st.integers(0, 255), st.integers(0, 3))
def test_any_bytes_are_read_without_an_error(payload: bytes, response: bytes, command: int, sequence: int) -> None:
    for request in (payload, packet(bytes([command]) + payload, sequence)):
        MODULE.detect(request, response)
        parse(request, response)
        parse(request, packet(response, 1))
