"""Whatever is sent, mapped or answered: the agent stays up, counts what it could not read, and sees what comes next."""

from __future__ import annotations

import glob
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent import Agent, running_agent
from tests.e2e.pairs import both_ends, ends, run
from tests.processes import wait_until
from tests.servers import nginx
from tests.sink import Sink

PROGRAM = Path(__file__).parent / "programs" / "impostor.py"
ROOM_MB = 64
"""What the agent may grow by, whatever it is fed: its tables are bounded, and some of them fill."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
READY = b"Z\0\0\0\5I"

EXCHANGES: list[tuple[bytes, bytes]] = [
    *((random.Random(seed).randbytes(900), random.Random(-seed).randbytes(700)) for seed in range(1, 21)),
    # HTTP: contradictions, cut and endless heads, control characters and invalid UTF-8 everywhere
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello", OK),
    (b"POST / HTTP/1.1\r\nContent-Length: -5\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", OK),
    (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\nok"),
    (GET, b"HTTP/1.1 999999 \xff\x1b[2J\r\n\r\n"),
    (GET, b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    (b"GET / HTTP/1.1\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n", OK),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000 + b"\r\n", OK),
    (b"GET /\xff\xfe\0\x1b[2J HTTP/1.1\r\nHo\0st: \x1b]0;x\x07\xff\r\nUser-Agent: \0\x9b\r\n\r\n", OK),
    (b"GET / HTTP/1.1\r\nHost: h\r\ntraceparent: 00-" + b"0" * 5000 + b"\r\nb3: " + b"-" * 3000 + b"\r\n\r\n", OK),
    (b"GET http://[::1]:99999999/ HTTP/1.1\r\nHost: [[[\r\n\r\n", OK),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), bytes(9)),
    # Redis: depth, sizes
    (b"*1\r\n" * 1_000_000, b"+OK\r\n"),
    (b"*1\r\n$4\r\nPING\r\n", b"*1\r\n" * 100_000),
    (b"*1\r\n$4\r\nPING\r\n", b"*2147483647\r\n$-7\r\n%9223372036854775807\r\n"),
    (b"*2\r\n$-7\r\nGET\r\n$99999999999999999999\r\nk\r\n", b"$-1\r\n"),
    (b"*3\r\n$3\r\nSET\r\n$4\r\nk\0\x1b[\r\n$1\r\n\xff\r\n", b"-\xff\x1b[0m " + b"x" * 300 + b"\r\n"),
    (b"*1\r\n$4\r\nPING\r\n" * 3000, b"+PONG\r\n" * 7),
    # PostgreSQL and MySQL: lengths, text that is none
    (b"Q\xff\xff\xff\xffselect 1\0", READY),
    (b"Q\x7f\xff\xff\xffselect 1\0", b"E\x7f\xff\xff\xffSERROR\0"),
    (b"Q" + struct.pack(">i", 50_004) + b"(" * 49_999 + b"\0", READY),
    (b"Q\0\0\0\x14select '\xff\x1b[2J\0" + b"x" * 4, READY),
    (b"P\0\0\0\x0a\0\0\xff\xff\xffB\0\0\0\x04S\0\0\0\x04", b"1\0\0\0\x04" + READY),
    (b"\xff\xff\xff\0\x03select 1", b"\x01\0\0\1\xff"),
    (b"\x09\0\0\0\x03select \xff", b"\xff\xff\xff\1\xfe"),
    # DNS over TCP: a pointer to itself, counts beyond everything
    (
        b"\0\x12\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",
        b"\0\x12\0\7\x81\x80\xff\xff\xff\xff\xff\xff\xff\xff\xc0\x0c\xc0\x0e",
    ),
]


@contextmanager
def parrot() -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers each connection's first bytes with what stands in the list: its port, and the list."""
    says: list[bytes] = [b""]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(0.3)
                    try:
                        while client.recv(1 << 20):
                            if says[0]:
                                client.sendall(says[0])
                    except OSError:
                        continue

        threading.Thread(target=serve, name="parrot", daemon=True).start()
        try:
            yield listener.getsockname()[1], says
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def exchange(port: int, request: bytes) -> None:
    """Send, and take what comes until it is enough."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(request)
            client.settimeout(0.05)
            while client.recv(1 << 20):
                pass
        except OSError:
            return


def resident_mb(agent: Agent) -> float:
    (used,) = [s.value for s in agent.metrics() if s.name == "process_memory_usage_bytes"]
    return used / (1 << 20)


def failures(agent: Agent) -> dict[str, float]:
    found = [s for s in agent.metrics() if s.name == "otel_ebpf_parse_failures_total"]
    return {s.labels["otel_ebpf_protocol"]: s.value for s in found}


def sees_the_next_request(sink: Sink) -> None:
    with nginx() as web:
        assert run("curl", "-s", f"{web.url}/hello.txt") == "hello\n"
        client, server = ends(sink.wait(both_ends(web)), web)
    assert server.parent == client.id


def test_hostile_bytes_are_counted_and_the_next_request_is_seen(agent: Agent, sink: Sink) -> None:
    before, resident = failures(agent), resident_mb(agent)
    with parrot() as (port, says):
        for request, response in EXCHANGES:
            says[0] = response
            exchange(port, request)

    sees_the_next_request(sink)

    assert agent.get("/readyz")[0] == 200
    assert sum(failures(agent).values()) - sum(before.values()) >= 20
    assert resident_mb(agent) - resident < ROOM_MB


def test_what_is_different_each_time_does_not_fill_memory(agent: Agent, sink: Sink) -> None:
    resident = resident_mb(agent)
    with nginx() as web, socket.create_connection(("127.0.0.1", web.port)) as client:
        seen: Counter[tuple[str, int]] = Counter()

        def served() -> int:
            seen.update(sink.tally())
            return sum(seen["server", pid] for pid in web.pids())

        for n in range(20_000):
            client.sendall(b"GET /%x/%d HTTP/1.1\r\nHost: h%d.test\r\nUser-Agent: a%d\r\n\r\n" % (n, n, n, n))
            received = b""
            while not received.endswith(b"</html>\r\n"):
                received += client.recv(65536)
            if n % 2000 == 1999:
                wait_until(lambda sent=n: served() >= sent, f"{n} requests are spans")  # type: ignore[misc]

    sees_the_next_request(sink)

    assert resident_mb(agent) - resident < ROOM_MB


def test_a_process_with_broken_libraries_and_names_is_a_process_like_any_other(
    agent: Agent, sink: Sink, tmp_path: Path
) -> None:
    real = Path(sorted(glob.glob("/usr/lib/*/libssl.so.3"))[0]).read_bytes()  # noqa: PTH207
    endless = bytearray(real)
    struct.pack_into("<H", endless, 60, 0xFFFF)  # e_shnum
    files = []
    for n, content in enumerate([b"\x7fELF" + bytes(5000), real[:70_000], real[:64], bytes(endless)]):
        files.append(tmp_path / str(n) / "libssl.so.3")
        files[-1].parent.mkdir()
        files[-1].write_bytes(content)
    hostile = {b"OTEL_RESOURCE_ATTRIBUTES": b"a=b,\xff\xfe=%ff%zz,=,," + b"x" * 60_000}
    command = [b"\x1b[2J\xff", *(os.fsencode(part) for part in (PROGRAM, *files))]
    with subprocess.Popen(
        command, executable=sys.executable, env={**os.environb, **hostile}, stdout=subprocess.PIPE
    ) as impostor:
        try:
            assert impostor.stdout is not None
            port = int(impostor.stdout.readline())
            assert run("curl", "-s", f"http://127.0.0.1:{port}/from-an-impostor") == "ok"
            (span,) = [
                span
                for span in sink.wait(lambda spans: [s for s in spans if s.resource.get("process.pid") == impostor.pid])
                if span.resource.get("process.pid") == impostor.pid
            ]
        finally:
            impostor.kill()
    assert span.name == "GET /from-an-impostor"
    assert span.service.isprintable()
    assert agent.get("/readyz")[0] == 200
    sees_the_next_request(sink)


@pytest.mark.parametrize("says", [b"", b"\x1b[2J\0\xff" * 99, b"HTTP/1.1 503 no\r\nRetry-After: 999999999\r\n\r\n"])
def test_a_mad_receiver_harms_nobody_and_what_it_does_not_take_is_counted(says: bytes) -> None:
    with parrot() as (port, answer), nginx() as web:
        answer[0] = says
        impatient = ("--set", "batch.timeout=500ms", "--set", "otlp.timeout=500ms")
        with running_agent(f"http://127.0.0.1:{port}", *impatient) as agent:
            for _ in range(50):
                assert run("curl", "-s", f"{web.url}/hello.txt") == "hello\n"

            def dropped() -> float:
                return sum(
                    s.value
                    for s in agent.metrics()
                    if s.name == "otel_ebpf_losses_total" and s.labels["otel_ebpf_where"] == "export.traces"
                )

            wait_until(lambda: dropped() >= 100, "100 spans are counted as lost")
            assert "\x1b" not in agent.said()
