"""Which response belongs to which request: turns, pipelines, early answers, interim responses, half-closed streams."""

from __future__ import annotations

import socket
import time
from itertools import pairwise

import pytest

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture
from tests.e2e.peers import answering, asking, converse, pause, receive
from tests.e2e.readings import said

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
WARM_UP = 4
"""Exchanges after which the client's end leaves the payload to the server's (bpf/include/peer.h)."""


def test_a_kept_connection_is_an_exchange_for_each_request(capture: Capture) -> None:
    talk = converse(answering(6, b"answer"), asking(b"asking", 6, times=50))
    clients, servers = capture.ends(talk.port, 50)
    assert [server.n for server in servers] == list(range(50))
    assert {server.conn for server in servers} == {servers[0].conn}
    assert {(seen.req_bytes, seen.rsp_bytes) for seen in clients + servers} == {(6, 6)}
    assert all(before.t_rsp_end <= after.t_req for before, after in pairwise(servers))


def test_a_request_byte_by_byte_after_another_with_a_body_is_one_exchange(capture: Capture) -> None:
    post = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    get = GET % 7

    def ask(connection: socket.socket) -> None:
        for _ in range(WARM_UP):
            connection.sendall(post)
            receive(connection, len(OK))
            for byte in get:
                connection.send(bytes([byte]))
            receive(connection, len(OK))

    def serve(connection: socket.socket) -> None:
        for _ in range(WARM_UP):
            receive(connection, len(post))
            connection.sendall(OK)
            receive(connection, len(get))
            connection.sendall(OK)

    clients, servers = capture.ends(converse(serve, ask).port, 2 * WARM_UP)
    assert [seen.req_bytes for seen in servers] == [len(post), len(get)] * WARM_UP
    assert [seen.request for seen in clients] == [post, get] * WARM_UP


def test_an_early_answer_does_not_cut_the_request_in_two(capture: Capture) -> None:
    """RFC 9110 §10.1.1: a server may answer, 413 for instance, before the body has come, and read it nevertheless."""
    head = b"POST / HTTP/1.1\r\nContent-Length: 20000\r\n\r\n"
    refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"

    def ask(connection: socket.socket) -> None:
        for _ in range(WARM_UP + 2):
            connection.sendall(head + b"x" * 1000)
            receive(connection, len(refused))
            connection.sendall(b"y" * 18_995)
            connection.sendall(b"tail\n")

    def serve(connection: socket.socket) -> None:
        for _ in range(WARM_UP + 2):
            receive(connection, len(head) + 1000)
            connection.sendall(refused)
            receive(connection, 19_000)

    clients, servers = capture.ends(converse(serve, ask).port, WARM_UP + 2)
    for end in clients + servers:
        assert (end.req_bytes, end.rsp_bytes) == (len(head) + 20_000, len(refused))
        assert end.response.startswith(b"HTTP/1.1 413")
    assert clients[-1].has(Flag.HEAD)


def test_continue_is_no_answer(capture: Capture) -> None:
    """RFC 9110 §15.2.1, and that the duration is the whole request's, at an end without payload too."""
    head = b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    def ask(connection: socket.socket) -> None:
        for _ in range(WARM_UP + 2):
            connection.sendall(head)
            receive(connection, len(CONTINUE))
            connection.sendall(b"hello")
            receive(connection, len(OK))

    def serve(connection: socket.socket) -> None:
        for _ in range(WARM_UP + 2):
            receive(connection, len(head))
            connection.sendall(CONTINUE)
            receive(connection, 5)
            connection.sendall(OK)

    clients, servers = capture.ends(converse(serve, ask).port, WARM_UP + 2)
    for end in clients + servers:
        assert (end.req_bytes, end.rsp_bytes) == (len(head) + 5, len(OK))
        assert end.response == OK
        assert end.t_req <= end.t_req_end <= end.t_rsp <= end.t_rsp_end
    assert clients[-1].has(Flag.HEAD)


def test_continue_and_the_answer_in_one_message(capture: Capture) -> None:
    request = b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"

    def serve(connection: socket.socket) -> None:
        while receive(connection, len(request)):
            connection.sendall(CONTINUE)
            time.sleep(0.01)
            connection.sendall(OK)
            time.sleep(0.05)

    def ask(connection: socket.socket) -> None:
        for _ in range(WARM_UP + 1):
            connection.sendall(request)
            time.sleep(0.04)
            receive(connection, len(CONTINUE) + len(OK))

    clients, servers = capture.ends(converse(serve, ask).port, WARM_UP + 1)
    for end in clients + servers:
        assert (end.req_bytes, end.rsp_bytes) == (len(request), len(OK))
        assert end.response == OK
        assert not end.has(Flag.UNANSWERED)


def test_a_response_that_ends_with_the_connection(capture: Capture) -> None:
    request, response = b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000

    def serve(connection: socket.socket) -> None:
        receive(connection, len(request))
        connection.sendall(response[:100])
        time.sleep(0.05)
        connection.sendall(response[100:])

    client, server = capture.one(converse(serve, asking(request, len(response))).port)
    for end in (client, server):
        assert (end.rsp_bytes, end.has(Flag.LAST)) == (len(response), True)
        assert end.t_rsp_end - end.t_rsp > 40_000_000


