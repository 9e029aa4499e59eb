"""Streams of HTTP/2 as exchanges: what real peers (the `h2` package) say, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.model import STREAM, Exchanges, Flag, Intern, Spans
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.http2 import streams as streams_module
from otel_ebpf.protocols.http2.frames import BEGINS, CUT, ENDS, HEADERS, REQUEST
from otel_ebpf.protocols.http2.streams import Streams
from tests.unit.exchanges import NOW, connections
from tests.unit.http2_wire import EXCHANGE, Wire

Headers = Sequence[tuple[str, str]]
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/cart?id=7"), (":authority", "shop.example:8080")]
POST = [(":method", "POST"), *GET[1:]]
CALL = [
    *((":method", "POST"), (":scheme", "http"), (":path", "/shop.Cart/Add"), (":authority", "cart:50051")),
    *(("content-type", "application/grpc"), ("te", "trailers")),
]
OK, GRPC_OK = [(":status", "200")], [(":status", "200"), ("content-type", "application/grpc")]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Talk:
    """A client and a server, and what the kernel tells of the end that is `wire`'s. Each message takes 1000 ns."""

    wire: Wire = field(default_factory=Wire)
    now: int = NOW
    validates: bool = True

    def __post_init__(self) -> None:
        loose: dict[str, Any] = {
            "validate_outbound_headers": self.validates,
            "validate_inbound_headers": self.validates,
            "normalize_outbound_headers": self.validates,
        }
        self.client = H2Connection(H2Configuration(client_side=True, **loose))
        self.server = H2Connection(H2Configuration(client_side=False, **loose))
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.go()

    def go(self) -> None:
        """What both have to say goes over."""
        while True:
            said, answered = self.client.data_to_send(), self.server.data_to_send()
            if not said and not answered:
                return
            self.now += 1000
            if said:
                self.wire.sent_by_client(said, self.now)
                self.server.receive_data(said)
            if answered:
                self.wire.sent_by_server(answered, self.now)
                self.client.receive_data(answered)

    def ask(self, headers: Headers = GET, end: bool = True) -> int:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, headers, end_stream=end)
        self.go()
        return stream

    def answer(self, stream: int, headers: Headers = OK, body: bytes = b"", end: bool = True) -> None:
        self.server.send_headers(stream, headers, end_stream=end and not body)
        if body:
            self.server.send_data(stream, body, end_stream=end)
        self.go()


@dataclass
class Seen:
    """What was made of an exchange: its record, and what the engine says."""

    head: np.void
    shape: Fields | None
    texts: dict[str, str]
    spans: Spans

    @property
    def server(self) -> dict[str, object]:
        assert self.shape is not None
        return {**dict(self.shape.server.attributes), **self.texts}

    @property
    def client(self) -> dict[str, object]:
        assert self.shape is not None
        return dict(self.shape.client.attributes)


def told(batches: Iterable[Exchanges]) -> list[Seen]:
    """Each exchange by itself, read by the engine."""
    found: list[Seen] = []
    shapes = Intern[Fields](5000)
    engine = Engine(connections(1, 2), shapes, Options())
    for exchanges in batches:
        assert len(exchanges) and exchanges.request.shape[1] % 8 == 0 and exchanges.response.shape[1] % 8 == 0
        spans = engine.parse_batches([exchanges], NOW)
        assert len(spans) == len(exchanges)
        for i, shape in enumerate(spans.shape.tolist()):
            fields = shapes[shape] if shape >= 0 else None
            at = zip(spans.slot_start[i].tolist(), spans.slot_length[i].tolist(), strict=True)
            slots = [spans.text[start : start + size].tobytes().decode() for start, size in at]
            used = fields.server.slots if fields else ()
            texts = {slot.attribute: slots[slot.index] for slot in used if slots[slot.index]}
            found.append(Seen(exchanges.head[i], fields, texts, spans.take(np.array([i]))))
    assert not any(engine.failures.values())
    return sorted(found, key=lambda seen: (int(seen.head["conn"]), int(seen.head["n"])))


