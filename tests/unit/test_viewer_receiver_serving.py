"""Addresses and ports, and how the servers start and end."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest

from otel_ebpf.errors import ConfigError, UnsupportedError
from otel_ebpf.viewer import http_server
from otel_ebpf.viewer.contract import Outcome
from otel_ebpf.viewer.listening import Listening, resolve
from otel_ebpf.viewer.receiver.asgi import Receive, Scope, Send
from otel_ebpf.viewer.receiver.over_grpc import METHODS
from otel_ebpf.viewer.receiver.reception import Reception
from otel_ebpf.viewer.serving import Servers
from tests.unit.viewer_receivers import ANY_PORT, MemoryIntake, hello, served

EXPORT = next(iter(METHODS))
PROTOBUF = {"content-type": "application/x-protobuf"}
OPTIONS = {"page": "--listen", "grpc": "--otlp-grpc", "http": "--otlp-http"}


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that this process listens on already."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def servers(listening: Listening) -> Servers:
    return Servers(listening, Reception(MemoryIntake()), hello)


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:4317", "127.0.0.1", 4317),
        ("[::1]:4317", "::1", 4317),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("localhost:1", "127.0.0.1", 1),
        ("[::ffff:127.0.0.1]:9", "::ffff:127.0.0.1", 9),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    place = resolve("--listen", text)
    assert (place.host, place.port) == (host, port)


@pytest.mark.parametrize(
    "text", ["4317", ":4317", "::1:4317", "localhost", "localhost:", "localhost:x", "h:65536", "http://h:1", "[::1]"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--listen: .* expected HOST:PORT or \[IPV6\]:PORT"):
        resolve("--listen", text)


def test_an_address_of_another_host() -> None:
    with pytest.raises(ConfigError, match="not an address of this host"):
        servers(replace(ANY_PORT, grpc="192.0.2.1:0", insecure=True)).start()


@pytest.mark.parametrize("name", list(OPTIONS))
def test_a_port_in_use_is_one_clear_line(name: str, taken: str) -> None:
    """Who has it, and what to do; and nothing stays open of what could be had."""
    starting = servers(replace(ANY_PORT, **{name: taken}))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError) as caught:
        starting.start()
    who = f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"
    assert str(caught.value) == f"{taken} is taken by {who}: choose another with {OPTIONS[name]} HOST:PORT"
    assert not any(listens(address) for address in starting.addresses.values())


def test_embedded_it_takes_other_ports(taken: str) -> None:
    with served(Listening(page=taken, grpc=taken, http=taken, choose_ports=True)) as it:
        assert taken not in it.servers.addresses.values()
        assert all(listens(address) for address in it.servers.addresses.values())


def test_two_servers_cannot_share_a_port() -> None:
    with served() as it, pytest.raises(UnsupportedError, match="is taken by"):
        servers(replace(ANY_PORT, grpc=it.servers.addresses["grpc"])).start()


def test_ipv6() -> None:
    with served(Listening(page="[::1]:0", grpc="[::1]:0", http="[::1]:0")) as it:
        assert all(address.startswith("[::1]:") for address in it.servers.addresses.values())
        assert httpx.get(it.servers.page_url).text == "hello"
        assert httpx.post(it.http(), headers=PROTOBUF).status_code == 200
        with grpc.insecure_channel(it.grpc) as channel:
            assert channel.unary_unary(EXPORT)(b"", timeout=20) == b""


def test_what_has_no_address_is_not_served() -> None:
    with served(Listening(page="", grpc="127.0.0.1:0", http="")) as it:
        assert list(it.servers.addresses) == ["grpc"]
        assert it.servers.page_url == ""


def test_the_ports_are_free_again_afterwards() -> None:
    with served() as it:
        addresses = it.servers.addresses
    with served(Listening(page=addresses["page"], grpc=addresses["grpc"], http=addresses["http"])) as again:
        assert again.servers.addresses == addresses
    again.servers.close(1)  # once more does nothing


def test_closing_lets_requests_end() -> None:
    """Given requests whose data is being stored, then they get their answer, and nobody new is let in."""
    with served(intake=MemoryIntake(waiting=[])) as it:
        waiting = it.intake.waiting
        assert waiting is not None
        answers: list[object] = []

        def post() -> None:
            answers.append(httpx.post(it.http(), headers=PROTOBUF, timeout=20).status_code)

        def call() -> None:
            with grpc.insecure_channel(it.grpc) as channel:
                answers.append(channel.unary_unary(EXPORT)(b"", timeout=20))

        clients = [threading.Thread(target=post), threading.Thread(target=call)]
        for client in clients:
            client.start()
        for _ in clients:
            assert it.intake.arrived.acquire(timeout=20)
        closing_ = threading.Thread(target=it.servers.close, args=(20,))
        closing_.start()
        while listens(it.servers.addresses["http"]):
            time.sleep(0.01)
        for future in waiting:
            future.set_result(Outcome())
        for thread in (*clients, closing_):
            thread.join()
        assert sorted(map(str, answers)) == ["200", "b''"]


def test_closing_does_not_wait_for_ever() -> None:
    """Given a page that streams without end and a request that is never stored, then the time to close is kept."""
    entered = threading.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        entered.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    with served(intake=MemoryIntake(waiting=[]), page=endless) as it, ExitStack() as clients:
        clients.enter_context(httpx.stream("GET", it.servers.page_url))
        channel = clients.enter_context(grpc.insecure_channel(it.grpc))
        call = channel.unary_unary(EXPORT).future(b"", timeout=60)
        assert entered.wait(20)
        assert it.intake.arrived.acquire(timeout=20)
        it.servers.close(0.2)
        assert call.code() is not grpc.StatusCode.OK


def test_who_never_ends_a_header_is_put_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.1)
    with served() as it:
        host, _, port = it.servers.addresses["page"].rpartition(":")
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                connection.sendall(sent)
                assert connection.recv(100) == b""


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS", 2)
    with served() as it, httpx.Client() as first, httpx.Client() as second:
        assert {client.get(it.servers.page_url).text for client in (first, second)} == {"hello"}
        with pytest.raises(httpx.TransportError):
            httpx.get(it.servers.page_url)
        assert first.get(it.servers.page_url).text == "hello"


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"junk\.pem"):
        servers(replace(ANY_PORT, tls_cert=str(junk), tls_key=str(junk)))
    with pytest.raises(ConfigError, match="--tls-key"):
        servers(replace(ANY_PORT, tls_cert=str(junk)))
    with pytest.raises(ConfigError, match="--tls-cert"):
        servers(replace(ANY_PORT, tls_client_ca=str(junk)))
