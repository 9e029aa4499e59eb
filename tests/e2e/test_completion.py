"""A service with an SDK is completed, not copied: FastAPI with it, Go without it, PostgreSQL and Redis."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.agent import Agent, running_agent
from tests.collector import Collector, collector
from tests.processes import answers, free_port, running, scratch
from tests.servers import CACHE, Server, postgresql, redis
from tests.spans import SeenSpan, from_protobuf
from tests.toolbox import go_environment

PROGRAMS = Path(__file__).parent / "programs" / "completed"
REQUESTS = 12
SEVERAL_S = 40.0
"""SDKs export each 5 s, and the agent waits for them."""


@dataclass(frozen=True, slots=True)
class Stores:
    """What both services use."""

    postgresql: Server
    redis: Server
    go: Path


@dataclass(frozen=True, slots=True)
class Shop:
    """The first service, and the agent that observes it."""

    port: int
    pid: int
    agent: Agent


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    built = CACHE / "completed"
    command = ["go", "build", "-trimpath", "-o", str(built), "."]
    subprocess.run(command, cwd=PROGRAMS / "go", env={**go_environment(), "CGO_ENABLED": "0"}, check=True)
    with postgresql() as database, redis() as cache:
        yield Stores(database, cache, built)


@contextmanager
def checkout(stores: Stores, to: Collector, instrumented: Sequence[str], *more: str) -> Iterator[Shop]:
    """An agent that observes what concerns them, and both services."""
    with scratch() as folder, ExitStack() as running_now:
        stock, shop = free_port(), free_port()
        ports = (stock, shop, stores.redis.port, stores.postgresql.port)
        only = f"filter.include=[{{port: '{','.join(map(str, ports))}'}}]"
        agent = running_now.enter_context(running_agent(to.http, "--set", only, *more))
        go = [str(stores.go), "-port", str(stock), "-postgresql", str(stores.postgresql.port)]
        go += ["-redis", str(stores.redis.port)]
        running_now.enter_context(running(go, answers(stock), log=folder / "go.log"))
        python = [sys.executable, str(PROGRAMS / "shop.py"), str(shop), str(stock), str(stores.redis.port)]
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": to.grpc if "grpc" in instrumented else to.http,
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
        }
        log = folder / "shop.log"
        first = running([*python, *instrumented], answers(shop), log=log, environment=environment)
        yield Shop(shop, running_now.enter_context(first).pid, agent)


def ask(port: int, number: int, **headers: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/checkout/{number}", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert b"ok" in answer.read()


def waited(to: Collector, enough: Callable[[list[SeenSpan]], bool]) -> list[SeenSpan]:
    """All spans, once there are enough, or it has taken too long; and a moment later, for what should not come."""
    until = time.monotonic() + SEVERAL_S
    while not enough(to.spans()) and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1)
    return to.spans()


def shape(spans: Sequence[SeenSpan]) -> list[str]:
    """Each span with its ancestors, e.g. "GET server < GET client"."""
    by_id = {span.id: span for span in spans}

    def line(span: SeenSpan) -> str:
        above = by_id.get(span.parent)
        own = f"{span.service} {span.kind} {span.name.split(' ')[0]}"
        return own + (f" < {line(above)}" if above else "" if not span.parent else " < ?")

    return sorted(map(line, spans))


def trees(spans: Sequence[SeenSpan], number: int) -> list[list[str]]:
    """The traces with a span of what was done for this checkout: what their spans are."""
    paths = {f"/checkout/{number}", f"/stock/{number}"}
    named = {span.trace for span in spans if paths & {span.get("url.path"), span.get("http.target")}}
    named |= {span.trace for span in spans if str(span.get("db.query.text")).endswith(f" cart:{number}")}
    found = [shape([span for span in spans if span.trace == trace]) for trace in named]
    return sorted([line for line in lines if not _IS_SETTING_UP(line)] for lines in found)


def only_tree(spans: Sequence[SeenSpan], number: int) -> list[str]:
    """What is done for this checkout, without its caller: that is in the trace as well, if its connection was known in
    time; above the SDK's root nothing can be."""
    found = trees(spans, number)
    assert len(found) == 1, f"checkout {number} is in {len(found)} traces: {found}"
    return [line for line in found[0] if line != CALLER]


# The first use of a connection introduces the client to Redis; what FastAPI's instrumentation adds within its span.
_IS_SETTING_UP = re.compile(r"\S+ \w+ (CLIENT|HELLO)|.* internal ").match


CALLER = "pytest client GET"


