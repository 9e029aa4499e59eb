"""Families and transports: IPv4, IPv6, both mixed, unix stream sockets, DNS over UDP."""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, Seen
from tests.e2e.peers import Gate, Process, Side, answering, asking, connect, converse, listening, pause, receive
from tests.processes import scratch

LOOPBACK = bytes(10) + b"\xff\xff\x7f\0\0\1"
LOOPBACK_6 = bytes(15) + b"\1"
PR_SET_NAME = 15
"""linux/prctl.h"""


def _addresses(end: Seen) -> tuple[bytes, bytes]:
    return end.connection["local"].tobytes(), end.connection["remote"].tobytes()


@pytest.mark.parametrize(
    ("listen", "target", "address"),
    [
        ((socket.AF_INET, ("127.0.0.1", 0)), "127.0.0.1", LOOPBACK),
        ((socket.AF_INET6, ("::1", 0)), "::1", LOOPBACK_6),
        ((socket.AF_INET6, ("::", 0)), "::1", LOOPBACK_6),
        ((socket.AF_INET6, ("::", 0)), "127.0.0.1", LOOPBACK),
        ((socket.AF_INET6, ("::", 0)), "::ffff:127.0.0.1", LOOPBACK),
    ],
    ids=["IPv4", "IPv6", "IPv6 to any", "IPv4 to a dual-stack listener", "IPv4-mapped to a dual-stack listener"],
)
def test_both_ends_of_a_connection_find_each_other(
    capture: Capture, listen: tuple[int, object], target: str, address: bytes
) -> None:
    talk = converse(answering(3, b"answer"), asking(b"ask", 6, times=5), *listen, target=target)
    clients, servers = capture.ends(talk.port, 5)
    for end in (clients[0], servers[0]):
        assert _addresses(end) == (address, address)
    assert clients[0].connection["local_port"] == servers[0].connection["remote_port"]
    assert all(end.has(Flag.PEER) for end in clients[1:] + servers)


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as path:
        yield path


def _unix_ends(capture: Capture, client: int, server: int, count: int = 1) -> tuple[list[Seen], list[Seen]]:
    found = capture.wait(lambda: capture.of(client, server), 2 * count)
    clients = [seen for seen in found if not seen.is_server]
    servers = [seen for seen in found if seen.is_server]
    assert ({seen.tgid for seen in clients}, {seen.tgid for seen in servers}) == ({client}, {server})
    assert len(clients) == count
    assert {seen.pair for seen in clients + servers} == {clients[0].pair}
    assert servers[0].connection["peer"] == clients[0].connection["id"]
    return clients, servers


def _greeted(client: socket.socket) -> None:
    receive(client, 5)
    asking(b"ask", 6, times=2)(client)


def _greeting(server: socket.socket) -> None:
    server.sendall(b"hello")
    answering(3, b"answer")(server)


def _leaving(client: socket.socket) -> None:
    """Closes without having read the end of the stream, as most clients do."""
    asking(b"ask", 6, times=2)(client)


@pytest.mark.parametrize(
    ("serve", "ask"),
    [(answering(3, b"answer"), _leaving), (_greeting, _greeted)],
    ids=["client speaks first", "server speaks first"],
)
def test_a_named_unix_socket(capture: Capture, folder: Path, serve: Side, ask: Side) -> None:
    talk = converse(serve, ask, socket.AF_UNIX, str(folder / "s"))
    clients, servers = _unix_ends(capture, talk.client, talk.server, 2)
    for end in clients + servers:
        assert (end.request, end.response) == (b"ask", b"answer")
        assert end.connection["family"] == socket.AF_UNIX
        assert end.t_req <= end.t_rsp <= end.t_rsp_end


def test_a_pair_of_unix_sockets_whose_client_is_who_speaks_first(capture: Capture) -> None:
    left, right = socket.socketpair()

    def serve() -> None:
        left.close()
        answering(3, b"answer")(right)

    def ask() -> None:
        right.close()
        asking(b"ask", 6, times=3)(left)

    server, client = Process(serve), Process(ask)
    left.close()
    right.close()
    client.end()
    server.end()
    _unix_ends(capture, client.pid, server.pid, 3)


def test_a_long_answer_over_a_unix_socket_is_one(capture: Capture, folder: Path) -> None:
    def serve(connection: socket.socket) -> None:
        receive(connection, 3)
        for _ in range(50):
            connection.sendall(b"x" * 1000)

    def ask(connection: socket.socket) -> None:
        connection.sendall(b"ask")
        assert len(receive(connection, 100_000)) == 50_000

    talk = converse(serve, ask, socket.AF_UNIX, str(folder / "s"))
    (client,), (server,) = _unix_ends(capture, talk.client, talk.server)
    assert (client.rsp_bytes, server.rsp_bytes) == (50_000, 50_000)


