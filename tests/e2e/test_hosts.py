"""Two hosts with address translation between them, each with an agent that knows of nothing beyond, and a gateway that
neither knows of: one trace for each request (issue acceptance 2).

    driver → shop | router: DNAT, masquerading | → stock, by HTTP and by HTTPS → depot, on the same host as stock

All connections are kept alive. That a span belongs to a request is told by its path, /r/ID.
"""

from __future__ import annotations

import http.client
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.agent import running_agent
from tests.e2e.peers import at_once
from tests.e2e.relays import by_request, relay
from tests.gateway import gateway
from tests.hosts import TwoHosts, two_hosts
from tests.processes import scratch
from tests.servers import make_certificate
from tests.sink import Sink
from tests.spans import SeenSpan

PORTS = range(20_010, 20_014)
CLIENTS, REQUESTS = 8, 15
HOPS = [("", "shop"), ("shop", "stock"), ("stock", "depot"), ("shop", "stock"), ("stock", "depot")]
"""Who asks whom, for one request: by HTTP, then by HTTPS. The driver is observed by its call only."""


@dataclass(frozen=True, slots=True)
class Shop:
    """Three services on two hosts. address: where the shop is, on its own host."""

    hosts: TwoHosts
    address: tuple[str, int]

    def drive(self, first: int = 0) -> list[int]:
        """Some clients ask at once, each over one connection; returns the ids."""

        def ask(client: int) -> None:
            connection = http.client.HTTPConnection(*self.address, timeout=30)
            for i in range(REQUESTS):
                connection.request("GET", f"/r/{first + client * REQUESTS + i}")
                assert connection.getresponse().read() == b"((())(()))"

        at_once(self.hosts.client, ask, CLIENTS)
        return list(range(first, first + CLIENTS * REQUESTS))


@contextmanager
def shop() -> Iterator[Shop]:
    """Running services; what they say of the agents is nothing."""
    with two_hosts(PORTS) as hosts, scratch() as folder, ExitStack() as stack:
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        make_certificate(certificate, key)

        depot = f"127.0.0.1:{PORTS[2]}"
        plain, secure = (f"{hosts.server.address}:{port}" for port in PORTS[:2])
        doors = [f"{host}:{port}" for host, port in map(hosts.door, PORTS[:2])]
        front = f"{hosts.client.address}:8000"
        for service in (
            relay("depot", hosts.server, depot),
            relay("stock", hosts.server, plain, f"http://{depot}"),
            relay("stock", hosts.server, f"{secure},{certificate},{key}", f"http://{depot}"),
            relay("shop", hosts.client, front, f"http://{doors[0]}", f"https://{doors[1]}"),
        ):
            stack.enter_context(service)
        yield Shop(hosts, (hosts.client.address, 8000))


def wrong_in(spans: Sequence[SeenSpan]) -> list[str]:
    """What is not as it should be in the spans of one request."""
    wrong = []
    if len({span.trace for span in spans}) != 1:
        wrong.append(f"{len({span.trace for span in spans})} traces")
    by_id = {span.id: span for span in spans}
    hops: Counter[tuple[str, str]] = Counter()
    for span in spans:
        parent = by_id.get(span.parent)
        if span.kind == "server":
            if parent is None or parent.kind != "client":
                wrong.append(f"{span.service}'s server span has no client's")
                continue
            asking = by_id.get(parent.parent)
            hops[asking.service if asking else "", span.service] += 1
        elif parent is None and span.parent:
            wrong.append(f"{span.service}'s call has a parent that is not there")
    if sorted(hops.elements()) != sorted(HOPS):
        wrong.append(f"hops {dict(hops)}")
    return wrong


@contextmanager
def observed(hosts: TwoHosts, endpoint: str) -> Iterator[None]:
    """An agent on each host."""
    with ExitStack() as stack:
        for host in (hosts.client, hosts.server):
            stack.enter_context(running_agent(endpoint, "--set", f"filter.network_namespace={host.path}"))
        yield


@pytest.mark.parametrize("first", ["agents", "services"])
def test_requests_through_two_hosts_are_one_trace_each(sink: Sink, first: str) -> None:
    with ExitStack() as stack:
        place = stack.enter_context(shop())
        if first == "services":  # and their connections
            place.drive(first=1_000_000)
        joined = stack.enter_context(gateway(sink.endpoint, "--window", "4s"))
        stack.enter_context(observed(place.hosts, joined.http))
        ids = place.drive()
        spans = sink.wait(
            lambda spans: sum(len(some) for some in by_request(spans, ids).values()) >= 2 * len(HOPS) * len(ids), 30
        )
    found = by_request(spans, ids)
    assert sorted(found) == ids
    assert {number: len(some) for number, some in found.items() if len(some) != 2 * len(HOPS)} == {}
    wrong = {number: wrong_in(some) for number, some in found.items()}
    assert {number: why for number, why in wrong.items() if why} == {}
    across = [s for some in found.values() for s in some if s.service == "stock" and s.kind == "server"]
    assert {s["otel_ebpf.link.method"] for s in across} == {"connection"}
    assert {s["url.scheme"] for s in across} == {"http", "https"}
    keys = Counter(span["otel_ebpf.link.key"] for span in across)
    assert set(keys.values()) == {1}
    assert len(keys) == 2 * len(ids)


def test_without_a_gateway_each_host_has_its_part(sink: Sink) -> None:
    """And the parts can be joined by whoever has both: the keys are there."""
    with shop() as place, observed(place.hosts, sink.endpoint):
        ids = place.drive()
        spans = sink.wait(
            lambda spans: sum(len(some) for some in by_request(spans, ids).values()) >= 2 * len(HOPS) * len(ids), 30
        )
    for some in by_request(spans, ids).values():
        assert len({span.trace for span in some}) == 3
        ends = defaultdict(set)
        for span in some:
            ends[span.get("otel_ebpf.link.key")].add((span.kind, span.service))
        joined = [sorted(ends[s["otel_ebpf.link.key"]]) for s in some if (s.kind, s.service) == ("server", "stock")]
        assert joined == [[("client", "shop"), ("server", "stock")]] * 2