def whole(service: str = "checkout", above: str = "") -> list[str]:
    """All that is done for a checkout, once each; `above`: who called the service."""
    served = f"{service} server GET{above}"
    asked = f"{service} client GET < {served}"
    stock = f"completed server GET < {asked}"
    told, query = f"completed client SET < {stock}", f"completed client select < {stock}"
    lines = [served, asked, asked, f"redis-server server GET < {asked}", stock]
    return sorted([*lines, told, f"redis-server server SET < {told}", query, f"postgres server select < {query}"])


def complete(spans: Sequence[SeenSpan]) -> bool:
    """As many spans as there should be of each checkout, without its caller's."""
    counts = (sum(line != CALLER for tree in trees(spans, n) for line in tree) for n in range(REQUESTS))
    return all(count >= len(whole()) for count in counts)


@pytest.mark.parametrize("over", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("parts", [("server", "http", "redis"), ("server", "http"), ("server",)], ids="+".join)
def test_each_checkout_is_one_tree_without_doubles(stores: Stores, parts: tuple[str, ...], over: str) -> None:
    """Whatever of it the SDK tells of: server, HTTP client, Redis client; the rest is ours."""
    with collector() as to, checkout(stores, to, [*parts, over]) as shop:
        for number in range(REQUESTS):
            ask(shop.port, number)

        spans = waited(to, complete)
    for number in range(REQUESTS):
        assert only_tree(spans, number) == whole(), number
    of_sdk = {span.kind for span in spans if span.resource.get("telemetry.sdk.language") == "python"}
    assert "server" in of_sdk
    assert {span.resource.get("service.namespace") for span in spans if span.service == "checkout"} == {"shop"}


def test_traces_that_sampling_by_the_tail_keeps_are_as_whole(stores: Stores) -> None:
    """What the SDK tells of is not held: that it comes by another way does not keep the rest waiting."""
    keep = ("--set", "sampling.tail.enabled=true", "--set", "sampling.tail.ratio=1", "--set", "sampling.tail.wait=1m")
    with collector() as to, checkout(stores, to, ["server", "redis"], *keep) as shop:
        for number in range(REQUESTS):
            ask(shop.port, number)
        spans = waited(to, complete)
    for number in range(REQUESTS):
        assert only_tree(spans, number) == whole(), number


def test_without_an_sdk_it_is_all_ours(stores: Stores) -> None:
    expected = sorted([CALLER, *whole("shop", f" < {CALLER}")])
    with collector() as to, checkout(stores, to, []) as shop:
        for number in range(REQUESTS):
            ask(shop.port, number)
        spans = waited(to, lambda spans: all(trees(spans, n) == [expected] for n in range(REQUESTS)))
    for number in range(REQUESTS):
        assert trees(spans, number) == [expected], number


def test_spans_of_another_tracer_are_handed_in_and_come_back_completed(stores: Stores) -> None:
    trace, caller, own = os.urandom(16), os.urandom(8), os.urandom(8)
    with collector() as to, checkout(stores, to, []) as shop:
        begin = time.time_ns()
        ask(shop.port, 7, traceparent=f"00-{trace.hex()}-{caller.hex()}-01")
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "foreign"
        resource.resource.attributes.add(key="process.pid").value.int_value = shop.pid
        resource.scope_spans.add().spans.add(
            trace_id=trace,
            span_id=own,
            parent_span_id=caller,
            name="GET /checkout",
            kind="SPAN_KIND_SERVER",
            start_time_unix_nano=begin,
            end_time_unix_nano=time.time_ns(),
        )
        answer = requests.post(
            f"http://{shop.agent.admin}/v1/complete",
            request.SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
            timeout=20,
        )
        refused = requests.post(f"http://{shop.agent.admin}/v1/complete", b"{}", timeout=20).status_code
    assert answer.status_code == 200, answer.text
    assert refused == 415
    spans = list(from_protobuf(ExportTraceServiceRequest.FromString(answer.content)))
    asked = "shop client GET < foreign server GET < ?"
    stock = f"completed server GET < {asked}"
    told, query = f"completed client SET < {stock}", f"completed client select < {stock}"
    expected = ["foreign server GET < ?", asked, asked, f"redis-server server GET < {asked}", stock, told, query]
    expected += [f"redis-server server SET < {told}", f"postgres server select < {query}"]
    assert [line for line in shape(spans) if not _IS_SETTING_UP(line)] == sorted(expected)
    assert {span.trace for span in spans} == {trace.hex()}
