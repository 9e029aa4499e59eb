"""Births and deaths: of requests that get no answer, of connections, descriptors and processes."""

from __future__ import annotations

import os
import socket
import struct
import time

import pytest

from otel_ebpf.capture.live import CaptureSettings
from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, watching
from tests.e2e.peers import (
    Gate,
    Process,
    answering,
    asking,
    connect,
    converse,
    listening,
    pause,
    port_of,
    receive,
)

QUICK = 2000
"""Connections of one request in the storm."""


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_server_that_closes_instead_of_answering(capture: Capture) -> None:
    def ask(connection: socket.socket) -> None:
        connection.sendall(b"ask")
        assert connection.recv(1) == b""

    talk = converse(lambda server: receive(server, 3), ask)
    for end in capture.one(talk.port):
        assert end.has(Flag.UNANSWERED, Flag.LAST)
        assert not end.has(Flag.RESET)
        assert (end.request, end.rsp_bytes, end.t_rsp) == (b"ask", 0, 0)
        assert end.t_rsp_end > end.t_req_end


def test_a_request_without_an_answer_has_nothing_of_the_answer_before(capture: Capture) -> None:
    """That the bytes behind what is valid are zero, `Capture` looks at in all records."""

    def serve(connection: socket.socket) -> None:
        receive(connection, 3)
        connection.sendall(b"answer")
        receive(connection, 3)

    def ask(connection: socket.socket) -> None:
        asking(b"ask", 6)(connection)
        connection.sendall(b"two")
        assert connection.recv(1) == b""

    for _, last in capture.ends(converse(serve, ask).port, 2):
        assert last.has(Flag.UNANSWERED)
        assert (last.request, last.response) == (b"two", b"")


def test_a_server_that_resets_instead_of_answering(capture: Capture) -> None:
    def serve(connection: socket.socket) -> None:
        receive(connection, 3)
        _reset(connection)

    def ask(connection: socket.socket) -> None:
        connection.sendall(b"ask")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    client, _ = capture.one(converse(serve, ask).port)
    assert client.has(Flag.UNANSWERED, Flag.LAST, Flag.RESET)


def test_a_client_that_gives_up_has_its_own_duration(capture: Capture) -> None:
    """It closes after 0.1 s; the server answers, to nobody, after 0.5 s."""

    def serve(connection: socket.socket) -> None:
        receive(connection, 3)
        time.sleep(0.5)
        connection.sendall(b"late")

    def ask(connection: socket.socket) -> None:
        connection.sendall(b"ask")
        time.sleep(0.1)

    talk = converse(serve, ask)
    client, server = sorted(capture.wait(lambda: capture.at(talk.port), 2), key=lambda seen: seen.is_server)
    assert client.has(Flag.UNANSWERED, Flag.LAST)
    assert (server.response, client.pair) == (b"late", server.pair)
    assert client.t_req_end + 100_000_000 <= client.t_rsp_end < server.t_rsp


@pytest.mark.parametrize("storage", [True, False], ids=["storage", "hash"])
def test_a_request_without_an_answer_ends_after_the_timeout(storage: bool) -> None:
    with watching(storage, CaptureSettings(request_timeout_ns=300_000_000)) as capture, listening() as listener:
        gate = Gate()

        def serve() -> None:
            accepted, _ = listener.accept()
            receive(accepted, 3)
            gate.wait()

        def ask() -> None:
            with connect(listener) as client:
                client.sendall(b"ask")
                gate.wait()

        processes = Process(serve), Process(ask)
        client, server = capture.one(port_of(listener))
        gate.open()
        gate.open()
        for process in processes:
            process.end()
    for end in (client, server):
        assert end.has(Flag.UNANSWERED)
        assert not end.has(Flag.LAST)


