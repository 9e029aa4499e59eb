"""Redis: what a real redis-server and its clients say to each other, and how it is reported."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.model import AttributeValue
from otel_ebpf.protocols import redis_commands
from otel_ebpf.protocols.base import Options, Reading, Session
from otel_ebpf.protocols.redis import MAX_COMMANDS, Redis
from otel_ebpf.protocols.resp import CUT, MALFORMED, skip
from tests.servers import Server
from tests.servers import redis as redis_server

SHOWN = Options(redact=False)


def command(*arguments: bytes | str) -> bytes:
    """A command as every driver sends it: an array of bulk strings."""
    encoded = [argument.encode() if isinstance(argument, str) else argument for argument in arguments]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded)


def read(
    request: bytes, response: bytes = b"", session: Session | None = None, options: Options | None = None
) -> list[Reading]:
    return list(Redis().parse(request, response, session or Session(), options or Options()))


def attributes(reading: Reading) -> dict[str, AttributeValue]:
    return dict(reading.fields.client.attributes)


def operations(readings: list[Reading]) -> list[AttributeValue]:
    return [attributes(reading)["db.operation.name"] for reading in readings]


def statuses(readings: list[Reading]) -> list[str]:
    return [reading.fields.status for reading in readings]


def text_of(*arguments: bytes | str, redact: bool = True) -> str:
    [reading] = read(command(*arguments), b"+OK\r\n", options=Options(redact=redact))
    return reading.texts[0]


class Connection:
    """A client of the real server that tells exactly which bytes answer which."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(20)
        self.session = Session()
        self.redis = Redis()
        self.asked = 0
        self.early = b""
        """what the server pushed after the last answer"""

    def bytes_of(self, request: bytes) -> bytes:
        """What the server says to `request`: all that comes before its answer to a PING after it."""
        self.asked += 1
        token = b"until-%d" % self.asked
        self.socket.sendall(request + command("PING", token))
        answer = b"$%d\r\n%s\r\n" % (len(token), token)
        response = b""
        while answer not in response:
            received = self.socket.recv(65536)
            assert received, response
            response += received
        response, _, self.early = (self.early + response).partition(answer)
        return response.removesuffix(b"*2\r\n$4\r\npong\r\n")  # what PING says to a subscriber (RESP2)

    def ask(self, request: bytes) -> list[Reading]:
        return list(self.redis.parse(request, self.bytes_of(request), self.session, Options()))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with redis_server() as running:
        yield running


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    opened = Connection(server.port)
    opened.ask(command("FLUSHALL"))
    opened.session = Session()
    yield opened
    opened.socket.close()


# What a reading says: span.db.redis.client of the conventions


def test_a_command_is_named_and_described_by_the_conventions() -> None:
    [reading] = read(command("set", "user:1", "Ada"), b"+OK\r\n")
    assert reading.fields.protocol == "redis"
    assert reading.fields.client.name == reading.fields.server.name == "SET"
    assert reading.fields.client.attributes == (("db.system.name", "redis"), ("db.operation.name", "SET"))
    assert reading.fields.client.metric == reading.fields.client.attributes
    assert reading.fields.server.metric == ()
    assert [(slot.attribute, slot.index) for slot in reading.fields.client.slots] == [("db.query.text", 0)]
    assert reading.texts == ("set user:1 ?",)
    assert not reading.fields.client.error
    assert reading.fields.status == ""


@pytest.mark.parametrize(
    ("reply", "status", "error_type"),
    [
        (b"-ERR unknown command\r\n", "ERR", "ERR"),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "WRONGTYPE", "WRONGTYPE"),
        (b"-NOAUTH Authentication required.\r\n", "NOAUTH", "NOAUTH"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "MOVED", "MOVED"),
        (b"-EXECABORT Transaction discarded because of previous errors.\r\n", "EXECABORT", "EXECABORT"),
        (b"-OOM\r\n", "OOM", "OOM"),
        (b"!21\r\nSYNTAX invalid syntax\r\n", "SYNTAX", "SYNTAX"),
        (b"|1\r\n+ttl\r\n:3600\r\n-READONLY You can't write\r\n", "READONLY", "READONLY"),
        (b"-Unknown index name\r\n", "", "_OTHER"),
        (b"-WRONGT", "", "_OTHER"),
    ],
)
def test_the_prefix_of_an_error_is_status_and_error_type(reply: bytes, status: str, error_type: str) -> None:
    [reading] = read(command("GET", "k"), reply)
    assert reading.fields.client.error
    assert reading.fields.server.error
    assert reading.fields.status == status
    assert attributes(reading).get("db.response.status_code", "") == status
    assert attributes(reading)["error.type"] == error_type
    assert ("error.type", error_type) in reading.fields.client.metric


