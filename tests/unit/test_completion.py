"""Responses that may go on: how long the rest of them is awaited."""

from __future__ import annotations

import numpy as np

from otel_ebpf.model import Exchanges, Flag, Intern
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.completion import CANNOT_TELL_NS, GOES_ON_NS, Completion
from otel_ebpf.protocols.engine import Engine
from tests.unit.exchanges import NOW, Said, batch, connections

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
PARTIAL = Flag.SERVER | Flag.PARTIAL
SPAN = 7


class Bench:
    """An engine, and what its `Completion` says of the drains that it is given."""

    def __init__(self) -> None:
        self.engine = Engine(connections(1), Intern[Fields](100), Options())
        self.completion = Completion(self.engine)

    def waits(self, *batches: Exchanges) -> list[int]:
        told: list[int] = self.completion.waits(batches, self.engine.parse_batches(list(batches), NOW)).tolist()
        return told


def begun(response: bytes = HEAD) -> Exchanges:
    return batch([Said(REQUEST, response, flags=PARTIAL, span_id=SPAN)])


def amendment(size: int) -> Exchanges:
    """The record that tells that the response has grown to `size` bytes: it has no payload."""
    told = batch([Said(REQUEST, HEAD, flags=PARTIAL | Flag.AMENDS | Flag.HEAD, span_id=SPAN, rsp_bytes=size)])
    told.head["req_cap"] = told.head["rsp_cap"] = 0
    nothing = np.zeros((1, 0), np.uint8)
    return Exchanges(told.head, nothing, nothing)


def test_a_response_that_is_whole_is_not_waited_for() -> None:
    assert Bench().waits(begun(HEAD + b"0123456789")) == [0]


def test_what_is_known_to_go_on_is_awaited_until_its_amendment_has_told_its_end() -> None:
    bench = Bench()

    assert bench.waits(begun()) == [GOES_ON_NS]
    assert bench.waits(amendment(len(HEAD) + 5)) == [GOES_ON_NS]
    assert bench.waits(amendment(len(HEAD) + 10)) == [0]


def test_an_amendment_in_the_same_drain_has_the_last_word_whichever_ring_is_read_first() -> None:
    whole = amendment(len(HEAD) + 10)

    assert Bench().waits(begun(), whole) == [0, 0]
    assert Bench().waits(whole, begun()) == [0, 0]


def test_where_nobody_can_tell_a_short_pause_decides() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

    assert Bench().waits(begun(chunked)) == [CANNOT_TELL_NS]
