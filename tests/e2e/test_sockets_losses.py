"""Whatever is lost is counted, and nothing that the kernel side keeps outlives its owner."""

from __future__ import annotations

import socket
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from otel_ebpf.capture.live import CaptureSettings
from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, watching
from tests.e2e.peers import Gate, Process, answering, asking, connect, converse, listening, port_of, receive
from tests.processes import wait_until

SMALLEST = 4096
"""A ring of one page."""
FRONTS = pytest.mark.parametrize("storage", [True, False], ids=["storage", "hash"])


def _assert_balance(capture: Capture) -> None:
    """What ended was received or is counted as lost; other processes of this host talk meanwhile."""

    def balanced() -> bool:
        capture.poll()
        counted, lost = capture.source.statistics(), capture.source.losses()["ring_full_exchange"]
        capture.poll()
        sent = counted["ended"] + counted["amended"] + counted["datagrams"]
        return sent == sum(capture.source.received.values()) + lost

    wait_until(balanced, "sent = received + lost", 20)


@FRONTS
def test_sent_is_received_plus_lost(storage: bool) -> None:
    rings = dict.fromkeys(("exchanges_head", "exchanges_small", "exchanges_large"), SMALLEST)
    with watching(storage, CaptureSettings(rings=rings)) as capture:
        converse(answering(3, b"answer"), asking(b"ask", 6, times=500))
        _assert_balance(capture)
        assert capture.source.losses()["ring_full_exchange"] > 900
        converse(answering(3, b"answer"), asking(b"ask", 6, times=500))
        _assert_balance(capture)
        assert capture.source.losses()["ring_full_exchange"] > 1800
        assert sum(capture.source.received.values()) > 0


@FRONTS
def test_exchanges_whose_connection_could_not_be_announced_are_lost_and_counted(storage: bool) -> None:
    with watching(storage, CaptureSettings(rings={"connections": SMALLEST})) as capture, listening() as listener:
        count = 100

        def serve() -> None:
            for _ in range(count):
                accepted, _ = listener.accept()
                with accepted:
                    answering(3, b"answer")(accepted)

        def ask() -> None:
            for _ in range(count):
                with connect(listener) as client:
                    asking(b"ask", 6)(client)

        for process in (Process(serve), Process(ask)):
            process.end()
        _assert_balance(capture)
        losses = capture.source.losses()
        assert losses["ring_full_connection"] >= losses["ring_full_exchange"] > 0
        assert all(seen.connection["id"] == seen.conn for seen in capture.at(port_of(listener)))


def _entries(capture: Capture, table: str, key: str, value: str) -> tuple[NDArray[np.void], NDArray[np.void]]:
    source = capture.source.object
    if key == "u64":
        keys = np.dtype([("number", np.uint64)])
        return source.maps[table].entries(keys, source.btf.dtype(value))
    return source.maps[table].entries(source.btf.dtype(key), source.btf.dtype(value))


def _held(capture: Capture, port: int, pids: list[int]) -> dict[str, int]:
    """How many entries of each table belong to connections at that port, or to those processes."""
    capture.poll()
    keys, _ = _entries(capture, "local_ends", "u64", "ends")
    there = {int(c["key"]) for c in capture.connections.values() if port in (c["local_port"], c["remote_port"])}
    held = {"local_ends": int(np.count_nonzero(np.isin(keys["number"], list(there))))}
    if not capture.source.storage:
        _, conns = _entries(capture, "conns_by_sock", "u64", "conn")
        ports = conns["k"]["local_port"], conns["k"]["remote_port"]
        held["conns_by_sock"] = int(np.count_nonzero((ports[0] == port) | (ports[1] == port)))
        threads, _ = _entries(capture, "threads_by_id", "u64", "thread")
        held["threads_by_id"] = int(np.count_nonzero(np.isin(threads["number"] >> np.uint64(32), pids)))
    return held


def test_what_belongs_to_connections_and_threads_goes_with_them(capture: Capture) -> None:
    with listening() as listener:
        go, asked = Gate(), Gate()

        def serve() -> None:
            answering(3, b"answer")(listener.accept()[0])

        def ask() -> None:
            with connect(listener) as client:
                asking(b"ask", 6, times=3)(client)
                asked.open()
                go.wait()

        processes = Process(serve), Process(ask)
        port, pids = port_of(listener), [process.pid for process in processes]
        asked.wait()
        while_open = _held(capture, port, pids)
        go.open()
        for process in processes:
            process.end()
    gone: Callable[[], bool] = lambda: not any(_held(capture, port, pids).values())  # noqa: E731
    assert while_open["local_ends"] == 1
    assert all(while_open.values())
    wait_until(gone, "the tables to be empty", 5)


def test_questions_that_nobody_answers_do_not_stay(capture: Capture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))

        def ask() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for n in range(50):
                    client.sendto(bytes([0, n, 1, 0, 0, 1, *bytes(6)]) + b"\3www\4test\0\0\1\0\1", silent.getsockname())

        asker = Process(ask)
        asker.end()

        def waiting() -> int:
            capture.poll()
            _, queries = _entries(capture, "queries", "query_key", "query")
            return int(np.count_nonzero(queries["x"]["tgid"] == asker.pid))

        assert waiting() == 50
        wait_until(lambda: waiting() == 0, "the questions to be given up", 20)
        assert len(capture.of(asker.pid)) == 50


def test_what_both_ends_abandon_has_ended_nevertheless(capture: Capture) -> None:
    """Neither end waits for the other, nor reads the end of the stream."""
    for _ in range(20):
        talk = converse(lambda server: receive(server, 3), lambda client: client.sendall(b"ask"))
        client, server = capture.one(talk.port)
        assert client.has(Flag.UNANSWERED, Flag.LAST)
        assert server.has(Flag.UNANSWERED, Flag.LAST)
