"""Contexts in TCP options (`propagation: tcp-option`): traces across hosts without a gateway, and what is on the wire.

Two hosts with address translation between them, as in test_hosts.py, each with an agent that knows of nothing beyond:

    driver → shop | router | → stock | router | → ledger, on the host of the shop
"""

from __future__ import annotations

import hashlib
import http.client
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from otel_ebpf.capture.propagation import refusal
from tests.agent import Agent, running_agent
from tests.e2e.peers import Process, at_once, receive
from tests.e2e.relays import by_request, chain
from tests.e2e.sniffing import Segment, sniffing
from tests.hosts import SHIFT, Host, TwoHosts, two_hosts
from tests.processes import program
from tests.sink import Sink
from tests.spans import SeenSpan

PORTS = range(20_020, 20_024)
OPTION = 253
TOLD = b"OT"
PASS_ROUNDS = 20
REQUESTS = 25
CLIENTS = 8
_SYN = 2
MTU = 1500
SIZES = (80, 600, 1387, 1415, 1419, 1420, 1421, 1447, 1448, 1449, 2000, 64_000)
"""Of whole requests; 1,448 is a full segment with timestamps, 1,420 one with the option."""


@pytest.fixture(autouse=True, scope="module")
def possible_here() -> None:
    """What older kernels do instead, tests/vm shows."""
    assert not refusal(), refusal()


def settings(host: Host, *more: str) -> list[str]:
    told = ("propagation=tcp-option", "traces.completion=off", f"filter.network_namespace={host.path}", *more)
    return [word for setting in told for word in ("--set", setting)]


@contextmanager
def observed(hosts: TwoHosts, endpoint: str, *more: str) -> Iterator[tuple[Agent, Agent]]:
    """An agent on each host: the client's, the server's."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running_agent(endpoint, *settings(host, *more)))
            for host in (hosts.client, hosts.server)
        )
        yield first, second


def counted(agent: Agent) -> Counter[str]:
    """What became of the contexts, by outcome."""
    found = (s for s in agent.metrics() if s.name == "otel_ebpf_propagation_total")
    return Counter({s.labels["otel_ebpf_outcome"]: int(s.value) for s in found})


@dataclass(frozen=True, slots=True)
class Chain:
    hosts: TwoHosts
    shop: tuple[str, int]

    def drive(self, first: int, headers: dict[str, str] | None = None, clients: int = 1) -> list[int]:
        """So many clients ask at once, each over one connection; returns the ids."""

        def ask(number: int) -> None:
            connection = http.client.HTTPConnection(*self.shop, timeout=30)
            for i in range(first + number * REQUESTS, first + (number + 1) * REQUESTS):
                connection.request("GET", f"/r/{i}", headers=headers or {})
                assert connection.getresponse().read() == b"((()))"

        at_once(self.hosts.client, ask, clients)
        return list(range(first, first + clients * REQUESTS))

    def prove(self, *agents: Agent) -> None:
        """Drive until the agents know that threads tell causes here: each tells all of a round's calls."""
        for rounds in range(PASS_ROUNDS):
            before = [counted(agent)["written"] for agent in agents]
            self.drive(1_000_000 + rounds * REQUESTS)
            if all(counted(a)["written"] - n >= REQUESTS for a, n in zip(agents, before, strict=True)):
                return
            time.sleep(0.5)
        raise AssertionError([counted(agent) for agent in agents])


@contextmanager
def services() -> Iterator[Chain]:
    """Running ones."""
    with two_hosts(PORTS) as hosts, chain(hosts, PORTS[0]) as shop:
        yield Chain(hosts, shop)


def lineage(spans: list[SeenSpan]) -> list[str]:
    """Kind, service and method of one request's spans, from the root on; each the child of the one before."""
    by_parent = {span.parent: span for span in spans}
    assert len(by_parent) == len(spans), spans
    line, at = [], ""
    while at in by_parent:
        span = by_parent[at]
        method = str(span.get("otel_ebpf.link.method") or "")
        line.append(f"{span.kind} {span.service} {method}".strip())
        at = span.id
    return line


