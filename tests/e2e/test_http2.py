"""HTTP/2 and gRPC of real programs: both ends of each stream, joined, as the conventions want them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent import Agent, running_agent
from tests.e2e.pairs import assert_joined, at, both_ends, ends, run
from tests.processes import answers, free_port, running, scratch
from tests.servers import Server, nginx
from tests.sink import Sink
from tests.spans import SeenSpan

CALLS = str(Path(__file__).with_name("programs") / "calls.py")


@contextmanager
def grpc_server() -> Iterator[Server]:
    with scratch() as folder:
        port = free_port()
        with running([sys.executable, CALLS, "serve", str(port)], answers(port), log=folder / "log") as process:
            yield Server(process.pid, port, folder / "log")


def of_method(spans: list[SeenSpan], server: Server, method: str) -> tuple[SeenSpan, SeenSpan]:
    """Both ends of the one call of that method."""
    called = f"shop.Cart/{method}"
    return ends([span for span in spans if called in (span.get("rpc.method"), span.get("rpc.method_original"))], server)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_curl_and_nginx(agent: Agent, sink: Sink, tls: bool) -> None:
    # given a server that speaks HTTP/2
    with nginx(files={"hello.txt": b"h" * 100_000}, tls=tls, http2=True) as web:
        how = ("--http2", "--cacert", str(web.certificate)) if tls else ("--http2-prior-knowledge",)
        # when a client asks it for something
        assert len(run("curl", "-s", *how, "-A", "tester", f"{web.url}/hello.txt?color=red")) == 100_000
        spans = sink.wait(both_ends(web))
    # then both ends tell of it as of HTTP/1, but for the version
    client, server = ends(spans, web)
    assert_joined(client, server)
    assert server.name == "GET /hello.txt"
    assert server["http.request.method"] == "GET"
    assert server["url.path"] == "/hello.txt"
    assert server["url.query"] == "color=red"
    assert server["url.scheme"] == ("https" if tls else "http")
    assert server["user_agent.original"] == "tester"
    assert client["url.full"] == f"{web.url}/hello.txt?color=red"
    for span in (client, server):
        assert span["network.protocol.version"] == "2"
        assert span["http.response.status_code"] == 200
        assert span.status == "unset"


def test_the_streams_of_a_connection_are_told_apart(agent: Agent, sink: Sink) -> None:
    with nginx(files={f"{i}": b"x" * 1000 for i in range(10)}, tls=True, http2=True) as web:
        urls = [f"{web.url}/{i}" for i in range(10)] + [f"{web.url}/missing"]
        run("curl", "-s", "-Z", "--http2", "--cacert", str(web.certificate), *urls)
        spans = sink.wait(both_ends(web, 11))
    for i in (*range(10), "missing"):
        asked = (f"/{i}", f"{web.url}/{i}")
        client, server = ends([s for s in spans if s.get("url.path") in asked or s.get("url.full") in asked], web)
        assert_joined(client, server)
        assert client["http.response.status_code"] == (404 if i == "missing" else 200)


def test_calls_of_grpc(agent: Agent, sink: Sink) -> None:
    with grpc_server() as server:
        said = run(sys.executable, CALLS, "call", str(server.port), "OK", "NOT_FOUND", "INTERNAL", "Nothing", "Watch")
        assert said.split() == [
            *("OK", "OK", "NOT_FOUND", "NOT_FOUND", "INTERNAL", "INTERNAL"),
            *("Nothing", "UNIMPLEMENTED", "Watch", "OK"),
        ]
        spans = sink.wait(both_ends(server, 5))
    for method, status, at_client, at_server in (
        ("OK", "OK", False, False),
        ("NOT_FOUND", "NOT_FOUND", True, False),
        ("INTERNAL", "INTERNAL", True, True),
        ("Nothing", "UNIMPLEMENTED", True, True),
        ("Watch", "OK", False, False),
    ):
        client, served = of_method(spans, server, method)
        assert_joined(client, served)
        for span, failed in ((client, at_client), (served, at_server)):
            assert span["rpc.system.name"] == "grpc"
            assert span["rpc.status_code"] == status
            assert span.get("error.type") == (status if failed else None)
            assert span.status == ("error" if failed else "unset")
            assert span["server.address"] == "localhost"
            assert span.name == ("grpc" if method == "Nothing" else f"shop.Cart/{method}")
    # a stream lasts until its last message
    assert of_method(spans, server, "Watch")[1].seconds > 0.5


def test_a_call_that_is_given_up(agent: Agent, sink: Sink) -> None:
    with grpc_server() as server:
        assert run(sys.executable, CALLS, "call", str(server.port), "Sleep").split() == ["Sleep", "DEADLINE_EXCEEDED"]
        client, served = ends(sink.wait(both_ends(server)), server)
    assert_joined(client, served)
    assert client["rpc.status_code"] == client["error.type"] == "DEADLINE_EXCEEDED"
    assert 0.2 < client.seconds < 2


def test_a_call_through_a_proxy_is_one_trace(agent: Agent, sink: Sink) -> None:
    with grpc_server() as server:
        passed = f"location / {{ grpc_pass grpc://127.0.0.1:{server.port}; }}"
        with nginx(http2=True, locations=passed) as proxy:
            assert run(sys.executable, CALLS, "call", str(proxy.port), "NOT_FOUND").split() == ["NOT_FOUND"] * 2
            sink.wait(both_ends(proxy))
            spans = sink.wait(both_ends(server))
    to_proxy, to_server = ends(spans, proxy), ends(spans, server)
    for client, served in (to_proxy, to_server):
        assert_joined(client, served)
        assert client["rpc.status_code"] == "NOT_FOUND"
    assert to_server[0].parent == to_proxy[1].id
    assert len({span.trace for span in (*to_proxy, *to_server)}) == 1


def test_a_channel_that_was_there_before_the_agent(sink: Sink) -> None:
    with grpc_server() as server:
        command = [sys.executable, CALLS, "wait", str(server.port), "OK", "INTERNAL"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None and client.stdout is not None
            assert client.stdout.readline() == "OK OK\n"
            with running_agent(sink.endpoint):
                for _ in range(2):
                    client.stdin.write("\n")
                    client.stdin.flush()
                    client.stdout.readline()
                spans = sink.wait(
                    lambda spans: len([s for s in spans if s.get("rpc.method") == "shop.Cart/INTERNAL"]) >= 2
                )
            client.stdin.close()
    known = [span for span in spans if span.get("rpc.method") == "shop.Cart/INTERNAL"]
    assert {span.kind for span in known} == {"client", "server"}
    for span in spans:
        if at(server, span.kind)(span):
            assert span.get("rpc.method") in (None, "shop.Cart/INTERNAL")
            assert span.get("url.path") is None
