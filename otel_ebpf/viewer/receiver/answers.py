"""OTLP's answers: what an outcome or a failure is on the wire, in protobuf and in JSON.

Source: opentelemetry-proto, docs/specification.md, "OTLP/gRPC Response", "OTLP/HTTP Response". The message classes are
imported when the first one is needed: the answer to a request that is stored whole is empty.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from otel_ebpf.viewer.contract import Malformed, Outcome, Refused, Signal
from otel_ebpf.viewer.receiver.reception import Incomplete, Stranger, TooLarge, Unsupported

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_REJECTED = {"traces": "rejectedSpans", "metrics": "rejectedDataPoints", "logs": "rejectedLogRecords"}


@dataclass(frozen=True, slots=True)
class Failure:
    """status: of HTTP. code: of gRPC (google/rpc/code.proto). retry_after: seconds, None: not to be sent again."""

    status: int
    code: int
    message: str
    retry_after: float | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


_INVALID_ARGUMENT, _RESOURCE_EXHAUSTED = 3, 8
_UNIMPLEMENTED, _INTERNAL, _UNAVAILABLE, _UNAUTHENTICATED = 12, 13, 14, 16


def failure(error: Exception) -> Failure:
    """What a client is told of an error. Of a defect of ours it learns nothing."""
    message = str(error)
    if isinstance(error, Malformed):
        return Failure(400, _INVALID_ARGUMENT, message)
    if isinstance(error, Refused):
        return Failure(503, _UNAVAILABLE, message, error.retry_after)
    if isinstance(error, (TooLarge, Incomplete)):
        return Failure(413, _RESOURCE_EXHAUSTED, message)
    if isinstance(error, Stranger):
        return Failure(401, _UNAUTHENTICATED, message, headers=((b"www-authenticate", b"Bearer"),))
    if isinstance(error, Unsupported):
        return Failure(error.status, _UNIMPLEMENTED, message, headers=error.headers)
    return Failure(500, _INTERNAL, "internal error")


def retry_seconds(seconds: float) -> int:
    """A Retry-After header's whole seconds (RFC 9110 §10.2.3), at least 1.

    >>> retry_seconds(1.2)
    2
    """
    return max(1, math.ceil(seconds))


def success(signal: Signal, outcome: Outcome, content_type: str = PROTOBUF) -> bytes:
    """The Export*ServiceResponse: with partial_success if something was rejected, or there is something to say."""
    if not outcome.rejected and not outcome.message:
        return b"{}" if content_type == JSON else b""
    if content_type == JSON:
        # int64 is a string in protobuf's JSON
        partial = {_REJECTED[signal]: str(outcome.rejected), "errorMessage": outcome.message}
        return json.dumps({"partialSuccess": partial}).encode()
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    # the three signals' responses have the same field numbers and types
    written = ExportTracePartialSuccess(rejected_spans=outcome.rejected, error_message=outcome.message)
    return ExportTraceServiceResponse(partial_success=written).SerializeToString()


def status_body(failure: Failure, content_type: str) -> bytes:
    """The google.rpc.Status of an HTTP answer."""
    if content_type == JSON:
        return json.dumps({"code": failure.code, "message": failure.message}).encode()
    from google.rpc.status_pb2 import Status

    return bytes(Status(code=failure.code, message=failure.message).SerializeToString())


def status_details(failure: Failure) -> bytes:
    """The value of grpc-status-details-bin: a Status with RetryInfo ("OTLP/gRPC Throttling")."""
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    status = Status(code=failure.code, message=failure.message)
    if failure.retry_after is not None:
        nanos = round(failure.retry_after * 1e9)
        delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return bytes(status.SerializeToString())
