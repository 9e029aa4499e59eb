"""redis-cli, psql, mariadb and dig to their servers (issue acceptance 1 and 4)."""

from __future__ import annotations

from tests.agent import Agent
from tests.e2e.pairs import assert_joined, at, both_ends, ends, folder_of, of, run
from tests.servers import dnsmasq, mariadb, postgresql, redis
from tests.sink import Sink
from tests.spans import SeenSpan


def _with(spans: list[SeenSpan], attribute: str, text: str) -> list[SeenSpan]:
    return [span for span in spans if text in str(span.get(attribute) or "")]


def test_a_redis_command_is_named_and_its_value_is_not_shown(agent: Agent, sink: Sink) -> None:
    with redis() as server:
        run("redis-cli", "-p", str(server.port), "SET", "cart:17", "swordfish")
        client, served = ends(sink.wait(both_ends(server)), server)

    assert_joined(client, served)
    assert client["db.system.name"] == "redis"
    assert client["db.operation.name"] == "SET"
    assert client.name.startswith("SET")
    assert client.status == "unset"
    assert (client.service, served.service) == ("redis-cli", "redis-server")
    assert "swordfish" not in f"{client.attributes} {served.attributes}"


def test_an_error_of_redis_is_an_error_with_its_prefix(agent: Agent, sink: Sink) -> None:
    with redis() as server:
        run("redis-cli", "-p", str(server.port), "LPUSH", "list", "1")
        run("redis-cli", "-p", str(server.port), "INCR", "list")
        spans = sink.wait(both_ends(server, 2))

    wrong = next(span for span in spans if at(server, "client")(span) and span["db.operation.name"] == "INCR")
    assert wrong.status == "error"
    assert wrong["db.response.status_code"] == "WRONGTYPE"


def test_a_statement_of_psql_over_tcp(agent: Agent, sink: Sink) -> None:
    with postgresql() as server:
        psql = ("psql", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-tAc")
        sink.clear()
        assert run(*psql, "select datname from pg_database where datname = 'postgres'") == "postgres\n"
        spans = sink.wait(lambda spans: len(_with(spans, "db.query.text", "from pg_database")) >= 2)

    client, served = ends(_with(spans, "db.query.text", "from pg_database"), server)
    assert_joined(client, served)
    assert client["db.system.name"] == "postgresql"
    assert client["db.query.text"] == "select datname from pg_database where datname = ?"
    assert "pg_database" in client.name
    assert client.status == "unset"


def test_an_error_of_postgresql_carries_its_sqlstate(agent: Agent, sink: Sink) -> None:
    with postgresql() as server:
        run("psql", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-c", "select * from missing_table")
        spans = sink.wait(lambda spans: len(_with(spans, "db.query.text", "missing_table")) >= 2)

    client, _ = ends(_with(spans, "db.query.text", "missing_table"), server)
    assert client.status == "error"
    assert client["db.response.status_code"] == "42P01"
    assert client["error.type"] == "42P01"


def test_postgresql_over_its_unix_socket_is_traced_and_both_ends_are_joined(agent: Agent, sink: Sink) -> None:
    with postgresql() as server:
        psql = ("psql", "-h", str(folder_of(server)), "-p", str(server.port), "-U", "postgres", "-tAc")
        assert run(*psql, "select count(*) from pg_class as over_unix") != ""
        found = sink.wait(lambda spans: len(_with(spans, "db.query.text", "over_unix")) >= 2)
        by_kind = {span.kind: span for span in _with(found, "db.query.text", "over_unix")}

    assert len(_with(found, "db.query.text", "over_unix")) == 2
    assert_joined(by_kind["client"], by_kind["server"])
    assert by_kind["client"]["network.transport"] == "unix"
    assert by_kind["client"].service == "psql"


def test_a_statement_and_an_error_of_mariadb(agent: Agent, sink: Sink) -> None:
    with mariadb() as server:
        client_program = ("mariadb", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{server.port}", "-uroot")
        run(*client_program, "-e", "select table_name from information_schema.tables limit 3")
        run(*client_program, "-e", "select * from mysql.missing_table")
        spans = sink.wait(lambda spans: len(_with(spans, "db.query.text", "missing_table")) >= 2)

    client, served = ends(_with(spans, "db.query.text", "information_schema"), server)
    assert_joined(client, served)
    assert client["db.system.name"] in ("mysql", "mariadb")
    assert client["db.query.text"] == "select table_name from information_schema.tables limit ?"
    assert client.status == "unset"
    wrong, _ = ends(_with(spans, "db.query.text", "missing_table"), server)
    assert wrong.status == "error"
    assert wrong["db.response.status_code"] == "1146"


def test_mariadb_over_its_unix_socket(agent: Agent, sink: Sink) -> None:
    with mariadb() as server:
        run("mariadb", "--no-defaults", f"--socket={server.socket}", "-uroot", "-e", "select 1 as over_unix")
        found = sink.wait(lambda spans: len(_with(spans, "db.query.text", "over_unix")) >= 2)
        by_kind = {span.kind: span for span in _with(found, "db.query.text", "over_unix")}
        assert of(server)(by_kind["server"])

    assert_joined(by_kind["client"], by_kind["server"])


def test_a_question_of_dig_over_udp_and_over_tcp(agent: Agent, sink: Sink) -> None:
    with dnsmasq({"www.test": "127.0.0.4"}) as server:
        dig = ("dig", "@127.0.0.1", "-p", str(server.port), "+short", "www.test")
        assert run(*dig) == "127.0.0.4\n"
        assert run(*dig, "+tcp") == "127.0.0.4\n"
        spans = sink.wait(lambda spans: len([span for span in spans if at(server, "client")(span)]) >= 2)

    clients = [span for span in spans if at(server, "client")(span)]
    assert {span["dns.question.name"] for span in clients} == {"www.test"}
    assert {span["network.transport"] for span in clients} == {"udp", "tcp"}
    assert {span.status for span in clients} == {"unset"}


def test_a_name_that_does_not_exist(agent: Agent, sink: Sink) -> None:
    with dnsmasq() as server:
        run("dig", "@127.0.0.1", "-p", str(server.port), "nowhere.test")
        spans = sink.wait(lambda spans: any(at(server, "client")(span) for span in spans))

    client = next(span for span in spans if at(server, "client")(span))
    assert client["error.type"] == "NXDOMAIN"
    assert client.status == "error"
