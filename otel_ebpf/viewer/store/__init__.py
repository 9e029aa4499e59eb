"""The embedded store: one DuckDB file, written by one thread in whole batches, read by any."""

from otel_ebpf.viewer.store.database import Database, Slow
from otel_ebpf.viewer.store.write import Writer

__all__ = ["Database", "Slow", "Writer"]
