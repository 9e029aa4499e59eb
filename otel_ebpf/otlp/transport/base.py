"""What a transport is, and what a receiver can answer (opentelemetry-proto, docs/specification.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_ebpf import __version__

USER_AGENT = f"otel-ebpf/{__version__}"


class Verdict(Enum):
    """What became of a request."""

    DELIVERED = "delivered"
    RETRYABLE = "retryable"
    REFUSED = "refused"
    """Never to be sent again: sending it again cannot help."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer, or why there is none.

    rejected: items of a delivered request that the receiver left out (partial success). retry_after: seconds that it
    asked to wait. error: why a request failed, in few words that repeat: "503", "UNAVAILABLE", "timeout".
    """

    verdict: Verdict
    message: str = ""
    rejected: int = 0
    retry_after: float | None = None
    error: str = ""


class Transport(Protocol):
    """One connection to one receiver of one signal. Used by one thread; `close` may come from another."""

    def send(self, body: bytes, timeout: float) -> Answer:
        """Send one export request; never raises for what the network or the receiver does."""

    def close(self) -> None:
        """Give up the connection; a request under way fails soon."""


def delivered(response: bytes) -> Answer:
    """The answer that an export response means; all signals' responses have the same numbers."""
    try:
        partial = ExportTraceServiceResponse.FromString(response).partial_success
    except DecodeError:
        return Answer(Verdict.DELIVERED)
    return Answer(Verdict.DELIVERED, partial.error_message, max(0, partial.rejected_spans))