def test_nothing_found_is_no_error() -> None:
    for nothing in (b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"*0\r\n"):
        [reading] = read(command("GET", "k"), nothing)
        assert not reading.fields.client.error


def test_a_stored_procedure_is_named_by_its_digest_or_function() -> None:
    [reading] = read(command("EVALSHA", "a42059b356c875f0717db19a51f6aaca9ae659ea", "1", "k", "secret"), b":1\r\n")
    assert reading.fields.client.slots[1].attribute == "db.stored_procedure.name"
    assert reading.texts == (
        "EVALSHA a42059b356c875f0717db19a51f6aaca9ae659ea 1 k ?",
        "a42059b356c875f0717db19a51f6aaca9ae659ea",
    )
    [reading] = read(command("FCALL", "checkout", "0"), b":1\r\n")
    assert reading.texts == ("FCALL checkout 0", "checkout")


# What is shown of arguments


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("GET user:1", "GET user:1"),
        ("MGET a b c", "MGET a b c"),
        ("SET k secret EX 60 NX", "SET k ? EX ? NX"),
        ("SETEX k 60 secret", "SETEX k 60 ?"),
        ("MSET a secret b secret", "MSET a ? b ?"),
        ("HMSET myhash field1 secret field2 secret", "HMSET myhash field1 ? field2 ?"),
        ("HSET h f secret", "HSET h f ?"),
        ("LPUSH l secret secret", "LPUSH l ? ?"),
        ("LRANGE mylist 0 299", "LRANGE mylist 0 299"),
        ("LREM l 0 secret", "LREM l 0 ?"),
        ("SADD s secret", "SADD s ?"),
        ("SISMEMBER s secret", "SISMEMBER s ?"),
        ("ZADD z NX 1 secret", "ZADD z NX ? ?"),
        ("ZRANGE z 0 -1 WITHSCORES", "ZRANGE z 0 -1 WITHSCORES"),
        ("ZRANGE z [secret (secret BYLEX", "ZRANGE z ? ? BYLEX"),
        ("ZRANGEBYSCORE z -inf 5 LIMIT 0 10", "ZRANGEBYSCORE z -inf 5 LIMIT 0 10"),
        ("XADD st * temp secret", "XADD st * temp ?"),
        ("XADD st NOMKSTREAM MAXLEN ~ 1000 LIMIT 5 7-1 f secret", "XADD st NOMKSTREAM MAXLEN ~ 1000 LIMIT 5 7-1 f ?"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS s >", "XREADGROUP GROUP g c COUNT 1 STREAMS s >"),
        ("PUBLISH news secret", "PUBLISH news ?"),
        ("EVAL secret 2 k1 k2 secret", "EVAL ? 2 k1 k2 ?"),
        ("EVAL secret secret secret", "EVAL ? ? ?"),
        ("GEOADD g 13.36 38.11 secret", "GEOADD g ? ? ?"),
        ("AUTH secret", "AUTH ?"),
        ("AUTH secret secret", "AUTH ? ?"),
        ("auth secret", "auth ?"),
        ("HELLO 3 AUTH secret secret SETNAME app", "HELLO 3 AUTH ? ? SETNAME app"),
        ("CONFIG SET requirepass secret", "CONFIG SET requirepass ?"),
        ("CONFIG GET maxmemory", "CONFIG GET maxmemory"),
        ("ACL SETUSER secret >secret on", "ACL SETUSER ? ? ?"),
        ("ACL CAT read", "ACL CAT read"),
        ("ACL WHOAMI", "ACL WHOAMI"),
        ("MIGRATE h 6379 k 0 100 AUTH2 secret secret KEYS a b", "MIGRATE h 6379 k 0 100 AUTH2 ? ? KEYS a b"),
        ("SENTINEL SET master auth-pass secret", "SENTINEL SET master auth-pass ?"),
        ("CLIENT SETINFO LIB-NAME redis-py", "CLIENT SETINFO LIB-NAME redis-py"),
        ("SCRIPT LOAD secret", "SCRIPT LOAD ?"),
        ("ECHO secret", "ECHO ?"),
        ("JSON.SET doc:1 secret secret", "JSON.SET doc:1 ? ?"),
        ("NOSUCH secret secret", "NOSUCH ? ?"),
    ],
)
def test_keys_are_shown_and_values_are_not(arguments: str, text: str) -> None:
    assert text_of(*arguments.split()) == text
    assert "secret" not in text