def test_requests_through_hosts_are_one_trace_without_a_gateway(sink: Sink) -> None:
    with services() as place, observed(place.hosts, sink.endpoint) as agents:
        place.prove(*agents)
        ids = place.drive(0, clients=CLIENTS)
        spans = sink.wait(lambda spans: sum(map(len, by_request(spans, ids).values())) >= 6 * len(ids), 30)
        outcomes = [counted(agent) for agent in agents]
    found = by_request(spans, ids)
    assert {len({span.trace for span in some}) for some in found.values()} == {1}
    lines = Counter(tuple(lineage(some)) for some in found.values())
    (line,) = lines
    assert line[0].startswith("client")  # the driver
    assert [step.split()[:2] for step in line[1:]] == [
        *(["server", "shop"], ["client", "shop"]),
        *(["server", "stock"], ["client", "stock"], ["server", "ledger"]),
    ]
    assert [step.split()[-1] for step in line if step.startswith("server")] == [
        "connection",
        "tcp-option",
        "tcp-option",
    ]
    assert [n["came_out_otherwise"] for n in outcomes] == [0, 0]
    # All that one host has written the other has read.
    assert [outcomes[0]["read"], outcomes[1]["read"]] == [outcomes[1]["written"], outcomes[0]["written"]]


def test_a_request_with_a_context_of_its_own_is_not_told_of_twice(sink: Sink) -> None:
    """Its trace may be what its header says: nothing of it travels in options, and no wrong trace either."""
    with services() as place, observed(place.hosts, sink.endpoint) as agents:
        place.prove(*agents)
        before = counted(agents[0])
        ids = place.drive(0, {"TraceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
        spans = sink.wait(lambda spans: sum(map(len, by_request(spans, ids).values())) >= 6 * len(ids), 30)
        after = counted(agents[0])
    assert after["written"] == before["written"]
    assert after["trace_unknown"] - before["trace_unknown"] == len(ids)
    for some in by_request(spans, ids).values():
        call = next(span for span in some if (span.kind, span.service) == ("client", "shop"))
        stock = next(span for span in some if (span.kind, span.service) == ("server", "stock"))
        assert stock.trace != call.trace
        assert not stock.parent


def test_contexts_of_hosts_that_are_not_trusted_are_not_read(sink: Sink) -> None:
    with services() as place, observed(place.hosts, sink.endpoint, "traces.trust_incoming=none") as agents:
        place.prove(agents[0])
        ids = place.drive(0)
        spans = sink.wait(lambda spans: sum(map(len, by_request(spans, ids).values())) >= 6 * len(ids), 30)
        outcomes = counted(agents[1])
    assert outcomes["read"] == 0
    assert outcomes["disbelieved"] >= len(ids)
    for some in by_request(spans, ids).values():
        assert [span.parent for span in some if (span.kind, span.service) == ("server", "stock")] == [""]


# ---- the wire ----


def ask(host: str, port: int) -> None:
    """Requests of all SIZES over one connection; each is answered by what came of it."""
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in SIZES:
            head = b"POST /r/%d HTTP/1.1\r\nHost: there\r\nContent-Length: " % size
            length = size - len(head) - 4 - 5
            request = head + b"%05d\r\n\r\n" % length + hashlib.shake_128(b"%d" % size).digest(length)
            assert len(request) == size
            connection.sendall(request)
            said = hashlib.sha256(request).hexdigest()
            assert receive(connection, 64 + len(ANSWER)).endswith(said.encode())


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n"


def answer(listener: socket.socket) -> None:
    """A server that says what it received."""
    connection, _ = listener.accept()
    with connection:
        for size in SIZES:
            request = receive(connection, size)
            connection.sendall(ANSWER + hashlib.sha256(request).hexdigest().encode())


def talk(hosts: TwoHosts) -> None:
    """All sizes, from host to host: bytes that are not what was sent make one of the two fail."""

    def serve() -> None:
        with socket.create_server((hosts.server.address, PORTS[1])) as listener:
            answer(listener)

    server = Process(hosts.server.inside(serve))
    host, port = hosts.door(PORTS[1])

    time.sleep(0.3)
    Process(hosts.client.inside(lambda: ask(host, port))).end()
    server.end()


def one_by_one(hosts: TwoHosts) -> None:
    """Packets leave as they will be on a wire: nobody cuts or joins them on the way."""
    for host in (hosts.client, hosts.server):
        host.run(program("ip", "iproute2"), "link", "set", "eth0", "gso_max_segs", "1")


def to_server(segments: list[Segment]) -> list[Segment]:
    return [s for s in segments if s.target[1] == PORTS[1] + SHIFT]


def test_off_is_the_default_and_nothing_on_the_wire_changes(sink: Sink) -> None:
    with two_hosts(PORTS) as hosts, sniffing(hosts.router, "pa") as seen:
        with running_agent(sink.endpoint, "--set", f"filter.network_namespace={hosts.client.path}"):
            talk(hosts)
        segments = to_server(seen())
    assert len(segments) > len(SIZES)
    assert {kind for segment in segments for kind in segment.options} <= {1, 2, 3, 4, 5, 8}


def test_requests_bear_one_option_where_it_fits_and_no_other_byte_changes(sink: Sink) -> None:
    """The peer has no agent: it knows nothing of such options, and answers as ever."""
    with two_hosts(PORTS) as hosts, sniffing(hosts.router, "pa") as seen:
        with running_agent(sink.endpoint, *settings(hosts.client)) as agent:
            talk(hosts)
            spans = sink.wait(lambda spans: len([s for s in spans if s.kind == "client"]) >= len(SIZES))
            outcomes = counted(agent)
        segments = to_server(seen())
    telling = [segment for segment in segments if OPTION in segment.options]
    fits = [size for size in SIZES if size <= MTU - 20 - 60]
    assert [len(segment.payload) for segment in telling] == fits
    assert outcomes["written"] == len(fits)
    assert outcomes["too_long"] == len(SIZES) - len(fits)
    assert not any(segment.flags & _SYN for segment in telling)
    told = {(option[2:18].hex(), option[18:].hex()) for option in (s.options[OPTION] for s in telling)}
    assert all(segment.options[OPTION].startswith(TOLD) for segment in telling)
    assert told <= {(span.trace, span.id) for span in spans if span.kind == "client"}
    assert len(told) == len(fits)


def test_no_packet_is_longer_than_the_path_takes(sink: Sink) -> None:
    with two_hosts(PORTS) as hosts, sniffing(hosts.router, "pa") as seen:
        one_by_one(hosts)
        with running_agent(sink.endpoint, *settings(hosts.client)):
            talk(hosts)
        segments = to_server(seen())
    assert max(segment.size for segment in segments) == MTU
    assert any(OPTION in segment.options for segment in segments)


def _rules(hosts: TwoHosts, rule: str) -> None:
    """A rule of the router for what passes it."""
    chain = "{ type filter hook forward priority 0; }"
    words = f"add table ip mid; add chain ip mid f {chain}; add rule ip mid f {rule}"
    hosts.router.run(program("nft", "nftables"), words)


def test_what_is_lost_is_sent_again_without(sink: Sink) -> None:
    """Every fifth packet is lost: all bytes arrive, each request is told of once at most, and truly."""
    with two_hosts(PORTS) as hosts, sniffing(hosts.router, "pa") as seen:
        _rules(hosts, "tcp dport != 22 numgen inc mod 5 4 drop")
        with running_agent(sink.endpoint, *settings(hosts.client)):
            talk(hosts)
        segments = to_server(seen())
    telling = Counter(segment.seq for segment in segments if OPTION in segment.options)
    sent = Counter(segment.seq for segment in segments if segment.payload)
    assert any(sent[seq] > 1 for seq in telling)
    assert set(telling.values()) == {1}


def test_where_options_do_not_pass_requests_do(sink: Sink) -> None:
    """A router that drops what bears an option costs two retransmissions, then nobody sends it one any more."""
    with two_hosts(PORTS) as hosts:
        _rules(hosts, "tcp option 253 exists drop")
        with running_agent(sink.endpoint, *settings(hosts.client)) as agent:
            talk(hosts)
            talk(hosts)
            outcomes = counted(agent)
    assert outcomes["written"] == 2
    assert outcomes["deaf"] > len(SIZES)


def test_an_agent_that_is_killed_leaves_nothing_behind(sink: Sink) -> None:
    with two_hosts(PORTS) as hosts, sniffing(hosts.router, "pa") as seen:
        with running_agent(sink.endpoint, *settings(hosts.client)) as agent:
            talk(hosts)
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()
        before = len(seen())
        talk(hosts)
        segments = to_server(seen()[before:])
    assert segments
    assert not [segment for segment in segments if OPTION in segment.options]
