"""Which ports are listened at, and which no more: anybody may name one in its environment."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.capture.connections import CONNECTION_SERVER, Connections
from otel_ebpf.foreign.listening import MOST_PORTS, TRIAL, Listening
from otel_ebpf.foreign.receivers import PORTS
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Exchanges
from otel_ebpf.resource.procfs import Process
from otel_ebpf.tracing.completion import Completion

BTF = Btf.of_object(object_path("requests"))
CHUNK, CONNECTION, EXCHANGE = BTF.dtype("export_chunk"), BTF.dtype("connection"), BTF.dtype("exchange")
PIECE = 4096
COLLECTOR, UPLOADS = 55_680, 80
SHOP, RECEIVER = 77, 90
"""Processes: one with an SDK, and a Collector."""
HERE, THERE = bytes(10) + b"\xff\xff\x7f\0\0\1", bytes(10) + b"\xff\xff\x0a\0\0\x09"
"""Addresses, IPv4-mapped: 127.0.0.1 and 10.0.0.9."""


class Host:
    """What clients write to two ports, and what is copied of it. following: ports; left: connections."""

    def __init__(self, mode: str = "fill-gaps") -> None:
        self.following: set[int] = set()
        self.left: set[int] = set()
        self.completion = Completion(mode)
        self.listening = Listening(self.completion, lambda: 0, self.following.update, self._leave)
        self.listening.begin()
        self.connections = Connections(CONNECTION)
        self.sent: dict[int, int] = {}

    def _leave(self, ports: Iterable[int], connections: Iterable[int]) -> None:
        self.following.difference_update(ports)
        self.left.update(connections)

    def name(self, port: int) -> None:
        """A process begins that exports there."""
        self.listening.expect(Process(77, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}"}))

    def connect(self, conn: int, port: int, tgid: int = SHOP, to: bytes = HERE) -> None:
        """A client's end is announced."""
        record = np.zeros(1, CONNECTION)
        record["id"], record["tgid"], record["remote_port"], record["protocol"] = conn, tgid, port, 6
        record["remote"] = np.frombuffer(to, np.uint8)
        self.connections.update(record, 1)
        self.listening.announced(record)

    def serve(self, conn: int, port: int, tgid: int = RECEIVER, peer: int = 0, at: bytes = HERE) -> None:
        """A server's end is announced; peer: the client's on this host."""
        record = np.zeros(1, CONNECTION)
        record["id"], record["tgid"], record["local_port"], record["protocol"] = conn, tgid, port, 6
        record["peer"], record["flags"], record["local"] = peer, CONNECTION_SERVER, np.frombuffer(at, np.uint8)
        self.connections.update(record, 1)
        self.listening.announced(record)

    def chunks(self, conn: int, message: bytes, tgid: int = SHOP) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """What the kernel side tells of a message."""
        seq = self.sent.get(conn, 0)
        self.sent[conn] = seq + len(message)
        pieces = [message[at : at + PIECE] for at in range(0, len(message), PIECE)]
        chunks = np.zeros(len(pieces), CHUNK)
        for chunk, piece in zip(chunks, pieces, strict=True):
            chunk["conn"], chunk["tgid"], chunk["seq"], chunk["len"] = conn, tgid, seq, len(piece)
            chunk["data"][: len(piece)] = np.frombuffer(piece, np.uint8)
            seq += len(piece)
        return chunks

    def write(self, conn: int, port: int, message: bytes, tgid: int = SHOP, to: bytes = HERE) -> dict[int, object]:
        """A client's message; returns the names of processes that it tells."""
        if conn not in self.sent:
            self.connect(conn, port, tgid, to)
        return dict(self.listening.take(self.chunks(conn, message, tgid), self.connections, 1))

    def ask(self, conn: int, request: bytes, response: bytes) -> None:
        """An exchange is seen at one of its ends."""
        heads = np.zeros(1, EXCHANGE)
        heads["conn"] = conn
        said, answered = (np.frombuffer(data.ljust(1024, b"\0")[:1024], np.uint8)[None] for data in (request, response))
        self.listening.look([Exchanges(heads, said, answered)], self.connections, 1)

    def told(self, tgid: int) -> bool:
        """Whether spans of the process are known."""
        spans = self.completion.known.spans
        return bool((spans.tgid == tgid).any())


def post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def export(service: str) -> bytes:
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    span = resource.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    span.start_time_unix_nano, span.end_time_unix_nano = 5, 9
    return post("/v1/traces", made.SerializeToString())


UPLOAD = post("/upload", b"x" * 1_000_000)


def test_where_a_process_exports_to_is_listened_to_from_its_beginning() -> None:
    host = Host()
    host.name(COLLECTOR)
    assert host.following == {*PORTS, COLLECTOR}
    assert host.write(1, COLLECTOR, export("shop")) == {77: (("service.name", "shop"),)}


