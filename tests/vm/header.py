"""Runs in the guest (`python -m tests.vm.header RESULT`): `propagation: http-header` between two hosts, real clients.

RESULT is JSON: {"release": …, "refusal": why this kernel cannot, "messages": {case: received}, "curl": …, …}, or
{"release": …, "error": traceback}. It asserts nothing: the host's test does.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

from otel_ebpf.capture.propagation import HTTP_HEADER, refusal
from tests.agent import Agent, running_agent
from tests.e2e.peers import Process
from tests.e2e.relays import by_request, chain
from tests.hosts import Host, TwoHosts, two_hosts
from tests.processes import program, scratch
from tests.sink import Sink
from tests.spans import SeenSpan
from tests.vm.inside import prepare

PORTS = range(20_040, 20_048)
ECHO, STOCK, BUSY, WAITING = PORTS[:4]
HELLO = bytes.fromhex("160301020001000000fc0303") + bytes(600)
LINE = b"GET /x HTTP/1.1\r\n"
HEAD = LINE + b"Host: there\r\nAccept: */*\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: there\r\n"
PARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
BODY = bytes(range(256)) * 40
MESSAGES: dict[str, Sequence[bytes]] = {
    "plain": [HEAD],
    "version 1.0": [b"GET / HTTP/1.0\r\n\r\n"],
    "with a body": [POST + b"Content-Length: 5\r\n\r\nhello"],
    "with a body of its own": [POST + b"content-length:5\r\n\r\n", b"hello"],
    "with a long body": [POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY],
    "a body like a request": [POST + b"Content-Length: %d\r\n\r\n" % len(HEAD), HEAD],
    "in chunks": [POST + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", HEAD],
    "a long head": [LINE + b"Cookie: " + b"c" * 3900 + b"\r\n\r\n"],
    "too long a head": [LINE + b"Cookie: " + b"c" * 4900 + b"\r\n\r\n"],
    "in two parts": [HEAD[:30], HEAD[30:]],
    "two at once": [HEAD + HEAD],
    "two without an answer": [HEAD, HEAD],
    "of a tracer": [LINE + PARENT + b"\r\n"],
    "of a tracer with its state": [LINE + b"TraceState: a=b\r\n\r\n"],
    "of another tracer": [LINE + b"X-B3-TraceId: 1\r\n\r\n"],
    "line feeds alone": [b"GET / HTTP/1.1\nHost: there\n\n"],
    "folded": [LINE + b" folded\r\n\r\n"],
    "two lengths": [POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"],
    "a length and chunks": [POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    "a length that is none": [POST + b"Content-Length: 5, 5\r\n\r\nhello"],
    "a body longer than it says": [POST + b"Content-Length: 2\r\n\r\nhello"],
    "no method": [b"get / HTTP/1.1\r\nHost: there\r\n\r\n"],
    "no version": [b"GET /\r\nHost: there\r\n\r\n"],
    "a tunnel": [b"CONNECT there:80 HTTP/1.1\r\nHost: there\r\n\r\n", HEAD],
    "HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HEAD],
    "TLS": [HELLO, HEAD],
    "another protocol": [b"*1\r\n$4\r\nPING\r\n", HEAD],
}
"""Case → what is written to one connection, part by part."""
ROUNDS, WORKERS, CONNECTIONS, REQUESTS = 12, 3, 8, 8
WORKS_S, PAUSE_S = 8.0, 0.2


def settings(host: Host) -> list[str]:
    told = (f"propagation={HTTP_HEADER}", "traces.completion=off", f"filter.network_namespace={host.path}")
    return [word for setting in told for word in ("--set", setting)]


def counted(agent: Agent) -> Counter[str]:
    """By outcome; a guest may be too slow for the admin page's patience: then it is asked again."""
    for _ in range(10):
        try:
            return _counted(agent)
        except (AssertionError, OSError):
            time.sleep(2)
    return _counted(agent)


def _counted(agent: Agent) -> Counter[str]:
    found = (s for s in agent.metrics() if s.name == "otel_ebpf_propagation_total")
    return Counter({s.labels["otel_ebpf_outcome"]: int(s.value) for s in found})


def counted_by(agents: Sequence[Agent]) -> Counter[str]:
    found = Counter[str]()
    for agent in agents:
        found.update(counted(agent))
    return found


