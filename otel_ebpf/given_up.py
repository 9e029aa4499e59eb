"""Calls that their caller gave up, and whose server answered all the same, to nobody.

The caller's end of a connection on this host may come without payload: what it says is that of the server's end
(`tracing.join`). But of an answer that came after the caller had gone, the caller knows nothing: its span says that
there was none.
"""

from __future__ import annotations

from dataclasses import replace

from otel_ebpf.control.tables import known
from otel_ebpf.model import Attributes, Intern, Spans
from otel_ebpf.protocols.base import Fields
from otel_ebpf.protocols.memory import failed_side, failure_of
from otel_ebpf.tracing.bits import CLIENT, HEAD, UNANSWERED

_GIVEN_UP = HEAD | UNANSWERED


def tell_given_up(spans: Spans, shapes: Intern[Fields]) -> None:
    """Gives calls without payload that got no answer the shape of such a call, in place.

    >>> spans.shape[0]  # GET, 200, as the server says
    4
    >>> tell_given_up(spans, shapes)
    >>> shapes[spans.shape[0]].client.attributes  # error.type: no_response, no status
    """
    given_up = (spans.kind == CLIENT) & ((spans.flags & _GIVEN_UP) == _GIVEN_UP) & (spans.shape >= 0)
    for row in given_up.nonzero()[0].tolist():
        fields = known(shapes, int(spans.shape[row]))
        if fields is not None:
            spans.shape[row] = shapes.id(_without_answer(fields, failure_of(int(spans.flags[row]))))


def _without_answer(fields: Fields, failure: str) -> Fields:
    client = fields.client
    unanswered = replace(client, attributes=_unsaid(client.attributes), metric=_unsaid(client.metric), error=False)
    return replace(fields, client=failed_side(unanswered, failure), status="")


def _unsaid(attributes: Attributes) -> Attributes:
    """Without what a response says: http.response.status_code, db.response.status_code, error.type, dns.answers."""
    return tuple((key, said) for key, said in attributes if key not in _OF_RESPONSE and ".response." not in key)


_OF_RESPONSE = ("error.type", "dns.answers")