def streams(**settings: int) -> Streams:
    return Streams(EXCHANGE, **settings)


def seen(talk: Talk) -> list[Seen]:
    """All that is told of a conversation that was seen from its beginning."""
    all_of_it = streams()
    found = told(all_of_it.read(talk.wire.frames(), talk.now))
    assert not any(all_of_it.losses.values())
    return found


def test_a_stream_is_an_exchange() -> None:
    # given a request and its response
    talk = Talk()
    stream = talk.ask([*GET, ("user-agent", "curl/8"), ("traceparent", TRACEPARENT)])
    asked = talk.now
    talk.answer(stream, [*OK, ("content-type", "text/plain")], b"hello")
    # then it is what HTTP/1 would say, but for the version
    [one] = seen(talk)
    assert one.server == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.route": "/cart",
        "server.address": "shop.example",
        "server.port": 8080,
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
        "network.protocol.version": "2",
        "url.path": "/cart",
        "url.query": "id=7",
    }
    assert one.spans.remote_parent.tobytes().hex() == "b7ad6b7169203331"
    # and the record has the stream's number, which is the same at both ends, and its times
    head = one.head
    assert (head["n"], head["seq_req"], head["conn"], head["span_id"]) == (1, 1, 1, (1 << 32) + 2)
    assert (head["t_req"], head["t_req_end"]) == (asked, asked + 10)
    assert (head["t_rsp"], head["t_rsp_end"]) == (talk.now, talk.now + 10)
    assert head["flags"] == STREAM | Flag.SERVER
    assert head["rsp_bytes"] > 5


def test_the_evidence_of_causes_is_that_of_the_heads() -> None:
    for server in (True, False):
        talk = Talk(Wire(server=server))
        talk.wire.tell = {"unit": 11, "tid": 12, "cause": 13, "after": 14}
        stream = talk.ask(POST, end=False)
        talk.wire.tell = {"unit": 21, "tid": 22, "after": 24}
        talk.client.send_data(stream, b"body", end_stream=True)
        talk.go()
        talk.wire.tell = {"unit": 31, "tid": 32, "after": 34, "flags": int(Flag.DISTURBED | (server and Flag.SERVER))}
        talk.answer(stream, end=False)
        talk.wire.tell = {"unit": 41, "tid": 42}
        talk.server.send_data(stream, b"hello", end_stream=True)
        talk.go()
        [one] = seen(talk)
        assert [int(one.head[name]) for name in ("unit_req", "tid_req", "cause")] == [11, 12, 13]
        assert [int(one.head[name]) for name in ("unit_rsp", "tid_rsp", "after")] == [31, 32, 34 if server else 14]
        assert one.head["flags"] & Flag.DISTURBED


def test_streams_that_run_beside_each_other_are_told_apart() -> None:
    talk = Talk()
    first, second = talk.ask(), talk.ask([*GET[:2], (":path", "/b"), GET[3]])
    talk.answer(second, [(":status", "404")])
    talk.answer(first, OK, b"x" * 1000)
    one, other = seen(talk)
    assert (one.server["url.path"], one.server["http.response.status_code"]) == ("/cart", 200)
    assert (other.server["url.path"], other.server["http.response.status_code"]) == ("/b", 404)
    assert other.head["t_rsp_end"] < one.head["t_rsp_end"]


def test_bodies_count() -> None:
    talk = Talk()
    stream = talk.ask(POST, end=False)
    talk.client.send_data(stream, b"x" * 5000)
    talk.client.send_data(stream, b"x" * 5000, end_stream=True, pad_length=50)
    talk.go()
    talk.answer(stream, OK, b"y" * 7000)
    [one] = seen(talk)
    assert 10_000 < one.head["req_bytes"] < 10_100
    assert 7_000 < one.head["rsp_bytes"] < 7_010


