"""OTLP/JSON to protobuf (opentelemetry-proto, docs/specification.md, "JSON Protobuf Encoding").

It is protobuf's JSON mapping but for: ids are hexadecimal, enums are numbers (their names are taken too), unknown names
are ignored. `google.protobuf.json_format` takes base64 for the ids and several times as long: here each message type
has a table of its names, made once from its descriptor, and protobuf's own C code builds the message from dicts.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from otel_ebpf.viewer.contract import Malformed, Signal
from otel_ebpf.viewer.receiver.reception import TooLarge

DEPTH = 64
"""Messages within messages: a request without nested attribute values has 8; protobuf's own parsers stop at 100."""
VALUES = 500_000
"""Objects, lists and their elements: each costs 80 bytes and more while it is converted, whatever it costs on the wire.

So many are some 7,000 spans.
"""

_BEGINNING = 100_000
_HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_LABEL_REPEATED = 3  # descriptor.proto
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_Convert: TypeAlias = Callable[[object, int], object]
_Shape: TypeAlias = "dict[str, tuple[str, _Convert]]"


def to_protobuf(signal: Signal, data: bytes) -> bytes:
    """The serialized Export*ServiceRequest that the JSON means.

    Malformed: it is no JSON, or a value is not of its field's type. TooLarge: it has more than VALUES values.

    >>> to_protobuf("traces", b'{"resourceSpans": [{}]}')
    b'\\n\\x00'
    """
    # counted before anything is made of them; commas within strings count too
    if data.count(b",") + data.count(b"[") + data.count(b"{") > VALUES:
        with suppress(ValueError):  # its beginning says whether sending less would help
            _loads(data[:_BEGINNING])
        raise TooLarge(f"more than {VALUES:,} values in JSON: send less at once, or protobuf")
    request = _request_type(signal)
    try:
        parsed = _loads(data)
    except ValueError as error:  # also UnicodeDecodeError, and integers of thousands of digits
        raise Malformed(f"not JSON: {str(error)[:200]}") from None
    try:
        fields = _message(request.DESCRIPTOR)(parsed, 0)
        return request(**fields).SerializeToString()
    except (TypeError, ValueError, OverflowError) as error:
        raise Malformed(f"not OTLP/JSON: {str(error)[:200]}") from None


def _loads(data: bytes) -> object:
    try:
        return json.loads(data)
    except RecursionError:
        raise Malformed("not OTLP/JSON: nested too deeply") from None


def _request_type(signal: Signal) -> type[Message]:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return ExportTraceServiceRequest
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        return ExportMetricsServiceRequest
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    return ExportLogsServiceRequest


@cache
def _message(kind: Descriptor) -> Callable[[object, int], dict[str, object]]:
    """Makes the keyword arguments of a message's constructor of a JSON object."""
    shape: _Shape = {}

    def convert(value: object, depth: int) -> dict[str, object]:
        if not isinstance(value, dict):
            raise TypeError(f"{kind.name}: expected an object")
        if depth > DEPTH:
            raise ValueError("nested too deeply")
        if not shape:  # made late: messages contain each other
            shape.update(_shape(kind))
        fields = {}
        for key, found in value.items():
            field = shape.get(key)
            # null is the same as nothing in protobuf's JSON
            if field is not None and found is not None:
                fields[field[0]] = field[1](found, depth + 1)
        return fields

    return convert


def _shape(kind: Descriptor) -> _Shape:
    """What each name means, in lowerCamelCase and as in the .proto file."""
    shape = {}
    for field in kind.fields:
        convert = _converter(field)
        if _is_repeated(field):
            convert = _repeated(field.name, convert)
        shape[field.json_name] = shape[field.name] = (field.name, convert)
    return shape


def _is_repeated(field: FieldDescriptor) -> bool:
    # protobuf 6.31 brought the property, 7 took `label` away
    found: bool | None = getattr(field, "is_repeated", None)
    return getattr(field, "label", None) == _LABEL_REPEATED if found is None else found


def _converter(field: FieldDescriptor) -> _Convert:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _message(field.message_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _hex if field.name in _HEX_FIELDS else _base64
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum(field)
    return _SCALARS.get(field.type, _integer)


def _repeated(name: str, convert: _Convert) -> _Convert:
    def convert_all(value: object, depth: int) -> list[object]:
        if not isinstance(value, list):
            raise TypeError(f"{name}: expected a list")
        return [convert(element, depth) for element in value]

    return convert_all


def _enum(field: FieldDescriptor) -> _Convert:
    kind = field.enum_type
    numbers = {} if kind is None else {name: value.number for name, value in kind.values_by_name.items()}

    def convert(value: object, depth: int) -> int:
        return numbers[value] if isinstance(value, str) and value in numbers else _integer(value, depth)

    return convert


def _hex(value: object, _: int) -> bytes:
    if not isinstance(value, str) or not value.isalnum():
        if value == "":
            return b""
        raise ValueError("an id is not hexadecimal")
    return bytes.fromhex(value)


def _base64(value: object, _: int) -> bytes:
    if not isinstance(value, str):
        raise TypeError("bytes are base64 in a string")
    # protobuf's JSON: either alphabet, with or without padding
    standard = value.rstrip("=").translate(_URL_SAFE)
    return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


_URL_SAFE = str.maketrans("-_", "+/")


def _integer(value: object, _: int) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{value[:50]!a} is no integer" if isinstance(value, str) else "expected an integer")


def _number(value: object, _: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError("expected a number")
    number = float(value)
    if isinstance(value, str) and math.isnan(number) and value != "NaN":
        raise ValueError(f"{value[:50]!a} is no number")
    return number


def _boolean(value: object, _: int) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value


def _text(value: object, _: int) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    if not value.isascii() and _LONE_SURROGATE.search(value):
        # half a character of JavaScript's, where it cut a string: not worth the whole request
        return _LONE_SURROGATE.sub("\ufffd", value)
    return value


_SCALARS: dict[int, _Convert] = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BOOL: _boolean,
    FieldDescriptor.TYPE_DOUBLE: _number,
    FieldDescriptor.TYPE_FLOAT: _number,
}
"""All other scalars of OTLP are integers."""
