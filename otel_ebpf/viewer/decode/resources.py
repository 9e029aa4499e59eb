"""OTLP Resources, each kept once: its id is a hash of its attributes, so that none needs to be looked up."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from opentelemetry.proto.resource.v1.resource_pb2 import Resource as Message

from otel_ebpf.viewer.decode.attributes import Attributes, as_json

UNKNOWN = "unknown_service"
"""What the resource conventions call a service that does not say its name."""
REMEMBERED = 4096
_LONG = 8192
"""Bytes of resources that are not worth remembering."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A row of `resources`."""

    id: int
    service: str
    attributes: str


class Resources:
    """Resources by their bytes; the one that was seen longest ago is forgotten first.

    >>> Resources().of(message).service
    'shop'
    """

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._known: OrderedDict[bytes, Resource] = OrderedDict()

    def of(self, message: Message) -> Resource:
        """The resource of a group of spans, points or records."""
        key = message.SerializeToString()
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        self._attributes.begin()
        pairs = self._attributes.pairs(message.attributes)
        service = pairs.get("service.name")
        text = as_json(dict(sorted(pairs.items())))
        number = int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        # in one line, as a part of a path can be asked for
        name = self._attributes.name(str(service)).replace("\n", " ") if service else UNKNOWN
        found = Resource(number, name, text)
        if len(key) > _LONG:
            return found
        if len(self._known) >= REMEMBERED:
            self._known.popitem(last=False)
        self._known[key] = found
        return found
