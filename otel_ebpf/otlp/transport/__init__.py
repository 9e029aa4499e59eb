"""Ways in which an export request reaches a receiver: interchangeable parts behind `Transport`."""

from __future__ import annotations

from otel_ebpf.otlp.settings import SignalSettings
from otel_ebpf.otlp.transport.base import Answer, Transport, Verdict

__all__ = ["Answer", "Transport", "Verdict", "open_transport"]


def open_transport(settings: SignalSettings) -> Transport:
    """The transport that the settings ask for; connects at the first request.

    Imports what it needs when it is needed: grpcio alone is 16 MB of memory.
    """
    if settings.protocol == "grpc":
        from otel_ebpf.otlp.transport.over_grpc import GrpcTransport

        return GrpcTransport(settings)
    from otel_ebpf.otlp.transport.over_http import HttpTransport

    return HttpTransport(settings)