def test_values_and_secrets_are_shown_to_who_asks_for_them() -> None:
    assert text_of("SET", "k", "value", redact=False) == "SET k value"
    assert text_of("AUTH", "hunter2", redact=False) == "AUTH hunter2"


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"my key", '"my key"'),
        (b'say "hi"\\', r'"say \"hi\"\\"'),
        (b"line\r\nbreak\x00", r'"line\r\nbreak\x00"'),
        (b"\xff\xfe\x80k", r'"\xff\xfe\x80k"'),
        ("schlüssel".encode(), "schlüssel"),
        ("a\u200bb".encode(), r'"a\xe2\x80\x8bb"'),
        (b"", '""'),
    ],
)
def test_a_key_is_shown_as_redis_cli_would_print_it(key: bytes, shown: str) -> None:
    assert text_of("GET", key) == f"GET {shown}"
    assert text_of("SET", key, "v", "EX", "1") == f"SET {shown} ? EX ?"


def test_a_long_text_is_cut() -> None:
    text = text_of("DEL", *[f"key:{i}" for i in range(10_000)])
    assert text.startswith("DEL key:0 key:1 ")
    assert text.endswith("…")
    assert len(text) <= redis_commands.TEXT_LIMIT + 1


# Pipelines, and what comes between replies


def test_pipelined_commands_are_paired_with_their_replies_in_order() -> None:
    request = command("SET", "a", "1") + command("LPUSH", "a", "x") + command("GET", "a") + command("HGETALL", "h")
    response = b"+OK\r\n-WRONGTYPE no\r\n$3\r\n-ER\r\n%1\r\n+f\r\n+v\r\n"
    readings = read(request, response)
    assert operations(readings) == ["SET", "LPUSH", "GET", "HGETALL"]
    assert statuses(readings) == ["", "WRONGTYPE", "", ""]


def test_a_reply_of_any_resp3_type_is_one_reply() -> None:
    replies = [
        *(b"+OK\r\n", b":-12\r\n", b"$5\r\na\r\nbc\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n"),
        *(b",1.23\r\n", b",inf\r\n", b"(3492890328409238509324850943850943825024385\r\n", b"~2\r\n+x\r\n+y\r\n"),
        *(b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n", b"=15\r\ntxt:Some string\r\n", b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n:2\r\n"),
        b"|1\r\n+pop\r\n%1\r\n$1\r\na\r\n,0.1\r\n*1\r\n:1\r\n",
    ]
    redis = Redis()
    for reply in replies:
        assert skip(reply, 0) == len(reply)
        assert all(skip(reply[:cut], 0) == CUT for cut in range(len(reply)))
        readings = read(command("GET", "a") + command("GET", "b"), reply + b"-ERR x\r\n")
        assert statuses(readings) == ["", "ERR"], reply
    ends = redis.replies(b"".join(replies))
    assert [b - a for a, b in zip([0, *ends], ends, strict=False)] == [len(reply) for reply in replies]


def test_pushes_do_not_shift_the_pairing() -> None:
    push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"
    readings = read(command("GET", "a") + command("GET", "b"), push + b"$1\r\nx\r\n" + push + b"-ERR x\r\n" + push)
    assert statuses(readings) == ["", "ERR"]
    assert len(Redis().replies(push + b"$1\r\nx\r\n" + push + b"-ERR x\r\n" + push)) == 2


def test_commands_without_replies_are_left_without() -> None:
    request = command("CLIENT", "REPLY", "SKIP") + command("SET", "a", "1") + command("GET", "a")
    assert statuses(read(request, b"-ERR x\r\n")) == ["", "", "ERR"]
    request = command("CLIENT", "REPLY", "OFF") + command("GET", "a") * 3 + command("CLIENT", "REPLY", "ON")
    readings = read(request + command("GET", "b"), b"+OK\r\n-ERR x\r\n")
    assert statuses(readings) == ["", "", "", "", "", "ERR"]


