"""The viewer's servers on free ports of loopback, in front of an intake that keeps requests in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.viewer.contract import Malformed, Outcome, Refused, Signal
from otel_ebpf.viewer.listening import Listening
from otel_ebpf.viewer.receiver.asgi import App, Receive, Scope, Send, answer
from otel_ebpf.viewer.receiver.reception import Reception, Room
from otel_ebpf.viewer.serving import Servers

REQUESTS: dict[Signal, type[Message]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
ANY_PORT = Listening(page="127.0.0.1:0", grpc="127.0.0.1:0", http="127.0.0.1:0")
TOKEN = "0123456789abcdef-secret"

Answer = Outcome | Malformed | Refused | ValueError
"""What an intake says of a request. ValueError: a defect of its own."""


@dataclass
class MemoryIntake:
    """Keeps what it takes. answers: what it says of its n-th request, if that is OTLP at all.

    waiting: not None: requests wait here until the test ends them.
    """

    answers: Callable[[int], Answer] = lambda _: Outcome()
    taken: list[tuple[Signal, bytes]] = field(default_factory=list)
    waiting: list[Future[Outcome]] | None = None
    lost: list[str] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _seen: int = 0

    def lose(self, reason: str) -> None:
        """See `Intake`."""
        self.lost.append(reason)

    def submit(self, signal: Signal, request: bytes) -> Future[Outcome]:
        """See `Intake`."""
        future: Future[Outcome] = Future()
        said = self.answers(self._seen)
        self._seen += 1
        try:
            REQUESTS[signal].FromString(request)
        except DecodeError:
            said = Malformed("not an OTLP request")
        if isinstance(said, Exception):
            future.set_exception(said)
        else:
            self.taken.append((signal, request))
            if self.waiting is not None:
                self.waiting.append(future)
            else:
                future.set_result(said)
        self.arrived.release()
        return future


@dataclass
class Served:
    """Running servers and what is behind them."""

    servers: Servers
    reception: Reception
    intake: MemoryIntake

    def http(self, signal: str = "traces") -> str:
        """The URL of a signal."""
        return f"http://{self.servers.addresses['http']}/v1/{signal}"

    @property
    def grpc(self) -> str:
        """The gRPC target."""
        return self.servers.addresses["grpc"]


@contextmanager
def served(
    listening: Listening = ANY_PORT,
    intake: MemoryIntake | None = None,
    *,
    page: App | None = None,
    room: Room | None = None,
) -> Iterator[Served]:
    """The servers; they have let go of all requests' room when the test ends."""
    intake = intake or MemoryIntake()
    reception = Reception(intake, room=room)
    servers = Servers(listening, reception, page or hello)
    servers.start()
    try:
        yield Served(servers, reception, intake)
    finally:
        for future in intake.waiting or ():
            if not future.done():
                future.set_result(Outcome())
        servers.close(2)
    assert (reception.room.requests, reception.room.bytes) == (0, 0)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """A page."""
    await answer(send, 200, "text/plain", b"hello")
