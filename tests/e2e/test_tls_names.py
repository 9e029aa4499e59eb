"""Servers are called by the name that their clients asked for by TLS (SNI), where they asked for one."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint

from otel_ebpf.capture.live import CaptureSettings
from otel_ebpf.errors import KernelError
from otel_ebpf.kernel.objects import Link, Object
from otel_ebpf.model import Flag
from tests.agent import Agent, running_agent
from tests.e2e.capture import Capture, watching
from tests.e2e.pairs import at, both_ends, run
from tests.e2e.peers import Process, answering, asking, connect, listening, port_of
from tests.processes import scratch, wait_until
from tests.servers import Server, make_certificate, nginx, postgresql, redis
from tests.sink import Sink
from tests.spans import SeenSpan

FED = """
import asyncio, ssl, sys
async def main():
    context = ssl._create_unverified_context()
    where = {"host": "127.0.0.1", "port": int(sys.argv[1]), "server_hostname": sys.argv[2]}
    reader, writer = await asyncio.open_connection(**where, ssl=context)
    for _ in range(3):
        writer.write(b"*2\\r\\n$3\\r\\nGET\\r\\n$3\\r\\nkey\\r\\n")
        await reader.readuntil(b"\\r\\n")
    writer.close()
    await writer.wait_closed()
asyncio.run(main())
"""
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOTAL = "traces_service_graph_request_total"


def psql(server: Server, host: str, statement: str) -> str:
    where = f"host={host} hostaddr=127.0.0.1 port={server.port} user=postgres dbname=postgres sslmode=require"
    return run("psql", "-X", "-tA", where, "-c", statement)


def addresses(spans: list[SeenSpan], server: Server) -> list[tuple[object, object]]:
    """server.address and network.peer.address of its clients' spans."""
    clients = sorted(filter(at(server, "client"), spans), key=lambda span: span.start)
    return [(span["server.address"], span["network.peer.address"]) for span in clients]


