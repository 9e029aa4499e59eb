"""A real client and server of HTTP/2 (the `h2` package), and what is made of what the kernel side tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from h2.config import H2Configuration
from h2.connection import H2Connection

from otel_ebpf.model import Exchanges, Intern, Spans
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.http2.streams import Streams
from tests.unit.exchanges import NOW, connections
from tests.unit.http2_wire import EXCHANGE, Wire

Headers = Sequence[tuple[str, str]]
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/cart?id=7"), (":authority", "shop.example:8080")]
POST = [(":method", "POST"), *GET[1:]]
CALL = [
    *((":method", "POST"), (":scheme", "http"), (":path", "/shop.Cart/Add"), (":authority", "cart:50051")),
    *(("content-type", "application/grpc"), ("te", "trailers")),
]
OK, GRPC_OK = [(":status", "200")], [(":status", "200"), ("content-type", "application/grpc")]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Talk:
    """A client and a server, and what the kernel tells of the end that is `wire`'s. Each message takes 1000 ns."""

    wire: Wire = field(default_factory=Wire)
    now: int = NOW
    validates: bool = True

    def __post_init__(self) -> None:
        loose: dict[str, Any] = {
            "validate_outbound_headers": self.validates,
            "validate_inbound_headers": self.validates,
            "normalize_outbound_headers": self.validates,
        }
        self.client = H2Connection(H2Configuration(client_side=True, **loose))
        self.server = H2Connection(H2Configuration(client_side=False, **loose))
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.go()

    def go(self) -> None:
        """What both have to say goes over."""
        while True:
            said, answered = self.client.data_to_send(), self.server.data_to_send()
            if not said and not answered:
                return
            self.now += 1000
            if said:
                self.wire.sent_by_client(said, self.now)
                self.server.receive_data(said)
            if answered:
                self.wire.sent_by_server(answered, self.now)
                self.client.receive_data(answered)

    def ask(self, headers: Headers = GET, end: bool = True) -> int:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, headers, end_stream=end)
        self.go()
        return stream

    def answer(self, stream: int, headers: Headers = OK, body: bytes = b"", end: bool = True) -> None:
        self.server.send_headers(stream, headers, end_stream=end and not body)
        if body:
            self.server.send_data(stream, body, end_stream=end)
        self.go()


@dataclass
class Seen:
    """What was made of an exchange: its record, and what the engine says."""

    head: np.void
    shape: Fields | None
    texts: dict[str, str]
    spans: Spans

    @property
    def server(self) -> dict[str, object]:
        assert self.shape is not None
        return {**dict(self.shape.server.attributes), **self.texts}

    @property
    def client(self) -> dict[str, object]:
        assert self.shape is not None
        return dict(self.shape.client.attributes)


def told(batches: Iterable[Exchanges]) -> list[Seen]:
    """Each exchange by itself, read by the engine."""
    found: list[Seen] = []
    shapes = Intern[Fields](5000)
    engine = Engine(connections(1, 2), shapes, Options())
    for exchanges in batches:
        assert len(exchanges) and exchanges.request.shape[1] % 8 == 0 and exchanges.response.shape[1] % 8 == 0
        spans = engine.parse_batches([exchanges], NOW)
        assert len(spans) == len(exchanges)
        for i, shape in enumerate(spans.shape.tolist()):
            fields = shapes[shape] if shape >= 0 else None
            at = zip(spans.slot_start[i].tolist(), spans.slot_length[i].tolist(), strict=True)
            slots = [spans.text[start : start + size].tobytes().decode() for start, size in at]
            used = fields.server.slots if fields else ()
            texts = {slot.attribute: slots[slot.index] for slot in used if slots[slot.index]}
            found.append(Seen(exchanges.head[i], fields, texts, spans.take(np.array([i]))))
    assert not any(engine.failures.values())
    return sorted(found, key=lambda seen: (int(seen.head["conn"]), int(seen.head["n"])))


def streams(**settings: int) -> Streams:
    return Streams(EXCHANGE, **settings)


def seen(talk: Talk) -> list[Seen]:
    """All that is told of a conversation that was seen from its beginning."""
    all_of_it = streams()
    found = told(all_of_it.read(talk.wire.frames(), talk.now))
    assert not any(all_of_it.losses.values())
    return found