def test_a_unix_client_that_shuts_its_direction_down_is_answered(capture: Capture, folder: Path) -> None:
    def serve(connection: socket.socket) -> None:
        assert receive(connection, 100) == b"all of it"
        connection.sendall(b"answer")

    def ask(connection: socket.socket) -> None:
        connection.sendall(b"all of it")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 100) == b"answer"

    talk = converse(serve, ask, socket.AF_UNIX, str(folder / "s"))
    for (end,) in _unix_ends(capture, talk.client, talk.server):
        assert (end.request, end.response) == (b"all of it", b"answer")
        assert not end.has(Flag.UNANSWERED)


def test_a_unix_server_that_is_killed_leaves_its_client_unanswered(capture: Capture, folder: Path) -> None:
    with listening(socket.AF_UNIX, str(folder / "s")) as listener:
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

        server, client = Process(serve), Process(ask)
        got.wait()
        server.kill()
        client.end()
    for (end,) in _unix_ends(capture, client.pid, server.pid):
        assert end.has(Flag.UNANSWERED, Flag.LAST)


def test_a_unix_connection_older_than_the_capture_has_the_right_roles(folder: Path, capture: Capture) -> None:
    """Nothing tells of a unix connection's birth: to the capture all are as old as their first message."""
    with listening(socket.AF_UNIX, str(folder / "s")) as listener:
        accepted_it, go = Gate(), Gate()

        def serve() -> None:
            accepted, _ = listener.accept()
            accepted_it.open()
            go.wait()
            _greeting(accepted)

        server, client = Process(serve), Process(lambda: _greeted(connect(listener)))
        accepted_it.wait()
        pause()
        go.open()
        client.end()
        server.end()
    _unix_ends(capture, client.pid, server.pid, 2)


def _question(number: int, kind: int) -> bytes:
    return number.to_bytes(2, "big") + b"\1\0\0\1" + bytes(6) + b"\3www\4test\0" + kind.to_bytes(2, "big") + b"\0\1"


def _answer(question: bytes) -> bytes:
    return question[:2] + b"\x81\x80" + question[4:]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_size_t),
        ("vectors", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
        ("rest", ctypes.c_size_t * 4),
    ]


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


def test_two_questions_in_one_sendmmsg_are_two_exchanges(capture: Capture) -> None:
    """As glibc asks for A and AAAA; answered in the other order."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        def serve() -> None:
            asked = [listener.recvfrom(512) for _ in range(2)]
            for question, client in reversed(asked):
                listener.sendto(_answer(question), client)

        def ask() -> None:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.connect(("127.0.0.1", port))
            questions = [_question(7, 1), _question(8, 28)]
            headers = (_Mmsghdr * 2)()
            vectors = [_Vector(question, len(question)) for question in questions]
            for header, vector in zip(headers, vectors, strict=True):
                header.vectors, header.count = ctypes.addressof(vector), 1
            assert ctypes.CDLL(None).sendmmsg(client.fileno(), headers, 2, 0) == 2
            assert {client.recv(512)[1:2] for _ in questions} == {b"\7", b"\x08"}

        server, client = Process(serve), Process(ask)
        client.end()
        server.end()
    found = capture.wait(lambda: capture.of(client.pid, server.pid), 4)
    for tgid in (client.pid, server.pid):
        ends = [seen for seen in found if seen.tgid == tgid]
        assert sorted(end.request for end in ends) == [_question(7, 1), _question(8, 28)]
        assert all(end.response == _answer(end.request) for end in ends)
        assert all(end.is_server == (tgid == server.pid) for end in ends)


def test_a_question_without_an_answer(capture: Capture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))

        def ask() -> None:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.sendto(_question(9, 1), silent.getsockname())

        client = Process(ask)
        client.end()
    (question,) = capture.wait(lambda: capture.of(client.pid), 1)
    assert question.has(Flag.UNANSWERED)
    assert question.request == _question(9, 1)


def test_a_thread_is_told_by_the_name_of_its_process(capture: Capture) -> None:
    def serve(connection: socket.socket) -> None:
        def work() -> None:
            assert ctypes.CDLL(None).prctl(PR_SET_NAME, b"a-thread") == 0
            answering(3, b"answer")(connection)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    _, server = capture.one(converse(serve, asking(b"ask", 6)).port)
    assert server.connection["comm"].tobytes().rstrip(b"\0") == Path("/proc/self/comm").read_bytes().rstrip()
