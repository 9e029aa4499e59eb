"""Node's asynchronous ids, read while its loops make socket calls: each call's id leads to its request."""

from __future__ import annotations

import bisect
import ctypes
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from otel_ebpf.model import Flag
from otel_ebpf.runtimes.base import Kind, Layout, Numbers
from tests.e2e.capture import Capture, Seen, watching
from tests.e2e.peers import Process, listening, port_of
from tests.runtimes import node_program

LOOPS = Path(__file__).parent / "programs" / "loops.js"
ASYNC = 4
CLIENTS, ASKED = 6, 5


class Slow(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(0.002 * (hash(self.path) % 7))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def backend() -> Iterator[int]:
    """A server in a process of its own: this one is not observed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = Process(lambda: ThreadingHTTPServer(("127.0.0.1", port), Slow).serve_forever())
    try:
        yield port
    finally:
        process.kill()


@contextmanager
def loops(workers: int, port: int) -> Iterator[tuple[int, list[int]]]:
    """(pid, ports) of a Node that serves on each of its loops."""
    command = [node_program(), str(LOOPS), str(workers), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout
        try:
            yield node.pid, [int(node.stdout.readline()) for _ in range(workers + 1)]
        finally:
            node.kill()


def ask(port: int, client: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    for i in range(ASKED):
        connection.request("GET", f"/r/{port}-{client}-{i}")
        assert connection.getresponse().read() == b"ok"


def talk(ports: list[int]) -> None:
    def all_of_them() -> None:
        threads = [threading.Thread(target=ask, args=(port, str(i))) for port in ports for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    Process(all_of_them).end()


def found(capture: Capture, pid: int) -> None:
    until = time.monotonic() + 20
    while capture.source.runtimes is None or pid not in capture.source.runtimes.found:
        assert time.monotonic() < until, capture.source.runtimes and capture.source.runtimes.refusals
        capture.poll()
        time.sleep(0.05)


def ids_of(unit: int) -> tuple[int, int, int]:
    """(kind, execution id, trigger id)"""
    return unit >> 56, unit >> 28 & (1 << 28) - 1, unit & (1 << 28) - 1


@pytest.mark.parametrize("storage", [True, False])
def test_the_id_of_a_call_was_given_for_its_request(storage: bool) -> None:
    """Given a pool of two connections with a queue, on two loops; then the trigger id (of the request in the queue) or
    the execution id of each call leads to the segment of the request that it was made for."""
    with backend() as port, loops(1, port) as (pid, ports), watching(storage) as capture:
        found(capture, pid)
        capture.begin()
        talk(ports)
        expected = 2 * CLIENTS * ASKED
        calls, _ = capture.ends(port, expected)
        causes = {one.span_id: path_of(one) for one in capture.of(pid) if one.is_server}
        segments = segments_of(capture, pid)
        for call in calls:
            begun = sorted((int(s["first_id"]), int(s["after"])) for s in segments if s["tid"] == call.tid_req)
            # A connection that was opened for a call is connected for it, and written to when it is there.
            kind, *ids = ids_of(call.unit_req if call.n else int(call.connection["birth_unit"]))
            assert kind == ASYNC
            named = [
                causes.get(begun[at][1]) for id in ids if id and (at := bisect.bisect(begun, (id, 1 << 64)) - 1) >= 0
            ]
            assert path_of(call).replace("/b/", "/r/") in named, (ids, named, path_of(call))


def segments_of(capture: Capture, pid: int) -> list[np.void]:
    drained = [drain.segments for drain in capture.drains if drain.segments is not None]
    return [one for segments in drained for one in segments if one["tgid"] == pid]


def path_of(one: Seen) -> str:
    return one.request.split()[1].decode()


@pytest.mark.parametrize("storage", [True, False])
def test_only_whole_numbers_up_to_the_counter_are_ids(storage: bool) -> None:
    """Given a process that says it were Node, and writes what it likes where its ids should be."""
    given = [
        ((5.0, 3.0, 9.0), (5, 3)),
        ((0.0, 0.0, 9.0), (0, 0)),
        ((1.0, 0.0, 1.0), (1, 0)),
        ((float((1 << 27) + 9), 8.0, float((1 << 28) + 7)), ((1 << 27) + 9, 0)),
        ((float((1 << 28) + 5), 0.0, float((1 << 28) + 7)), (5, 0)),
        *(
            (bad, (0, 0))
            for bad in (
                (float("nan"), 3.0, 9.0),
                (5.0, float("inf"), 9.0),
                (5.0, 3.0, float("nan")),
                (-5.0, 3.0, 9.0),
                (5.5, 3.0, 9.0),
                (10.0, 3.0, 9.0),
                (5.0, 3.0, -9.0),
                (5e-324, 3.0, 9.0),
                (5.0, 3.0, 1e300),
            )
        ),
    ]
    area = ctypes.create_string_buffer(24)
    at = ctypes.addressof(area)  # the same in the child
    with listening() as listener, watching(storage) as capture:

        def serve() -> None:
            for _ in given:
                with listener.accept()[0] as connection:
                    connection.sendall(b"+" + connection.recv(64))

        def call() -> None:
            time.sleep(2)
            for values, _ in given:
                area.raw = struct.pack("<3d", *values)
                with socket.create_connection(listener.getsockname()) as connection:
                    connection.sendall(b"PING\r\n")
                    connection.recv(64)

        server = Process(serve)
        client = Process(call)
        pretend(capture, client.pid, at)
        client.end()
        server.end()
        calls = [
            one for one in capture.wait(lambda: capture.at(port_of(listener)), 2 * len(given)) if not one.is_server
        ]
        assert [ids_of(one.unit_req) for one in calls] == [(ASYNC, *ids) for _, ids in given]
        assert not any(one.flag & Flag.RESET for one in calls)
        counters = [int(s["first_id"]) for s in segments_of(capture, client.pid)]
        assert counters == [10, 10, 2, (1 << 28) + 8, (1 << 28) + 8]


def pretend(capture: Capture, pid: int, address: int) -> None:
    numbers: Numbers = {"tids": np.array([pid], np.uint32), "ids": np.array([address], np.uint64)}
    maps, btf = capture.source.object.maps, capture.source.object.btf
    value = np.frombuffer(Layout(Kind.NODE, "", numbers).packed(btf), np.uint8).copy()
    maps["runtimes"].update(np.array(pid, np.uint32), value)
    maps["runtimes_epoch"].update(np.array(0, np.uint32), np.array(1 << 20, np.uint32))