def test_the_client_may_shut_its_direction_down_before_the_answer(capture: Capture) -> None:
    def serve(connection: socket.socket) -> None:
        assert receive(connection, 100) == b"all of it"
        time.sleep(0.05)
        connection.sendall(b"answer")

    def ask(connection: socket.socket) -> None:
        connection.sendall(b"all of it")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 100) == b"answer"

    client, server = capture.one(converse(serve, ask).port)
    for end in (client, server):
        assert (end.request, end.response) == (b"all of it", b"answer")
        assert not end.has(Flag.UNANSWERED)


def test_an_answer_that_pauses_is_amended_and_the_same_exchange(capture: Capture) -> None:
    def serve(connection: socket.socket) -> None:
        receive(connection, 3)
        for piece in (b"one ", b"two ", b"three"):
            connection.sendall(piece)
            pause()

    client, server = capture.one(converse(serve, asking(b"ask", 13)).port)
    for end in (client, server):
        assert end.rsp_bytes == 13
        assert end.t_rsp_end - end.t_rsp > 600_000_000


def test_requests_in_one_write_are_a_span_each(capture: Capture) -> None:
    batch = b"".join(GET % n for n in range(5))

    def serve(connection: socket.socket) -> None:
        receive(connection, len(batch))
        connection.sendall(OK * 5)

    _, server = capture.one(converse(serve, asking(batch, len(OK) * 5)).port)
    assert [texts[0] for _, *texts in said(capture, server)] == [f"/{n}" for n in range(5)]


def test_redis_commands_in_one_write_are_a_span_each(capture: Capture) -> None:
    commands = [b"*2\r\n$3\r\nGET\r\n$2\r\nk%d\r\n" % n for n in range(9)]
    replies = b"".join(b"$2\r\nv%d\r\n" % n for n in range(9))

    def serve(connection: socket.socket) -> None:
        for _ in range(WARM_UP):
            receive(connection, sum(map(len, commands)))
            connection.sendall(replies)

    talk = converse(serve, asking(b"".join(commands), len(replies), times=WARM_UP))
    _, servers = capture.ends(talk.port, WARM_UP)
    assert [texts[0] for _, *texts in said(capture, servers[0])] == [f"GET k{n}" for n in range(9)] * WARM_UP


def test_redis_answers_that_come_between_later_commands_are_paired_in_order(capture: Capture) -> None:
    """Asynchronous pipelining: A B → a, C → b c, D → d."""

    def command(n: int) -> bytes:
        return b"*3\r\n$3\r\nSET\r\n$2\r\nk%d\r\n$1\r\nv\r\n" % n

    size, reply = len(command(0)), b"+OK\r\n"

    def serve(connection: socket.socket) -> None:
        for took, gave in ((2, 1), (1, 2), (1, 1)):
            receive(connection, took * size)
            connection.sendall(reply * gave)

    def ask(connection: socket.socket) -> None:
        connection.sendall(command(0) + command(1))
        receive(connection, len(reply))
        connection.sendall(command(2))
        receive(connection, 2 * len(reply))
        connection.sendall(command(3))
        receive(connection, len(reply))

    _, servers = capture.ends(converse(serve, ask).port, 3)
    assert [texts[0] for _, *texts in said(capture, servers[0])] == [f"SET k{n} v" for n in range(4)]


def test_a_mysql_packet_whose_header_looks_like_tls_is_none(capture: Capture) -> None:
    """788 bytes: 14 03 00 00, the beginning of a record of type 20 and version 3.0."""
    packet = (788).to_bytes(3, "little") + b"\0\x03" + b"select 1 ".ljust(787)
    talk = converse(answering(len(packet), b"\1\0\0\1\0"), asking(packet, 5, times=3))
    _, servers = capture.ends(talk.port, 3)
    assert all(server.request == packet[: len(server.request)] for server in servers)


@pytest.mark.parametrize("pieces", [(9,), (4, 5), ()], ids=["whole", "length first", "with what follows"])
def test_the_end_of_a_statement_is_no_request(capture: Capture, pieces: tuple[int, ...]) -> None:
    """MySQL answers no COM_STMT_CLOSE: what is asked next on the connection begins when it is asked."""
    greeting, close, ask, answer = b"greeting", b"\5\0\0\0\x19\1\0\0\0", b"\4\0\0\0\x03one", b"answer"

    def serve(connection: socket.socket) -> None:
        connection.sendall(greeting)
        for _ in range(WARM_UP + 2):
            for piece in pieces:
                receive(connection, piece)
            receive(connection, len(ask if pieces else close + ask))
            connection.sendall(answer)

    def call(connection: socket.socket) -> None:
        receive(connection, len(greeting))
        for _ in range(WARM_UP + 2):
            connection.sendall(close if pieces else close + ask)
            if pieces:
                time.sleep(0.02)
                connection.sendall(ask)
            receive(connection, len(answer))

    talk = converse(serve, call)
    clients, servers = capture.ends(talk.port, WARM_UP + 2)
    assert clients[-1].has(Flag.HEAD)
    for end in clients + servers:
        assert (end.request, end.response) == (ask, answer)
        assert end.req_bytes == len(ask)
        assert not end.has(Flag.UNANSWERED)
    for client, server in zip(clients, servers, strict=True):
        assert client.seq_req == server.seq_req
