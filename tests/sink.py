"""An OTLP/HTTP receiver in this process: takes what the agent exports, and keeps it until a test asks.

    with Sink() as sink:
        …  # an agent with --otlp-protocol http/protobuf --otlp-endpoint sink.endpoint
        spans = sink.wait(lambda spans: len(spans) >= 2)

Bodies are decoded by `opentelemetry-proto`, and only when somebody asks: a benchmark's sink costs next to nothing.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.spans import KINDS, SeenSpan, from_protobuf


class Sink:
    """Listens on a loopback port of its own from `__enter__` to `__exit__`. Safe to ask from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reading = threading.RLock()
        """Held while bodies are decoded, which must not keep the agent waiting."""
        self._bodies: list[_Body] = []
        self._spans: list[SeenSpan] = []
        self._decoded = 0
        self._server = _Server(self)
        self.posts = 0
        self.bytes = 0
        """Of all bodies, as they came over the wire."""

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def endpoint(self) -> str:
        """What `--otlp-endpoint` takes; /v1/traces and the like come below it."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Sink:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sink", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, encoding: str, body: bytes) -> None:
        """One POST, as it came."""
        with self._changed:
            self.posts += 1
            self.bytes += len(body)
            self._bodies.append(_Body(path, encoding, body, time.time_ns()))
            self._changed.notify_all()

    def spans(self) -> list[SeenSpan]:
        """All spans so far, in the order of arrival."""
        with self._reading:
            with self._changed:
                bodies = self._bodies[self._decoded :]
                self._decoded = len(self._bodies)
            for body in bodies:
                if body.path == "/v1/traces":
                    self._spans.extend(from_protobuf(ExportTraceServiceRequest.FromString(body.plain()), body.arrived))
            return list(self._spans)

    def metrics(self) -> list[Metric]:
        """All metrics so far, one entry per export and instrument."""
        requests = [ExportMetricsServiceRequest.FromString(body) for body in self._of("/v1/metrics")]
        groups = [
            scope for request in requests for resource in request.resource_metrics for scope in resource.scope_metrics
        ]
        return [metric for group in groups for metric in group.metrics]

    def logs(self) -> list[LogRecord]:
        """All log records so far."""
        requests = [ExportLogsServiceRequest.FromString(body) for body in self._of("/v1/logs")]
        groups = [scope for request in requests for resource in request.resource_logs for scope in resource.scope_logs]
        return [record for group in groups for record in group.log_records]

    def _of(self, wanted: str) -> list[bytes]:
        with self._changed:
            return [body.plain() for body in self._bodies if body.path == wanted]

    def tally(self) -> Counter[tuple[str, int]]:
        """How many spans came since the last tally, by kind and process id; they are not kept: for loads of millions.

        >>> sink.tally()["server", nginx_pid]
        80000
        """
        with self._reading, self._changed:
            bodies, self._bodies, self._decoded = self._bodies, [], 0
        counts: Counter[tuple[str, int]] = Counter()
        for body in bodies:
            if body.path != "/v1/traces":
                continue
            for resource_spans in ExportTraceServiceRequest.FromString(body.plain()).resource_spans:
                attributes = resource_spans.resource.attributes
                pid = next((pair.value.int_value for pair in attributes if pair.key == "process.pid"), 0)
                for scope_spans in resource_spans.scope_spans:
                    for kind, count in Counter(span.kind for span in scope_spans.spans).items():
                        counts[KINDS.get(kind, "unspecified"), pid] += count
        return counts

    def clear(self) -> None:
        """Forget everything."""
        with self._reading, self._changed:
            self._bodies.clear()
            self._spans.clear()
            self._decoded = 0

    def wait(self, enough: Callable[[list[SeenSpan]], object], limit_s: float = 15.0) -> list[SeenSpan]:
        """All spans, as soon as `enough(spans)` holds; AssertionError with what there was when it never does.

        limit_s: how long to wait for more; what decoding takes does not count.
        """
        left = limit_s
        while not enough(spans := self.spans()):
            began = time.monotonic()
            with self._changed:
                more = self._changed.wait_for(lambda: len(self._bodies) > self._decoded, left)
            left -= time.monotonic() - began
            if not more:
                seen = "\n".join(f"  {span.service} {span.kind} {span.name} {span.attributes}" for span in spans[-30:])
                raise AssertionError(f"not within {limit_s:.0f} s; the last of {len(spans)} spans:\n{seen}")
        return spans


@dataclass(frozen=True, slots=True)
class _Body:
    path: str
    encoding: str
    data: bytes
    arrived: int

    def plain(self) -> bytes:
        if self.encoding == "gzip":
            return gzip.decompress(self.data)
        if self.encoding == "deflate":
            return zlib.decompress(self.data)
        return self.data


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.sink.take(self.path, self.headers.get("Content-Encoding", "identity"), body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")  # an empty ExportTraceServiceResponse: full success
        self.end_headers()

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a line per export would drown the tests' own output."""
