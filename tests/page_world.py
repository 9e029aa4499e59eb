"""What the page shows in its tests: a small shop, sent to a viewer by OTLP as agents and SDKs would send it.

The internet → web → shop → payment and inventory → PostgreSQL and Redis, and a bank outside, on three hosts; one
payment in eight fails, with a log; an agent that reports of itself, losses too; and a service that has markup wherever
strangers can put a text.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.unit.viewer_requests import CLIENT, SERVER, Plain, pair, span
from tests.viewer import Viewer, viewer

SECOND = 10**9
TRACES, WINDOW_S = 96, 600
HOSTS = {"web": "alpha", "shop": "beta", "payment": "beta", "inventory": "gamma"}
FAILS_EVERY = 8
HOSTILE_SERVICE = "<script>alert('service')</script>"
HOSTILE_PEER = "<script>alert('peer')</script>"
HOSTILE_PATH = "/<img src=x onerror=alert('path')>"
HOSTILE_SPAN = "\"><svg onload=alert('span')> {{7*7}}"
BANK = "api.bank.example"
LOST = 1203


def deliver(at: Viewer, signal: str, message: Message) -> None:
    """Send one Export…ServiceRequest; HTTPError unless it is taken."""
    headers = {"content-type": "application/x-protobuf"}
    body = message.SerializeToString()
    urllib.request.urlopen(urllib.request.Request(f"http://{at.http}/v1/{signal}", body, headers)).close()


@dataclass(slots=True)
class Sender:
    """Collects spans, then sends them. Times are seconds before `now`, durations milliseconds."""

    now: int = field(default_factory=time.time_ns)
    _number: int = 0
    _services: dict[str, list[Span]] = field(default_factory=dict)

    def span(
        self, service: str, name: str, kind: int, attributes: Mapping[str, Plain], *, trace: int, ago: float,
        took: float, parent: int = 0, failed: bool = False,
    ) -> int:  # fmt: skip
        """Its id."""
        self._number += 1
        start = self.now - round(ago * SECOND)
        made = span(
            self._number, parent=parent, trace=trace, kind=kind, name=name, at=start, milliseconds=took,
            failed=failed, attributes=attributes,
        )  # fmt: skip
        self._services.setdefault(service, []).append(made)
        return self._number

    def call(
        self, client: str, server: str, method: str, path: str, *, trace: int, ago: float, took: float, parent: int,
        status: int = 200, route: str = "",
    ) -> int:  # fmt: skip
        """Both spans of a request by HTTP between two services; the server's id."""
        what: dict[str, Plain] = {
            "http.request.method": method, "http.response.status_code": status, "url.path": path,
            "server.address": server, "server.port": 8080,
        }  # fmt: skip
        failed = status >= 500
        sent = self.span(client, method, CLIENT, what, trace=trace, ago=ago, took=took, parent=parent, failed=failed)
        what |= {"http.route": route or path, "otel_ebpf.link.method": "connection"}
        name, after = f"{method} {route or path}", ago - took / 1e4
        return self.span(
            server, name, SERVER, what, trace=trace, ago=after, took=took * 0.9, parent=sent, failed=failed
        )

    def send(self, at: Viewer) -> None:
        """All that was collected since the last time."""
        message = ExportTraceServiceRequest()
        for service, spans in self._services.items():
            group = message.resource_spans.add(resource=resource_of(service))
            group.scope_spans.add().spans.extend(spans)
        self._services.clear()
        deliver(at, "traces", message)

    def checkout(self, trace: int, *, ago: float, took: float, failed: bool = False) -> int:
        """Eleven spans over four services; returns the payment's id."""
        status = 500 if failed else 200
        asked: dict[str, Plain] = {
            "http.request.method": "POST", "url.path": "/checkout", "http.route": "/checkout",
            "http.response.status_code": status, "client.address": "8.8.4.4", "user.id": f"user-{trace % 10}",
        }  # fmt: skip
        root = self.span("web", "POST /checkout", SERVER, asked, trace=trace, ago=ago, took=took, failed=failed)
        call = partial(self.call, trace=trace)
        shop = call("web", "shop", "POST", "/orders", ago=ago - 0.001, took=took * 0.9, parent=root, status=status)
        basket: dict[str, Plain] = {**_database("redis", "cache", 6379), "db.query.text": f"GET basket:{trace}"}
        self.span("shop", "GET", CLIENT, basket, trace=trace, ago=ago - 0.003, took=took * 0.05, parent=shop)
        stock = call(
            "shop", "inventory", "GET", f"/stock/{trace}", ago=ago - took / 5e3, took=took * 0.2, parent=shop,
            route="/stock/{id}",
        )  # fmt: skip
        orders = _database("postgresql", "orders-db", 5432)
        left: dict[str, Plain] = {**orders, "db.query.text": "SELECT left_over FROM stock WHERE id = $1"}
        within = partial(self.span, trace=trace, took=took * 0.1)
        within("inventory", "SELECT stock", CLIENT, left, ago=ago - took / 4e3, parent=stock)
        payment = call(
            "shop", "payment", "POST", "/pay", ago=ago - took / 2e3, took=took * 0.4, parent=shop, status=status
        )
        within("payment", "INSERT payments", CLIENT, orders, ago=ago - took / 1.9e3, parent=payment)
        bank: dict[str, Plain] = {"http.request.method": "POST", "server.address": BANK, "server.port": 443}
        within("payment", "POST", CLIENT, bank, ago=ago - took / 1.7e3, parent=payment, failed=failed)
        return payment