def test_an_interim_response_is_no_response_yet() -> None:
    talk = Talk()
    stream = talk.ask(POST, end=False)
    talk.server.send_headers(stream, [(":status", "103"), ("link", "</style.css>")])
    talk.go()
    talk.client.send_data(stream, b"x", end_stream=True)
    talk.go()
    talk.answer(stream, [(":status", "201")])
    [one] = seen(talk)
    assert one.server["http.response.status_code"] == 201
    assert one.head["t_rsp"] == talk.now


def test_trailers_are_no_response_and_no_request() -> None:
    talk = Talk()
    stream = talk.ask(POST, end=False)
    talk.client.send_headers(stream, [("checksum", "1")], end_stream=True)
    talk.go()
    talk.answer(stream, OK, b"body", end=False)
    talk.server.send_headers(stream, [("checksum", "2")], end_stream=True)
    talk.go()
    [one] = seen(talk)
    assert one.server["http.response.status_code"] == 200
    assert one.head["t_rsp_end"] == talk.now + 10


def test_a_response_may_come_before_the_request_has_ended() -> None:
    talk = Talk()
    stream = talk.ask(POST, end=False)
    talk.client.send_data(stream, b"x" * 100)
    talk.go()
    talk.answer(stream, [(":status", "413")])
    talk.server.reset_stream(stream, 0)  # RFC 9113 §8.1
    talk.go()
    [one] = seen(talk)
    assert one.server["http.response.status_code"] == 413
    assert "error.type" not in one.server
    assert one.client["error.type"] == "413"


@pytest.mark.parametrize(
    ("by_client", "code", "error"),
    [
        (True, 8, "CANCEL"),
        (False, 7, "REFUSED_STREAM"),
        (False, 11, "ENHANCE_YOUR_CALM"),
        (False, 99, "INTERNAL_ERROR"),
    ],
)
def test_a_stream_that_is_given_up_unanswered_is_an_error(by_client: bool, code: int, error: str) -> None:
    talk = Talk()
    stream = talk.ask()
    (talk.client if by_client else talk.server).reset_stream(stream, code)
    talk.go()
    [one] = seen(talk)
    assert one.client["error.type"] == one.server["error.type"] == error
    assert one.head["flags"] & Flag.UNANSWERED
    assert (one.head["t_rsp"], one.head["t_rsp_end"]) == (0, talk.now)


def test_a_client_that_has_seen_enough_makes_no_error_but_a_server_that_breaks_off_does() -> None:
    talk = Talk()
    first, second = talk.ask(), talk.ask()
    for stream in (first, second):
        talk.answer(stream, OK, b"some", end=False)
    talk.client.reset_stream(first, 8)
    talk.go()
    talk.server.reset_stream(second, 2)
    talk.go()
    one, other = seen(talk)
    assert "error.type" not in one.client
    assert (other.client["error.type"], other.client["http.response.status_code"]) == ("INTERNAL_ERROR", 200)


@pytest.mark.parametrize(("flags", "error"), [(0, "no_response"), (Flag.RESET, "connection_reset")])
def test_what_is_unanswered_when_the_connection_ends_stays_unanswered(flags: int, error: str) -> None:
    talk = Talk()
    talk.ask()
    talk.wire.close(talk.now + 5000, flags)
    [one] = seen(talk)
    assert one.client["error.type"] == error
    assert one.head["t_rsp_end"] == talk.now + 5000
    assert one.head["flags"] & Flag.LAST


def test_a_request_without_an_answer_is_told_after_a_while_but_a_call_may_wait() -> None:
    talk = Talk()
    talk.ask()
    talk.ask(CALL)
    all_of_it = streams(timeout_ns=10**9)
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    [one] = told(all_of_it.read([], talk.now + 2 * 10**9))
    assert (one.head["n"], one.server["error.type"]) == (1, "no_response")
    assert len(all_of_it) == 1


