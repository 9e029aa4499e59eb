"""Contexts in TCP options where there is less room, or other addresses: beside SACK blocks, over IPv6."""

from __future__ import annotations

import hashlib
import socket
import time

import pytest

from otel_ebpf.capture.propagation import refusal
from tests.agent import running_agent
from tests.e2e.peers import Process, receive
from tests.e2e.sniffing import sniffing
from tests.e2e.test_propagation import ANSWER, MTU, OPTION, SIZES, answer, ask, counted, observed, settings
from tests.hosts import SHIFT, TwoHosts, two_hosts
from tests.processes import program
from tests.sink import Sink

PORTS = range(20_050, 20_052)
SACK = 5
LOST, REST = b"LOST" * 25, b"rest" * 25
HEAD = b"GET /r/1 HTTP/1.1\r\nHost: there\r\n\r\n"
_CLIENT6, _SERVER6 = "fd71:1::2", "fd71:2::2"


@pytest.fixture(autouse=True, scope="module")
def possible_here() -> None:
    """What older kernels do instead, tests/vm shows."""
    assert not refusal(), refusal()


def _nft(hosts: TwoHosts, *commands: str) -> None:
    hosts.router.run(program("nft", "nftables"), "; ".join(commands))


def asks_amid_a_gap(hosts: TwoHosts) -> None:
    """Has read the beginning of an answer, misses a part, and asks again: its segments say what came (SACK)."""
    with socket.create_connection(hosts.door(PORTS[0]), timeout=30) as connection:
        connection.sendall(HEAD)
        length = len(LOST + REST)
        begin = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length
        assert receive(connection, len(begin)) == begin
        time.sleep(1.5)
        connection.sendall(HEAD)
        assert receive(connection, length) == LOST + REST
        assert receive(connection, len(ANSWER) + 64) == ANSWER + hashlib.sha256(HEAD).hexdigest().encode()


def answers_with_a_gap(hosts: TwoHosts) -> None:
    with socket.create_server((hosts.server.address, PORTS[0])) as listener:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert receive(connection, len(HEAD)) == HEAD
            for part in (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LOST + REST), LOST, REST):
                connection.sendall(part)
                time.sleep(0.3)
            request = receive(connection, len(HEAD))
            connection.sendall(ANSWER + hashlib.sha256(request).hexdigest().encode())


def test_beside_sack_blocks_there_is_no_room_and_the_segment_is_as_it_was(sink: Sink) -> None:
    """RFC 2018 §3: one block and timestamps take 24 of 40 bytes. The request goes without, and is counted."""
    with two_hosts(PORTS) as hosts, sniffing(hosts.router, "pa") as seen:
        # What begins so, behind a header of 32 bytes, does not pass.
        drop = f"ip saddr {hosts.server.address} @th,256,32 0x{LOST[:4].hex()} drop"
        chain = "{ type filter hook forward priority 0; }"
        _nft(hosts, "add table ip mid", f"add chain ip mid f {chain}", f"add rule ip mid f {drop}")
        with running_agent(sink.endpoint, *settings(hosts.client)) as agent:
            server = Process(hosts.server.inside(lambda: answers_with_a_gap(hosts)))
            time.sleep(0.3)
            client = Process(hosts.client.inside(lambda: asks_amid_a_gap(hosts)))
            time.sleep(3)
            _nft(hosts, "flush chain ip mid f")
            client.end()
            server.end()
            outcomes = counted(agent)
        segments = [s for s in seen() if s.target[1] == PORTS[0] + SHIFT and s.payload]
    assert [(OPTION in s.options, SACK in s.options, s.payload) for s in segments] == [
        (True, False, HEAD),
        (False, True, HEAD),
    ]
    assert (outcomes["written"], outcomes["no_room"]) == (1, 1)


def test_requests_over_ipv6_are_told_of_too(sink: Sink) -> None:
    with two_hosts(PORTS) as hosts:
        ip = program("ip", "iproute2")
        hosts.router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
        for host, own, device in ((hosts.client, _CLIENT6, "pa"), (hosts.server, _SERVER6, "pb")):
            gateway = own.removesuffix("2") + "1"
            hosts.router.run(ip, "addr", "add", f"{gateway}/64", "dev", device, "nodad")
            host.run(ip, "addr", "add", f"{own}/64", "dev", "eth0", "nodad")
            host.run(ip, "-6", "route", "add", "default", "via", gateway)
        with observed(hosts, sink.endpoint) as agents:

            def serve() -> None:
                with socket.create_server((_SERVER6, PORTS[1]), family=socket.AF_INET6) as listener:
                    answer(listener)

            server = Process(hosts.server.inside(serve))
            time.sleep(0.3)
            Process(hosts.client.inside(lambda: ask(_SERVER6, PORTS[1]))).end()
            server.end()
            fits = [size for size in SIZES if size <= MTU - 40 - 60]
            spans = sink.wait(lambda spans: len([s for s in spans if s.kind == "server"]) >= len(SIZES))
            outcomes = [counted(agent) for agent in agents]
    assert outcomes[0]["written"] == outcomes[1]["read"] == len(fits)
    joined = [s for s in spans if s.kind == "server" and s.get("otel_ebpf.link.method") == "tcp-option"]
    calls = {(s.trace, s.id) for s in spans if s.kind == "client"}
    assert len(joined) == len(fits)
    assert {(s.trace, s.parent) for s in joined} <= calls
