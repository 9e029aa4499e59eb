"""What a protocol module is: pure functions from the bytes of one request and its response to `Reading`s.

A module never sees a socket, a clock or another module, and it never raises on bytes: they are hostile data, cut at an
arbitrary place. It says what it could not read by leaving it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol as Interface

from otel_ebpf.model import SLOTS, Attributes


@dataclass(frozen=True, slots=True)
class Slot:
    """An attribute whose text differs from span to span: its value is `prefix` + the row's text of slot `index`."""

    attribute: str
    index: int
    prefix: str = ""

    def __post_init__(self) -> None:
        assert 0 <= self.index < SLOTS


@dataclass(frozen=True, slots=True)
class Side:
    """How one end of an exchange is reported; everything here is the same for all spans of a shape.

    name: span name, low cardinality. attributes: as in the semantic conventions, stable names and types.
    error: span status is ERROR (then `error.type` is among the attributes). slots: see `Slot`.
    metric: attributes of the duration metric of this end (a subset of attributes, as the conventions list them).
    addressed: `server.address` (and `server.port`) are among the attributes; otherwise the connection supplies them.
    """

    name: str
    attributes: Attributes
    metric: Attributes
    error: bool = False
    slots: tuple[Slot, ...] = ()
    addressed: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """One kind of exchange, understood: how the server's end and the client's end are reported.

    Low cardinality, since it is interned: what differs from request to request (path, SQL text, key) is a text for a
    slot. status: as on the wire ("200", "42P01", "NXDOMAIN", "ERR"); "" when there is none.
    """

    protocol: str
    server: Side
    client: Side
    status: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What `Protocol.parse` says of one exchange: its kind, and the texts of its slots (at most SLOTS, redacted).

    carrier: the request as HTTP/1.1 writes it, if it bears headers in which a trace context may be (`tracing.context`).
    """

    fields: Fields
    texts: tuple[str, ...] = ()
    carrier: bytes = b""


@dataclass(slots=True)
class Session:
    """What one connection remembers between exchanges (prepared statements); dies with the connection.

    `remembered` is bounded by the module that fills it. `version` changes with every change of it.
    """

    remembered: dict[bytes, str] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """What the configuration says to the protocol modules."""

    redact: bool = True
    routes: tuple[str, ...] = ()
    """User patterns of `http.route`, e.g. "/users/{id}"; they win over clustering."""
    secret_parameters: tuple[str, ...] = ()
    """More names of query parameters to redact, beside the built-in ones."""


class Protocol(Interface):
    """One protocol. The registry (protocols/__init__.py) holds one instance of each."""

    name: str
    """"http", "redis", "postgresql", "mysql", "dns"; also the label of its metrics."""
    duration_metric: tuple[str, str]
    """Names of the duration histograms of the server's and the client's end; "" = none.
    ("http.server.request.duration", "http.client.request.duration"), ("", "db.client.operation.duration")"""

    def detect(self, request: bytes, response: bytes) -> float:
        """How sure it is (0 … 1) that this exchange, or the part of it that was seen, speaks the protocol.

        0.5 = fits but others may fit as well; ≥ 0.9 = cannot be anything else. Either side may be empty or cut.
        """

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        """What the exchange says. Several entries for a pipelined exchange, in order; empty: not an application's
        request (a handshake, a ping of the driver) or not understood."""
