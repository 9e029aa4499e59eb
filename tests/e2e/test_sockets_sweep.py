"""The sweep looks at connections while their threads use them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from otel_ebpf.capture.live import CaptureSettings
from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, watching
from tests.e2e.peers import Process, connect, listening, port_of, receive

REQUESTS = 20_000


@contextmanager
def _sweeping(capture: Capture) -> Iterator[None]:
    """Without a pause."""
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            capture.source.sweep()

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _talk() -> int:
    """One connection, and so many numbered requests; the port of its server."""
    with listening() as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            for _ in range(REQUESTS):
                connection.sendall(b"echo" + receive(connection, 6))

        def ask() -> None:
            with connect(listener) as connection:
                for number in range(REQUESTS):
                    connection.sendall(b"%06d" % number)
                    assert receive(connection, 10) == b"echo%06d" % number

        server, client = Process(serve), Process(ask)
        client.end()
        server.end()
        return port_of(listener)


def test_an_exchange_that_ends_while_it_is_swept_is_told_once_and_whole() -> None:
    """Every answered exchange is "idle" at once here, and the sweep never rests: it meets them half done, from before
    their last byte until after the next has begun. That nothing is told twice, `Capture` looks at. Without atomic
    instructions (the other front) some ns remain in which both sides take an exchange for theirs.
    """
    rings = dict.fromkeys(("exchanges_small", "exchanges_large", "exchanges_head"), 1 << 26)
    with watching(storage=True, settings=CaptureSettings(idle_ns=1, rings=rings)) as capture:
        with _sweeping(capture):
            port = _talk()
        clients, servers = capture.ends(port, REQUESTS)
        for number, (client, server) in enumerate(zip(clients, servers, strict=True)):
            assert (client.n, server.n) == (number, number)
            assert (server.request, server.response) == (b"%06d" % number, b"echo%06d" % number), str(server)
            for end in (client, server):
                assert end.t_req <= end.t_req_end <= end.t_rsp <= end.t_rsp_end, str(end)
        assert any(end.has(Flag.PARTIAL) for end in servers)
        assert not any(capture.source.losses().values())