def test_what_a_server_pushes_is_no_exchange_and_disturbs_nothing() -> None:
    talk = Talk()
    talk.client.update_settings({SettingCodes.ENABLE_PUSH: 1})
    stream = talk.ask()
    talk.server.push_stream(stream, 2, [*GET[:2], (":path", "/style.css"), GET[3], ("x-new", "inserted")])
    talk.server.send_headers(2, [*OK, ("x-other", "inserted")], end_stream=True)
    talk.answer(stream, [(":status", "203"), ("x-other", "inserted")])
    again = talk.ask()
    talk.answer(again, [(":status", "203")])
    assert [one.server["http.response.status_code"] for one in seen(talk)] == [203, 203]


def test_a_tunnel_is_told_when_it_is_open() -> None:
    talk = Talk(validates=False)
    stream = talk.ask([(":method", "CONNECT"), (":authority", "db.example:5432")], end=False)
    talk.answer(stream, OK, end=False)
    opened = talk.now
    talk.client.send_data(stream, b"anything")
    talk.go()
    [one] = seen(talk)
    assert one.server["http.request.method"] == "CONNECT"
    assert (one.client["server.address"], one.client["server.port"]) == ("db.example", 5432)
    assert one.head["t_rsp_end"] == opened + 10


def test_a_websocket_is_told_when_it_is_open() -> None:  # RFC 8441
    talk = Talk(validates=False)
    stream = talk.ask([(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]], end=False)
    talk.answer(stream, OK, end=False)
    [one] = seen(talk)
    assert (one.server["http.request.method"], one.server["url.path"]) == ("CONNECT", "/cart")
    assert one.server["server.address"] == "shop.example"


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_header_blocks_may_come_in_pieces(piece: int) -> None:
    talk = Talk(Wire(piece=piece))
    for i in range(3):
        stream = talk.ask([*GET[:2], (":path", f"/{i}"), GET[3], ("x-filler", "x" * 200)])
        talk.answer(stream)
    assert [one.server["url.path"] for one in seen(talk)] == ["/0", "/1", "/2"]


def test_a_long_block_in_continuations_is_one_block() -> None:
    talk = Talk()
    stream = talk.ask([*GET, *((f"x-filler-{i}", "y" * 1000) for i in range(40)), ("traceparent", TRACEPARENT)])
    talk.answer(stream)
    [one] = seen(talk)
    assert one.spans.remote_parent.tobytes().hex() == "b7ad6b7169203331"


# Calls


@pytest.mark.parametrize(
    ("code", "status", "for_client", "for_server"),
    [
        ("0", "OK", None, None),
        ("5", "NOT_FOUND", "NOT_FOUND", None),
        ("14", "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"),
        ("99", "UNKNOWN", "UNKNOWN", "UNKNOWN"),
    ],
)
def test_a_call_has_the_status_of_its_trailers(
    code: str, status: str, for_client: str | None, for_server: str | None
) -> None:
    talk = Talk()
    stream = talk.ask(CALL, end=False)
    talk.client.send_data(stream, b"\0\0\0\0\0", end_stream=True)
    talk.go()
    talk.answer(stream, GRPC_OK, b"\0\0\0\0\0", end=False)
    talk.server.send_headers(stream, [("grpc-status", code), ("grpc-message", "secret")], end_stream=True)
    talk.go()
    [one] = seen(talk)
    expected = {
        "rpc.system.name": "grpc",
        "rpc.method": "shop.Cart/Add",
        "server.address": "cart",
        "server.port": 50051,
        "rpc.status_code": status,
    }
    assert one.client == {**expected, **({"error.type": for_client} if for_client else {})}
    assert one.server == {**expected, **({"error.type": for_server} if for_server else {})}
    assert one.shape is not None and one.shape.client.name == one.shape.server.name == "shop.Cart/Add"
    assert "server.address" not in dict(one.shape.server.metric)
    assert dict(one.shape.client.metric) == one.client


def test_a_call_that_is_refused_has_its_status_in_the_head() -> None:
    talk = Talk()
    talk.answer(talk.ask(CALL), [*GRPC_OK, ("grpc-status", "16")])
    [one] = seen(talk)
    assert one.client["error.type"] == one.client["rpc.status_code"] == "UNAUTHENTICATED"