def test_a_database_is_called_as_its_client_asked_for_it_in_spans_and_in_the_service_graph(sink: Sink) -> None:
    """Given a server that nobody sees, when one client names it and another does not, then it has both names."""
    with postgresql(tls=True) as server:
        environment = {
            "OTEL_EBPF_FILTER_INCLUDE": f"[{{port: {server.port}}}]",
            "OTEL_EBPF_FILTER_EXCLUDE": "[{service: postgres}]",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        with running_agent(sink.endpoint, signals="traces,metrics", environment=environment):
            assert psql(server, "db.internal.test", "select 1") == "1\n"
            assert psql(server, "127.0.0.1", "select 2") == "2\n"
            spans = sink.wait(lambda spans: len(addresses(spans, server)) == 2)
            expected = {("psql", f"{name}:{server.port}", "database") for name in ("db.internal.test", "127.0.0.1")}
            wait_until(lambda: edges(sink) == expected, "the edges")
    assert addresses(spans, server) == [("db.internal.test", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")]


def edges(sink: Sink) -> set[tuple[str, ...]]:
    """Client, server and connection_type."""
    points = [point for metric in sink.metrics() if metric.name == TOTAL for point in metric.sum.data_points]
    return {_edge(point) for point in points}


def _edge(point: NumberDataPoint) -> tuple[str, ...]:
    said = {pair.key: pair.value.string_value for pair in point.attributes}
    return said["client"], said["server"], said["connection_type"]


def test_a_server_on_this_host_is_called_as_its_client_asked_for_it(agent: Agent, sink: Sink) -> None:
    with redis(tls=True) as store:
        for name in ("Cache.Test", "127.0.0.1\x1b[31m<script>", ""):
            options = ("--sni", name) if name else ()
            run("redis-cli", "-p", str(store.port), "--tls", "--insecure", *options, "get", "key")
        spans = sink.wait(both_ends(store, 3))
        assert addresses(spans, store) == [("cache.test", "127.0.0.1"), *[("127.0.0.1", "127.0.0.1")] * 2]
        servers = filter(at(store, "server"), spans)
        assert {span["server.address"] for span in servers} == {"127.0.0.1"}
    refused = [s for s in agent.metrics() if s.labels.get("otel_ebpf_reason") == "not_a_server_name"]
    assert [sample.value >= 1 for sample in refused] == [True]


def test_a_library_that_is_fed_is_asked_too(agent: Agent, sink: Sink) -> None:
    with redis(tls=True) as store:
        assert run(sys.executable, "-c", FED, str(store.port), "cache.test") == ""
        spans = sink.wait(both_ends(store, 3))
    assert addresses(spans, store) == [("cache.test", "127.0.0.1")] * 3


def test_http_host_comes_first(agent: Agent, sink: Sink) -> None:
    with nginx(tls=True) as web:
        to = ("--connect-to", f"::127.0.0.1:{web.port}")
        assert run("curl", "-sk", *to, "-H", "Host: host.test", "https://sni.test/hello.txt") == "hello\n"
        spans = sink.wait(lambda spans: any(span.get("server.address") == "host.test" for span in spans))
    assert not [span for span in spans if "sni.test" in str(span)]


def test_each_connection_has_the_name_that_was_asked_for_on_it(capture: Capture) -> None:
    """Given one process whose library uses the same memory again and again, then no name is another connection's."""
    asked = [name for i in range(10) for name in (f"host-{i}.test", "")]
    with scratch() as folder, listening() as listener:
        certificate, key = folder / "cert.pem", folder / "key.pem"
        make_certificate(certificate, key)

        def serve() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            for _ in asked:
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    answering(len(request("")), RESPONSE)(connection)

        def ask() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            for name in asked:
                with context.wrap_socket(connect(listener), server_hostname=name or None) as client:
                    asking(request(name), len(RESPONSE), times=2)(client)

        server = Process(serve)
        Process(ask).end()
        server.end()
        clients, _ = capture.ends(port_of(listener), 2 * len(asked))
    told: dict[int, list[str]] = {}
    for record in names(capture):
        told.setdefault(int(record["conn"]), []).append(record["name"].decode())
    assert [told.get(end.conn, []) for end in clients] == [[name] if name else [] for name in asked for _ in range(2)]
    assert [end.request for end in clients] == [request(name) for name in asked for _ in range(2)]


def test_a_name_is_told_again_with_its_connection_since_it_may_be_forgotten() -> None:
    with watching(True, CaptureSettings(announce_ns=10**7)) as capture, redis(tls=True) as store:
        options = ("--tls", "--insecure", "--sni", "cache.test", "-r", "3", "-i", "0.1")
        run("redis-cli", "-p", str(store.port), *options, "get", "key")
        clients, _ = capture.ends(store.port, 3)
        told = [bytes(record["name"]) for record in names(capture) if record["conn"] == clients[0].conn]
    assert len(told) >= 3  # with each request; its response may tell it as well
    assert set(told) == {b"cache.test"}


def test_a_library_that_does_not_tell_names_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    attach = Object.attach_uprobe

    def refuse(self: Object, program: str, path: str, offset: int, *, returns: bool = False, pid: int = -1) -> Link:
        if program.startswith("tls_control"):
            raise KernelError("no such place")
        return attach(self, program, path, offset, returns=returns, pid=pid)

    monkeypatch.setattr(Object, "attach_uprobe", refuse)
    with watching(storage=True) as capture, redis(tls=True) as store:
        tls = capture.source.tls
        assert tls is not None
        assert all(name.endswith(" SSL_ctrl") for name in tls.failures)
        assert len(tls.failures) == len(tls.libraries) > 0
        run("redis-cli", "-p", str(store.port), "--tls", "--insecure", "--sni", "cache.test", "get", "key")
        client, _ = capture.one(store.port)
        assert client.has(Flag.TLS)
        assert not list(names(capture))


def names(capture: Capture) -> Iterator[np.void]:
    """All records of names that were told."""
    for drain in capture.drains:
        if drain.server_names is not None:
            yield from drain.server_names


def request(name: str) -> bytes:
    return f"GET /{name:-<80} HTTP/1.1\r\n\r\n".encode()
