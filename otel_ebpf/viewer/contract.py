"""What the viewer's rooms say to each other: receivers hand requests to an `Intake`, views read from a `Reader`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.errors import OtelEbpfError

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Columns: TypeAlias = "dict[str, NDArray[np.generic]]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: all is stored but `rejected` items (spans, data points, records).

    message: why these were not, in one line; "" if none was rejected. OTLP's partial success.
    """

    rejected: int = 0
    message: str = ""


class Malformed(OtelEbpfError):
    """The bytes are no OTLP request: 400, INVALID_ARGUMENT; sending them again is of no use."""


class Refused(OtelEbpfError):
    """Not now: 503 with Retry-After, UNAVAILABLE with RetryInfo (OTLP specification, "OTLP/gRPC Throttling").

    retry_after: seconds.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Intake(Protocol):
    """Where receivers hand in what came."""

    def submit(self, signal: Signal, request: bytes) -> Future[Outcome]:
        """Take one serialized Export*ServiceRequest; never blocks, never raises.

        The future ends when the request is on disk. Its exception is `Malformed` or `Refused`.
        """
        ...

    def lose(self, reason: str) -> None:
        """Count a request that could not be handed in; reasons are few."""
        ...


class Reader(Protocol):
    """Questions to the store; callable from any thread."""

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, object]]:
        """The rows of a SELECT, one dict each; for what is few.

        >>> reader.rows("SELECT service, sum(calls)::BIGINT AS calls FROM operations GROUP BY ALL")
        [{'service': 'shop', 'calls': 12}]
        """
        ...

    def columns(self, sql: str, parameters: Sequence[object] = ()) -> Columns:
        """The same as one numpy array a column; for what is many."""
        ...
