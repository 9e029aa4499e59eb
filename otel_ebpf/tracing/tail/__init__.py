"""Keep-tail sampling: whole traces, as far as this host sees them, are kept for what became of them."""

from __future__ import annotations

from otel_ebpf.tracing.tail.tail import Tail, local_roots

__all__ = ["Tail", "local_roots"]
