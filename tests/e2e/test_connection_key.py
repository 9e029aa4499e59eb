"""The key of a TCP connection: the same at both ends, whatever happens to addresses on the way, and whenever it is
first seen; ends whose addresses do not fit find each other by it."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_ebpf.capture.live import CaptureSettings
from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, Seen, watching
from tests.e2e.peers import Gate, Process, answering, asking, connect, converse, listening, port_of, receive
from tests.hosts import SHIFT, TwoHosts, two_hosts

PORTS = range(20_000, 20_008)


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    """Two namespaces with a router that translates between them."""
    with two_hosts(PORTS) as made:
        yield made


def _keys(*seen: Seen) -> set[int]:
    return {int(one.connection["key"]) for one in seen}


def _assert_one_key(clients: list[Seen], servers: list[Seen]) -> None:
    keys = _keys(*clients, *servers)
    assert len(keys) == 1, [(hex(int(s.connection["key"])), str(s)) for s in clients + servers]
    assert 0 not in keys


def test_both_ends_have_one_key_and_every_connection_another(capture: Capture) -> None:
    talks = [converse(answering(3, b"answer"), asking(b"ask", 6, times=3)) for _ in range(8)]
    ends = [capture.ends(talk.port, 3) for talk in talks]
    for clients, servers in ends:
        _assert_one_key(clients, servers)
    assert len(set.union(*(_keys(*clients) for clients, _ in ends))) == len(talks)


def test_ipv6(capture: Capture) -> None:
    _assert_one_key(*capture.ends(converse(answering(3, b"answer"), asking(b"ask", 6), socket.AF_INET6).port, 1))


def _across(capture: Capture, hosts: TwoHosts, port: int, times: int, ends: int = 2) -> tuple[list[Seen], list[Seen]]:
    """A conversation through the router; the exchanges at both ends, those of the client's first."""
    ready = Gate()

    def serve() -> None:
        with socket.create_server((hosts.server.address, port)) as listener:
            ready.open()
            with listener.accept()[0] as accepted:
                answering(3, b"answer")(accepted)

    def ask() -> None:
        with socket.create_connection(hosts.door(port)) as connection:
            asking(b"ask", 6, times=times)(connection)

    first = Process(hosts.server.inside(serve))
    ready.wait()
    second = Process(hosts.client.inside(ask))
    second.end()
    first.end()
    found = capture.wait(lambda: [*capture.at(port), *capture.at(port + SHIFT)], ends * times)
    return [seen for seen in found if not seen.is_server], [seen for seen in found if seen.is_server]


def test_ends_behind_translated_addresses_find_each_other(capture: Capture, hosts: TwoHosts) -> None:
    times = 6
    clients, servers = _across(capture, hosts, PORTS[0], times)
    _assert_one_key(clients, servers)
    assert {int(seen.connection["remote_port"]) for seen in clients} == {PORTS[0] + SHIFT}
    assert {int(seen.connection["local_port"]) for seen in servers} == {PORTS[0]}
    assert clients[0].connection["local"].tobytes() != servers[0].connection["remote"].tobytes()
    assert [seen.seq_req for seen in clients] == [seen.seq_req for seen in servers]
    assert {int(seen.connection["peer"]) for seen in servers} == {clients[0].conn}
    # And as everywhere on one host, the server's records carry the payload of both.
    assert clients[-1].has(Flag.HEAD, Flag.PEER)


@contextmanager
def _talking(before: int, closing: bool = False) -> Iterator[tuple[int, Gate]]:
    """A connection over which `before` bytes went, both ways, and one more exchange when the gate opens."""
    with listening() as listener:
        go, there = Gate(), Gate()
        block = b"x" * (1 << 20)

        def serve() -> None:
            with listener.accept()[0] as accepted:
                left = before
                while left:
                    left -= len(accepted.recv(min(left, 1 << 20)))
                accepted.sendall(b"y" * min(before, 1 << 20))
                answering(3, b"answer")(accepted)

        def ask() -> None:
            with connect(listener) as client:
                left = before
                while left:
                    part = block[: min(left, len(block))]
                    client.sendall(part)
                    left -= len(part)
                receive(client, min(before, 1 << 20))
                there.open()
                go.wait()
                client.sendall(b"ask")
                if closing:
                    client.shutdown(socket.SHUT_WR)
                receive(client, 6)

        processes = Process(serve), Process(ask)
        there.wait()
        yield port_of(listener), go
        for process in reversed(processes):
            process.end()


