"""io_uring: there are no bytes to be had, but sizes, times and who talks to whom are right.

Needs a kernel that lets io_uring be used (kernel.io_uring_disabled = 0) and has the sock_*_length hooks.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, watching
from tests.e2e.peers import Process, answering, asking, connect, listening, port_of
from tests.processes import program

SOURCE = Path(__file__).parent / "programs" / "uring.c"
REQUEST, RESPONSE = b"what is the answer?!", b"forty-two"
TIMES = 6


@pytest.fixture(scope="module")
def uring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("uring") / "uring"
    subprocess.run([program("cc", "gcc"), "-O1", "-Wall", "-Werror", "-o", str(target), str(SOURCE)], check=True)
    return target


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    with watching(storage=True) as running:
        yield running


def _assert_sizes(capture: Capture, port: int, client: int, server: int) -> None:
    clients, servers = capture.ends(port, TIMES)
    for end in clients + servers:
        assert (end.req_bytes, end.rsp_bytes) == (len(REQUEST), len(RESPONSE))
        assert end.t_req <= end.t_req_end <= end.t_rsp <= end.t_rsp_end
        assert not end.has(Flag.UNANSWERED)
    assert {seen.tgid for seen in clients} == {client}
    assert {seen.tgid for seen in servers} == {server}


def test_a_server_on_io_uring_leaves_the_bytes_to_its_client(capture: Capture, uring: Path) -> None:
    with listening() as listener:
        port = port_of(listener)
        server = subprocess.Popen([str(uring), str(port), "serve"], stdin=listener.fileno())
        client = Process(lambda: asking(REQUEST, len(RESPONSE), TIMES)(connect(listener)))
        client.end()
        assert server.wait(20) == 0
        _assert_sizes(capture, port, client.pid, server.pid)
        clients = [seen for seen in capture.at(port) if not seen.is_server]
        servers = [seen for seen in capture.at(port) if seen.is_server]
    assert all((seen.request, seen.response) == (REQUEST, RESPONSE) for seen in clients)
    assert all(seen.has(Flag.NO_REQUEST, Flag.NO_RESPONSE) for seen in servers)


def test_a_client_on_io_uring(capture: Capture, uring: Path) -> None:
    with listening() as listener:
        port = port_of(listener)
        server = Process(lambda: answering(len(REQUEST), RESPONSE)(listener.accept()[0]))
        client = subprocess.Popen([str(uring), str(port)])
        assert client.wait(20) == 0
        server.end()
        _assert_sizes(capture, port, client.pid, server.pid)
        servers = [seen for seen in capture.at(port) if seen.is_server]
    assert all((seen.request, seen.response) == (REQUEST, RESPONSE) for seen in servers)