def test_client_reply_is_remembered_until_the_server_answers_again() -> None:
    session = Session()
    read(command("CLIENT", "REPLY", "OFF"), b"", session)
    read(command("SET", "a", "1"), b"", session)
    assert session.remembered
    read(command("SET", "a", "1"), b"+OK\r\n", session)
    assert not session.remembered


def test_an_exec_fails_with_the_first_command_in_it_that_does() -> None:
    transaction = command("MULTI") + command("SET", "a", "1") + command("LPUSH", "a", "1") + command("EXEC")
    queued = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n"
    readings = read(transaction, queued + b"*2\r\n+OK\r\n-WRONGTYPE no\r\n")
    assert statuses(readings) == ["", "", "", "WRONGTYPE"]
    assert attributes(readings[3])["db.operation.batch.size"] == 2
    assert "db.operation.batch.size" not in dict(readings[3].fields.client.metric)
    readings = read(command("EXEC") + command("GET", "a"), b"*1\r\n+OK\r\n-ERR of GET\r\n")
    assert statuses(readings) == ["", "ERR"]
    assert "db.operation.batch.size" not in attributes(readings[0])
    assert statuses(read(command("EXEC"), b"*-1\r\n")) == [""]


def test_at_most_so_many_readings_come_from_one_exchange() -> None:
    many = MAX_COMMANDS * 3
    assert len(read(command("GET", "a") * many, b"$-1\r\n" * many)) == MAX_COMMANDS
    assert len(read(command("PING") * many, b"+PONG\r\n" * many)) == MAX_COMMANDS
    assert len(Redis().split(command("PING") * many)) == many


# Databases


def test_the_database_is_known_after_select() -> None:
    session = Session()
    [before] = read(command("GET", "a"), b"$-1\r\n", session)
    assert "db.namespace" not in attributes(before)
    read(command("SELECT", "3"), b"+OK\r\n", session)
    [after] = read(command("GET", "a"), b"$-1\r\n", session)
    assert attributes(after)["db.namespace"] == "3"
    assert ("db.namespace", "3") in after.fields.client.metric
    assert after.fields.client.name == "GET"
    version = session.version
    read(command("SELECT", "99"), b"-ERR DB index is out of range\r\n", session)
    assert (session.remembered, session.version) == ({b"db": "3"}, version)
    read(command("RESET"), b"+RESET\r\n", session)
    assert session.remembered == {b"db": "0"}
    assert session.version > version


