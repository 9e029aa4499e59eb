"""The viewer's store: what is acknowledged is there, once, with its sums and edges; and it stays within its bounds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from otel_ebpf.errors import UnsupportedError
from otel_ebpf.viewer.contract import Malformed, Outcome, Refused
from otel_ebpf.viewer.decode.context import Context
from otel_ebpf.viewer.decode.peers import INTERNET
from otel_ebpf.viewer.decode.traces import decode_traces
from otel_ebpf.viewer.ingest import Ingest
from otel_ebpf.viewer.store import Database, Writer
from otel_ebpf.viewer.store.keep import FINE_FOR_NS, SETTLED_NS, Keeper
from otel_ebpf.viewer.store.names import NAMES
from otel_ebpf.viewer.store.write import WAIT_NS
from tests.unit.viewer_requests import CLIENT, INTERNAL, SERVER, Plain, pair, request, span

DAY = 24 * 3600 * 10**9
SECOND = 10**9


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def ingest(database: Database) -> Iterator[Ingest]:
    running = Ingest(database, age_ns=DAY, size=1 << 30)
    running.start()
    yield running
    running.close(10)


def write(database: Database, data: bytes, now: int | None = None) -> Writer:
    """Decode and store one request."""
    moment = time.time_ns() if now is None else now
    writer = Writer(database)
    writer.write([decode_traces(data, Context(moment, 0))], [], moment)
    return writer


def edges(database: Database) -> dict[tuple[str, str], tuple[object, ...]]:
    rows = database.rows(
        "SELECT client, server, connection_type AS type, client_kind, server_kind, sum(calls)::INT AS calls, "
        "sum(failed)::INT AS failed FROM edges GROUP BY ALL"
    )
    return {(str(r["client"]), str(r["server"])): tuple(list(r.values())[2:]) for r in rows}


def test_a_span_is_stored_whole(database: Database) -> None:
    attributes: dict[str, Plain] = {
        "http.route": "/users/{id}",
        "server.port": 8080,
        "ok": True,
        "load": 0.5,
        "quote": 'a"b\\\n\x00é',
    }
    one = span(7, parent=3, trace=(5 << 64) + 9, name="GET /users/{id}", failed=True, attributes=attributes)
    one.status.message = "broken"
    one.attributes.append(
        KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(bytes_value=b"\xff")])))
    )
    event = one.events.add(time_unix_nano=one.start_time_unix_nano + 5, name="exception")
    event.attributes.append(pair("exception.type", "OSError"))
    one.links.add(trace_id=b"\1" * 16, span_id=b"\2" * 8)
    write(database, request({"shop": [one]}))
    (row,) = database.rows("SELECT * FROM spans")
    assert json.loads(str(row["attributes"])) == {**attributes, "list": ["/w=="]}
    assert json.loads(str(row["events"])) == [
        {"time": str(event.time_unix_nano), "name": "exception", "attributes": {"exception.type": "OSError"}}
    ]
    assert json.loads(str(row["links"])) == [{"trace_id": "01" * 16, "span_id": "02" * 8, "attributes": {}}]
    wanted = {
        "start": one.start_time_unix_nano,
        "duration": 10**6,
        "trace_high": 5,
        "trace_low": 9,
        "span_id": 7,
        "parent_id": 3,
        "service": "shop",
        "kind": 2,
        "status": 2,
        "name": "GET /users/{id}",
        "message": "broken",
    }
    assert {key: row[key] for key in wanted} == wanted
    (resource,) = database.rows("SELECT * FROM resources")
    assert (resource["id"], resource["attributes"]) == (row["resource"], '{"service.name":"shop"}')


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trace_id": b"\1" * 15}, "trace id is not 16 bytes, or zero"),
        ({"trace_id": bytes(16)}, "trace id is not 16 bytes, or zero"),
        ({"span_id": b""}, "span id is not 8 bytes, or zero"),
        ({"parent_span_id": b"\1"}, "parent span id is not 8 bytes"),
        ({"end_time_unix_nano": 1}, "ends before it starts"),
        ({"end_time_unix_nano": 2**64 - 1}, "time is more than 10 minutes in the future"),
        ({"start_time_unix_nano": 5, "end_time_unix_nano": 6}, "time is before the oldest that is kept"),
    ],
)
def test_a_span_that_contradicts_itself_is_rejected_by_name_and_its_neighbour_is_kept(
    ingest: Ingest, database: Database, change: dict[str, object], reason: str
) -> None:
    wrong = span(1)
    for field, value in change.items():
        setattr(wrong, field, value)
    outcome = ingest.submit("traces", request({"shop": [wrong, span(2)]})).result(10)
    assert outcome == Outcome(1, f"1 × {reason}")
    assert [row["span_id"] for row in database.rows("SELECT span_id FROM spans")] == [2]
    assert database.rows("SELECT what, reason, count FROM losses") == [
        {"what": "viewer: traces", "reason": reason, "count": 1}
    ]


def test_bytes_that_are_no_request_are_malformed_and_harm_nobody_in_the_same_transaction(ingest: Ingest) -> None:
    futures = [ingest.submit("traces", data) for data in (b"\xff" * 50, request({"shop": [span(1)]}), b"\x0a\x7f")]
    assert isinstance(futures[0].exception(10), Malformed)
    assert futures[1].result(10) == Outcome()
    assert isinstance(futures[2].exception(10), Malformed)


def test_a_million_attribute_keys_cost_what_is_kept_of_them(ingest: Ingest, database: Database) -> None:
    many = span(1, attributes={f"key-{i}": i for i in range(100_000)})
    assert ingest.submit("traces", request({"shop": [many]})).result(30) == Outcome()
    (row,) = database.rows("SELECT attributes FROM spans")
    assert len(json.loads(str(row["attributes"]))) == 512
    (loss,) = database.rows("SELECT what, count FROM losses")
    assert loss == {"what": "viewer: traces", "count": 100_000 - 512}


def test_names_that_senders_invent_do_not_multiply_the_sums(database: Database) -> None:
    write(database, request({"shop": [span(i + 1, name=f"GET /users/{i}") for i in range(NAMES + 40)]}))
    rows = database.rows("SELECT name, sum(calls)::INT AS calls FROM operations GROUP BY ALL")
    assert len(rows) == NAMES + 1
    assert {"name": "(other)", "calls": 40} in rows
    assert database.rows("SELECT count(DISTINCT name)::INT AS names FROM spans") == [{"names": NAMES + 40}]


def test_an_edge_is_made_once_of_both_its_ends_in_whatever_order_and_transaction_they_come(database: Database) -> None:
    call = span(1, kind=CLIENT, attributes={"server.address": "shop.test", "http.request.method": "GET"})
    served = span(2, parent=1, kind=SERVER, failed=True, attributes={"http.request.method": "GET"})
    writer = write(database, request({"shop": [served]}))
    writer.join(time.time_ns())
    assert edges(database) == {}
    write(database, request({"web": [call]}))
    writer.join(time.time_ns())
    writer.join(time.time_ns() + 2 * WAIT_NS)
    assert edges(database) == {("web", "shop"): ("", "service", "service", 1, 1)}
    assert database.rows("SELECT * FROM ends") == []


def test_an_end_without_the_other_waits_then_names_it_by_its_attributes(database: Database) -> None:
    query = span(1, kind=CLIENT, attributes={"db.system.name": "postgresql", "server.address": "db.test"})
    call = span(2, kind=CLIENT, attributes={"server.address": "203.0.113.9", "server.port": 443})
    orphan = span(3, parent=99, attributes={"client.address": "10.1.2.3"})
    writer = write(database, request({"shop": [query, call, orphan]}))
    writer.join(time.time_ns())
    assert edges(database) == {}
    writer.join(time.time_ns() + WAIT_NS)
    assert edges(database) == {
        ("shop", "db.test"): ("database", "service", "database", 1, 0),
        ("shop", "203.0.113.9:443"): ("virtual_node", "service", "external", 1, 0),
        ("10.1.2.3", "shop"): ("virtual_node", "external", "service", 1, 0),
    }


def test_a_root_that_serves_needs_not_wait_and_all_of_the_internet_is_one_node(database: Database) -> None:
    spans = [span(i + 1, trace=i + 1, attributes={"client.address": f"8.8.4.{i}"}) for i in range(9)]
    write(database, request({"web": spans})).join(time.time_ns())
    assert edges(database) == {(INTERNET, "web"): ("virtual_node", "external", "service", 9, 0)}


def test_spans_within_a_service_make_no_edges(database: Database) -> None:
    write(database, request({"web": [span(1, kind=INTERNAL)]})).join(time.time_ns() + 2 * WAIT_NS)
    assert edges(database) == {}


def test_gathering_changes_rows_but_no_sum(database: Database) -> None:
    now = time.time_ns()
    for age in (0, 40 * SECOND, 41 * SECOND, FINE_FOR_NS + 61 * SECOND, FINE_FOR_NS + 75 * SECOND):
        write(database, request({"shop": [span(1, at=now - age, milliseconds=3), span(2, at=now - age)]}), now)
    question = "SELECT name, bucket, sum(calls) AS calls, sum(sum) AS sum FROM operations GROUP BY ALL ORDER BY ALL"
    before = database.rows(question)
    rows = database.rows("SELECT count(*) AS n FROM operations")[0]["n"]
    keeper = Keeper(database, DAY, 1 << 30)
    for _ in range(3):
        keeper.run(now + SETTLED_NS)
        assert database.rows(question) == before
    assert int(str(database.rows("SELECT count(*) AS n FROM operations")[0]["n"])) < int(str(rows))


def test_what_is_too_old_goes_and_its_resource_with_it(database: Database) -> None:
    now = time.time_ns()
    write(database, request({"old": [span(1, at=now - DAY - 3600 * SECOND)], "new": [span(2, at=now)]}), now)
    assert Keeper(database, DAY, 1 << 30).run(now)
    assert database.rows("SELECT service FROM spans") == [{"service": "new"}]
    assert database.rows("SELECT service FROM resources") == [{"service": "new"}]
    assert not Keeper(database, DAY, 1 << 30).run(now)


def test_beyond_the_size_the_oldest_goes_and_the_file_stops_to_grow(database: Database) -> None:
    now, limit = time.time_ns(), 16 << 20
    keeper = Keeper(database, DAY, limit)
    cursor = database.cursor()
    for round_ in range(8):
        cursor.execute(
            "INSERT INTO spans SELECT ? + i * 1000, 1, hash(i), hash(i + 1), hash(i + 2), hash(i + 3), 's', 1, 2, 0, "
            "'n', '', '', '{\"k\":\"' || hash(i * 7 + ?) || hash(i * 11) || '\"}', NULL, NULL, 0, 0, 0 "
            "FROM range(100000) r(i)",
            [now - DAY // 2 + round_ * SECOND, round_],
        )
        cursor.execute("CHECKPOINT")
        while database.bytes() > limit:
            assert keeper.run(now)
    kept = database.rows("SELECT min(start) AS oldest, max(start) AS newest FROM spans")[0]
    assert int(str(kept["oldest"])) > now - DAY // 2 + SECOND
    assert int(str(kept["newest"])) >= now - DAY // 2 + 7 * SECOND
    assert database.path.stat().st_size < 3 * limit


def test_one_store_one_viewer(tmp_path: Path) -> None:
    holder = Database(tmp_path)
    script = (
        "import sys; from pathlib import Path; from otel_ebpf.viewer.store import Database\n"
        "try: Database(Path(sys.argv[1]))\nexcept Exception as e: print(e)"
    )
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "in use by another viewer (pid " in said.stdout
    assert said.stdout.count("\n") == 1
    holder.close()


@pytest.mark.parametrize(
    ("version", "said"), [("2", "made by a newer otel-ebpf"), ("0", "made by an older"), ("x", "not a store of otel")]
)
def test_a_store_of_another_version_is_left_alone(tmp_path: Path, version: str, said: str) -> None:
    opened = Database(tmp_path)
    opened.cursor().execute("UPDATE meta SET value = ?", [version])
    opened.close()
    with pytest.raises(UnsupportedError, match=said):
        Database(tmp_path)


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "otel-ebpf.duckdb").write_bytes(b"hello" * 5000)
    with pytest.raises(UnsupportedError, match="cannot be opened"):
        Database(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with duckdb.connect(other / "otel-ebpf.duckdb") as connection:
        connection.execute("CREATE TABLE mine(a INT)")
    with pytest.raises(UnsupportedError, match="not a store of otel-ebpf"):
        Database(other)


def test_while_the_disk_is_nearly_full_all_is_refused_with_a_time_to_come_back_and_counted(database: Database) -> None:
    full = Ingest(database, age_ns=DAY, size=1 << 30, reserve=1 << 62)
    full.start()
    full.submit("traces", request({"shop": [span(1)]})).exception(10)  # the disk is looked at when something comes
    refused = full.submit("traces", request({"shop": [span(2)]})).exception(10)
    assert isinstance(refused, Refused)
    assert "disk" in str(refused) and refused.retry_after > 0 and "disk" in full.trouble
    full.close(10)
    assert database.rows("SELECT what, reason, count FROM losses") == [
        {"what": "viewer", "reason": "requests refused: the disk of the store is full", "count": 1}
    ]


def test_a_disk_that_is_full_all_the_same_loses_nothing_that_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], check=True)
    try:
        database = Database(folder)
        ingest = Ingest(database, age_ns=DAY, size=1 << 30, reserve=0)
        ingest.start()
        stored, refused = 0, 0
        for number in range(1, 40):
            texts = [hex(hash((number, i))) * 20 for i in range(500)]
            spans = [span(number * 1000 + i, attributes={"text": text}) for i, text in enumerate(texts)]
            failure = ingest.submit("traces", request({"shop": spans})).exception(30)
            stored += 0 if failure else len(spans)
            refused += isinstance(failure, Refused)
        assert refused > 0 < stored
        ingest.close(10)
        database.close()
        again = Database(folder)
        assert again.rows("SELECT count(*)::INT AS n FROM spans") == [{"n": stored}]
        again.close()
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_an_empty_request_is_fine(ingest: Ingest) -> None:
    assert ingest.submit("traces", ExportTraceServiceRequest().SerializeToString()).result(10) == Outcome()
    assert ingest.submit("metrics", b"").result(10) == Outcome()
    assert ingest.submit("logs", b"").result(10) == Outcome()
