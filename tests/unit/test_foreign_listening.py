"""Which ports are listened at, and which no more: anybody may name one in its environment."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.capture.connections import Connections
from otel_ebpf.foreign.listening import MOST_PORTS, PORTS, TRIAL, Listening
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.resource.procfs import Process
from otel_ebpf.tracing.completion import Completion

BTF = Btf.of_object(object_path("requests"))
CHUNK, CONNECTION = BTF.dtype("export_chunk"), BTF.dtype("connection")
PIECE = 4096
COLLECTOR, UPLOADS = 55_680, 80


class Host:
    """What clients write to two ports, and what is copied of it. following: ports; left: connections."""

    def __init__(self, mode: str = "fill-gaps") -> None:
        self.following: set[int] = set()
        self.left: set[int] = set()
        self.listening = Listening(Completion(mode), lambda: 0, self.following.update, self._leave)
        self.listening.begin()
        self.connections = Connections(CONNECTION)
        self.sent: dict[int, int] = {}

    def _leave(self, ports: Iterable[int], connections: Iterable[int]) -> None:
        self.following.difference_update(ports)
        self.left.update(connections)

    def name(self, port: int) -> None:
        """A process begins that exports there."""
        self.listening.expect(Process(77, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}"}))

    def write(self, conn: int, port: int, message: bytes, tgid: int = 77) -> dict[int, object]:
        """A client's message; returns the names of processes that it tells."""
        if conn not in self.sent:
            record = np.zeros(1, CONNECTION)
            record["id"], record["remote_port"], record["protocol"] = conn, port, 6
            self.connections.update(record, 1)
        seq = self.sent.get(conn, 0)
        self.sent[conn] = seq + len(message)
        pieces = [message[at : at + PIECE] for at in range(0, len(message), PIECE)]
        chunks = np.zeros(len(pieces), CHUNK)
        for chunk, piece in zip(chunks, pieces, strict=True):
            chunk["conn"], chunk["tgid"], chunk["seq"], chunk["len"] = conn, tgid, seq, len(piece)
            chunk["data"][: len(piece)] = np.frombuffer(piece, np.uint8)
            seq += len(piece)
        return dict(self.listening.take(chunks, self.connections, 1))


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
    host.listening.reader.forward(90)
    assert host.write(5, COLLECTOR, export("shop"), tgid=90) == {}
    assert host.left == {5}


@pytest.mark.parametrize("mode", ["fill-gaps", "off"])
def test_no_more_ports_than_said(mode: str) -> None:
    host = Host(mode)
    for port in range(1, 3 * MOST_PORTS):
        host.name(port)
    assert len(host.following) == (0 if mode == "off" else MOST_PORTS)
    assert (host.listening.ports_left_out > 0) == (mode != "off")