def test_a_method_that_the_server_does_not_know_is_another() -> None:
    talk = Talk()
    talk.answer(talk.ask(CALL), [*GRPC_OK, ("grpc-status", "12")])
    [one] = seen(talk)
    assert (one.server["rpc.method"], one.server["rpc.method_original"]) == ("_OTHER", "shop.Cart/Add")
    assert one.shape is not None and one.shape.server.name == "grpc"


@pytest.mark.parametrize(
    ("http", "status"), [("503", "UNAVAILABLE"), ("404", "UNIMPLEMENTED"), ("200", "UNKNOWN"), ("418", "UNKNOWN")]
)
def test_without_a_status_of_grpc_that_of_http_tells(http: str, status: str) -> None:
    talk = Talk()
    talk.answer(talk.ask(CALL), [(":status", http), ("content-type", "text/html")], b"<html>")
    [one] = seen(talk)
    assert one.client["rpc.status_code"] == status


@pytest.mark.parametrize(
    ("timeout", "waited", "by_client", "code", "status"),
    [
        ("", 0, True, 8, "CANCELLED"),
        ("100m", 0, True, 8, "CANCELLED"),
        ("100m", 99_000_000, True, 8, "DEADLINE_EXCEEDED"),
        ("1S", 980_000_001, True, 8, "DEADLINE_EXCEEDED"),
        ("1S", 900_000_000, True, 8, "CANCELLED"),
        ("", 0, False, 7, "UNAVAILABLE"),
        ("", 0, False, 2, "INTERNAL"),
        ("", 0, False, 12, "PERMISSION_DENIED"),
    ],
)
def test_a_call_that_is_given_up_has_the_status_that_grpc_gives_it(
    timeout: str, waited: int, by_client: bool, code: int, status: str
) -> None:
    talk = Talk()
    stream = talk.ask([*CALL, *([("grpc-timeout", timeout)] if timeout else [])])
    talk.now += waited
    (talk.client if by_client else talk.server).reset_stream(stream, code)
    talk.go()
    [one] = seen(talk)
    assert one.client["rpc.status_code"] == one.client["error.type"] == status


def test_a_call_whose_connection_ends_is_unavailable_to_the_client_and_cancelled_to_the_server() -> None:
    for server, status in ((False, "UNAVAILABLE"), (True, "CANCELLED")):
        talk = Talk(Wire(server=server))
        stream = talk.ask(CALL)
        talk.answer(stream, GRPC_OK, b"first", end=False)
        talk.wire.close(talk.now + 1)
        [one] = seen(talk)
        assert one.client["rpc.status_code"] == status


def test_the_content_type_of_each_stream_tells_whether_it_is_a_call() -> None:
    talk = Talk()
    for headers in (CALL, [*POST, ("content-type", "application/grpc-web+proto")], GET):
        talk.answer(talk.ask(headers), OK)
    assert [one.shape.protocol if one.shape else "" for one in seen(talk)] == ["grpc", "http", "http"]


def test_calls_carry_contexts_and_are_read_once_where_they_are_alike() -> None:
    talk = Talk()
    for i in range(1, 40):
        talk.answer(talk.ask([*CALL, ("traceparent", f"00-{i:032x}-{i:016x}-01")]), [*GRPC_OK, ("grpc-status", "0")])
    found = seen(talk)
    assert [int(one.spans.remote_parent.tobytes().hex(), 16) for one in found] == list(range(1, 40))
    assert len({id(one.shape) for one in found}) == 1


def test_there_are_only_so_many_methods() -> None:
    talk = Talk()
    for i in range(1100):
        headers = [(name, f"/shop.Cart/M{i}" if name == ":path" else value) for name, value in CALL]
        talk.answer(talk.ask(headers), [*GRPC_OK, ("grpc-status", "0")])
    methods = {one.server["rpc.method"] for one in seen(talk)}
    assert "_OTHER" in methods and len(methods) <= 1025


