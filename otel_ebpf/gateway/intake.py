"""The gateway behind its receivers: requests are learned from as they come, wait, and leave as what is known by then.

A request is answered when it has been taken: what waits is lost if the process is killed, as in a Collector's memory
queue, and sent before its time when it is stopped. Metrics go through as they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.foreign.asked import Questions, Recent
from otel_ebpf.gateway.join import Join
from otel_ebpf.gateway.requests import Request, count, data_points, groups, parse
from otel_ebpf.gateway.shards import RULES, Shards
from otel_ebpf.gateway.window import Held, Window
from otel_ebpf.otlp.exporter import Exporter
from otel_ebpf.viewer.contract import Malformed, Outcome, Refused, Signal

QUEUE_BYTES = 64 << 20
"""Requests that have come and were not looked at."""
AGAIN_S = 1.0
ANSWER_S = 15.0
"""Beyond the window, for who hands in spans to be completed."""
EXPIRE_S = 1.0
T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class _Request(NamedTuple):
    signal: Signal
    data: bytes
    done: Future[Outcome]


class Gateway:
    """An `Intake` whose requests leave by an exporter, joined.

    lost: why, and how often, requests were not taken (`losses` of the intake).

    >>> gateway = Gateway(Exporter(settings), window_s=5.0, most_bytes=256 << 20)
    >>> gateway.start()
    """

    def __init__(self, exporter: Exporter, window_s: float, most_bytes: int, shards: Shards | None = None) -> None:
        self.join = Join()
        self.window = Window(window_s, most_bytes)
        self.lost: Counter[str] = Counter()
        self.questions = Questions(window_s + ANSWER_S)
        """POST /v1/complete"""
        self._recent = Recent()
        self._settle_ns = int((window_s + EXPIRE_S) * 1e9)
        self._exporter, self._shards = exporter, shards or Shards()
        self._queue: deque[_Request] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closing = False
        self._expired = 0.0
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self) -> None:
        """Work from now on."""
        self._thread.start()

    def submit(self, signal: Signal, request: bytes) -> Future[Outcome]:
        """See `Intake.submit`."""
        done: Future[Outcome] = Future()
        with self._changed:
            if self._closing or (self._waiting and self._waiting + len(request) > QUEUE_BYTES):
                why = "stopping" if self._closing else "more comes than can be joined"
                self.lost[why] += 1
                done.set_exception(Refused(f"the gateway: {why}", AGAIN_S))
                return done
            self._queue.append(_Request(signal, request, done))
            self._waiting += len(request)
            self._changed.notify()
        return done

    def lose(self, reason: str) -> None:
        """See `Intake.lose`."""
        with self._changed:
            self.lost[reason] += 1

    def close(self, seconds: float) -> None:
        """Take no more, and let go what waits."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            request, held = self._next()
            if request is not None:
                self._take(request)
            elif held is not None:
                self._guarded(self._release, held)
            elif self._closing:
                return
            now = time.monotonic()
            if now - self._expired > EXPIRE_S:
                self._expired = now
                self.join.expire(now)
            self._guarded(self._complete, time.monotonic_ns())

    def _next(self) -> tuple[_Request | None, Held | None]:
        """What is to be done now; what has come is before what waits, for it may say something of that."""
        with self._changed:
            if not self._queue and not self._closing:
                due = self.window.due
                wait = EXPIRE_S if due is None else due - time.monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, EXPIRE_S))
            if self._queue:
                request = self._queue.popleft()
                self._waiting -= len(request.data)
                return request, None
        return None, self.window.take(float("inf") if self._closing else time.monotonic())

    def _take(self, request: _Request) -> None:
        try:
            self._receive(request.signal, request.data)
        except Malformed as error:
            self.lost["malformed"] += 1
            request.done.set_exception(error)
        except Exception as error:  # a defect must not stop all that comes later
            self.lost["fault"] += 1
            _LOG.error("gateway: a request failed", exc_info=error)
            request.done.set_exception(error)
        else:
            request.done.set_result(Outcome())

    def _receive(self, signal: Signal, data: bytes) -> None:
        if signal == "metrics":
            self._send(signal, data, data_points(data))
            return
        request = parse(signal, data)
        now = time.monotonic()
        if isinstance(request, ExportTraceServiceRequest):
            new = self.join.learn(request, data, now)
            self._shards.tell(new)
        items = count(request)
        if self._shards.count > 1:
            _drop_rules(request)
            items = self._shards.pass_on(request, signal, again=False)
            data = request.SerializeToString()
        if items:
            self.window.put(signal, data, items, now)

    def _guarded(self, work: Callable[[T], None], of: T) -> None:
        """A defect must not stop all that comes later."""
        try:
            work(of)
        except Exception as error:
            self.lost["fault"] += 1
            _LOG.error("gateway: %s failed", work.__name__, exc_info=error)

    def _release(self, held: Held) -> None:
        request = parse(held.signal, held.data)
        data, items = held.data, held.items
        changed = self.join.apply(request, held.data, time.monotonic())
        if self._shards.count > 1:
            if changed:
                items = self._shards.pass_on(request, held.signal, again=True)
            for group in groups(request):
                group.unmark()
            changed = True
        if changed:
            data = request.SerializeToString()
        if held.signal == "traces":
            self._recent.keep(data, time.monotonic_ns())
        if items:
            self._send(held.signal, data, items)

    def _complete(self, now: int) -> None:
        """Answer, when the window is over for what there was at the time of the question."""
        for request in self.questions.arrived(now + self._settle_ns):
            self.join.learn(request, request.SerializeToString(), now / 1e9)
        for asked in self.questions.due(now):
            self.join.apply(asked.request, asked.request.SerializeToString(), now / 1e9)
            asked.reply(self._recent.beside(asked.request))

    def _send(self, signal: Signal, data: bytes, items: int) -> None:
        if self._exporter.exports(signal):
            self._exporter.submit(signal, data, items)  # which counts what it drops
        else:
            self.lost[f"nowhere to send {signal}"] += items


def _drop_rules(request: Request) -> None:
    """What was only told has been learned."""
    for group in groups(request):
        if group.scope.name == RULES:
            del group.items[:]