# ---- messages ----


def echo(address: tuple[str, int]) -> None:
    """A server that answers with what it received, once the client has no more to say."""

    def serve(connection: socket.socket) -> None:
        with connection:
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received) + received)

    with socket.create_server(address, backlog=64) as listener:
        while True:
            Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def say(address: tuple[str, int], parts: Sequence[bytes], patience: float | None = 30) -> bytes:
    """Send the parts over one connection; what arrived of them. patience: None: a socket that blocks."""
    with socket.create_connection(address, timeout=patience) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    return answer.partition(b"\r\n\r\n")[2]


def messages(hosts: TwoHosts, into: Path) -> None:
    """All MESSAGES, each over a connection of its own; that its program speaks HTTP/1 there is known by then."""
    door = hosts.door(ECHO)
    found = {"first": say(door, [HEAD]), "blocking": say(door, [HEAD], None)}
    for number, (case, parts) in enumerate(MESSAGES.items()):
        Path("/proc/self/comm").write_text(f"case {number}")  # another program, which speaks HTTP so far
        say(door, [HEAD])
        found[case] = say(door, parts)
    into.write_text(json.dumps({case: received.hex() for case, received in found.items()}))


# ---- calls that wait ----


def waiting(hosts: TwoHosts, into: Path) -> None:
    """Receives that block, interrupted by a signal each 20 ms and by a reset at the end: they go on, and say so."""
    door = hosts.door(WAITING)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, False)
    said = []
    for _ in range(3):
        with socket.create_connection(door) as connection:
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            connection.sendall(HEAD)
            try:
                while part := connection.recv(65_536):
                    said.append(part.decode())
            except OSError as failure:
                said.append(type(failure).__name__)
            signal.setitimer(signal.ITIMER_REAL, 0)
    into.write_text(json.dumps(said))