# What is lost


def test_records_that_come_by_another_ring_a_little_later_are_waited_for() -> None:
    # given a response's body, whose ring was read before the ring of heads had all of them
    talk = Talk()
    stream = talk.ask()
    talk.answer(stream, OK, b"body")
    bodies, heads = talk.wire.frames()
    all_of_it = streams()
    assert not all_of_it.read([bodies], talk.now)
    assert all_of_it.pending
    # when the next read has them
    [exchanges] = all_of_it.read([heads], talk.now)
    # then nothing was lost
    assert exchanges.head["t_rsp_end"][0] == talk.now + 10
    assert not all_of_it.pending and not any(all_of_it.losses.values())


def test_an_answer_that_another_thread_received_before_the_call_of_the_sender_ended_is_its_answer() -> None:
    talk = Talk(Wire(server=False))
    stream = talk.ask(POST)
    request = talk.wire.records.pop()
    talk.answer(stream, [(":status", "201")], b"body")
    answer = talk.wire.records
    for row, _ in answer:
        row["t_end"] = talk.now
    request[0]["t_end"] = talk.now + 1
    talk.wire.records = [*answer, request]
    [one] = seen(talk)
    assert one.server["http.response.status_code"] == 201
    assert one.head["t_rsp_end"] == talk.now


def test_a_record_that_is_lost_of_requests_leaves_the_responses_known() -> None:
    talk = Talk()
    known = [(":status", "203"), ("x-new", "1")]
    first, second = talk.ask(), talk.ask()
    talk.wire.n[True] += 1
    third = talk.ask()
    for stream in (first, second, third):
        talk.answer(stream, known)
    all_of_it = streams()
    frames = talk.wire.frames()
    found = told([*all_of_it.read(frames, talk.now), *all_of_it.read([], talk.now)])
    assert [one.client["http.response.status_code"] for one in found] == [203] * len(found)
    assert {int(one.head["n"]) for one in found} >= {first, second}
    assert all_of_it.losses["frames_missing"] == 1


def test_behind_a_lost_record_what_is_not_known_is_left_out() -> None:
    # given a connection of which one request's head is lost
    talk = Talk()
    for path in ("/a", "/b", "/b", "/c"):
        talk.answer(talk.ask([*GET[:2], (":path", path), GET[3]]))
    [frames] = talk.wire.frames()
    kept = (frames.head["n"] != 1) | ((frames.head["bits"] & REQUEST) == 0)
    frames.head, frames.block = frames.head[kept], frames.block[kept]
    all_of_it = streams()
    first = told(all_of_it.read([frames], talk.now))
    rest = told(all_of_it.read([], talk.now))
    # then it is counted, and the others are told without what refers to it
    assert [one.server.get("url.path") for one in first] == ["/a"]
    assert [one.server.get("url.path") for one in rest] == [None, "/c"]
    assert [one.server["http.response.status_code"] for one in rest] == [200, 200]
    assert all_of_it.losses["frames_missing"] == 1


def test_who_comes_in_the_middle_tells_what_can_be_known() -> None:
    talk = Talk(Wire(flags=int(Flag.MIDSTREAM)))
    headers = [*CALL, ("traceparent", TRACEPARENT)]
    open_before = talk.ask(headers)
    talk.wire.records.clear()
    talk.wire.n = {True: 0, False: 0}
    talk.answer(open_before, [*GRPC_OK, ("grpc-status", "0")])
    for path in ("/shop.Cart/Add", "/shop.Cart/New", "/shop.Cart/New"):
        asked = [(name, path if name == ":path" else value) for name, value in headers]
        talk.answer(talk.ask(asked), [*GRPC_OK, ("grpc-status", "0")])
    all_of_it = streams()
    found = told(all_of_it.read(talk.wire.frames(), talk.now))
    # what was under way when we came is not told; what was said before is not known
    assert [one.head["n"] for one in found] == [3, 5, 7]
    assert [one.server.get("rpc.method") for one in found] == [None, "shop.Cart/New", "shop.Cart/New"]
    assert [one.server.get("rpc.status_code") for one in found] == ["OK"] * 3  # that the answers are of gRPC, they say
    assert all("server.address" not in one.server for one in found)
    assert not any(all_of_it.losses.values())


