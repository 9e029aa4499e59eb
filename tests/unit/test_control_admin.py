"""The admin address, asked over real sockets."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

import pytest

from otel_ebpf.control import admin as module
from otel_ebpf.control.admin import MAX_CLIENTS, MAX_REQUEST, Admin, Health
from otel_ebpf.control.exposition import CONTENT_TYPE
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.errors import ConfigError, UnsupportedError
from tests.unit.control_batch import eventually


def statistics() -> Statistics:
    found = Statistics()
    found.add("otel_ebpf.exchanges", 7, "small")
    return found


@pytest.fixture
def admin() -> Iterator[Admin]:
    served = Admin("127.0.0.1:0", Health(), statistics)
    served.health.ready()
    served.start()
    yield served
    served.close()


def port(admin: Admin) -> int:
    return int(admin.address.rpartition(":")[2])


def ask(admin: Admin, path: str, method: str = "GET", body: bytes | None = None) -> tuple[HTTPResponse, str]:
    with closing(HTTPConnection("127.0.0.1", port(admin), timeout=20)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response, response.read().decode()


def say(admin: Admin, data: bytes) -> bytes:
    """What comes back to these bytes."""
    with socket.create_connection(("127.0.0.1", port(admin)), 20) as client:
        client.sendall(data)
        got = b""
        while more := client.recv(65536):
            got += more
        return got


def test_readyz_is_503_with_the_reason_until_everything_is_attached(admin: Admin) -> None:
    admin.health.waiting_for = "the verifier"
    response, body = ask(admin, "/readyz")
    assert (response.status, body) == (503, "not ready: the verifier\n")
    assert ask(admin, "/metrics")[0].status == 503, "there is nothing to count yet"
    admin.health.ready()
    response, body = ask(admin, "/readyz")
    assert (response.status, body) == (200, "ready\n")


def test_healthz_is_200_while_the_loop_turns(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    admin.health.turned()
    assert ask(admin, "/healthz")[0].status == 200
    monkeypatch.setattr(module, "STALL_S", 0.0)
    response, body = ask(admin, "/healthz")
    assert (response.status, body) == (503, "no turn of the loop for 0 s\n")


def test_metrics_are_prometheus_text(admin: Admin) -> None:
    response, body = ask(admin, "/metrics?x=1")
    assert (response.status, response.getheader("Content-Type")) == (200, CONTENT_TYPE)
    assert 'otel_ebpf_exchanges_total{otel_ebpf_record_size="small"} 7\n' in body


def test_other_paths_are_404_and_other_methods_405(admin: Admin) -> None:
    assert ask(admin, "/")[0].status == 404
    assert ask(admin, "/metrics/../../etc/passwd")[0].status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
        response, _ = ask(admin, "/metrics", method, b"x" * 20_000)
        assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")


def test_head_has_the_length_and_no_body(admin: Admin) -> None:
    response, body = ask(admin, "/metrics", "HEAD")
    assert (response.status, body) == (200, "")
    assert response.getheader("Content-Length") == str(len(ask(admin, "/metrics")[1].encode()))


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/2.0\r\n\r\n",
        b"GET http://else.where/ HTTP/1.1\r\n\r\n",
        b"GET /\x1b[2J HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /" + b"a" * (2 * MAX_REQUEST),
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_REQUEST,
    ],
)
def test_what_is_no_request_gets_a_short_answer_and_the_server_lives_on(admin: Admin, data: bytes) -> None:
    try:
        answer = say(admin, data)
    except ConnectionError:
        answer = b""  # closed on what was still coming
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))
    assert ask(admin, "/readyz")[0].status == 200


def test_who_says_nothing_is_hung_up_on(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.05)
    assert say(admin, b"GET /metrics HTT") == b""


def test_a_crowd_of_silent_clients_is_bounded_and_leaves_room_when_it_goes(admin: Admin) -> None:
    crowd = [socket.create_connection(("127.0.0.1", port(admin)), 20) for _ in range(MAX_CLIENTS)]

    def threads() -> int:
        return sum("process_request_thread" in thread.name for thread in threading.enumerate())

    eventually(lambda: threads() == MAX_CLIENTS, "a thread for each client")
    with pytest.raises(ConnectionError):  # one too many: closed at once
        ask(admin, "/readyz")
    assert threads() == MAX_CLIENTS
    for client in crowd:
        client.close()
    eventually(lambda: threads() == 0, "room again")
    assert ask(admin, "/readyz")[0].status == 200


def test_a_failure_of_ours_costs_that_answer_alone(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Statistics:
        raise KeyError("otel_ebpf.no_such")

    admin = Admin("127.0.0.1:0", Health(), broken)
    admin.health.ready()
    admin.start()
    try:
        assert say(admin, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
        assert "a request failed: KeyError" in caplog.text
        assert ask(admin, "/readyz")[0].status == 200
    finally:
        admin.close()


def test_a_taken_port_is_one_line_with_the_remedy(admin: Admin) -> None:
    taken = rf"taken by \S+ \(pid {os.getpid()}\)"
    said = rf"admin address 127.0.0.1:{port(admin)}: {taken}: choose another with --admin-address"
    with pytest.raises(UnsupportedError, match=said):
        Admin(f"127.0.0.1:{port(admin)}", Health(), statistics)


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no-such-host.invalid:0"])
def test_an_address_that_this_host_does_not_have_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigError, match=rf"admin\.address: '{address}' is not an address of this host"):
        Admin(address, Health(), statistics)


def test_ipv6_is_served() -> None:
    served = Admin("[::1]:0", Health(), statistics)
    served.start()
    try:
        assert served.address.startswith("[::1]:")
        with closing(HTTPConnection("::1", port(served), timeout=20)) as connection:
            connection.request("GET", "/readyz")
            assert connection.getresponse().status == 503
    finally:
        served.close()


def test_after_close_nobody_answers() -> None:
    served = Admin("127.0.0.1:0", Health(), statistics)
    served.start()
    at = port(served)
    served.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", at), 5)


def test_health_counts_from_the_last_turn() -> None:
    health = Health()
    before = health.idle_s
    time.sleep(0.01)
    assert health.idle_s > before
    health.turned()
    assert health.idle_s < before + 0.01 + module.STALL_S