def slow(address: tuple[str, int]) -> None:
    """A server that takes its time, and then resets."""
    with socket.create_server(address) as listener:
        while True:
            connection, _ = listener.accept()
            connection.recv(65_536)
            time.sleep(0.5)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nlate")
            time.sleep(0.5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()


# ---- load ----


class Digest(http.server.BaseHTTPRequestHandler):
    """Answers with what came: how many contexts, and the digest of the body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = len(self.headers.get_all("traceparent") or ())
        answer = f"{told} {hashlib.sha256(body).hexdigest()}".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def digest(address: tuple[str, int]) -> None:
    http.server.ThreadingHTTPServer(address, Digest).serve_forever()


def load(hosts: TwoHosts, over: Path, into: Path) -> None:
    """Clients that keep their connections for some requests each, until `over` is there: what went wrong, what bore a
    context."""
    found = Counter[str]()

    def work(number: int) -> None:
        i = 0
        while not over.exists():
            connection = http.client.HTTPConnection(*hosts.door(BUSY), timeout=60)
            for _ in range(REQUESTS):
                i += 1
                body = hashlib.shake_128(b"%d %d" % (number, i)).digest(1 + i * 977 % 30_000)
                connection.request("POST", f"/{number}/{i}", body)
                answer = connection.getresponse().read()
                told, _, rest = answer.partition(b" ")
                right = rest == hashlib.sha256(body).hexdigest().encode() + body
                found[f"told {told.decode()}" if right else "wrong"] += 1
                time.sleep(PAUSE_S)  # a guest has one CPU, and an agent is to start beside this
            connection.close()
        found["workers"] += 1

    threads = [Thread(target=work, args=(n,)) for n in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    into.write_text(json.dumps(found))


# ---- traces ----


def drive(hosts: TwoHosts, shop: tuple[str, int], first: int) -> list[int]:
    """Requests one after the other, over some connections; returns their ids."""

    def ask() -> None:
        for n in range(CONNECTIONS):
            connection = http.client.HTTPConnection(*shop, timeout=60)
            for i in range(first + n * REQUESTS, first + (n + 1) * REQUESTS):
                connection.request("GET", f"/r/{i}")
                assert connection.getresponse().read() == b"((()))"
            connection.close()

    def patiently() -> None:
        signal.alarm(0)
        ask()

    Process(hosts.client.inside(patiently)).end()
    return list(range(first, first + CONNECTIONS * REQUESTS))


def steps(spans: list[SeenSpan]) -> list[str]:
    """Kind, service and link of one request's spans from the root on; each the child of the one before."""
    by_parent = {span.parent: span for span in spans}
    line: list[str] = []
    at = ""
    while at in by_parent and len(line) < len(spans):
        span = by_parent[at]
        method = str(span.get("otel_ebpf.link.method") or "")
        service = span.service if at else "driver"  # what a guest's processes are called depends on how it was booted
        line.append(f"{span.kind} {service} {method}".strip())
        at = span.id
    return [*line, f"{len({span.trace for span in spans})} trace", f"{len(spans)} spans"]


def traces(hosts: TwoHosts, sink: Sink, agents: Sequence[Agent]) -> dict[str, Any]:
    with chain(hosts, STOCK) as shop:
        for rounds in range(ROUNDS):
            before = [counted(agent)["written"] for agent in agents]
            ids = drive(hosts, shop, 1_000_000 + rounds * 100)
            if all(counted(a)["written"] - n >= len(ids) for a, n in zip(agents, before, strict=True)):
                break
            time.sleep(1)
        so_far = counted_by(agents)
        ids = drive(hosts, shop, 0)
        try:
            sink.wait(lambda spans: sum(map(len, by_request(spans, ids).values())) >= 6 * len(ids), 60)
        except AssertionError:
            print("not all spans came", file=sys.stderr)
        lines = Counter(" > ".join(steps(some)) for some in by_request(sink.spans(), ids).values())
        return {
            "lines": lines,
            "outcomes": counted_by(agents) - so_far,
            "said": [agent.said()[-2000:] for agent in agents],
        }


# ---- all of it ----


def serving(host: Host, serve: Callable[[tuple[str, int]], None], port: int) -> Process:
    """A server on that host, until it is killed."""

    def forever() -> None:
        signal.alarm(0)
        serve((host.address, port))

    return Process(host.inside(forever))


def in_a_file(host: Host, work: Callable[[Path], None]) -> object:
    """What a client on that host has written."""
    with scratch() as folder:
        into = folder / "found"

        def here() -> None:
            signal.alarm(0)
            work(into)

        Process(host.inside(here)).end()
        return json.loads(into.read_text())


def killed_under_load(hosts: TwoHosts, agent: Agent) -> object:
    """Clients work while the agent is there, and after it was killed."""
    found: list[object] = []
    with scratch() as folder:
        over = folder / "over"
        worker = Thread(target=lambda: found.append(in_a_file(hosts.client, lambda into: load(hosts, over, into))))
        worker.start()
        try:
            time.sleep(WORKS_S)
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()
            time.sleep(WORKS_S / 2)
        finally:
            over.touch()
            worker.join()
    return found[0]


def observe(found: dict[str, Any]) -> None:
    """With an agent on each host: to start one is most of what a guest has to do."""
    with two_hosts(PORTS) as hosts, ExitStack() as stack:
        for serve, port in ((echo, ECHO), (digest, BUSY), (slow, WAITING)):
            stack.callback(serving(hosts.server, serve, port).kill)
        time.sleep(1)
        sink = stack.enter_context(Sink())
        agents = [
            stack.enter_context(running_agent(sink.endpoint, *settings(host))) for host in (hosts.client, hosts.server)
        ]
        agent = agents[0]
        found["said"] = agent.said()
        found["messages"] = in_a_file(hosts.client, lambda into: messages(hosts, into))
        found["waiting"] = in_a_file(hosts.client, lambda into: waiting(hosts, into))
        url = "http://{}:{}/".format(*hosts.door(BUSY))
        curl = (*hosts.client.command, program("curl", "curl"), "-sS", "-d", "body", url)
        found["curl"] = [subprocess.run(curl, capture_output=True, text=True).stdout for _ in range(3)]
        found["counts"] = counted(agent)
        found["traces"] = traces(hosts, sink, agents)
        found["spans"] = [
            [span.kind, span.trace, span.id] for span in sink.spans() if span.kind == "client" and not span.parent
        ]
        found["load"] = killed_under_load(hosts, agent)


def main() -> None:
    found: dict[str, Any] = {"release": os.uname().release}
    try:
        prepare()
        found["refusal"] = refusal(HTTP_HEADER)
        observe(found)
    except BaseException:
        # A guest has no other way to say what went wrong.
        found["error"] = traceback.format_exc()
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