@pytest.mark.parametrize("before", [1, 3_000_000, (1 << 32) + 12345])
@pytest.mark.parametrize("storage", [True, False])
def test_a_connection_that_was_there_before(before: int, storage: bool) -> None:
    """Also after more bytes than sequence numbers count to."""
    with _talking(before) as (port, go), watching(storage=storage, settings=CaptureSettings()) as capture:
        capture.begin()
        go.open()
        clients, servers = capture.ends(port)
        _assert_one_key(clients, servers)
        assert clients[0].has(Flag.MIDSTREAM)


@pytest.mark.parametrize("storage", [True, False])
def test_an_end_that_is_first_seen_when_the_other_has_shut_down(storage: bool) -> None:
    """The FIN has come by then: the client sends before the server reads."""
    with listening() as listener:
        go, sent, attached = Gate(), Gate(), Gate()

        def serve() -> None:
            with listener.accept()[0] as accepted:
                receive(accepted, 5)
                go.wait()
                assert receive(accepted, 3) == b"ask"
                accepted.sendall(b"answer")

        def ask() -> None:
            with connect(listener) as client:
                client.sendall(b"hello")
                attached.wait()
                client.sendall(b"ask")
                client.shutdown(socket.SHUT_WR)
                sent.open()
                assert receive(client, 6) == b"answer"

        processes = Process(serve), Process(ask)
        with watching(storage=storage) as capture:
            time.sleep(0.1)
            capture.begin()
            attached.open()
            sent.wait()
            time.sleep(0.05)
            go.open()
            clients, servers = capture.ends(port_of(listener))
            _assert_one_key(clients, servers)
        for process in processes:
            process.end()


@pytest.mark.parametrize("storage", [True, False])
def test_an_agent_that_is_confined_to_a_namespace_sees_its_end_only(hosts: TwoHosts, storage: bool) -> None:
    """And counts the other one as being on another host: nothing there is known, or joined."""
    settings = CaptureSettings(netns=hosts.server.path.stat().st_ino)
    with watching(storage=storage, settings=settings) as capture:
        capture.begin()
        found = _across(capture, hosts, PORTS[1], 3, ends=1)
    assert found[0] == []
    assert {int(seen.connection["peer"]) for seen in found[1]} == {0}
    assert 0 not in _keys(*found[1])
    assert all(not seen.has(Flag.PEER) for seen in found[1])


def test_a_request_in_the_first_packet(capture: Capture, hosts: TwoHosts) -> None:
    """TCP Fast Open (RFC 7413): from the second connection on, data comes with the SYN."""
    ready, port, times = Gate(), PORTS[2], 3

    def serve() -> None:
        Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("3")
        with socket.socket() as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
            listener.bind(("127.0.0.1", port))
            listener.listen()
            ready.open()
            for _ in range(times):
                with listener.accept()[0] as accepted:
                    answering(3, b"answer")(accepted)

    def ask() -> None:
        for _ in range(times):
            with socket.socket() as connection:
                connection.sendto(b"ask", socket.MSG_FASTOPEN, ("127.0.0.1", port))
                assert receive(connection, 6) == b"answer"

    first = Process(hosts.server.inside(serve))
    ready.wait()
    second = Process(hosts.server.inside(ask))
    second.end()
    first.end()
    found = capture.wait(lambda: capture.at(port), 2 * times)
    by_key = Counter(int(seen.connection["key"]) for seen in found)
    assert list(by_key.values()) == [2] * times, by_key
