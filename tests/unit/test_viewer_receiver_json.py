"""OTLP/JSON means the same as protobuf's own JSON, but for the ids."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.viewer.contract import Malformed, Signal
from otel_ebpf.viewer.receiver.json_form import to_protobuf
from otel_ebpf.viewer.receiver.reception import TooLarge
from tests.unit.viewer_receivers import REQUESTS

INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: (0, 5),
}
IDS = {"traceId", "spanId", "parentSpanId"}


def fill(message: Message, draw: st.DrawFn, depth: int) -> None:
    """Some of the message's fields, at random."""
    for field in message.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if depth == 0:
                continue
            target = getattr(message, field.name)
            if field.is_repeated:
                for _ in range(draw(st.integers(1, 2))):
                    fill(target.add(), draw, depth - 1)
            else:
                target.SetInParent()
                fill(target, draw, depth - 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalar(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalar(field)))


def scalar(field: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401
    """Any value of the field's type."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=20)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.floats(allow_nan=False)
    return st.integers(*INTEGERS[field.type])


@st.composite
def requests(draw: st.DrawFn, signal: Signal) -> Message:
    """A random request of the signal."""
    message = REQUESTS[signal]()
    fill(message, draw, 9)
    return message


def as_otlp_json(message: Message, *, enums_as_ints: bool) -> str:
    """By protobuf's own code, then with OTLP's ids."""
    parsed = json_format.MessageToDict(message, use_integers_for_enums=enums_as_ints)

    def mend(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, list):
            return [mend(element) for element in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64decode(found).hex() if key in IDS and isinstance(found, str) else mend(found)
            for key, found in value.items()
        }

    return json.dumps(mend(parsed))


@settings(max_examples=60)
@given(data=st.data(), signal=st.sampled_from(sorted(REQUESTS)), enums_as_ints=st.booleans())
def test_any_request_survives_json(data: st.DataObject, signal: Signal, enums_as_ints: bool) -> None:
    request = data.draw(requests(signal))
    written = as_otlp_json(request, enums_as_ints=enums_as_ints)
    assert REQUESTS[signal].FromString(to_protobuf(signal, written.encode())) == request


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["resourceSpans", "scopeSpans", "spans", "kind", "traceId", "attributes", "key", "value"]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_is_a_request_or_malformed(value: object) -> None:
    try:
        request = to_protobuf("traces", json.dumps(value).encode())
    except Malformed as error:
        assert "\n" not in str(error)
    else:
        REQUESTS["traces"].FromString(request)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_malformed_or_json(data: bytes) -> None:
    try:
        to_protobuf("logs", data)
    except Malformed:
        return
    json.loads(data)


def span(**fields: object) -> Any:  # noqa: ANN401
    """What becomes of one span."""
    content = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]})
    request: Any = REQUESTS["traces"].FromString(to_protobuf("traces", content.encode()))
    return request.resource_spans[0].scope_spans[0].spans[0]


def test_numbers_in_all_their_forms() -> None:
    assert span(startTimeUnixNano="1544712660000000000").start_time_unix_nano == 1544712660000000000
    assert span(startTimeUnixNano=1544712660000000000).start_time_unix_nano == 1544712660000000000
    assert span(flags=1.0).flags == 1
    assert span(kind=2).kind == span(kind="SPAN_KIND_SERVER").kind == 2
    value = {"key": "k", "value": {"doubleValue": "NaN"}}
    assert math.isnan(span(attributes=[value]).attributes[0].value.double_value)


def test_ids_in_either_case_and_of_any_length() -> None:
    """What an id of wrong length means is not for the form to say."""
    assert span(traceId="5B8EFFF798038103D269B633813FC60C").trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert span(traceId="00ff").trace_id == b"\x00\xff"
    assert span(parentSpanId="").parent_span_id == b""


def test_null_is_nothing_and_snake_case_is_understood() -> None:
    assert span(name=None, parentSpanId=None, trace_id="0a").trace_id == b"\x0a"


def test_half_a_character_does_not_cost_the_request() -> None:
    assert span(name="cut \ud83d").name == "cut \ufffd"


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": "xyz"},
        {"traceId": "0 0 "},
        {"traceId": "abc"},
        {"traceId": 7},
        {"name": 7},
        {"kind": "SPAN_KIND_UNHEARD_OF"},
        {"kind": 2**40},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": 1.5},
        {"startTimeUnixNano": True},
        {"startTimeUnixNano": [[[]]]},
        {"attributes": {}},
        {"attributes": [None]},
        {"status": []},
        {"attributes": [{"key": "k", "value": {"bytesValue": "*"}}]},
        {"attributes": [{"key": "k", "value": {"boolValue": 1}}]},
        {"attributes": [{"key": "k", "value": {"doubleValue": "many"}}]},
    ],
)
def test_a_value_of_the_wrong_type_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        span(**fields)


def test_attribute_values_within_values_have_an_end() -> None:
    def nested(levels: int) -> object:
        value: dict[str, object] = {"intValue": "1"}
        for _ in range(levels):
            value = {"arrayValue": {"values": [value]}}
        return {"key": "k", "value": value}

    assert span(attributes=[nested(20)]).attributes
    with pytest.raises(Malformed, match="nested too deeply"):
        span(attributes=[nested(200)])


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"resourceSpans":[', b'{"arrayValue":{"values":['])
def test_a_million_levels_do_not_hurt(opening: bytes) -> None:
    with pytest.raises(Malformed, match="nested too deeply"):
        to_protobuf("traces", opening * 1_000_000)
    with pytest.raises(Malformed):
        to_protobuf("traces", opening * 10_000)


def test_more_values_than_can_be_held() -> None:
    with pytest.raises(TooLarge):
        to_protobuf("traces", b'{"resourceSpans":[' + b"{}," * 1_000_000 + b"{}]}")
