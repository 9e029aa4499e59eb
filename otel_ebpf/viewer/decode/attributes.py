"""OTLP attributes as the store keeps them: one JSON object without blanks, so that a pair is found by its text.

OTLP values that JSON lacks are texts, as in OTLP's own JSON form: NaN and the infinities by name, bytes in base64.
Source: opentelemetry/proto/common/v1/common.proto; OTLP specification, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterable
from typing import TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

ATTRIBUTES = 512
"""Of one item; SDKs send 128 at most (specification, "Attribute Limits")."""
TEXT = 32768
"""Characters of one value."""
DEPTH = 8
"""Of lists and maps in each other."""

Value: TypeAlias = "str | bool | int | float | list[Value] | dict[str, Value] | None"


class Attributes:
    """Turns attributes into texts, and counts what it leaves out.

    >>> attributes = Attributes()
    >>> attributes.text(span.attributes)
    '{"http.route":"/users/{id}","server.port":8080}'
    >>> attributes.left_out
    0
    """

    def __init__(self) -> None:
        self.left_out = 0
        """Attributes beyond ATTRIBUTES, values beyond TEXT or DEPTH."""

    def pairs(self, attributes: Iterable[KeyValue]) -> dict[str, Value]:
        """By key; of equal keys the last one counts."""
        found: dict[str, Value] = {}
        for number, pair in enumerate(attributes):
            if number >= ATTRIBUTES:
                self.left_out += 1
                continue
            value = pair.value
            kind = value.WhichOneof("value")
            if kind == "string_value":
                text = value.string_value
                found[pair.key] = text if len(text) <= TEXT else self._cut(text)
            elif kind == "int_value":
                found[pair.key] = value.int_value
            else:
                found[pair.key] = self._value(value, DEPTH)
        return found

    def text(self, attributes: Iterable[KeyValue]) -> str:
        """As JSON."""
        return as_json(self.pairs(attributes))

    def value(self, value: AnyValue) -> Value:
        """Any value, as JSON knows it."""
        return self._value(value, DEPTH)

    def _value(self, value: AnyValue, depth: int) -> Value:
        kind = value.WhichOneof("value")
        if kind is None:
            return None
        if kind == "string_value":
            return self._cut(value.string_value)
        if kind == "double_value":
            return number(value.double_value)
        if kind == "bytes_value":
            return self._cut(b64encode(value.bytes_value).decode())
        if kind in ("array_value", "kvlist_value") and not depth:
            self.left_out += 1
            return None
        if kind == "array_value":
            values = value.array_value.values
            self.left_out += max(len(values) - ATTRIBUTES, 0)
            return [self._value(one, depth - 1) for one in values[:ATTRIBUTES]]
        if kind == "kvlist_value":
            pairs = value.kvlist_value.values
            self.left_out += max(len(pairs) - ATTRIBUTES, 0)
            return {pair.key: self._value(pair.value, depth - 1) for pair in pairs[:ATTRIBUTES]}
        plain: bool | int = getattr(value, kind)
        return plain

    def _cut(self, text: str) -> str:
        if len(text) <= TEXT:
            return text
        self.left_out += 1
        return text[:TEXT]


def number(value: float) -> float | str:
    """A number that JSON can hold, else its name.

    >>> number(0.5), number(float("nan")), number(float("-inf"))
    (0.5, 'NaN', '-Infinity')
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False).encode


def as_json(value: Value) -> str:
    """The text that is stored and searched for.

    >>> as_json({"server.port": 8080})
    '{"server.port":8080}'
    """
    return _ENCODE(value)
