"""Equal exchanges are read once, and nothing that tells them apart is lost by it."""

from __future__ import annotations

import numpy as np
import pytest

from otel_ebpf.model import COLUMNS, Flag, Intern, Spans
from otel_ebpf.protocols import repeats, turns
from otel_ebpf.protocols.base import Fields, Options, Side
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.extras import Batch, Columns
from otel_ebpf.protocols.http_columns import HttpReader
from tests.unit.exchanges import NOW, Said, announcements, batch, connections

NOTHING = Side("", (), ())
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GONE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CONTEXT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
BODY = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\n%s\r\n" % (path, more)


KINDS = [
    Said(get(b"/users/12?q=1"), OK),
    Said(get(b"/users/12?q=1"), GONE),
    Said(get(b"/users/13?q=1"), OK),
    Said(get(b"/users/12?q=1"), OK, flags=0),
    Said(get(b"/users/12?q=1"), OK, flags=Flag.SERVER | Flag.TLS, conn=2),
    Said(get(b"/users/12?q=1"), OK, conn=3),
    Said(get(b"/users/12?q=1"), b"", flags=Flag.SERVER | Flag.UNANSWERED | Flag.NO_RESPONSE),
    Said(get(b"/users/12?q=1"), b"", flags=Flag.SERVER | Flag.UNANSWERED | Flag.RESET | Flag.NO_RESPONSE),
    Said(get(b"/context", CONTEXT), OK),
    Said(get(b"/context"), OK),
    Said(get(b"/?token=secret&a=%C3%A4"), OK),
    Said(get(b"http://other/absolute"), OK, conn=4),
    Said(BODY, OK),
    Said(BODY[:-5], OK, req_bytes=len(BODY)),
    Said(BODY[:-5], OK, req_bytes=len(BODY) + 3),
]


def engine() -> tuple[Engine, Intern[Fields]]:
    known = connections(1, 2)
    known.update(announcements(3, 4, port=9090), NOW)
    shapes = Intern[Fields](1000)
    return Engine(known, shapes, Options()), shapes


def said(spans: Spans, shapes: Intern[Fields]) -> list[tuple[object, ...]]:
    """All columns of each span, shapes and texts as what they stand for."""
    columns = [getattr(spans, name).tolist() for name in COLUMNS if name not in ("shape", "slot_start")]
    texts = [
        [bytes(spans.text[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
        for starts, lengths in zip(spans.slot_start.tolist(), spans.slot_length.tolist(), strict=True)
    ]
    fields = [shapes[shape] if shape >= 0 else shape for shape in spans.shape.tolist()]
    return list(zip(*columns, texts, fields, strict=True))


def test_grouped_and_row_by_row_readings_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    exchanges = batch([KINDS[i] for i in rng.integers(0, len(KINDS), 3 * repeats.FEWEST)])
    exchanges.head["span_id"] = np.arange(1, len(exchanges) + 1)
    exchanges.head["n"] = np.arange(len(exchanges))
    grouping, shapes = engine()
    grouped = [said(grouping.parse(exchanges, NOW), shapes) for _ in range(2)]
    monkeypatch.setattr(repeats, "FEWEST", 1 << 30)
    plain, other = engine()
    assert grouped == [said(plain.parse(exchanges, NOW), other) for _ in range(2)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of the reader had."""
    read: list[int] = []
    original = HttpReader.read

    def counting(self: HttpReader, rows: Batch) -> Columns:
        read.append(len(rows.row))
        return original(self, rows)

    monkeypatch.setattr(HttpReader, "read", counting)
    return read


def test_equal_requests_are_read_once_and_different_ones_are_soon_no_longer_compared(read: list[int]) -> None:
    parse = engine()[0].parse
    n = repeats.FEWEST
    parse(batch([Said(get(b"/%d" % (i % 7)), OK) for i in range(n)]), NOW)
    assert read.pop() == 7
    different = batch([Said(get(b"/%d" % i), OK) for i in range(n)])
    alike = batch([Said(get(b"/a"), OK)] * n)
    for exchanges in (different, *[alike] * repeats.PAUSE):
        parse(exchanges, NOW)
    assert read == [n] * (1 + repeats.PAUSE)
    parse(alike, NOW)
    assert read[-1] == 1


def test_what_was_read_before_is_not_read_again_unless_it_may_say_something_else(read: list[int]) -> None:
    parsing, shapes = engine()

    def parse(*paths: bytes, start: int = NOW) -> list[tuple[object, ...]]:
        exchanges = batch([Said(get(path), OK, start=start) for path in paths] * repeats.FEWEST)
        del read[:]
        return said(parsing.parse(exchanges, NOW), shapes)

    first = parse(b"/a", b"/b")
    assert read == [2]
    assert parse(b"/a", b"/b")[0] == first[0]
    assert read == [2], "two routes were learned meanwhile"
    assert parse(b"/a", b"/b") == first
    assert read == []
    parse(b"/a", b"/a?q")
    assert read == [1], "what is new"
    parse(b"/a", start=NOW + 2 * repeats.KEPT_NS)
    assert read == [1], "too long ago"
    parse(b"/a", start=NOW + 2 * repeats.KEPT_NS)
    assert read == []
    for i in range(shapes.limit):
        shapes.id(Fields("other", NOTHING, NOTHING, str(i)))
    assert parse(b"/a", b"/b", start=NOW + 2 * repeats.KEPT_NS)[1][-1] == first[1][-1]
    assert read == [2], "its shape is no more"


def test_what_is_kept_is_bounded(read: list[int]) -> None:
    parse = engine()[0].parse
    for begin in range(0, 5000, 500):
        parse(batch([Said(get(b"/%d" % (begin + i % 500)), OK) for i in range(1000)]), NOW)
    kept = parse.__self__._repeats[0]._kept  # type: ignore[attr-defined]
    assert 500 <= len(kept.shape) <= repeats.KINDS
    assert len(kept.text) <= repeats.TEXT


def test_pipelined_requests_say_the_same_by_columns_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = get(b"/users/12?q=1"), get(b"/users/13", CONTEXT)
    odd = get(b"http://other/absolute")
    several = [
        Said(a + b, OK + GONE),
        Said(a + b, OK + GONE, flags=0),
        Said(b + a + BODY, OK + OK + OK, flags=Flag.SERVER | Flag.TLS, conn=2),
        Said(a + odd, OK + OK),
        Said(a + b, b"", flags=Flag.SERVER | Flag.UNANSWERED | Flag.RESET | Flag.NO_RESPONSE),
        Said(a + b, OK, flags=Flag.SERVER | Flag.LAST),
        Said(a, b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
        Said(a + b"beyond", OK),
        Said(a + b, OK[:-1], rsp_bytes=500),
        Said(b"\r\n" + a, OK),
        Said(a + b"\x00\x01 HTTP/1.1\r\n\r\n", OK),
    ]
    exchanges = batch([Said(**(vars(one) | {"conn": 1 + i % 4, "n": i})) for i, one in enumerate(3 * several)])
    told = []
    for few in (0, 1 << 30):
        monkeypatch.setattr(turns, "_FEW", few)
        reading, shapes = engine()
        told.append(said(reading.parse(exchanges, NOW), shapes))
    assert told[0] == told[1]
    assert len(told[0]) > len(exchanges)