def test_a_select_in_a_transaction_counts_when_it_is_executed() -> None:
    session = Session()
    start = command("MULTI") + command("SELECT", "5")
    read(start + command("DISCARD"), b"+OK\r\n+QUEUED\r\n+OK\r\n", session)
    assert session.remembered == {}
    readings = read(start + command("EXEC") + command("GET", "k"), b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$-1\r\n", session)
    assert attributes(readings[2]).get("db.namespace") is None
    assert attributes(readings[3])["db.namespace"] == "5"


def test_a_select_whose_answer_was_not_seen_leaves_the_database_unknown() -> None:
    session = Session({b"db": "3"})
    read(command("SELECT", "4"), b"", session)
    assert session.remembered == {}


# The real server


def test_a_real_server_in_resp2(connection: Connection) -> None:
    readings = connection.ask(
        command("SET", "a", "1")
        + command("LPUSH", "a", "x")
        + command("CONFIG", "GET", "save")
        + command("NOSUCH", "x")
    )
    assert operations(readings) == ["SET", "LPUSH", "CONFIG GET", "NOSUCH"]
    assert statuses(readings) == ["", "WRONGTYPE", "", "ERR"]


def test_a_real_server_in_resp3(connection: Connection) -> None:
    readings = connection.ask(
        command("HELLO", "3", "SETNAME", "me")
        + command("CLIENT", "TRACKING", "ON")
        + command("GET", "a")
        + command("SET", "a", "1")  # the server pushes an invalidation of "a" here
        + command("HSET", "h", "f", "v")
        + command("HGETALL", "h")
        + command("ZADD", "z", "1.5", "m")
        + command("ZSCORE", "z", "m")
        + command("INFO", "server")
        + command("DEBUG", "PROTOCOL", "attrib")
        + command("DEBUG", "PROTOCOL", "bignum")
        + command("COMMAND", "DOCS", "GET")
        + command("HGET", "a", "f")
    )
    assert operations(readings)[:4] == ["HELLO", "CLIENT TRACKING", "GET", "SET"]
    assert statuses(readings)[:-1] == [""] * 9 + [statuses(readings)[9]] * 2 + [""]
    assert statuses(readings)[-1] == "WRONGTYPE"


def test_a_real_transaction(connection: Connection) -> None:
    readings = connection.ask(
        command("MULTI")
        + command("SELECT", "2")
        + command("SET", "a", "1")
        + command("LPUSH", "a", "1")
        + command("EXEC")
    )
    assert statuses(readings) == ["", "", "", "", "WRONGTYPE"]
    assert attributes(readings[4])["db.operation.batch.size"] == 3
    [reading] = connection.ask(command("GET", "a"))
    assert attributes(reading)["db.namespace"] == "2"
    readings = connection.ask(command("MULTI") + command("NOSUCH") + command("EXEC"))
    assert statuses(readings) == ["", "ERR", "EXECABORT"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_real_publish_and_subscribe(connection: Connection, server: Server, version: str) -> None:
    connection.ask(command("HELLO", version))
    publisher = Connection(server.port)
    [reading] = connection.ask(command("SUBSCRIBE", "news", "sport"))
    assert operations([reading]) == ["SUBSCRIBE"]
    assert statuses([reading]) == [""]
    publisher.ask(command("PUBLISH", "news", "hello") * 3)
    readings = connection.ask(
        command("PSUBSCRIBE", "n*") + command("UNSUBSCRIBE") + command("PUNSUBSCRIBE") + command("GET")
    )
    assert operations(readings) == ["PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "GET"]
    assert statuses(readings) == ["", "", "", "ERR"]
    publisher.socket.close()


def test_real_monitor_lines_are_no_replies(connection: Connection, server: Server) -> None:
    other = Connection(server.port)
    [reading] = connection.ask(command("MONITOR"))
    assert operations([reading]) == ["MONITOR"]
    other.ask(command("SET", "a", "1") * 3)
    readings = connection.ask(command("GET", "a") + command("RESET") + command("GET"))
    assert statuses(readings) == ["ERR", "", "ERR"]  # "Replica can't interact with the keyspace"; wrong arguments
    other.socket.close()


def test_real_inline_commands(connection: Connection) -> None:
    readings = connection.ask(b"SET a 1\r\n\r\nset 'my key' \"two words\"\r\nLPUSH a 1\r\nGET a\n")
    assert [reading.texts[0] for reading in readings] == ["SET a ?", 'set "my key" ?', "LPUSH a ?", "GET a"]
    assert statuses(readings) == ["", "", "WRONGTYPE", ""]


def test_the_real_server_is_recognised_by_whatever_it_is_asked(connection: Connection) -> None:
    redis = Redis()
    for request in (command("PING"), command("GET", "a"), command("NOSUCH"), command("HELLO", "3"), command("TIME")):
        response = connection.bytes_of(request)
        assert redis.detect(request, response) >= 0.9
        assert redis.detect(request[:20], response[:3]) >= 0.9
        assert redis.detect(request, b"") >= 0.9
        assert redis.detect(response, request) < 0.5
    assert redis.detect(b"PING\r\n", connection.bytes_of(b"PING\r\n")) >= 0.5


def test_every_command_of_the_real_server_is_in_the_table(connection: Connection) -> None:
    """…and each argument that the server calls a key is shown."""
    names = [
        line for line in connection.bytes_of(command("COMMAND", "LIST")).decode().split("\r\n") if line[:1].isalpha()
    ]
    assert len(names) > 200
    for name in names:
        operation = name.replace("|", " ").upper()
        assert redis_commands.known(operation.partition(" ")[0]), name
        info = connection.bytes_of(command("COMMAND", "INFO", name)).split(b"\r\n")
        # *1, *10, $n, name, :arity, *flags, +flag…, :first key, :last key, :step
        flags = int(info[5][1:])
        arity, first, last, step = (int(info[at][1:]) for at in (4, 6 + flags, 7 + flags, 8 + flags))
        arguments = [b"x"] * (abs(arity) - 1)
        if first == 0 or "|" in name or name.lower() in ("migrate", "restore-asking", "pfdebug"):
            continue
        letters = redis_commands.letters(operation, arguments)
        keys = range(first - 1, len(arguments) + last + 1 if last < 0 else last, step)
        assert {letters[key] for key in keys if key < len(arguments)} <= {"k"}, name


# Other protocols, and bytes that are nothing


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"GET /k HTTP/1.0\r\n\r\n", b"+OK\r\n"),
        (b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n"),
        (b"set k 0 0 1\r\nx\r\n", b"STORED\r\n"),
        (b"PING\r\n", b"PONG\r\n"),
        (b"QUIT\r\n", b"+OK dewey POP3 server signing off\r\n"),
        (b"EHLO me\r\n", b"250-mail\r\n250 HELP\r\n"),
        (b"Q\x00\x00\x00\x0dselect 1\x00", b"T\x00\x00\x00\x21"),
        (b"\x09\x00\x00\x00\x03select 1", b"\x01\x00\x00\x01\x01"),
        (b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x00\x00\x01\x00\x01", b""),
        (b"", b""),
        (b"", b"HTTP/1.1 200 OK\r\n"),
        (b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x03"),
    ],
)
def test_other_protocols_are_not_redis(request_: bytes, response: bytes) -> None:
    assert Redis().detect(request_, response) == 0


def test_an_exchange_that_began_in_the_middle_is_not_decided() -> None:
    assert 0 < Redis().detect(b"rest of a value\r\n*1\r\n$4\r\nPING\r\n", b"+OK\r\n") < 0.5
    assert Redis().detect(b"", b"$5\r\nhello\r\n") == 0.5
    assert Redis().detect(command("GET", "a"), b"end of an earlier value\r\n") < 0.5


@pytest.mark.parametrize(
    "hostile",
    [
        b"*1\r\n" * 10**6 + b"+x\r\n",
        b"*999999999\r\n" * 1000,
        b"*99999999999999999999\r\n",
        b"*-5\r\n",
        b"*2\r\n$-1\r\n$3\r\nGET\r\n",
        b"*1\r\n$99999999999999999999999\r\nGET\r\n",
        b"*1\r\n$1000000000\r\nGET\r\n",
        b"$" + b"9" * 10_000 + b"\r\n",
        b"%999999999999999999\r\n",
        b"|1\r\n" * 10**5,
        b"|0\r\n" * 10**5,
        b">1\r\n" * 10**5,
        b"*0\r\n" * 10**5,
        b"\r\n" * 10**5,
        b'"' * 10**5,
        b'"\\' * 10**5 + b"\n",
        b"'\"" * 10**5 + b"\n",
        b"x" * 10**6,
        b"\x00" * 10**5,
    ],
)
def test_hostile_bytes_cost_no_more_than_their_length(hostile: bytes) -> None:
    redis = Redis()
    redis.detect(hostile, hostile)
    redis.parse(hostile, hostile, Session(), Options())
    redis.parse(command("EXEC") + command("GET", "a"), hostile, Session(), Options())
    redis.parse(command("UNSUBSCRIBE") + command("GET", "a"), hostile, Session(), Options())
    redis.split(hostile)
    redis.replies(hostile)


def test_malformed_values_end_the_pairing() -> None:
    assert skip(b"$-5\r\n", 0) == MALFORMED
    assert skip(b"$3\r\nabcd\r\n", 0) == MALFORMED
    assert skip(b"?\r\n", 0) == MALFORMED
    readings = read(command("GET", "a") * 3, b"$3\r\nabcd\r\n-ERR x\r\n")
    assert statuses(readings) == ["", "", ""]
    assert operations(read(command("GET", "a") + b"*1\r\n$3\r\nabcd\r\n" + command("GET", "b"))) == ["GET"]


ANY = st.binary(max_size=200)
RESPISH = st.lists(
    st.sampled_from([b"*", b"$", b"+", b"-", b":", b"%", b"|", b">", b"~", b"\r\n", b"1", b"3", b"-1", b"GET", b"EXEC"])
    | st.binary(max_size=6),
    max_size=40,
).map(b"".join)
NAMES = st.one_of(
    st.sampled_from(["GET", "get", "SET", "MSET", "PING", "SELECT", "MULTI", "EXEC", "DISCARD", "nosuch", "AUTH"]),
    st.sampled_from(["CLIENT", "CONFIG", "MONITOR", "SUBSCRIBE", "UNSUBSCRIBE", "RESET", "HELLO", "XADD", "FCALL"]),
)
COMMANDS = st.builds(
    lambda name, arguments: command(name, *arguments), NAMES, st.lists(st.binary(max_size=8), max_size=5)
)


@given(st.lists(COMMANDS, max_size=4).map(b"".join) | RESPISH | ANY, RESPISH | ANY, st.booleans())
@settings(max_examples=400)
def test_no_bytes_raise_and_texts_are_utf8(request: bytes, response: bytes, redact: bool) -> None:
    redis = Redis()
    session = Session()
    assert 0 <= redis.detect(request, response) <= 1
    for _ in range(2):
        for reading in redis.parse(request, response, session, Options(redact)):
            for text in reading.texts:
                text.encode()
            assert len(reading.texts) == len(reading.fields.client.slots)
    assert len(session.remembered) <= 3
    assert redis.split(request) == sorted(redis.split(request))
    assert redis.replies(response) == sorted(redis.replies(response))


REPLIES = st.sampled_from(
    [b"+OK\r\n", b":1\r\n", b"$2\r\nab\r\n", b"$-1\r\n", b"$4\r\na\r\nb\r\n", b"-ERR x\r\n", b"*2\r\n:1\r\n_\r\n"]
)
SIMPLE = st.builds(
    lambda name, arguments: command(name, *arguments),
    st.sampled_from(
        ["GET", "set", "ECHO", "HSET", "SADD", "ZADD", "XADD", "EVAL", "DBSIZE", "MSET", "MIGRATE", "nosuch"]
    ),
    st.lists(st.binary(max_size=6) | st.sampled_from([b"k:1", b"\r\n", b"$1", b"NX", b"*", b"1", b"AUTH"]), max_size=9),
)


@given(st.lists(st.tuples(SIMPLE, REPLIES), min_size=1, max_size=5), st.integers(0, 60))
@settings(max_examples=400)
def test_the_fast_path_says_what_the_slow_one_says(exchanges: list[tuple[bytes, bytes]], missing: int) -> None:
    request = b"".join(asked for asked, _ in exchanges)
    response = b"".join(answer for _, answer in exchanges)
    response = response[: max(len(response) - missing, 0)]
    fast, slow = Redis(), Redis()
    readings = list(fast.parse(request, response, Session({b"db": "1"}), Options()))
    assert readings == slow._pipeline(request, response, Session({b"db": "1"}), Options())
    assert len(readings) == len(exchanges)


@given(st.lists(st.tuples(SIMPLE, REPLIES), min_size=1, max_size=5), st.integers(0, 200))
def test_a_cut_request_gives_the_commands_that_are_there(exchanges: list[tuple[bytes, bytes]], cut: int) -> None:
    request = b"".join(asked for asked, _ in exchanges)
    response = b"".join(answer for _, answer in exchanges)
    whole = read(request, response)
    part = read(request[:cut], response)
    assert operations(part) == operations(whole)[: len(part)]
    assert statuses(part) == statuses(whole)[: len(part)]
    ends = Redis().split(request)
    assert len(part) >= sum(end <= cut for end in ends)
    assert len(ends) == len(Redis().replies(response)) == len(exchanges)


@given(
    st.sampled_from(["SET", "HSET", "LPUSH", "AUTH", "EVAL", "XADD", "PUBLISH", "GETSET", "nosuch"]),
    st.integers(10, 200),
)
def test_a_cut_value_is_never_shown(name: str, cut: int) -> None:
    arguments = {"AUTH": ["SECRET" * 9], "HSET": ["k", "f", "SECRET" * 9], "XADD": ["k", "*", "f", "SECRET" * 9]}
    arguments |= {"EVAL": ["SECRET" * 9, "0"]}
    for reading in read(command(name, *arguments.get(name, ["k", "SECRET" * 9]))[:cut]):
        assert "SEC" not in reading.texts[0]


def test_a_cut_key_is_marked() -> None:
    [reading] = read(command("GET", "user:12345", "x")[:27])
    assert reading.texts[0] == "GET user:1234… …"
    [reading] = read(command("SET", "k", "v" * 100_000)[:192], b"+OK\r\n")
    assert reading.texts[0] == "SET k ?"
    assert read(command("CLIENT", "SETNAME", "x")[:20]) == []
    assert read(command("GET", "k")[:10]) == []
