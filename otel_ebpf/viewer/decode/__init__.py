"""OTLP requests as columns: one module a signal. What cannot be kept is counted, never raised for."""

from otel_ebpf.viewer.decode.batch import Batch
from otel_ebpf.viewer.decode.logs import decode_logs
from otel_ebpf.viewer.decode.metrics import decode_metrics
from otel_ebpf.viewer.decode.traces import decode_traces

DECODERS = {"traces": decode_traces, "metrics": decode_metrics, "logs": decode_logs}

__all__ = ["DECODERS", "Batch"]
