"""curl to nginx, as a user would try it first (issue acceptance 1 and 3)."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

from tests.agent import Agent, running_agent
from tests.collector import collector
from tests.e2e.pairs import assert_joined, at, both_ends, ends, run
from tests.e2e.peers import asking, converse, receive
from tests.servers import nginx
from tests.sink import Sink

CLIENT = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for line in sys.stdin:
    connection.request("GET", line.strip())
    print(connection.getresponse().read().decode(), flush=True)
"""
"""Sends one request on the same connection for each path that it reads."""


def test_a_request_of_curl_is_a_client_and_a_server_span_in_one_trace(agent: Agent, sink: Sink) -> None:
    with nginx(files={"hello.txt": b"hello\n"}) as web:
        assert run("curl", "-s", f"{web.url}/hello.txt") == "hello\n"
        client, server = ends(sink.wait(both_ends(web)), web)

    assert_joined(client, server)
    assert (server.service, client.service) == ("nginx", "curl")
    assert server["http.request.method"] == "GET"
    assert server["http.response.status_code"] == 200
    assert server["url.path"] == "/hello.txt"
    assert server["url.scheme"] == "http"
    assert server["network.protocol.version"] == "1.1"
    assert server["client.address"] == "127.0.0.1"
    assert client["url.full"] == f"{web.url}/hello.txt"
    assert client["server.address"] == "127.0.0.1"
    assert client["http.response.status_code"] == 200
    assert (client.status, server.status) == ("unset", "unset")


def test_not_found_is_an_error_of_the_client_alone(agent: Agent, sink: Sink) -> None:
    # Semantic conventions for HTTP spans, "Status": 4xx is an error for the client, not for the server.
    with nginx() as web:
        run("curl", "-s", f"{web.url}/missing")
        client, server = ends(sink.wait(both_ends(web)), web)

    assert server["http.response.status_code"] == 404
    assert (client.status, server.status) == ("error", "unset")
    assert client["error.type"] == "404"


def test_the_duration_is_what_the_client_measures(agent: Agent, sink: Sink) -> None:
    with nginx(files={"slow.bin": bytes(200_000)}, locations="limit_rate 100k;") as web:
        times = run("curl", "-s", "-o", "/dev/null", "-w", "%{time_pretransfer} %{time_total}", f"{web.url}/slow.bin")
        client, _ = ends(sink.wait(both_ends(web)), web)

    before, total = map(float, times.split())
    assert 0.3 < client.seconds <= total
    assert client.seconds > 0.8 * (total - before)


def test_a_query_parameter_that_carries_a_secret_is_redacted(agent: Agent, sink: Sink) -> None:
    with nginx() as web:
        run("curl", "-s", f"{web.url}/hello.txt?page=2&password=swordfish")
        spans = sink.wait(both_ends(web))
        client, server = ends(spans, web)

    assert "page=2" in str(server["url.query"])
    assert "swordfish" not in f"{client.attributes} {server.attributes}"


def test_every_request_of_a_kept_connection_is_a_span_of_its_own(agent: Agent, sink: Sink) -> None:
    with nginx(files={f"{n}.txt": b"x" for n in range(5)}) as web:
        run("curl", "-s", *[f"{web.url}/{n}.txt" for n in range(5)])
        spans = sink.wait(both_ends(web, 5))
        servers = [span for span in spans if at(web, "server")(span)]
        clients = {span.id: span for span in spans if at(web, "client")(span)}

    assert [span["url.path"] for span in servers] == [f"/{n}.txt" for n in range(5)]
    for span in servers:
        assert_joined(clients[span.parent], span)


def test_a_caller_that_gave_up_is_told_of_no_answer_although_one_was_written(agent: Agent, sink: Sink) -> None:
    """On a kept connection, of which only the server's end has the bytes."""
    request, response = (
        b"GET /given-up/%d HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    asked = 5

    def serve(connection: socket.socket) -> None:
        for n in range(asked + 1):
            receive(connection, len(request % n))
            time.sleep(0.5 * (n == asked))
            connection.sendall(response)

    def ask(connection: socket.socket) -> None:
        for n in range(asked):
            asking(request % n, len(response))(connection)
        connection.sendall(request % asked)
        time.sleep(0.1)

    converse(serve, ask)
    where = ("url.full", f"http://a/given-up/{asked}"), ("url.path", f"/given-up/{asked}")
    spans = sink.wait(lambda spans: all(any(s.get(key) == said for s in spans) for key, said in where))
    client, server = (next(s for s in spans if s.get(key) == said) for key, said in where)
    assert (server.parent, server.trace) == (client.id, client.trace)
    assert (server.status, server["http.response.status_code"]) == ("unset", 200)
    assert (client.status, client["error.type"]) == ("error", "no_response")
    assert client.get("http.response.status_code") is None
    assert client.start <= client.end < server.end


def test_a_proxy_continues_the_trace_of_its_caller(agent: Agent, sink: Sink) -> None:
    with nginx() as backend, nginx(upstream=f"http://127.0.0.1:{backend.port}") as front:
        run("curl", "-s", f"{front.url}/hello.txt")
        spans = sink.wait(lambda spans: both_ends(front)(spans) and both_ends(backend)(spans))
        front_client, front_server = ends(spans, front)
        back_client, back_server = ends(spans, backend)

    assert_joined(front_client, front_server)
    assert_joined(back_client, back_server)
    assert {span.trace for span in (front_client, front_server, back_client, back_server)} == {front_client.trace}
    assert back_client.parent == front_server.id


def test_a_kept_connection_that_is_older_than_the_agent_is_traced_from_its_next_request_on(sink: Sink) -> None:
    with nginx(files={"before": b"1", "after": b"2"}) as web:
        command = [sys.executable, "-c", CLIENT, str(web.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            ask, told = client.stdin, client.stdout
            print("/before", file=ask, flush=True)
            assert told.readline() == "1\n"
            with running_agent(sink.endpoint):
                print("/after", file=ask, flush=True)
                assert told.readline() == "2\n"
                client_span, server_span = ends(sink.wait(both_ends(web)), web)
            ask.close()

    assert_joined(client_span, server_span)
    assert server_span["url.path"] == "/after"
    assert server_span["http.response.status_code"] == 200


def test_the_agents_own_export_is_never_observed(agent: Agent, sink: Sink) -> None:
    with nginx() as web:
        for _ in range(3):
            seen = len(sink.spans())
            run("curl", "-s", f"{web.url}/hello.txt")
            sink.wait(lambda spans, seen=seen: len(spans) > seen)  # type: ignore[misc]

    assert not [span for span in sink.spans() if span.get("server.port") == sink.port]


def test_a_real_collector_takes_it_over_grpc_without_complaint() -> None:
    with collector() as receiver, running_agent(receiver.grpc, protocol="grpc"), nginx() as web:
        run("curl", "-s", f"{web.url}/hello.txt")
        client, server = ends(receiver.wait(both_ends(web)), web)
        complaints = receiver.complaints()

    assert_joined(client, server)
    assert server["url.path"] == "/hello.txt"
    assert complaints == []
