"""otel-ebpf: what the services of a Linux host say to each other, as OpenTelemetry, without touching them."""

__version__ = "0.1.0"