def test_a_process_that_is_killed_in_mid_request(capture: Capture) -> None:
    with listening() as listener:
        got = Gate()

        def serve() -> None:
            accepted, _ = listener.accept()
            receive(accepted, 3)
            got.open()
            time.sleep(30)

        def ask() -> None:
            with connect(listener) as client:
                client.sendall(b"ask")
                assert client.recv(1) == b""

        server_process = Process(serve)
        client_process = Process(ask)
        got.wait()
        server_process.kill()
        client_process.end()
        client, server = capture.one(port_of(listener))
    assert (client.tgid, server.tgid) == (client_process.pid, server_process.pid)
    for end in (client, server):
        assert end.has(Flag.UNANSWERED, Flag.LAST)


def test_the_child_that_serves_an_accepted_connection_has_its_exchanges(capture: Capture) -> None:
    with listening() as listener:

        def serve() -> None:
            for _ in range(2):
                accepted, _ = listener.accept()
                receive(accepted, 2)  # the parent looks at the first bytes only
                Process(lambda: answering(1, b"answer")(accepted)).end()  # noqa: B023
                accepted.close()

        server = Process(serve)
        clients = [Process(lambda: _ask_once(listener)) for _ in range(2)]
        for process in (*clients, server):
            process.end()
        found = capture.wait(lambda: capture.at(port_of(listener)), 4)
    assert {seen.tgid for seen in found if not seen.is_server} == {process.pid for process in clients}
    servers = [seen for seen in found if seen.is_server]
    assert {seen.tgid for seen in servers} == {server.pid}
    # The response was written by the child: another unit of execution than the one that received the request.
    assert all(seen.tid_rsp != seen.tid_req for seen in servers)


def _ask_once(listener: socket.socket) -> None:
    with connect(listener) as client:
        asking(b"ask", 6)(client)


def test_a_connection_accepted_before_the_fork_belongs_to_who_serves_it(capture: Capture) -> None:
    with listening() as listener:
        told = Gate()

        def serve() -> None:
            accepted, _ = listener.accept()

            def child() -> None:
                answering(3, b"answer")(accepted)

            worker = Process(child)
            accepted.close()
            told.open(worker.pid)
            worker.end()

        server = Process(serve)
        client_process = Process(lambda: _ask_once(listener))
        worker = told.wait()
        client_process.end()
        server.end()
        client, served = capture.one(port_of(listener))
    assert (client.tgid, served.tgid) == (client_process.pid, worker)


def test_a_connection_passed_over_a_unix_socket_belongs_to_who_serves_it(capture: Capture) -> None:
    """SCM_RIGHTS (unix(7)), as servers with a listener process do it."""
    ours, theirs = socket.socketpair()
    with listening() as listener:

        def accept() -> None:
            accepted, _ = listener.accept()
            socket.send_fds(ours, [b"x"], [accepted.fileno()])

        def work() -> None:
            _, (descriptor,), _, _ = socket.recv_fds(theirs, 1, 1)
            with socket.socket(fileno=descriptor) as connection:
                answering(3, b"answer")(connection)

        worker, acceptor = Process(work), Process(accept)
        client_process = Process(lambda: _ask_once(listener))
        ours.close()
        theirs.close()
        for process in (acceptor, client_process, worker):
            process.end()
        client, server = capture.one(port_of(listener))
    assert (client.tgid, server.tgid) == (client_process.pid, worker.pid)
    assert server.request == b"ask"


def test_one_descriptor_number_used_again_and_again(capture: Capture) -> None:
    """Each connection has the number of the one before; every answer tells which request it belongs to."""
    with listening() as listener:

        def serve() -> None:
            for _ in range(300):
                accepted, _ = listener.accept()
                with accepted:
                    accepted.sendall(b"to " + receive(accepted, 4))

        def ask() -> None:
            for n in range(300):
                with connect(listener) as client:
                    client.sendall(b"%04d" % n)
                    assert receive(client, 7) == b"to %04d" % n

        processes = Process(serve), Process(ask)
        for process in processes:
            process.end()
        clients, servers = capture.ends(port_of(listener), 300)
    assert [server.request for server in servers] == [b"%04d" % n for n in range(300)]
    assert all(seen.response == b"to " + seen.request for seen in clients + servers)
    assert len({seen.conn for seen in clients + servers}) == 600