def test_a_port_that_is_named_and_no_receivers_is_left_and_may_not_be_named_again() -> None:
    host = Host()
    host.name(UPLOADS)
    for conn in range(1, 2 + TRIAL // len(UPLOAD)):
        host.write(conn, UPLOADS, UPLOAD)
    assert UPLOADS not in host.following
    host.name(UPLOADS)
    assert UPLOADS not in host.following


def test_at_a_receivers_port_connections_that_carry_something_else_are_left() -> None:
    """A proxy that passes all on, by path."""
    host = Host()
    host.name(UPLOADS)
    host.write(1, UPLOADS, export("shop"))
    for conn in range(2, 3 + TRIAL // len(UPLOAD)):
        host.write(conn, UPLOADS, UPLOAD)
    host.write(1, UPLOADS, export("shop"))
    assert UPLOADS in host.following
    assert host.left == set(range(2, 3 + TRIAL // len(UPLOAD)))


def test_what_passes_on_others_spans_is_not_copied_any_more() -> None:
    host = Host()
    host.listening.reader.forward(RECEIVER)
    assert host.write(5, COLLECTOR, export("shop"), tgid=RECEIVER) == {}
    assert host.left == {5}


NAMED = (("service.name", "shop"),)


def test_a_port_that_is_only_named_makes_nobody_a_receiver() -> None:
    """Of a service whose port somebody else names the own exports still count."""
    host = Host()
    host.serve(1, COLLECTOR, SHOP)
    host.name(COLLECTOR)
    host.serve(2, COLLECTOR, SHOP)
    host.write(3, COLLECTOR, UPLOAD, tgid=5)
    host.serve(4, COLLECTOR, SHOP, peer=3)
    assert host.write(6, PORTS[0], export("shop")) == {SHOP: NAMED}


@pytest.mark.parametrize("peer", [0, 1], ids=["by address and port", "by connection"])
def test_a_collector_that_serves_already_receives_as_soon_as_an_export_is_seen(peer: int) -> None:
    """By connection: behind an address that is translated."""
    host = Host()
    host.name(COLLECTOR)
    host.serve(2, COLLECTOR if not peer else 9999, peer=peer)
    assert host.write(1, COLLECTOR, export("shop"), to=THERE if peer else HERE) == {SHOP: NAMED}
    assert host.write(5, PORTS[0], export("shop"), tgid=RECEIVER) == {}
    assert not host.told(RECEIVER)


def test_a_collector_that_is_announced_later_receives_too() -> None:
    host = Host()
    host.name(COLLECTOR)
    host.write(1, COLLECTOR, export("shop"))
    host.serve(2, COLLECTOR)
    assert host.write(5, PORTS[0], export("shop"), tgid=RECEIVER) == {}


def test_what_a_collector_passes_on_in_the_same_drain_is_not_its_own() -> None:
    """Even where it is read before what it had received."""
    host = Host()
    host.connect(1, COLLECTOR)
    host.connect(5, PORTS[0], tgid=RECEIVER)
    host.serve(2, COLLECTOR, peer=1)
    both = np.concatenate([host.chunks(5, export("shop"), RECEIVER), host.chunks(1, export("shop"))])
    assert host.listening.take(both, host.connections, 1) == {SHOP: NAMED}
    assert not host.told(RECEIVER)


def test_who_was_taken_for_an_author_and_receives_is_called_nothing_any_more() -> None:
    host = Host()
    host.name(COLLECTOR)
    assert host.write(5, PORTS[0], export("shop"), tgid=RECEIVER) == {RECEIVER: NAMED}
    host.serve(2, COLLECTOR, peer=1)
    assert host.write(1, COLLECTOR, export("shop")) == {SHOP: NAMED, RECEIVER: ()}
    assert (host.told(SHOP), host.told(RECEIVER)) == (True, False)
    assert host.write(1, COLLECTOR, export("shop")) == {SHOP: NAMED}


def test_the_next_collector_of_a_chain_is_known_by_what_the_first_passes_on() -> None:
    host = Host()
    host.name(COLLECTOR)
    host.listening.reader.forward(5)
    host.serve(2, COLLECTOR)
    assert host.write(1, COLLECTOR, export("shop"), tgid=5) == {}
    assert host.listening.reader.forwarders == {5, RECEIVER}


@pytest.mark.parametrize(("at", "netns"), [(THERE, 0), (HERE, 7)], ids=["another address", "another namespace"])
def test_who_serves_elsewhere_at_a_receivers_port_is_none(at: bytes, netns: int) -> None:
    """Exports to port 443 of another host concern no web server of this one."""
    host = Host()
    host.serve(2, COLLECTOR, at=at)
    host.connections.table["netns"][host.connections.rows(np.array([2], np.uint64), 1)] = netns
    host.write(1, COLLECTOR, export("shop"))
    assert host.listening.reader.forwarders == set()


def test_a_process_id_and_a_port_may_be_used_again() -> None:
    host = Host()
    host.serve(2, COLLECTOR)
    host.write(1, COLLECTOR, export("shop"))
    host.listening.forget([RECEIVER])
    host.serve(3, COLLECTOR)
    assert host.write(5, PORTS[0], export("stock"), tgid=RECEIVER) == {RECEIVER: (("service.name", "stock"),)}


@pytest.mark.parametrize(("status", "receives"), [(200, True), (404, False)])
def test_a_request_shows_a_receiver_if_it_was_taken(status: int, receives: bool) -> None:
    """Anybody may send one to anybody. What is seen here may have been encrypted, or come from another host."""
    host = Host()
    host.serve(2, UPLOADS)
    host.ask(2, post("/v1/traces", b"x" * 2000), f"HTTP/1.1 {status} \r\n\r\n".encode())
    assert (UPLOADS in host.following) == receives
    assert host.listening.reader.forwarders == ({RECEIVER} if receives else set())


def test_where_an_export_was_seen_is_listened_to_though_there_were_too_many_ports() -> None:
    host = Host()
    for port in range(1, MOST_PORTS):
        host.name(port)
    host.connect(1, COLLECTOR)
    host.ask(1, post("/v1/traces", b"x" * 2000), b"HTTP/1.1 200 OK\r\n\r\n")
    assert COLLECTOR in host.following
    assert len(host.following) == MOST_PORTS


@pytest.mark.parametrize("mode", ["fill-gaps", "off"])
def test_no_more_ports_than_said(mode: str) -> None:
    host = Host(mode)
    for port in range(1, 3 * MOST_PORTS):
        host.name(port)
    assert len(host.following) == (0 if mode == "off" else MOST_PORTS)
    assert (host.listening.ports_left_out > 0) == (mode != "off")
