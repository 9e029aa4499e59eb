"""`propagation: http-header`: refused, with the reason, where sockets in a map are not as they were. Where a kernel is
fit for it, tests/vm/test_header.py shows what it does."""

from __future__ import annotations

import select
import subprocess
import time

from otel_ebpf.capture.propagation import HTTP_HEADER, refusal
from otel_ebpf.capture.sockmap import connections
from tests.agent import running_agent
from tests.e2e.peers import unread
from tests.processes import program
from tests.servers import nginx
from tests.sink import Sink

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def test_what_the_agent_says_of_this_kernel_is_what_its_sockets_do() -> None:
    """FIONREAD on a socket in a map, asked here once more, by the test's own hand."""
    said = refusal(HTTP_HEADER)
    with connections() as connect:
        client, server = connect()
        server.sendall(b"hello")
        assert select.select([client], [], [], 5)[0]
        waiting = unread(client)
    assert (waiting == 5) is ("FIONREAD" not in said), said


def test_a_kernel_that_is_not_fit_is_refused_with_the_reason_and_the_rest_goes_on(sink: Sink) -> None:
    why = refusal(HTTP_HEADER)
    with nginx() as web, running_agent(sink.endpoint, "--set", f"propagation={HTTP_HEADER}") as agent:
        for _ in range(2):
            subprocess.run([program("curl", "curl"), "-sS", f"{web.url}/hello.txt"], check=True, capture_output=True)
        spans = sink.wait(lambda spans: len(spans) >= 4)
        failures = [s for s in agent.metrics() if s.name == "otel_ebpf_attach_failures"]
        said = agent.said()
    assert {span.kind for span in spans} == {"client", "server"}
    assert said.count(f"not attached: propagation: {why}") == (1 if why else 0)
    assert bool(why) is any("propagation" in sample.labels.values() for sample in failures), failures


def test_the_try_leaves_nothing_behind() -> None:
    """A socket that was in the map is as any other once the map is gone."""
    with connections() as connect:
        client, server = connect()
        kept, other = client.dup(), server.dup()
    with kept, other:
        until = time.monotonic() + 10
        while True:  # the kernel gives maps back behind our backs
            kept.sendall(REQUEST)
            if other.recv(999) == REQUEST:
                break
            assert time.monotonic() < until
            time.sleep(0.1)
        other.sendall(b"hello")
        assert select.select([kept], [], [], 5)[0]
        assert unread(kept) == 5
