"""OTLP attributes as the store keeps them: one JSON object without blanks, so that a pair is found by its text.

OTLP values that JSON lacks are texts, as in OTLP's own JSON form: NaN and the infinities by name, bytes in base64.
Source: opentelemetry/proto/common/v1/common.proto; OTLP specification, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

ATTRIBUTES = 512
"""Of one item; SDKs send 128 at most (specification, "Attribute Limits")."""
TEXT = 16384
"""Bytes of one value, as it is written in JSON."""
KEY = 1024
"""Characters of a key."""
NAME = 1024
"""Characters of the name of a service, span, event, scope or metric: as many as the API takes to ask for one."""
TOTAL = 16384
"""Bytes of all attributes of one item, or of all its events, or links. DuckDB reads and writes 2048 rows at once: with
longer ones its memory would not do, and then neither questions nor the store."""
DEPTH = 8
"""Of lists and maps in each other."""
_PLAIN = 16
"""What a number, and whatever else is small, counts for in TOTAL."""
_SHORT = 64
"""Characters of texts that are counted at their longest instead of being looked at."""
_ESCAPE = 6
"""Bytes that a character may take."""

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
        """Attributes beyond ATTRIBUTES, KEY or TOTAL, values beyond TEXT or DEPTH, names beyond NAME."""
        self._room = TOTAL

    def begin(self) -> None:
        """What follows is one column of one item: together it may have TOTAL bytes."""
        self._room = TOTAL

    def pairs(self, attributes: Iterable[KeyValue], depth: int = DEPTH) -> dict[str, Value]:
        """By key; of equal keys the last one counts."""
        found: dict[str, Value] = {}
        for number, pair in enumerate(attributes):
            key = pair.key
            self._room -= len(key) + _PLAIN
            if number >= ATTRIBUTES or self._room <= 0 or len(key) > KEY:
                self.left_out += 1
                continue
            value = pair.value
            kind = value.WhichOneof("value")
            if kind == "string_value":
                text = value.string_value
                if len(text) <= _SHORT and self._room > _SHORT * _ESCAPE:
                    self._room -= len(text) * _ESCAPE
                    found[key] = text
                else:
                    found[key] = self._cut(text)
            elif kind == "int_value":
                found[key] = value.int_value
            else:
                found[key] = self._value(value, depth)
        return found

    def name(self, text: str) -> str:
        """A name, cut if need be."""
        if len(text) <= NAME:
            return text
        self.left_out += 1
        return text[:NAME]

    def text(self, attributes: Iterable[KeyValue]) -> str:
        """All of an item's, as JSON."""
        self.begin()
        return as_json(self.pairs(attributes))

    def value(self, value: AnyValue) -> Value:
        """Any value that is all of a column, as JSON knows it."""
        self.begin()
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
            data = value.bytes_value
            return self._cut(b64encode(data[:TEXT]).decode(), len(data) > TEXT)
        if kind in ("array_value", "kvlist_value") and not depth:
            self.left_out += 1
            return None
        if kind == "array_value":
            return self._list(value.array_value.values, depth - 1)
        if kind == "kvlist_value":
            return self.pairs(value.kvlist_value.values, depth - 1)
        plain: bool | int = getattr(value, kind)
        return plain

    def _list(self, values: Sequence[AnyValue], depth: int) -> list[Value]:
        found: list[Value] = []
        for number, value in enumerate(values):
            self._room -= _PLAIN
            if number >= ATTRIBUTES or self._room <= 0:
                self.left_out += len(values) - number
                break
            found.append(self._value(value, depth))
        return found

    def _cut(self, text: str, cut: bool = False) -> str:
        """As much of the text as there is room for. cut: it has been shortened before."""
        most = max(min(TEXT, self._room), 0)
        if len(text) * _ESCAPE <= most or (len(text) <= most and text.isascii() and text.isprintable()):
            self._room -= len(text)
            self.left_out += cut
            return text
        size = _written(text[: most + 1])
        if len(text) <= most and size <= most:
            self._room -= size
            self.left_out += cut
            return text
        self.left_out += 1
        text = text[: most * min(len(text), most + 1) // size]
        if _written(text) > most:
            text = text[: most // _ESCAPE]
        self._room -= _written(text)
        return text


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


def _written(text: str) -> int:
    """Bytes of the text in JSON, without its quotes."""
    return len(_ENCODE(text).encode("utf-8", "replace")) - 2
