"""`otel-ebpf gateway`: receivers, intake, exporter and shards put together."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from otel_ebpf import heap
from otel_ebpf.config import Config
from otel_ebpf.config.kinds import Duration, Kind, Size
from otel_ebpf.config.otlp import SIGNALS
from otel_ebpf.control.admin import Admin, Health
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.errors import ConfigError
from otel_ebpf.gateway.intake import Gateway
from otel_ebpf.gateway.shards import Shards
from otel_ebpf.otlp.configured import otlp_settings
from otel_ebpf.otlp.exporter import Exporter
from otel_ebpf.otlp.settings import OtlpSettings, SignalSettings
from otel_ebpf.viewer.contract import Signal
from otel_ebpf.viewer.options import listening
from otel_ebpf.viewer.receiver.asgi import Receive, Scope, Send, answer
from otel_ebpf.viewer.receiver.reception import Reception
from otel_ebpf.viewer.serving import Servers

CLOSE_S = 3.0
JOINED: tuple[Signal, ...] = ("traces", "logs")
_SHARD = re.compile(r"(\d{1,4})/(\d{1,4})")
T = TypeVar("T")


def main(config: Config, options: argparse.Namespace) -> int:
    """Receive and pass on until SIGTERM or SIGINT."""
    window = _value(Duration(least=0.1, most=600), options.window, "--window")
    memory = _value(Size(least=1 << 20, most=1 << 40), options.memory, "--memory")
    wanted = listening(options)
    settings = otlp_settings(config, SIGNALS)
    if "traces" not in settings.signals:
        raise ConfigError("gateway: nowhere to send traces to: give --otlp-endpoint URL")
    stopping = os.eventfd(0, os.EFD_CLOEXEC)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.eventfd_write(stopping, 1))
    heap.keep_freed()
    peers = Peers(options.shard, options.peer, wanted.token)
    exporter = Exporter(settings)
    gateway = Gateway(exporter, window, memory, peers.shards)
    reception = Reception(gateway)
    servers = Servers(wanted, reception, _no_page)
    admin = _admin(options, config, gateway, lambda: report(gateway, exporter, peers))
    try:
        servers.start()
        gateway.start()
        _announce(servers, options.announce)
        os.read(stopping, 8)  # unlike eventfd_read, it goes on after a signal
    finally:
        servers.close(CLOSE_S)
        gateway.close(CLOSE_S)
        peers.close(CLOSE_S)
        exporter.close(CLOSE_S)
        if admin is not None:
            admin.close()
    return 0


class Peers:
    """The other gateways: an exporter for each. shards: of this one."""

    def __init__(self, shard: str, urls: list[str], token: str) -> None:
        own, number = _shard(shard)
        if number > 1 and len(urls) != number:
            raise ConfigError(f"--shard {shard}: give --peer {number} times, one for each gateway, got {len(urls)}")
        headers = (("authorization", f"Bearer {token}"),) if token else ()
        self._exporters = {
            i: Exporter(OtlpSettings(signals={name: _to(name, url, headers) for name in JOINED}))
            for i, url in enumerate(urls)
            if number > 1 and i != own
        }
        self.shards = Shards(own, number, self._send)

    def _send(self, peer: int, name: Signal, data: bytes, items: int) -> None:
        self._exporters[peer].submit(name, data, items)

    @property
    def dropped(self) -> int:
        """Spans and log records that a peer did not take."""
        return sum(sum(s.dropped.values()) for e in self._exporters.values() for s in e.statistics.values())

    def close(self, seconds: float) -> None:
        """Send what is queued, for at most so long."""
        for exporter in self._exporters.values():
            exporter.close(seconds)


def report(gateway: Gateway, exporter: Exporter, peers: Peers) -> Statistics:
    """The totals since the start. May be called from any thread."""
    found, join, window = Statistics(), gateway.join, gateway.window
    outcomes = ("joined", join.joined), ("open", join.open), ("late", join.late), ("crossed", join.crossed)
    for outcome, count in outcomes:
        found.add("otel_ebpf.gateway.joins", count, outcome)
    found.add("otel_ebpf.gateway.rules", len(join.rules))
    found.add("otel_ebpf.held", window.items)
    losses = {
        **gateway.lost,
        "sent before its time": window.early,
        "rule forgotten": join.rules.forgotten,
        "two calls with one key": join.rules.conflicts,
        "not taken by another gateway": peers.dropped,
    }
    for reason, count in losses.items():
        found.add("otel_ebpf.losses", count, "gateway", reason)
    for name, sent in exporter.statistics.items():
        found.add("otel_ebpf.export.items", sent.delivered_items, name)
        found.add("otel_ebpf.queue.length", sent.queued_items, name)
        for reason, count in sent.dropped.items():
            found.add("otel_ebpf.losses", count, f"export.{name}", reason)
        for error, count in sent.errors.items():
            found.add("otel_ebpf.export.errors", count, name, error)
    found.add_process()
    return found


async def _no_page(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 404, "text/plain", b"a gateway has no page\n", unread=receive)


def _admin(
    options: argparse.Namespace, config: Config, gateway: Gateway, statistics: Callable[[], Statistics]
) -> Admin | None:
    """Served where the user says; an agent on the same host has the usual address."""
    if "admin.address" not in options.flags or config.admin.address == "none":
        return None
    health = Health()
    health.ready()
    admin = Admin(config.admin.address, health, statistics, gateway.questions.ask)
    admin.start()
    return admin


def _announce(servers: Servers, as_json: bool) -> None:
    at = {name: servers.addresses.get(name, "none") for name in ("grpc", "http")}
    for note in servers.moved:
        print(f"otel-ebpf: {note}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps(at), flush=True)
    else:
        print(f"OTLP gRPC {at['grpc']}   OTLP HTTP {at['http']}", flush=True)
        print("ready", file=sys.stderr, flush=True)


def _to(name: Signal, url: str, headers: tuple[tuple[str, str], ...]) -> SignalSettings:
    return SignalSettings(signal=name, endpoint=f"{url.rstrip('/')}/v1/{name}", headers=headers, schedule_delay=0.05)


def _shard(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    own, number = (int(match[1]), int(match[2])) if match else (0, 0)
    if not own < number:
        raise ConfigError(f"--shard: {text!r} is not I/N, such as 0/3: the first of three")
    return own, number


def _value(kind: Kind[T], text: str, option: str) -> T:
    try:
        return kind.read(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is not {kind.expected}") from None
