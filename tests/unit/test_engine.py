"""From exchanges to spans: protocols are found, memory stays with its connection, no request is lost or mis-paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.capture.connections import UNDECIDED, UNKNOWN, Connections
from otel_ebpf.model import Exchanges, Flag, Intern, Kind, Link, Spans
from otel_ebpf.protocols import engine, turns
from otel_ebpf.protocols.base import Fields, Options, Reading, Session, Side, Slot
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.http import Http
from otel_ebpf.protocols.redis import Redis
from otel_ebpf.tracing.ids import derive
from tests.unit import test_fastcgi as fastcgi
from tests.unit.exchanges import NOW, Said, announcements, batch, connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SERVER = Flag.SERVER


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


def answer(status: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status


def command(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments)


class Bench:
    """An engine with its connections and shapes, and what its spans say in a readable form."""

    def __init__(self, *ids: int, modules: Sequence[object] | None = None, limit: int = 1000) -> None:
        self.connections: Connections = connections(*(ids or (1, 2, 3)))
        self.shapes = Intern[Fields](limit)
        self.engine = Engine(self.connections, self.shapes, Options(), modules)  # type: ignore[arg-type]

    def parse(self, *said: Said, width: int = 1024, response_width: int = 512) -> Spans:
        return self.engine.parse(batch(said, width, response_width), NOW)

    def told(self, spans: Spans) -> list[tuple[str, str, str]]:
        """(protocol, status, first text) of each span; shapes below 0 as text."""
        return [
            (self.shapes[shape].protocol, self.shapes[shape].status, text(spans, i, 0))
            if shape >= 0
            else (str(shape), "", "")
            for i, shape in enumerate(spans.shape.tolist())
        ]

    def protocol(self, conn: int) -> int:
        return int(self.connections.protocol[self.connections.rows(np.array([conn], np.uint64), NOW)[0]])


def text(spans: Spans, i: int, slot: int) -> str:
    start = int(spans.slot_start[i, slot])
    return bytes(spans.text[start : start + int(spans.slot_length[i, slot])]).decode()


# Columns of the head


def test_what_comes_from_the_head_is_filled_and_the_rest_left_open() -> None:
    bench = Bench()
    said = Said(get("/a"), OK, conn=2, span_id=77, seq=555)
    exchanges = batch([said])
    exchanges.head["tid_req"], exchanges.head["tid_rsp"], exchanges.head["cause"] = 5, 6, 7
    spans = bench.engine.parse(exchanges, NOW)
    assert len(spans) == 1
    assert (spans.span_id[0], spans.conn[0], spans.pair[0], spans.seq[0], spans.tgid[0]) == (77, 2, 2, 555, 4711)
    assert (spans.start[0], spans.end[0], spans.first_byte[0]) == (NOW, NOW + 6000, NOW + 5000)
    assert (spans.tid_req[0], spans.tid_rsp[0], spans.cause[0]) == (5, 6, 7)
    assert (spans.req_bytes[0], spans.rsp_bytes[0]) == (len(said.request), len(OK))
    assert (spans.kind[0], spans.link[0]) == (Kind.SERVER, Link.PENDING)
    assert (spans.resource[0], spans.endpoint[0]) == (-1, -1)
    assert not spans.trace.any()
    assert not spans.parent.any()


def test_an_unanswered_request_ends_with_its_last_byte_and_is_an_error() -> None:
    bench = Bench()
    spans = bench.parse(
        Said(get("/a"), flags=SERVER | Flag.UNANSWERED), Said(get("/b"), flags=SERVER | Flag.UNANSWERED | Flag.RESET)
    )
    assert (spans.end[0], spans.first_byte[0]) == (NOW + 1000, 0)
    errors = [dict(bench.shapes[shape].server.attributes)["error.type"] for shape in spans.shape.tolist()]
    assert errors == ["no_response", "connection_reset"]


def test_the_trace_context_of_the_request_is_found() -> None:
    bench = Bench()
    request = get("/a")[:-2] + b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
    spans = bench.parse(Said(get("/"), OK), Said(request, OK, n=1), Said(request + request, OK + OK, conn=2))
    assert spans.remote_link.tolist() == [Link.NONE, Link.TRACEPARENT, Link.TRACEPARENT, Link.TRACEPARENT]
    assert spans.remote_trace[1].tobytes().hex() == "0af7651916cd43dd8448eb211c80319c"
    assert spans.remote_parent[3].tobytes().hex() == "b7ad6b7169203331"
    assert spans.remote_flags.tolist() == [0, 1, 1, 1]


def test_so_is_that_among_the_variables_of_a_fastcgi_request() -> None:
    bench = Bench()
    parents = ["b7ad6b7169203331", "b7ad6b7169203332", ""]
    spans = bench.parse(*(Said(fastcgi_request(parent), fastcgi_answer(), n=n) for n, parent in enumerate(parents)))
    assert spans.remote_link.tolist() == [Link.TRACEPARENT, Link.TRACEPARENT, Link.NONE]
    assert [parent.tobytes().hex().strip("0") for parent in spans.remote_parent] == parents


def fastcgi_request(parent: str) -> bytes:
    more = {"HTTP_TRACEPARENT": f"00-0af7651916cd43dd8448eb211c80319c-{parent}-01"} if parent else {}
    return fastcgi.asked(REQUEST_METHOD="GET", REQUEST_URI="/", **more)


def fastcgi_answer() -> bytes:
    return fastcgi.record(6, b"Status: 200\r\n\r\n") + fastcgi.record(3, bytes(8))


def test_a_head_passes_through_without_a_shape() -> None:
    bench = Bench()
    spans = bench.parse(Said(b"", conn=1, flags=Flag.HEAD | Flag.PEER), Said(get("/"), OK, conn=2))
    assert spans.shape.tolist()[0] == -1
    assert bench.told(spans)[1] == ("http", "200", "/")
    heads = batch([Said(b"", flags=Flag.HEAD)], width=0, response_width=0)
    assert bench.engine.parse(heads, NOW).shape.tolist() == [-1]


def test_rows_of_connections_that_nobody_announced_are_counted_and_dropped() -> None:
    bench = Bench(1)
    spans = bench.parse(Said(get("/a"), OK, conn=1), Said(get("/b"), OK, conn=99))
    assert bench.told(spans) == [("http", "200", "/a")]
    assert bench.engine.unknown_connections == 1


def test_an_empty_batch_gives_an_empty_batch() -> None:
    assert len(Bench().parse()) == 0


# Which protocol


def test_connections_are_told_apart_by_their_bytes() -> None:
    bench = Bench()
    spans = bench.parse(
        Said(get("/"), OK, conn=1),
        Said(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$1\r\nx\r\n", conn=2),
        Said(b"\x16\x03", b"\x16", conn=3),
    )
    assert [told[0] for told in bench.told(spans)] == ["http", "redis", "-2"]
    assert bench.engine.unrecognised == 1
    assert bench.protocol(3) == UNDECIDED


def test_after_eight_exchanges_that_say_nothing_a_connection_is_unknown() -> None:
    bench = Bench()
    for n in range(8):
        bench.parse(Said(bytes([1, 2, n]), b"\x01", n=n))
    assert bench.protocol(1) == UNKNOWN
    assert bench.engine.unrecognised == 8
    bench.parse(Said(get("/"), OK, n=9))
    assert bench.protocol(1) == UNKNOWN


@dataclass
class Echo:
    """A protocol for tests: `word argument`; `set x` is remembered and said by `show`."""

    name: str = "echo"
    sure: float = 1.0
    duration_metric: tuple[str, str] = ("", "")
    parsed: list[bytes] = field(default_factory=list)

    def detect(self, request: bytes, response: bytes) -> float:
        return self.sure if request[:1].islower() else 0.0

    def stateful(self, request: bytes) -> bool:
        return request.startswith((b"set", b"show"))

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        self.parsed.append(request)
        word, _, argument = request.decode("latin-1").partition(" ")
        if word == "ping" or not word[:1].islower():
            return ()
        if word == "set":
            session.remembered[b"x"] = argument
            session.version += 1
        said = session.remembered.get(b"x", "") if word == "show" else argument
        side = Side(word, (("echo.word", word),), (("echo.word", word),), slots=(Slot("echo.text", 0),))
        return (Reading(Fields(self.name, side, side), (said,)),)


def test_a_doubtful_protocol_is_taken_when_no_other_fits() -> None:
    bench = Bench(modules=[Http(), Echo(sure=0.6)])
    assert bench.told(bench.parse(Said(b"say hello")))[0][0] == "echo"


def test_between_two_that_fit_the_second_exchange_decides() -> None:
    bench = Bench(modules=[Echo("one", 0.5), Echo("two", 0.6)])
    assert bench.told(bench.parse(Said(b"say hello")))[0][0] == "-2"
    assert bench.told(bench.parse(Said(b"say again", n=1)))[0][0] == "two"


def test_a_connection_keeps_its_protocol_and_what_it_cannot_read_is_counted() -> None:
    bench = Bench()
    spans = bench.parse(Said(get("/a"), OK), Said(b"\x00\x01garbage", OK, n=1), Said(get("/b"), OK, n=2))
    assert [told[0] for told in bench.told(spans)] == ["http", "-2", "http"]
    assert bench.engine.failures["http"] == 1


def test_an_exchange_without_a_byte_of_request_is_unreadable_not_a_failure() -> None:
    bench = Bench()
    bench.parse(Said(get("/a"), OK))
    spans = bench.parse(Said(b"", OK, n=1, flags=SERVER | Flag.NO_REQUEST))
    assert spans.shape.tolist() == [-2]
    assert (bench.engine.unreadable, bench.engine.failures["http"]) == (1, 0)


def test_what_is_no_request_of_an_application_is_ignored_not_failed() -> None:
    bench = Bench(modules=[Echo()])
    bench.parse(Said(b"say hello"))
    spans = bench.parse(Said(b"ping", n=1), Said(b"\x00", n=2))
    assert spans.shape.tolist() == [-2, -2]
    assert (bench.engine.ignored["echo"], bench.engine.failures["echo"]) == (1, 1)


def test_what_follows_an_upgrade_is_not_read_as_http() -> None:
    bench = Bench()
    spans = bench.parse(
        Said(get("/chat"), b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Said(b"\x81\x05hello", b"\x81\x02ok", n=1)
    )
    assert [told[:2] for told in bench.told(spans)] == [("http", "101"), ("-2", "")]
    assert bench.engine.failures["http"] == 0
    assert bench.protocol(1) == UNKNOWN


def test_a_tunnel_may_be_anything() -> None:
    bench = Bench()
    connect = b"CONNECT far:6379 HTTP/1.1\r\nHost: far:6379\r\n\r\n"
    bench.parse(Said(connect, b"HTTP/1.1 200 OK\r\n\r\n"))
    assert bench.protocol(1) == UNDECIDED
    spans = bench.parse(Said(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", n=1))
    assert bench.told(spans)[0][0] == "redis"


# Memory


def test_what_repeats_is_parsed_once() -> None:
    echo = Echo()
    bench = Bench(modules=[echo])
    for n in range(3):
        spans = bench.parse(*(Said(b"say hello", conn=1 + i % 3, n=n) for i in range(30)))
        assert set(bench.told(spans)) == {("echo", "", "hello")}
    assert echo.parsed == [b"say hello"]


def test_what_one_connection_said_is_not_read_into_another() -> None:
    bench = Bench(modules=[Echo()])
    spans = bench.parse(
        Said(b"show", conn=1, n=1),
        Said(b"set A", conn=1),
        Said(b"set B", conn=2),
        Said(b"show", conn=2, n=1),
        Said(b"show", conn=3),
    )
    assert [told[2] for told in bench.told(spans)] == ["A", "A", "B", "B", ""]
    spans = bench.parse(
        Said(b"show", conn=2, n=2), Said(b"show", conn=1, n=2), Said(b"set C", conn=1, n=3), Said(b"show", conn=1, n=4)
    )
    assert [told[2] for told in bench.told(spans)] == ["B", "A", "C", "C"]


def test_prepared_statements_of_real_connections_are_not_mixed_up() -> None:
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    sync, done = message(b"S", b""), message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
    execute = message(b"B", b"\0s\0" + bytes(6)) + message(b"E", b"\0" + bytes(4)) + sync
    prepared = message(b"1", b"") + message(b"Z", b"I")
    bench = Bench()
    for conn, table in ((1, b"apples"), (2, b"pears")):
        prepare = message(b"P", b"s\0SELECT * FROM " + table + b"\0\0\0") + sync
        bench.parse(Said(prepare, prepared, conn=conn, flags=0))
    for n in (1, 2):
        spans = bench.parse(
            *(Said(execute, message(b"2", b"") + done, conn=conn, n=n, flags=0) for conn in (1, 2, 3)),
        )
        assert [told[::2] for told in bench.told(spans)[:2]] == [
            ("postgresql", "SELECT * FROM apples"),
            ("postgresql", "SELECT * FROM pears"),
        ]
        assert "SELECT *" not in bench.told(spans)[2][2]


def test_order_holds_across_size_classes() -> None:
    bench = Bench(modules=[Echo()])
    small = batch([Said(b"show", n=1), Said(b"show", n=3)], 64, 64)
    large = batch([Said(b"set A"), Said(b"set B", n=2)])
    spans = bench.engine.parse_batches([small, large], NOW)
    assert [told[2] for told in bench.told(spans)] == ["A", "B", "A", "B"]


def test_what_one_size_class_changes_holds_for_the_others() -> None:
    bench = Bench(modules=[Redis()])

    def databases(*batches: Exchanges) -> list[object]:
        spans = bench.engine.parse_batches(batches, NOW)
        return [dict(bench.shapes[shape].client.attributes).get("db.namespace") for shape in spans.shape.tolist()]

    long = command(b"SET", b"k", b"v" * 600)
    small, large = batch([Said(command(b"SELECT", b"3"), b"+OK\r\n")], 256, 128), batch([Said(long, b"+OK\r\n", n=1)])
    assert databases(small, large) == [None, "3"]
    large = batch([Said(command(b"SELECT", b"5") + long, b"+OK\r\n" * 2, n=2)])
    small = batch([Said(command(b"GET", b"k"), b"$-1\r\n", n=3)], 256, 128)
    assert databases(small, large) == ["5", "3", "5"]


def test_an_answer_that_comes_with_a_longer_request_belongs_to_its_own() -> None:
    bench = Bench()
    long = get("/c?" + "x" * 400)
    small = batch([Said(get("/a") + get("/b"), answer(200))], 256, 128)
    large = batch([Said(long, answer(404) + answer(503), n=1)])
    told = bench.told(bench.engine.parse_batches([small, large], NOW))
    assert [(status, target[:2]) for _, status, target in told] == [("200", "/a"), ("404", "/b"), ("503", "/c")]


def test_what_a_connection_said_before_it_was_forgotten_is_not_read_again() -> None:
    bench = Bench(modules=[Echo()])
    told = []
    for now, what in ((NOW, b"set A"), (NOW + 200 * 10**9, b"set B")):
        bench.connections.forget(now)
        bench.connections.update(announcements(1), now)
        spans = bench.engine.parse(batch([Said(what), Said(b"show", n=1)]), now)
        told += [text for _, _, text in bench.told(spans)]
    assert told == ["A", "A", "B", "B"]


def test_a_module_that_forgets_to_say_that_it_remembers_is_still_read_in_order() -> None:
    class Forgetful(Echo):
        stateful = None  # type: ignore[assignment]

    bench = Bench(modules=[Forgetful()])
    bench.parse(Said(b"say hello"))
    spans = bench.parse(Said(b"show", n=2), Said(b"set A", n=1), Said(b"set B", conn=2), Said(b"show", conn=2, n=1))
    assert [told[2] for told in bench.told(spans)] == ["A", "A", "B", "B"]


def test_shapes_that_were_forgotten_are_made_again() -> None:
    bench = Bench(limit=4)
    for n in range(30):
        path = f"/{'abcdefghij'[n % 10]}"
        spans = bench.parse(Said(get(path), OK, n=n), Said(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", conn=2, n=n))
        assert [told[0] for told in bench.told(spans)] == ["http", "redis"]


def test_an_unanswered_request_of_any_protocol_is_an_error() -> None:
    bench = Bench(modules=[Echo()])
    spans = bench.parse(Said(b"say hello", flags=Flag.UNANSWERED), Said(b"say hello", n=1, flags=0))
    lost, fine = (bench.shapes[shape] for shape in spans.shape.tolist())
    assert lost.client.error
    assert dict(lost.client.attributes)["error.type"] == dict(lost.client.metric)["error.type"] == "no_response"
    assert not fine.client.error


# Pipelines


def test_requests_of_one_record_become_consecutive_spans_with_keys_of_their_own() -> None:
    bench = Bench()
    spans = bench.parse(
        Said(get("/a") + get("/b") + get("/c"), answer(200) + answer(404) + answer(500), span_id=7, seq=100),
        Said(get("/d"), OK, conn=2, span_id=8, seq=100),
    )
    assert bench.told(spans) == [
        ("http", "200", "/a"),
        ("http", "404", "/b"),
        ("http", "500", "/c"),
        ("http", "200", "/d"),
    ]
    assert spans.seq.tolist() == [100, 101, 102, 100]
    assert spans.span_id.tolist() == derive(np.array([7, 7, 7, 8], np.uint64), np.array([0, 1, 2, 0])).tolist()
    assert (spans.span_id[0], spans.span_id[3]) == (7, 8)
    assert len(set(spans.span_id.tolist())) == 4


def test_an_answer_that_comes_with_a_later_record_belongs_to_its_request() -> None:
    bench = Bench()
    first = bench.parse(Said(get("/a") + get("/b"), answer(200)))
    second = bench.parse(Said(get("/c"), answer(404) + answer(500), n=1, start=NOW + 10**6))
    assert bench.told(first) == [("http", "200", "/a")]
    assert bench.told(second) == [("http", "404", "/b"), ("http", "500", "/c")]
    assert second.start.tolist() == [NOW, NOW + 10**6]
    assert len(bench.engine.pipelines) == 0


def test_in_one_batch_as_well() -> None:
    bench = Bench()
    spans = bench.parse(
        Said(get("/c"), answer(404) + answer(500), n=1, start=NOW + 10**6), Said(get("/a") + get("/b"), answer(200))
    )
    assert bench.told(spans) == [("http", "404", "/b"), ("http", "500", "/c"), ("http", "200", "/a")]


def test_a_redis_pipeline_is_carried_over_too() -> None:
    bench = Bench()
    command = b"*2\r\n$3\r\nGET\r\n$1\r\n%b\r\n"
    bench.parse(Said(command % b"z", b"$1\r\n0\r\n"))
    first = bench.parse(Said(command % b"a" + command % b"b" + command % b"c", b"$1\r\n1\r\n", n=1))
    second = bench.parse(Said(command % b"d", b"-ERR no\r\n$1\r\n3\r\n$1\r\n4\r\n", n=2))
    assert [told[2] for told in bench.told(first)] == ["GET a"]
    assert [told[1:] for told in bench.told(second)] == [("ERR", "GET b"), ("", "GET c"), ("", "GET d")]


def test_many_pipelined_requests_beside_a_long_one_are_read_in_portions() -> None:
    context = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
    plain, odd = get("/").decode(), "BREW /tea HTTP/1.1\r\nHost: h\r\n"
    many = (plain * 20 + plain[:-2] + context).encode()
    strange = (plain * 20 + odd + context).encode()
    ids = tuple(range(1, 11))
    bench = Bench(*ids)
    said = [Said(strange if i == 7 else many, answer(200) * 3, conn=i, rsp_bytes=5000) for i in ids]
    spans = [bench.parse(*said, Said(get("/" + "x" * 900) + get("/b"), answer(200) * 2, n=1))]
    with patch.object(turns, "AT_ONCE", 25), patch.object(engine, "AT_ONCE", 3):
        spans.append(bench.parse(*said, Said(get("/" + "x" * 900) + get("/b"), answer(200) * 2, n=1)))
    assert len(spans[0]) == 10 * 21 + 2
    assert bench.told(spans[0]) == bench.told(spans[1])
    assert spans[0].remote_link.tolist() == spans[1].remote_link.tolist()
    assert np.count_nonzero(spans[0].remote_parent) == 10


def test_requests_that_wait_when_the_connection_ends_are_unanswered() -> None:
    bench = Bench()
    spans = bench.parse(Said(get("/a") + get("/b"), answer(200), flags=SERVER | Flag.LAST))
    assert [told[2] for told in bench.told(spans)] == ["/a", "/b"]
    assert spans.flags[1] & Flag.UNANSWERED
    assert dict(bench.shapes[int(spans.shape[1])].server.attributes)["error.type"] == "no_response"
    assert len(bench.engine.pipelines) == 0


def test_when_the_bytes_do_not_tell_how_many_answers_there_are_all_count_as_answered() -> None:
    bench = Bench()
    cut = b"HTTP/1.1 200 OK\r\nServer: n"
    spans = bench.parse(Said(get("/a") + get("/b"), cut, rsp_bytes=5000))
    assert bench.told(spans) == [("http", "200", "/a"), ("http", "", "/b")]
    assert not bench.shapes[int(spans.shape[1])].server.error
    assert bench.engine.pipelines.resynchronised == 1
    assert bench.told(bench.parse(Said(get("/c"), answer(404), n=1))) == [("http", "404", "/c")]


def test_a_cut_pipeline_is_counted() -> None:
    bench = Bench()
    bench.parse(Said(get("/a") + get("/b"), answer(200) + answer(200), req_bytes=9000))
    assert bench.engine.cut == 1


def test_an_amendment_takes_the_place_of_the_partial_record() -> None:
    bench = Bench()
    bench.parse(Said(get("/a") + get("/b"), answer(200), span_id=5, flags=SERVER | Flag.PARTIAL))
    amended = bench.parse(Said(get("/a") + get("/b"), answer(200) + answer(404), span_id=5, flags=SERVER | Flag.AMENDS))
    assert bench.told(amended) == [("http", "200", "/a"), ("http", "404", "/b")]
    assert bench.told(bench.parse(Said(get("/c"), answer(500), n=1))) == [("http", "500", "/c")]


@pytest.mark.parametrize("at_once", [False, True])
def test_answers_that_only_an_amendment_without_payload_tells_of_go_to_nobody_else(at_once: bool) -> None:
    bench = Bench()
    partial = Said(get("/a") + get("/b"), answer(200), n=1, span_id=5, flags=SERVER | Flag.PARTIAL)
    more = Said(b"", n=1, span_id=5, flags=SERVER | Flag.AMENDS | Flag.HEAD, req_bytes=60, rsp_bytes=90)
    drains = [[batch([more], 0, 0), batch([Said(get("/x"), answer(200), conn=2), partial])]]
    if not at_once:
        drains = [drains[0][1:], drains[0][:1]]
    for drain in drains:
        bench.engine.parse_batches(drain, NOW)
    assert bench.engine.pipelines.lost == 1
    for n, status in enumerate((404, 500), 2):
        assert bench.told(bench.parse(Said(get(f"/{n}"), answer(status), n=n))) == [("http", str(status), f"/{n}")]


@settings(max_examples=60)
@given(st.data())
def test_whatever_way_a_pipelined_stream_is_cut_into_records_each_request_has_its_answer(data: st.DataObject) -> None:
    """Records as a server sees an impatient client: requests come early, answers in order."""
    bench = Bench()
    bench.parse(Said(get("/first"), answer(200)))
    asked = answered = 0
    pairs: list[tuple[str, str]] = []
    for n in range(1, data.draw(st.integers(1, 6)) + 1):
        come = data.draw(st.integers(1, 4))
        done = data.draw(st.integers(1, asked + come - answered))
        requests = b"".join(get(f"/r/x{'y' * i}") for i in range(asked, asked + come))
        replies = b"".join(answer(200 + i) for i in range(answered, answered + done))
        asked, answered = asked + come, answered + done
        pairs += [(status, path) for _, status, path in bench.told(bench.parse(Said(requests, replies, n=n)))]
    assert pairs == [(str(200 + i), f"/r/x{'y' * i}") for i in range(answered)]


# Hostile bytes


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=300),
                st.sampled_from(
                    [get("/a"), get("/a") * 9, b"*3\r\n$1\r\n", b"*1\r\n$4\r\nPING\r\n" * 5, b"Q\0\0\0\x0dSELECT 1\0"]
                ),
            ),
            st.one_of(st.binary(max_size=100), st.sampled_from([OK, OK * 3, b"+OK\r\n", b"", OK[:20]])),
            st.integers(1, 4),
            st.integers(0, (1 << 17) - 1),
            st.integers(0, 1 << 40),
        ),
        max_size=20,
    )
)
def test_no_bytes_and_no_flags_make_it_fail(rows: list[tuple[bytes, bytes, int, int, int]]) -> None:
    bench = Bench()
    for _ in range(2):
        said = [
            Said(request, response, conn, flags, n, req_bytes=size, rsp_bytes=size)
            for n, (request, response, conn, flags, size) in enumerate(rows)
        ]
        spans = bench.parse(*said)
        known = [one for one in said if one.conn < 4]
        assert len(spans) >= len(known)
        assert bench.engine.unknown_connections % max(len(said) - len(known), 1) == 0
        for i in range(len(spans)):
            for slot in range(3):
                text(spans, i, slot)
        bench.engine.complete(batch(said))
        taken = spans.take(np.arange(len(spans))[::-1])
        assert bench.told(taken) == bench.told(spans)[::-1]


def test_memory_is_bounded_whatever_comes() -> None:
    bench = Bench(*range(1, 2001), limit=500)
    rng = np.random.default_rng(1)
    for n in range(4):
        bench.parse(
            *(Said(get(f"/{i:x}{n}") + get("/w" * (i % 50)), answer(200), conn=1 + i, n=n) for i in range(2000))
        )
        bench.parse(*(Said(rng.bytes(40), b"x", conn=1 + i, n=n) for i in range(2000)))
    assert len(bench.engine.pipelines) <= 1024
    assert len(bench.shapes) <= 500


# Whole responses


def test_complete_tells_for_each_row_by_its_protocol() -> None:
    bench = Bench()
    rows = batch(
        [
            Said(get("/a"), OK),
            Said(get("/a"), OK[:-1], conn=2),
            Said(get("/a"), OK[:20], conn=3),
            Said(get("/"), OK, conn=9),
        ]
    )
    assert bench.engine.complete(rows).tolist() == [1, 0, -1, -1]
    bench.engine.parse(rows, NOW)
    assert bench.engine.complete(rows).tolist() == [1, 0, -1, -1]
    assert bench.engine.complete(Exchanges(rows.head[:0], rows.request[:0], rows.response[:0])).tolist() == []
