"""What the query API asks of the process that it runs in: its state, and the spans that come in just now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from otel_ebpf.errors import OtelEbpfError


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """What only the process knows. Addresses are host:port, "" where nobody listens.

    started: Unix seconds. store_bytes, limit_bytes: size on disk now, and what it may grow to. spans_per_second: over
    the last ten seconds or so. accepted, refused: items (spans, points, records) since the start. problems: sentences
    for a banner ("The disk is full: new data is refused.").
    """

    version: str
    started: float
    page: str
    grpc: str
    http: str
    store_path: str
    store_bytes: int
    limit_bytes: int
    spans_per_second: float
    accepted: int
    refused: int
    problems: tuple[str, ...] = ()


class StatusSource(Protocol):
    """The running process."""

    def status(self) -> ProcessStatus:
        """Now; called from any thread, must not block for long."""
        ...


Row: TypeAlias = "tuple[object, ...]"
"""A span as `decode.traces` makes it: its values in the order of `decode.traces.COLUMNS`."""


class Subscription(Protocol):
    """One listener's spans. Bounded: what is not taken in time is counted, not kept."""

    def take(self) -> tuple[list[Row], int]:
        """Spans since the last call, oldest first, and how many were dropped meanwhile; never blocks."""
        ...

    def close(self) -> None:
        """No more spans for this listener."""
        ...


class LiveSource(Protocol):
    """Where spans can be listened to as they come in. `feed.Feed` is one: the ingest calls its `publish`."""

    def subscribe(self) -> Subscription:
        """A new listener; called from any thread. `Busy` if there are too many."""
        ...


class Busy(OtelEbpfError):
    """Not one more listener: 503."""