def _database(system: str, host: str, port: int) -> dict[str, Plain]:
    return {"db.system.name": system, "server.address": host, "server.port": port}


def resource_of(service: str) -> Resource:
    """The attributes of a service of the shop."""
    said: Mapping[str, Plain] = {"service.name": service, "host.name": HOSTS.get(service, "delta")}
    return Resource(attributes=[pair(key, value) for key, value in said.items()])


def log(at: Viewer, service: str, body: str, *, trace: int, number: int, when: int) -> None:
    """A record of severity ERROR of one span. when: Unix ns."""
    message = ExportLogsServiceRequest()
    group = message.resource_logs.add(resource=resource_of(service))
    group.scope_logs.add().log_records.add(
        time_unix_nano=when,
        severity_number=17,
        body=AnyValue(string_value=body),
        trace_id=trace.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        attributes=[pair("card.kind", "<b>debit</b>")],
    )
    deliver(at, "logs", message)


def agent_report(at: Viewer, now: int) -> None:
    """What an agent says of itself: it works, lost some exchanges, and one program is not attached."""
    message = ExportMetricsServiceRequest()
    about = {"service.name": "otel-ebpf", "host.name": "beta", "service.instance.id": "agent-1", "service.version": "1"}
    group = message.resource_metrics.add(resource=Resource(attributes=[pair(*one) for one in about.items()]))
    metrics = group.scope_metrics.add().metrics
    counters: list[tuple[str, dict[str, str], float]] = [
        ("otel_ebpf.exchanges", {"otel_ebpf.record.size": "small"}, 9000),
        ("otel_ebpf.spans", {"otel_ebpf.protocol": "http"}, 9000),
        ("otel_ebpf.losses", {"otel_ebpf.where": "kernel", "otel_ebpf.reason": "ring_full_exchange"}, LOST),
        ("otel_ebpf.stage.time", {"otel_ebpf.stage": "parse"}, 2.5),
        ("otel_ebpf.bpf.time", {"otel_ebpf.program": "sock_sendmsg"}, 0.4),
        ("otel_ebpf.bpf.runs", {"otel_ebpf.program": "sock_sendmsg"}, 40_000),
    ]
    for name, attributes, grown in counters:
        metric = metrics.add(name=name, unit="1")
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = 2  # type: ignore[assignment]  # cumulative
        for ago, value in ((300, grown / 2), (10, grown)):
            metric.sum.data_points.add(
                attributes=[pair(key, one) for key, one in attributes.items()],
                start_time_unix_nano=now - 600 * SECOND,
                time_unix_nano=now - ago * SECOND,
                as_double=value,
            )
    levels: list[tuple[str, dict[str, str], float]] = [
        ("otel_ebpf.ring.fill", {"otel_ebpf.ring": "exchange"}, 0.25),
        ("otel_ebpf.attach.failures", {"otel_ebpf.program": "uring_submit"}, 1),
    ]
    for name, attributes, value in levels:
        metric = metrics.add(name=name, unit="1")
        metric.gauge.data_points.add(
            attributes=[pair(key, one) for key, one in attributes.items()],
            time_unix_nano=now - 10 * SECOND,
            as_double=value,
        )
    deliver(at, "metrics", message)


@dataclass(frozen=True, slots=True)
class Shop:
    """A viewer that holds all this. failed: the trace id of a checkout whose payment failed, and has a log."""

    at: Viewer
    failed: str
    hostile: str

    @property
    def origin(self) -> str:
        return self.at.page


def fill(at: Viewer) -> Shop:
    """Send it all, and wait until calls without a server's span have become edges too."""
    sender = Sender()
    failed = 0
    for number in range(1, TRACES + 1):
        ago = 20 + (TRACES - number) * WINDOW_S / TRACES
        fails = number % FAILS_EVERY == 0
        took = 20.0 + number % 17 * 9 + (900 if number % 31 == 0 else 0)
        payment = sender.checkout(number, ago=ago, took=took, failed=fails)
        if fails:
            log(at, "payment", "card declined", trace=number, number=payment, when=sender.now - round(ago * SECOND))
            failed = number
    hostile = 10**6
    markup: dict[str, Plain] = {
        "http.request.method": "GET", "url.path": HOSTILE_PATH, "http.route": "<i>route</i>",
        "client.address": "10.9.9.9", "<b>key</b>": "<script>alert('value')</script>",
    }  # fmt: skip
    make = partial(sender.span, HOSTILE_SERVICE, HOSTILE_SPAN, trace=hostile)
    root = make(SERVER, markup, ago=30, took=5)
    make(CLIENT, {**markup, "server.address": HOSTILE_PEER}, ago=29.999, took=2, parent=root)
    sender.send(at)
    agent_report(at, sender.now)
    at.wait("/api/v1/map?start=-15m", lambda answer: BANK in str(answer["nodes"]))
    return Shop(at, f"{failed:032x}", f"{hostile:032x}")


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    """A viewer with the shop's data in it."""
    with viewer(folder) as at:
        yield fill(at)
