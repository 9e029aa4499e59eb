"""Calls without payload whose caller did not wait for the answer that the server's end has."""

from __future__ import annotations

import pytest

from otel_ebpf.given_up import tell_given_up
from otel_ebpf.model import Flag, Intern, Kind, Spans
from otel_ebpf.protocols.base import Fields, Options, Session
from otel_ebpf.protocols.http import Http

ASKED = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n"
ANSWERED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def shapes() -> Intern[Fields]:
    return Intern[Fields](8)


def told(shapes: Intern[Fields], kind: Kind, flags: Flag) -> Fields:
    (reading,) = Http().parse(ASKED, ANSWERED, Session(), Options())
    spans = Spans.empty(2)
    spans.shape[:] = shapes.id(reading.fields), -1
    spans.kind[:] = kind
    spans.flags[:] = flags
    tell_given_up(spans, shapes)
    assert spans.shape[1] == -1
    return shapes[int(spans.shape[0])]


@pytest.mark.parametrize("flag, failure", [(Flag(0), "no_response"), (Flag.RESET, "connection_reset")])
def test_who_gave_up_knows_of_no_answer(shapes: Intern[Fields], flag: Flag, failure: str) -> None:
    client = told(shapes, Kind.CLIENT, Flag.HEAD | Flag.UNANSWERED | flag).client
    assert client.error
    for attributes in (dict(client.attributes), dict(client.metric)):
        assert attributes["error.type"] == failure
        assert attributes["http.request.method"] == "GET"
        assert "http.response.status_code" not in attributes


@pytest.mark.parametrize(
    "kind, flags",
    [
        (Kind.CLIENT, Flag.HEAD),
        (Kind.CLIENT, Flag.UNANSWERED),
        (Kind.SERVER, Flag.HEAD | Flag.UNANSWERED),
    ],
)
def test_all_others_are_left(shapes: Intern[Fields], kind: Kind, flags: Flag) -> None:
    assert dict(told(shapes, kind, flags).client.attributes)["http.response.status_code"] == 503