def test_a_storm_of_short_connections_and_processes(capture: Capture) -> None:
    """No exchange is lost, and none given to the wrong process: each client tells its own pid."""
    before = capture.source.losses()
    with listening() as listener:
        batches = 40

        def serve() -> None:
            for _ in range(QUICK):
                accepted, _ = listener.accept()
                with accepted:
                    accepted.sendall(receive(accepted, 10))

        def ask() -> None:
            for _ in range(QUICK // batches):
                with connect(listener) as client:
                    client.sendall(b"%010d" % os.getpid())
                    receive(client, 10)

        server = Process(serve)
        clients = []
        for _ in range(batches):
            clients.append(Process(ask))
            if len(clients) % 4 == 0:
                capture.poll()
        for process in (*clients, server):
            process.end()
        asked, served = capture.ends(port_of(listener), QUICK)
    assert capture.source.losses() == before
    assert all(int(seen.request) == seen.tgid for seen in asked)
    assert {seen.tgid for seen in asked} == {process.pid for process in clients}
    assert {seen.tgid for seen in served} == {server.pid}


def test_a_connection_older_than_the_capture_is_followed_from_its_next_message_on() -> None:
    for storage in (True, False):
        with listening() as listener:
            go, gone = Gate(), Gate()

            def ask(listener: socket.socket = listener, go: Gate = go, gone: Gate = gone) -> None:
                with connect(listener) as client:
                    asking(b"before", 6)(client)
                    gone.open()
                    go.wait()
                    asking(b"after!", 6, times=2)(client)

            def serve(listener: socket.socket = listener) -> None:
                accepted, _ = listener.accept()
                answering(6, b"answer")(accepted)

            processes = Process(serve), Process(ask)
            gone.wait()
            with watching(storage) as capture:
                go.open()
                for process in processes:
                    process.end()
                clients, servers = capture.ends(port_of(listener), 2)
        for end in clients + servers:
            assert end.has(Flag.MIDSTREAM)
            assert (end.request, end.response) == (b"after!", b"answer")


def test_a_new_connection_is_not_taken_for_an_old_one(capture: Capture) -> None:
    for serve, ask in (
        (answering(3, b"answer"), asking(b"ask", 6)),
        # A server that greets first, as databases do.
        (lambda server: (server.sendall(b"hi"), answering(3, b"answer")(server)), _after_greeting),
    ):
        for end in capture.one(converse(serve, ask).port):
            assert not end.has(Flag.MIDSTREAM)


def _after_greeting(client: socket.socket) -> None:
    receive(client, 2)
    asking(b"ask", 6)(client)


def test_an_idle_connection_tells_its_exchange_before_it_goes_on(capture: Capture) -> None:
    with listening() as listener:
        gate = Gate()

        def ask() -> None:
            with connect(listener) as client:
                asking(b"ask", 6)(client)
                gate.wait()
                asking(b"ask", 6)(client)

        def serve() -> None:
            accepted, _ = listener.accept()
            answering(3, b"answer")(accepted)

        processes = Process(serve), Process(ask)
        for end in capture.one(port_of(listener)):
            assert end.has(Flag.PARTIAL)
        gate.open()
        for process in processes:
            process.end()
        capture.ends(port_of(listener), 2)


def test_the_observers_own_traffic_is_absent_at_both_ends(capture: Capture) -> None:
    with listening() as listener:
        server = Process(lambda: answering(3, b"answer")(listener.accept()[0]))
        with connect(listener) as own:
            for _ in range(6):
                asking(b"ask", 6)(own)
        server.end()
        pause()
        capture.poll()
        assert capture.at(port_of(listener)) == []
