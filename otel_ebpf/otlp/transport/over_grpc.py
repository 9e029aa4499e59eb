"""OTLP/gRPC by grpcio: unary calls with the request's bytes as they are, no message objects."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from otel_ebpf.otlp.settings import SignalSettings
from otel_ebpf.otlp.transport.base import USER_AGENT, Answer, Verdict, delivered
from otel_ebpf.otlp.transport.tls import tls_context

METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}

RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""OTLP specification, "Failures". RESOURCE_EXHAUSTED joins them when it comes with RetryInfo."""

_OPTIONS = [
    ("grpc.primary_user_agent", USER_AGENT),
    # we retry, with the specification's rules; grpc's own retries would multiply ours
    ("grpc.enable_retries", 0),
    # its reconnect back-off grows to 2 minutes, during which calls fail at once; ours decides when to call
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", 64 * 1024),
]


class GrpcTransport:
    """Sends one signal to one target."""

    def __init__(self, settings: SignalSettings) -> None:
        target, secure = _target(settings)
        compression = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
        if secure:
            credentials = _credentials(settings)
            self._channel = grpc.secure_channel(target, credentials, _OPTIONS, compression)
        else:
            self._channel = grpc.insecure_channel(target, _OPTIONS, compression)
        self._call = self._channel.unary_unary(METHODS[settings.signal])
        self._metadata = settings.headers

    def send(self, body: bytes, timeout: float) -> Answer:
        try:
            return delivered(self._call(body, timeout=timeout, metadata=self._metadata))
        except grpc.RpcError as error:
            return _answer(error)
        except ValueError as error:  # "Cannot invoke RPC on closed channel!"
            return Answer(Verdict.RETRYABLE, str(error), error="closed")

    def close(self) -> None:
        self._channel.close()


def _answer(error: grpc.RpcError) -> Answer:
    code = error.code()
    message = f"{code.name}: {error.details()}"
    wait = _retry_info(error)
    if code in RETRYABLE or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and wait is not None):
        return Answer(Verdict.RETRYABLE, message, retry_after=wait, error=code.name)
    return Answer(Verdict.REFUSED, message, error=code.name)


def _retry_info(error: grpc.RpcError) -> float | None:
    """Seconds to wait that the status asks for; None if it has no readable RetryInfo."""
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return max(0.0, float(info.retry_delay.seconds) + float(info.retry_delay.nanos) / 1e9)
        except DecodeError:
            return None
    return None


def _target(settings: SignalSettings) -> tuple[str, bool]:
    """The gRPC target, and whether it is reached by TLS: http and https say it, else `insecure` does."""
    url = urlsplit(settings.endpoint)
    if url.scheme in ("http", "https") and url.netloc:
        return url.netloc, url.scheme == "https"
    return settings.endpoint, not settings.insecure


def _credentials(settings: SignalSettings) -> grpc.ChannelCredentials:
    tls_context(settings)  # grpc takes any bytes, and then can never connect: let unusable files be named now

    def read(file: str | None) -> bytes | None:
        return None if file is None else Path(file).read_bytes()

    return grpc.ssl_channel_credentials(
        read(settings.certificate), read(settings.client_key), read(settings.client_certificate)
    )
