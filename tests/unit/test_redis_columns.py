"""Redis by columns: what is read of a batch is what `Redis.parse` says of each exchange, and plain ones are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.capture.connections import Connections
from otel_ebpf.model import Flag, Intern, Spans
from otel_ebpf.protocols import groups, redis_columns
from otel_ebpf.protocols.base import Fields, Options, Reading, Session
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.extras import Batch
from otel_ebpf.protocols.redis import Redis
from tests.unit.exchanges import NOW, Said, batch, connections

Pair = tuple[bytes, bytes]


def array(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments)


def joined(pairs: Sequence[Pair]) -> Pair:
    return b"".join(asked for asked, _ in pairs), b"".join(answer for _, answer in pairs)


def columns(
    said: Sequence[Said],
    options: Options = Options(),  # noqa: B008
    sessions: Mapping[int, Session] | None = None,
    redis: Redis | None = None,
    width: int = 1024,
    response_width: int = 512,
) -> list[list[Reading]]:
    """What is read by columns of each exchange; its connection is its row."""
    made = batch(said, width, response_width)
    rows = made.head["conn"].astype(np.intp)
    whole = Batch(made.head, made.request, made.response, rows, made.head[:0])
    found = (redis or Redis()).read(whole, sessions or {}, options)
    texts = found.text.tobytes()
    readings = []
    for first, count in zip(found.first.tolist(), found.count.tolist(), strict=True):
        of_one = []
        for k in range(first, first + count):
            fields = found.fields[found.which[k]]
            places = zip(found.slot_start[k].tolist(), found.slot_length[k].tolist(), strict=True)
            shown = [texts[start : start + length].decode() for start, length in places]
            used = len(fields.client.slots)
            assert not any(shown[used:])
            of_one.append(Reading(fields, tuple(shown[:used])))
        readings.append(of_one)
    return readings


PLAIN = (
    (array(b"GET", b"user:1"), b"$3\r\nabc\r\n"),
    (array(b"get", b""), b"$-1\r\n"),
    (array(b"SET", b"k", b"secret", b"EX", b"60"), b"+OK\r\n"),
    (array(b"set", b"a key", b"v", b"keepttl"), b"+OK\r\n"),
    (array(b"HSET", b"h", b"f\xc3\xa9", b"v", b"f2", b"v2"), b":2\r\n"),
    (array(b"ZADD", b"z", b"NX", b"1", b"member", b"2", b"xx"), b":1\r\n"),
    (array(b"ZRANGE", b"z", b"(1", b"-1", b"REV", b"WITHSCORES"), b"*-1\r\n"),
    (array(b"GEOSEARCH", b"g", b"FROMMEMBER", b"m", b"BYRADIUS", b"1", b"km"), b"*0\r\n"),
    (array(b"XADD", b"s", b"MAXLEN", b"~", b"9", b"*", b"field", b"value"), b"$3\r\n1-1\r\n"),
    (array(b"LPUSH", b"l", b"v"), b"-WRONGTYPE no list\r\n"),
    (array(b"nosuch", b"v"), b"-ERR unknown command\r\n"),
    (array(b"JSON.SET", b"k", b"$", b"{}"), b"-strange\r\n"),
    (array(b"INCR", b"k"), b":1\r\n"),
    (array(b"DBSIZE"), b":0\r\n"),
    (array(b"EXISTS", b"k"), b"#t\r\n"),
    (array(b"GET", b"\xff\x00"), b"_\r\n"),
    (array(b"MULTI"), b"+OK\r\n"),
    (array(b"EVALSHA", b"5ca1e", b"1", b"k", b"v"), b":1\r\n"),
    (array(b"fcall", b"a name", b"0", b"v"), b":1\r\n"),
    (array(b"EVALSHA"), b"-ERR wrong number of arguments\r\n"),
    (array(b"exec"), b"*2\r\n+OK\r\n-ERR x\r\n"),
    (array(b"EXEC"), b"-EXECABORT x\r\n"),
    (array(b"ZREVRANGEBYSCORE", b"z", b"+inf", b"1.5"), b"*1\r\n$1\r\na\r\n"),
)


@pytest.mark.parametrize("redact", [True, False])
def test_plain_commands_are_read_alone_and_in_pipelines(redact: bool) -> None:
    said = [Said(*pair) for pair in PLAIN]
    inner = [pair for pair in PLAIN if pair[1][:1] != b"*"]
    said += [Said(*joined(inner[i : i + 5])) for i in range(len(inner))] + [Said(*joined(inner[:12]))]
    readings = columns(said, Options(redact))
    assert [len(of_one) for of_one in readings] == [len(Redis().split(one.request)) for one in said]
    for one, of_one in zip(said, readings, strict=True):
        assert of_one == list(Redis().parse(one.request, one.response, Session(), Options(redact)))


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (array(b"SELECT", b"1"), b"+OK\r\n"),
        (array(b"CLIENT", b"REPLY", b"OFF"), b""),
        (array(b"CONFIG", b"GET", b"*"), b"*0\r\n"),
        (array(b"SUBSCRIBE", b"c"), b"*3\r\n"),
        (array(b"EXEC") + array(b"GET", b"a"), b"*1\r\n+OK\r\n$-1\r\n"),
        (array(b"GET", b"a\r\nb"), b"$-1\r\n"),
        (b"GET a\r\n", b"$-1\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$2\r\na\r\n", b"$-1\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$01\r\na\r\n", b"$-1\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$-1\r\na\r\n", b"$-1\r\n"),
        (b"*3\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$-1\r\n"),
        (b"*1\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$-1\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$999999999999\r\na\r\n", b"$-1\r\n"),
        (b"\r\n\r\n", b"$-1\r\n"),
        (b"\n", b"\n"),
        (array(b"GET", b"a")[:-3], b"$-1\r\n"),
        (array(b"GET", b"ab")[:-3], b"$-1\r\n"),
        (array(b"SET", b"a", b"bcd")[:-6], b"+OK\r\n"),
        (array(b"SET", b"a", b"b")[:-1], b"+OK\r\n"),
        (array(b"GET", b"a"), b">2\r\n+a\r\n+b\r\n$-1\r\n"),
        (array(b"GET", b"a"), b"|1\r\n+a\r\n+b\r\n$-1\r\n"),
        (array(b"GET", b"a"), b"+1700000000.000000 [0 ip] x\r\n"),
        (array(b"GET", b"a"), b"!5\r\nERR x\r\n"),
        (array(b"GET", b"a") * 2, b"$-1\r\n"),
        (array(b"GET", b"a") * 2, b"*1\r\n:1\r\n$-1\r\n"),
        (array(b"GET", b"a") * 2, b"$4\r\na\r\nb\r\n$-1\r\n"),
        (array(b"GET", b"a") * 2, b"$2\r\n$3\r\n$-1\r\n"),
        (array(b"GET", b"a").replace(b"$1", b"$1\0"), b"$-1\r\n"),
        (array(b"GET", b"a") * 2, b"$1\0\r\na\r\n$-1\r\n"),
        (array(b"GET", b"a") * 2, b"$-1\0\r\n$-1\r\n$-1\r\n"),
        (array(b"GET", b"a") * 2, b"$x\r\n$3\r\n$-1\r\n"),
        (array(b"GET", b"a") * 2, b"$2\r\n$3\r\n-E1\r\n:1\r\n"),
        (array(b"GET", b"a") + b"SET x y", b"$-1\r\n+OK\r\n"),
    ],
)
def test_what_is_unusual_is_left(request_: bytes, response: bytes) -> None:
    beside = Said(array(b"GET", b"a"), b"$-1\r\n")
    readings = columns([beside, Said(request_, response), beside])
    assert [len(of_one) for of_one in readings] == [1, 0, 1]


def test_rows_as_wide_as_their_class_do_not_run_into_each_other() -> None:
    left = b"*2\r\n$3\r\nGET\r\n$2\r\na\n\r"  # 20 bytes, and 4 of the next command
    said = [Said(left + b"*1\r\r", b"+OKOKOK\r"), Said(b"\n" + array(b"GET", b"k"), b"\n+OK\r\n")]
    said += [Said(array(b"GET", b"key1"), b"+OK\r\n")] * 2
    assert [len(r) for r in columns(said, width=24, response_width=8)] == [0, 0, 1, 1]


def test_what_a_connection_remembers_counts() -> None:
    pair = (array(b"GET", b"a"), b"$-1\r\n")
    sessions = {1: Session({b"db": "1"}), 2: Session({b"reply": "off"}), 3: Session({b"db": "7"})}
    told = columns([Said(*pair, conn=conn) for conn in (1, 2, 3, 4)], sessions=sessions)
    databases = [[dict(r.fields.client.attributes).get("db.namespace") for r in of_one] for of_one in told]
    assert databases == [["1"], [], ["7"], [None]]


def test_a_transaction_is_read_unless_it_chooses_the_database() -> None:
    pairs = [(array(b"MULTI"), b"+OK\r\n"), *[(array(b"SET", b"k", b"v"), b"+QUEUED\r\n")] * 3]
    pairs.append((array(b"EXEC"), b"*3\r\n+OK\r\n-ERR x\r\n+OK\r\n"))
    chosen = [pairs[0], (array(b"SELECT", b"1"), b"+QUEUED\r\n"), pairs[-1]]
    said = [Said(*joined(pairs)), Said(*joined(chosen)), Said(*pairs[-1], conn=2)]
    told, *others = columns(said, sessions={2: Session({b"queued": "1"})})
    assert told == list(Redis().parse(said[0].request, said[0].response, Session(), Options()))
    assert [r.fields.status for r in told] == ["", "", "", "", "ERR"]
    assert dict(told[-1].fields.client.attributes)["db.operation.batch.size"] == 3
    assert others == [[], []]


def test_an_unanswered_request_is_left() -> None:
    assert columns([Said(array(b"GET", b"a"), flags=Flag.UNANSWERED)]) == [[]]


def test_a_hidden_value_may_be_cut() -> None:
    def cut(*arguments: bytes) -> Said:
        return Said(array(*arguments) + array(b"GET", b"k"), b"+OK\r\n" * 2)

    long = b"v" * 900
    said = [cut(b"SET", b"k", long[:150]), cut(b"HSET", b"k", b"f", long), cut(b"SET", b"k" * 200), cut(b"v" * 200)]
    said += [Said(array(b"GET", b"k") + array(b"SET", b"k", long), b"$-1\r\n+OK\r\n")]
    said += [Said(array(b"SET", b"k", b"v" * size)) for size in (162, 163, 164, 165, 166)]
    told = columns(said, width=192, response_width=64)
    assert [[r.texts[0] for r in of_one] for of_one in told[1:5]] == [["HSET k f ?"], [], [], ["GET k", "SET k ?"]]
    assert [bool(of_one) for of_one in told[5:]] == [False] * 5
    said[5:] = [Said(array(b"SET", b"k", b"v" * size), b"+OK\r\n") for size in range(150, 180)]
    told = columns(said, width=192, response_width=64)
    assert sum(map(bool, told[5:])) >= 28
    for one, readings in zip(said, told, strict=True):
        parsed = list(Redis().parse(one.request[:192], one.response, Session(), Options()))
        assert not readings or readings == parsed
    assert not any(columns(said[1:5], Options(False), width=192, response_width=64)[:3])


def test_replies_behind_a_cut_are_not_known() -> None:
    request = array(b"INCR", b"a") * 4
    [readings] = columns([Said(request, b"-ERR x\r\n:1\r\n-E", rsp_bytes=100)])
    assert [r.fields.status for r in readings] == ["ERR", "", "", ""]
    assert readings[2].fields.client.error
    assert not readings[3].fields.client.error


def test_more_names_than_are_remembered_are_read_all_the_same() -> None:
    redis = Redis()
    with patch.object(redis_columns, "KINDS", 20):
        for turn in range(6):
            names = [b"X%d" % (turn * 15 + i) for i in range(30)]
            told = columns([Said(array(name, b"a"), b"+OK\r\n") for name in names], redis=redis)
            assert [of_one[0].texts for of_one in told] == [(f"{name.decode()} ?",) for name in names]


ODD = st.sampled_from(
    [b"", b"\r\n", b"$1", b"*2", b"*", b"$3\r\nabc", b'"', b"a b", b"\xc3\xa9", b"\xff", b"\r", b"\n", b"v" * 70]
)
WORD = st.sampled_from(
    [
        b"k:1",
        b"NX",
        b"ex",
        b"WITHSCORES",
        b"withscore",
        b"ex\0",
        b"WITHSCORES\0\0\0\0\0\0\0",
        b"1",
        b"-1.5",
        b"inf",
        b"AUTH",
        b"MAXLEN",
        b"~",
        b"2",
    ]
)
NAME = st.sampled_from(
    b"GET set SET MSET HSET ZADD ZRANGE ZRANGEBYSCORE GEORADIUSBYMEMBER XADD EVAL EVALSHA MIGRATE HELLO DBSIZE ECHO "
    b"nosuch JSON.SET PING SELECT MULTI EXEC CLIENT CONFIG RESET SUBSCRIBE MONITOR REPLCONF a".split()
)
COMMAND = st.builds(
    lambda name, rest: array(name, *rest), NAME, st.lists(WORD | WORD | ODD | st.binary(max_size=9), max_size=9)
)
SIMPLE = st.builds(
    lambda name, rest: array(name, *rest),
    st.sampled_from([b"GET", b"set", b"ZADD", b"INCR", b"nosuch", b"EVALSHA", b"EXEC", b"MULTI"]),
    st.lists(WORD, max_size=4),
)
REPLY = st.sampled_from(
    [
        *(
            b"+OK",
            b"+QUEUED",
            b"+1700000000.000001 [0 x] y",
            b":1",
            b"_",
            b"#t",
            b",1.5",
            b"(12",
            b"-",
            b"-err x",
            b"- x",
        ),
        *(b"-ERR", b"-ERR\r\nx", b"-WRONGTYPE y", b"$-1", b"$0\r\n", b"$2\r\nab", b"$2\r\n$3", b"$4\r\na\r\nb", b"$x"),
        *(b"*0", b"*-1", b"*2\r\n:1\r\n_", b"%1\r\n:1\r\n:2", b"~0", b">2\r\n+a\r\n+b", b"!5\r\nERR x", b"=1\r\nx"),
        *(b"*2\r\n+OK\r\n-E x", b"*2\r\n$2\r\n-E\r\n*1\r\n-E", b"*2\r\n|1\r\n+a\r\n:1\r\n-F\r\n:1"),
        *(b"|1\r\n+a\r\n+b\r\n:1", b"", b"\0"),
    ]
).map(lambda reply: reply + b"\r\n")
GOOD = st.sampled_from([b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$2\r\nab\r\n", b"-ERR x\r\n", b"$0\r\n\r\n"])
EXCHANGE = (
    st.lists(st.tuples(SIMPLE, GOOD), min_size=1, max_size=6)
    | st.lists(st.tuples(COMMAND, GOOD | REPLY), min_size=1, max_size=6)
).map(joined)


@st.composite
def mutated(draw: st.DrawFn, pairs: st.SearchStrategy[Pair]) -> Pair:
    """An exchange of which some bytes are changed, gone or new."""
    sides = []
    for side in draw(pairs):
        data = bytearray(side)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 3]))):
            at = draw(st.integers(0, len(data)))
            new = draw(
                st.sampled_from([b"", b"\r\n", b"$", b"*", b"1", b"9", b"-", b"\n", b"\r", b"x", b"\0", b"$-1\r\n"])
            )
            data[at : at + draw(st.integers(0, 2))] = new
        if draw(st.integers(0, 4)) == 0:
            del data[draw(st.integers(0, len(data))) :]
        sides.append(bytes(data))
    return sides[0], sides[1]


SAID = st.builds(
    lambda pair, conn, more: Said(pair[0], pair[1], conn, rsp_bytes=len(pair[1]) + more),
    EXCHANGE | mutated(EXCHANGE),
    st.sampled_from([1, 1, 2, 3, 4]),
    st.sampled_from([0, 0, 0, 9]),
)
SESSIONS = {2: {b"db": "5"}, 3: {b"reply": "skip"}, 4: {b"queued": "3"}}


@given(st.lists(SAID, min_size=1, max_size=8), st.booleans(), st.sampled_from([(1024, 512), (192, 64), (64, 16)]))
@settings(max_examples=600)
def test_columns_say_what_parse_says(said: list[Said], redact: bool, widths: tuple[int, int]) -> None:
    sessions = {conn: Session(dict(remembered)) for conn, remembered in SESSIONS.items()}
    told = columns(said, Options(redact), sessions, width=widths[0], response_width=widths[1])
    for one, readings in zip(said, told, strict=True):
        if not readings:
            continue
        session = Session(dict(SESSIONS.get(one.conn, {})))
        redis = Redis()
        response = one.response[: widths[1]]
        assert readings == list(redis.parse(one.request[: widths[0]], response, session, Options(redact)))
        assert session.version == 0
        answers = redis.replies(response)
        assert len(readings) == 1 or not answers or answers[-1] != one.rsp_bytes or len(answers) >= len(readings)


def _spans(few: int, said: list[Said], redact: bool) -> list[tuple[int, int, int, Fields | None, str]]:
    """What an engine makes of the exchanges in three turns; few: FEW."""
    known: Connections = connections(1, 2, 3, 4)
    for conn, remembered in SESSIONS.items():
        row = int(known.rows(np.array([conn], np.uint64), NOW)[0])
        known.session(row).remembered.update(remembered)
    shapes = Intern[Fields](1000)
    engine = Engine(known, shapes, Options(redact), [Redis()])
    result = []
    with patch.object(groups, "FEW", few):
        for _ in range(3):
            made = batch([Said(array(b"GET", b"a"), b"$-1\r\n", conn=conn) for conn in (1, 2, 3, 4)] + said)
            made.head["n"] = np.arange(len(made))
            spans: Spans = engine.parse(made, NOW)
            for i, shape in enumerate(spans.shape.tolist()):
                start, length = int(spans.slot_start[i, 0]), int(spans.slot_length[i, 0])
                text = spans.text[start : start + length].tobytes().decode()
                fields = shapes[shape] if shape >= 0 else None
                result.append((int(spans.span_id[i]), int(spans.seq[i]), int(spans.flags[i]), fields, text))
    counts = (engine.cut, engine.ignored["redis"], engine.failures["redis"], engine.pipelines.resynchronised)
    return [*result, (*counts[:3], None, str(counts[3]))]


@given(st.lists(SAID | st.just(Said(array(b"GET", b"a"), b":1\r\n")), min_size=1, max_size=8), st.booleans())
@settings(max_examples=300)
def test_an_engine_says_the_same_with_and_without_columns(said: list[Said], redact: bool) -> None:
    assert _spans(0, said, redact) == _spans(1 << 30, said, redact)
