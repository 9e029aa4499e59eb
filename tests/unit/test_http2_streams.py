"""Streams of HTTP/2 as exchanges: what real peers (the `h2` package) say, and what is told of it."""

from __future__ import annotations

import pytest
from h2.settings import SettingCodes

from otel_ebpf.model import STREAM, Flag
from tests.unit.http2_talk import CALL, GET, GRPC_OK, OK, POST, TRACEPARENT, Talk, seen, streams, told
from tests.unit.http2_wire import Wire


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


def test_who_handled_a_stream_that_was_given_up_is_known_of_a_server() -> None:
    for server, handler in ((True, 99), (False, 0)):
        talk = Talk(Wire(server=server))
        stream = talk.ask()
        talk.wire.tell = {"unit": 99}
        talk.client.reset_stream(stream, 8)
        talk.go()
        [one] = seen(talk)
        assert one.head["unit_rsp"] == handler


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