def test_a_stream_whose_answer_may_have_been_lost_is_not_called_unanswered() -> None:
    talk = Talk()
    talk.ask()
    talk.wire.n[False] += 1  # a record was lost
    talk.wire.close(talk.now + 1)
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    assert not all_of_it.read([], talk.now)
    assert all_of_it.losses["stream_not_followed"] == 1
    assert not len(all_of_it)


def test_what_was_asked_behind_a_gap_is_unanswered_only_if_answers_still_come() -> None:
    for answered in (False, True):
        talk = Talk()
        other = talk.ask()
        talk.wire.n[False] += 1
        talk.ask()
        if answered:
            talk.answer(other)
            talk.ask()
        talk.wire.close(talk.now + 1)
        all_of_it = streams()
        frames = talk.wire.frames()
        found = told([*all_of_it.read(frames, talk.now), *all_of_it.read([], talk.now)])
        assert [int(one.head["n"]) for one in found] == ([1, 5] if answered else [])
        assert all_of_it.losses["stream_not_followed"] == (1 if answered else 2)


def test_a_direction_that_cannot_be_followed_ends_what_can_be_told() -> None:
    talk = Talk()
    talk.ask()
    talk.wire.lose_sync(talk.now, request=False)
    talk.ask()
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    assert (len(all_of_it), all_of_it.losses["stream_not_followed"]) == (0, 2)


def test_of_a_block_that_is_cut_the_beginning_is_known() -> None:
    talk = Talk()
    talk.answer(talk.ask([*GET, ("x-filler", "x" * 500), ("traceparent", TRACEPARENT)]))
    frames = talk.wire.frames()
    large = frames[1] if frames[1].block.shape[1] == 1024 else frames[0]
    large.head["cap"], large.block[:, 60:] = 60, 0
    large.head["bits"] = int(large.head["bits"][0]) & ~ENDS | CUT
    [one] = told(streams().read(frames, talk.now))
    assert one.server["url.path"] == "/cart"
    assert one.spans.remote_parent[0] == 0
    assert one.head["flags"] & Flag.REQUEST_CUT


def test_a_request_without_a_method_is_counted() -> None:
    talk = Talk(validates=False)
    talk.answer(talk.ask(GET[1:]))
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    assert all_of_it.losses["no_method"] == 1


def test_no_field_brings_another_one_with_it() -> None:
    talk = Talk(validates=False)
    hostile = f"x\r\ntraceparent: {TRACEPARENT}"
    headers = [*GET[:2], (":path", f"/a {hostile}"), (":authority", hostile), ("user-agent", hostile)]
    talk.answer(talk.ask(headers))
    [one] = seen(talk)
    assert "url.path" not in one.server and "user_agent.original" not in one.server
    assert one.spans.remote_parent[0] == 0


# Bounds


def test_only_so_many_streams_of_a_connection_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "STREAMS_OF_ONE", 10)
    talk = Talk()
    opened = [talk.ask() for _ in range(15)]
    all_of_it = streams()
    all_of_it.read(talk.wire.frames(), talk.now)
    assert (len(all_of_it), all_of_it.losses["too_many_streams"]) == (10, 5)
    for stream in opened:
        talk.answer(stream)
    assert [one.head["n"] for one in told(all_of_it.read(talk.wire.frames(), talk.now))] == opened[5:]


