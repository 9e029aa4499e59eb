"""What is the same for many rows, encoded once: sides, endpoints and resources, by their interned id.

A side's texts (`Slot`) are attributes whose value differs from row to row. `KeyValue` is written value first, so that
everything constant behind the text (the key, then all other attributes) is one piece:

    tag length | tag length | tag length | prefix | TEXT | key, name, status, all constant attributes
    KeyValue   | AnyValue   | string     |  pool  | row  | pool
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from otel_ebpf.model import Attributes, Endpoint, Intern, Kind, Link, Resource
from otel_ebpf.otlp import wire
from otel_ebpf.otlp.columns import Bytes, Index
from otel_ebpf.protocols.base import Fields, Side, Slot

LINK_METHOD = "otel_ebpf.link.method"
LINK_CONFIDENCE = "otel_ebpf.link.confidence"
LINK_CANDIDATES = "otel_ebpf.link.candidates"
LINK_KEY = "otel_ebpf.link.key"
FIRST_BYTE = "otel_ebpf.first_byte_ns"
PEER_PORT = "network.peer.port"


@dataclass(frozen=True, slots=True)
class SlotTemplate:
    """A slot's text: which of the row's texts it is, what precedes it, and the encoded key."""

    index: int
    prefix: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class SideTemplate:
    """One end of one kind of exchange. constant: all of it that is no text."""

    constant: bytes
    slots: tuple[SlotTemplate, ...]
    addressed: bool
    side: Side
    status: str


@lru_cache(4096)
def _slot(slot: Slot) -> SlotTemplate:
    """The same object for all shapes that have such a slot."""
    return SlotTemplate(slot.index, wire.utf8(slot.prefix), wire.key(slot.attribute))


class Templates:
    """Encoded sides, endpoints and resources. An entry goes when its id is forgotten, so the tables' limits hold here.

    field: number of the repeated `KeyValue attributes` of the row's message (Span: 9, LogRecord: 6).
    constant: what else of a side is the same for all its rows (name, kind, status; severity).
    """

    def __init__(
        self,
        field: int,
        constant: Callable[[Side, Kind], bytes],
        shapes: Intern[Fields],
        endpoints: Intern[Endpoint],
        resources: Intern[Resource],
    ) -> None:
        self._field = field
        self._constant = constant
        self._shapes, self._endpoints, self._resources = shapes, endpoints, resources
        self._side: dict[int, SideTemplate] = {}
        self._endpoint: dict[int, dict[tuple[bool, int], bytes]] = {}
        self._resource: dict[int, bytes] = {}
        shapes.on_forget.append(self._forget_shape)
        endpoints.on_forget.append(self._forget_endpoint)
        resources.on_forget.append(self._forget_resource)

    def side(self, key: int) -> SideTemplate | None:
        """The template of `shape * 2 + (1 for the client's end)`; None when the shape says nothing of the exchange."""
        known = self._side.get(key)
        if known is not None:
            return known
        try:
            shape = self._shapes[key >> 1]
        except KeyError:
            return None
        kind, side = (Kind.CLIENT, shape.client) if key & 1 else (Kind.SERVER, shape.server)
        slots = tuple(_slot(one) for one in side.slots)
        constant = self._constant(side, kind) + wire.key_values(self._field, side.attributes)
        made = self._side[key] = SideTemplate(constant, slots, side.addressed, side, shape.status)
        return made

    def endpoint(self, number: int, addressed: bool, link: int) -> bytes:
        """The attributes of an endpoint (-1: none), without `unless_addressed` if it is, and those of the link.

        link: as in `Combinations`.
        """
        variants = self._endpoint.setdefault(number, {})
        known = variants.get((addressed, link))
        if known is not None:
            return known
        made = self._link(link)
        try:
            endpoint = self._endpoints[number]
        except KeyError:  # -1, or forgotten while its rows were held
            del self._endpoint[number]
            return made
        attributes = endpoint.always if addressed else endpoint.always + endpoint.unless_addressed
        made = variants[addressed, link] = wire.key_values(self._field, attributes) + made
        return made

    def _link(self, link: int) -> bytes:
        method, confidence, candidates = Link(link & 255), (link >> 8) & 255, link >> 16
        if method in (Link.NONE, Link.PENDING):
            return b""
        said: Attributes = (
            (LINK_METHOD, method.label),
            (LINK_CONFIDENCE, confidence / 100),
            (LINK_CANDIDATES, candidates),
        )
        return wire.key_values(self._field, said)

    def resource(self, number: int) -> bytes:
        """Field 1 of ResourceSpans and ResourceLogs: the `Resource`, empty when it is not known (-1)."""
        known = self._resource.get(number)
        if known is not None:
            return known
        try:
            resource = self._resources[number]
        except KeyError:
            return wire.delimited(1, b"")
        made = self._resource[number] = wire.delimited(1, wire.key_values(1, resource.attributes))
        return made

    def _forget_shape(self, number: int) -> None:
        self._side.pop(number * 2, None)
        self._side.pop(number * 2 + 1, None)

    def _forget_endpoint(self, number: int) -> None:
        self._endpoint.pop(number, None)

    def _forget_resource(self, number: int) -> None:
        self._resource.pop(number, None)


POOLED = np.empty(0, np.uint8)
"""Stands for the pool as a piece's source until all constants of the batch are known."""


class Pool:
    """The constants of one batch in one array, as the source of pieces; each kind of them is added once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._added: dict[str, tuple[Index, Index]] = {}
        self._array: Bytes = POOLED

    def add(self, kind: str, make: Callable[[], list[bytes]]) -> tuple[Index, Index]:
        """Where each of the parts of this kind will lie, and how long it is: two (len(parts),) arrays."""
        known = self._added.get(kind)
        if known is not None:
            return known
        parts = make()
        length = np.fromiter(map(len, parts), np.intp, len(parts))
        end = np.cumsum(length) + self._size
        self._parts += parts
        self._size = int(end[-1]) if len(parts) else self._size
        self._added[kind] = end - length, length
        return end - length, length

    def array(self) -> Bytes:
        """All parts that were added so far."""
        if len(self._array) != self._size:
            self._array = np.frombuffer(b"".join(self._parts), np.uint8)
        return self._array
