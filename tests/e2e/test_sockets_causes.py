"""Which request a thread was working for when it sent another: the evidence that each exchange carries."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from multiprocessing import Event
from pathlib import Path

import pytest

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, Seen
from tests.e2e.peers import Process, answering, asking, connect, listening, port_of, receive

Work = Callable[[socket.socket, Callable[[], object]], None]


def _serve_and_call(capture: Capture, work: Work, calls: int) -> tuple[Seen, list[Seen]]:
    """A server that does `work(connection, call)`; its own exchange, and those that it sent to a backend meanwhile."""
    with listening() as front, listening() as back:

        def backend() -> None:
            answering(3, b"answer")(back.accept()[0])

        def serve() -> None:
            with connect(back) as upstream:
                accepted, _ = front.accept()
                with accepted:
                    work(accepted, lambda: asking(b"ask", 6)(upstream))

        processes = Process(backend), Process(serve)
        client = Process(lambda: _ask(front))
        for process in (client, *reversed(processes)):
            process.end()
        _, (request,) = capture.ends(port_of(front))
        sent, _ = capture.ends(port_of(back), calls)
    return request, sent


def _ask(front: socket.socket) -> None:
    with connect(front) as client:
        client.sendall(b"request")
        while client.recv(100):
            pass


def test_what_a_thread_sends_before_it_answers_names_the_request(capture: Capture) -> None:
    def work(connection: socket.socket, call: Callable[[], object]) -> None:
        receive(connection, 7)
        call()
        call()
        connection.sendall(b"response")

    request, calls = _serve_and_call(capture, work, 2)
    for call in calls:
        assert call.cause == request.span_id
        assert not call.flag & (Flag.ANSWERING | Flag.MANY | Flag.DISTURBED)


def test_what_it_sends_while_it_streams_the_response_names_it_too_and_says_so(capture: Capture) -> None:
    def work(connection: socket.socket, call: Callable[[], object]) -> None:
        receive(connection, 7)
        connection.sendall(b"first part")
        call()
        connection.sendall(b"second part")

    request, (call,) = _serve_and_call(capture, work, 1)
    assert call.cause == request.span_id
    assert call.has(Flag.ANSWERING)
    assert request.t_rsp < call.t_req < call.t_rsp_end < request.t_rsp_end


def test_what_it_sends_before_any_request_has_no_cause(capture: Capture) -> None:
    def work(connection: socket.socket, call: Callable[[], object]) -> None:
        call()
        receive(connection, 7)
        connection.sendall(b"response")

    _, (call,) = _serve_and_call(capture, work, 1)
    assert call.cause == 0


def test_an_interim_response_leaves_the_request_open(capture: Capture) -> None:
    """RFC 9110 §10.1.1: who is told to go on has no answer yet, and who told it not answered."""

    def work(connection: socket.socket, call: Callable[[], object]) -> None:
        receive(connection, 7)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        call()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    request, (call,) = _serve_and_call(capture, work, 1)
    assert call.cause == request.span_id
    assert not call.flag & (Flag.ANSWERING | Flag.MANY)


def test_a_new_request_ends_what_the_answered_one_stood_for(capture: Capture) -> None:
    with listening() as front, listening() as back:

        def serve() -> None:
            with connect(back) as upstream:
                first, second = front.accept()[0], front.accept()[0]
                receive(first, 7)
                first.sendall(b"begins ...")
                receive(second, 7)
                asking(b"ask", 6)(upstream)
                second.sendall(b"response")
                first.close()
                second.close()

        def ask() -> None:
            with connect(front) as first, connect(front) as second:
                for connection in (first, second):
                    connection.sendall(b"request")
                for connection in (second, first):
                    while connection.recv(100):
                        pass

        processes = Process(lambda: answering(3, b"answer")(back.accept()[0])), Process(serve), Process(ask)
        for process in reversed(processes):
            process.end()
        _, requests = capture.ends(port_of(front), 2)
        (call,), _ = capture.ends(port_of(back))
    assert call.cause == requests[1].span_id
    assert not call.has(Flag.ANSWERING)


def test_a_request_that_its_client_gave_up_is_open_no_longer(capture: Capture) -> None:
    with listening() as front, listening() as back:

        def serve() -> None:
            with connect(back) as upstream:
                given_up, _ = front.accept()
                while given_up.recv(100):
                    pass
                given_up.close()
                accepted, _ = front.accept()
                with accepted:
                    receive(accepted, 7)
                    asking(b"ask", 6)(upstream)
                    accepted.sendall(b"response")

        def ask() -> None:
            with connect(front) as client:
                client.sendall(b"goodbye")
            _ask(front)

        processes = Process(lambda: answering(3, b"answer")(back.accept()[0])), Process(serve), Process(ask)
        for process in reversed(processes):
            process.end()
        _, requests = capture.ends(port_of(front), 2)
        (call,), _ = capture.ends(port_of(back))
    assert call.cause == requests[1].span_id
    assert not call.has(Flag.MANY)


def test_so_is_it_over_a_unix_socket_once_the_answer_finds_nobody(capture: Capture, tmp_path: Path) -> None:
    path, taken, gone = str(tmp_path / "socket"), Event(), Event()
    with socket.socket(socket.AF_UNIX) as front, listening() as back:
        front.bind(path)
        front.listen()

        def serve() -> None:
            with connect(back) as upstream:
                given_up, _ = front.accept()
                receive(given_up, 7)
                taken.set()
                gone.wait(30)
                with pytest.raises(BrokenPipeError):
                    given_up.sendall(b"late")
                given_up.close()
                accepted, _ = front.accept()
                with accepted:
                    receive(accepted, 7)
                    asking(b"ask", 6)(upstream)
                    accepted.sendall(b"response")

        def ask() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"goodbye")
                taken.wait(30)
            gone.set()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"request")
                receive(client, 8)

        server = Process(serve)
        processes = Process(lambda: answering(3, b"answer")(back.accept()[0])), server, Process(ask)
        for process in reversed(processes):
            process.end()
        (call,), _ = capture.ends(port_of(back))
        requests = [one for one in capture.of(server.pid) if one.is_server]
    assert call.cause == requests[-1].span_id
    assert not call.has(Flag.MANY)


def test_a_word_from_a_relative_over_a_socketpair_is_no_open_request(capture: Capture) -> None:
    """As nginx's master tells its workers of each other."""
    ours, theirs = socket.socketpair()

    def work(connection: socket.socket, call: Callable[[], object]) -> None:
        theirs.recv(100)
        receive(connection, 7)
        call()
        connection.sendall(b"response")

    ours.sendall(b"another worker")
    request, (call,) = _serve_and_call(capture, work, 1)
    ours.close()
    theirs.close()
    assert call.cause == request.span_id
    assert not call.has(Flag.MANY)


def test_a_client_that_waited_by_epoll_until_it_was_connected_is_no_event_loop(capture: Capture) -> None:
    """As psycopg does: it logs in by epoll, and blocks from then on."""
    with listening() as back:

        def serve() -> None:
            answering(3, b"answer")(back.accept()[0])

        def ask() -> None:
            with connect(back) as upstream:
                with select.epoll() as waiting:
                    waiting.register(upstream, select.EPOLLIN)
                    asking(b"ask", 6, times=2)(upstream)
                asking(b"ask", 6, times=6)(upstream)

        client, server = Process(ask), Process(serve)
        client.end()
        server.end()
        calls, _ = capture.ends(port_of(back), 8)
    looping = [call.has(Flag.EPOLL) for call in sorted(calls, key=lambda call: call.t_req)]
    assert looping[:2] == [True, True]
    assert not any(looping[4:])