@pytest.mark.parametrize(("bound", "most"), [("CONNECTIONS", 5), ("STREAMS", 5), ("TABLES", 500)])
def test_connections_that_were_silent_for_longest_make_room(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(streams_module, bound, most)
    all_of_it = streams()
    talks = [Talk(Wire(conn=conn)) for conn in range(1, 11)]
    for talk in talks:
        talk.ask()
        all_of_it.read(talk.wire.frames(), talk.now)
    assert len(all_of_it) <= 5
    assert all_of_it.losses["too_many_connections"] == all_of_it.losses["too_many_streams"] == 10 - len(all_of_it)
    # the newest is still known
    talks[-1].answer(1)
    [exchanges] = all_of_it.read(talks[-1].wire.frames(), talk.now)
    assert exchanges.head["conn"][0] == 10


def test_header_blocks_that_never_end_count_as_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "TABLES", 5000)
    all_of_it = streams()
    for conn in range(1, 11):
        wire = Wire(conn=conn)
        wire.record(HEADERS, 1, NOW, b"x" * 1000, REQUEST | BEGINS)
        all_of_it.read(wire.frames(), NOW)
    assert all_of_it.losses["too_many_connections"] == 5


def test_what_is_open_at_servers_is_told_by_process() -> None:
    all_of_it = streams()
    old, new, client = Talk(Wire(conn=1, tgid=1)), Talk(Wire(conn=2, tgid=1)), Talk(Wire(conn=3, server=False, tgid=2))
    new.now += 4 * 10**9
    for talk in (old, new, client):
        talk.ask()
        all_of_it.read(talk.wire.frames(), talk.now)
    none = (np.zeros(0, np.uint32), None)
    pids, since = all_of_it.open_since(none, new.now)
    assert pids.tolist() == [1]
    assert since is not None and since["t"].tolist() == [old.now] and since["recent"].tolist() == [new.now]
    # what the kernel says of other requests counts as well
    known = np.array([(old.now - 5, 2**64 - 1), (7, 7)], since.dtype)
    pids, since = all_of_it.open_since((np.array([1, 9], np.uint32), known), new.now)
    assert since is not None
    assert dict(zip(pids.tolist(), since["t"].tolist(), strict=True)) == {1: old.now - 5, 9: 7}
    for talk in (old, new):
        talk.answer(1)
        all_of_it.read(talk.wire.frames(), talk.now)
    assert all_of_it.open_since(none, new.now) == none


def test_what_is_being_answered_at_the_end_is_told() -> None:
    talk = Talk()
    first = talk.ask(CALL)
    talk.ask(CALL)
    talk.answer(first, GRPC_OK, b"some", end=False)
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    [one] = told(all_of_it.finish())
    assert "error.type" not in one.client and "rpc.status_code" not in one.client
    assert one.client["rpc.method"] == "shop.Cart/Add"


records = st.tuples(
    st.integers(0, 6),
    st.integers(0, 9),
    st.integers(0, 31),
    st.binary(max_size=40)
    | st.sampled_from([bytes.fromhex("828684410161"), bytes.fromhex("88"), bytes.fromhex("838684be")]),
    st.integers(0, 3),
)


@given(st.lists(st.lists(records, max_size=12), max_size=4))
def test_no_records_raise(reads: list[list[tuple[int, int, int, bytes, int]]]) -> None:
    wire = Wire()
    all_of_it = streams()
    batches: list[Exchanges] = []
    for said in reads:
        for kind, stream, bits, block, skip in said:
            wire.record(kind, stream, NOW, block, bits, bytes=len(block))
            wire.n[bool(bits & REQUEST)] += skip == 3
        batches += all_of_it.read(wire.frames(), NOW)
    batches += all_of_it.finish()
    shapes = Intern[Fields](1000)
    Engine(connections(1), shapes, Options()).parse_batches(batches, NOW)
    assert len(all_of_it) == 0


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=20))
def test_no_bytes_raise(said: list[tuple[bool, bytes]]) -> None:
    wire = Wire()
    all_of_it = streams()
    for by_client, data in said:
        (wire.sent_by_client if by_client else wire.sent_by_server)(data, NOW)
    all_of_it.read(wire.frames(), NOW)
    all_of_it.finish()
