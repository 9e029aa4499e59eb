"""Chunks of exports become requests, however they are cut, and whatever bytes they hold."""

from __future__ import annotations

import gzip
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.foreign.streams import CHUNKS, CONNECTIONS, HELD, MOST, PIECES, TRIAL, Export, Streams
from otel_ebpf.kernel.btf import Btf, object_path

CHUNK = Btf.of_object(object_path("requests")).dtype("export_chunk")
BODY = b"\x0a\x03abc"


def chunks(*pieces: bytes, seq: int = 2**32 - 7, conn: int = 1, tgid: int = 77) -> np.ndarray[tuple[int], np.dtype]:
    rows = np.zeros(len(pieces), CHUNK)
    for row, piece in zip(rows, pieces, strict=True):
        row["conn"], row["tgid"], row["seq"], row["len"], row["t"] = conn, tgid, seq % 2**32, len(piece), 5
        row["data"][: len(piece)] = np.frombuffer(piece, np.uint8)
        seq += len(piece)
    return rows


def cut(data: bytes, *at: int) -> list[bytes]:
    marks = sorted({0, len(data), *(a % len(data) for a in at)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def post(body: bytes, *headers: str, path: str = "/v1/traces", length: bool = True) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: h",
        *headers,
        *([f"Content-Length: {len(body)}"] if length else []),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def grpc(body: bytes, compressed: int = 0) -> bytes:
    return bytes([compressed]) + len(body).to_bytes(4, "big") + body


def data(body: bytes) -> bytes:
    """As frames of a stream."""
    return b"".join(frame(0, 0, 1, body[at : at + 16384]) for at in range(0, len(body), 16384))


def pieces_of(message: bytes) -> list[bytes]:
    """As the kernel side cuts it."""
    return [message[at : at + 4096] for at in range(0, len(message), 4096)]


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GRPC = (
    frame(1, 4, 1, b"headers")
    + frame(0, 0, 1, grpc(BODY)[:3])
    + frame(8, 0, 0, b"abcd")
    + frame(0, 1, 1, grpc(BODY)[3:])
)
CHUNKED = post(
    b"3\r\n" + BODY[:3] + b"\r\n2;x=y\r\n" + BODY[3:] + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False
)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (post(BODY), [Export(77, 5, BODY, conn=1)]),
        (
            post(BODY) + post(BODY, "Content-Type: application/json"),
            [Export(77, 5, BODY, conn=1), Export(77, 5, BODY, json=True, conn=1)],
        ),
        (post(BODY, "content-encoding: GZIP"), [Export(77, 5, BODY, "gzip", conn=1)]),
        (post(BODY, path="/otlp/v1/traces?x=1"), [Export(77, 5, BODY, conn=1)]),
        (post(BODY, path="/v1/metrics") + post(BODY), [Export(77, 5, BODY, conn=1)]),
        (CHUNKED + post(BODY), [Export(77, 5, BODY, conn=1), Export(77, 5, BODY, conn=1)]),
        (PREFACE + frame(4, 0, 0, b"") + GRPC, [Export(77, 5, BODY, conn=1)]),
        (GRPC + GRPC, [Export(77, 5, BODY, conn=1), Export(77, 5, BODY, conn=1)]),
        (PREFACE + frame(0, 0x9, 3, b"\x02" + grpc(BODY, 1) + b"\0\0"), [Export(77, 5, BODY, "gzip", conn=1)]),
    ],
)
@given(at=st.lists(st.integers(0, 1 << 20), max_size=6))
@settings(max_examples=40)
def test_requests_are_found_however_they_are_cut(wire: bytes, expected: list[Export], at: list[int]) -> None:
    streams = Streams()
    pieces = cut(wire, *at)
    if not wire.startswith((PREFACE[:3], b"POST")):
        pieces = [wire[:9], *cut(wire[9:], *at)]  # in the middle of a connection a frame's head is not cut
    assert streams.take(chunks(*pieces)) == expected
    assert (streams.lost, streams.refused) == (0, 0)


def test_what_is_missing_is_counted_and_the_next_request_read() -> None:
    streams = Streams()
    assert streams.take(chunks(post(BODY)[:-2])) == []
    assert streams.take(chunks(post(BODY), seq=5000)) == [Export(77, 5, BODY, conn=1)]
    assert streams.lost == 1


def test_too_long_a_request_is_refused_and_memory_is_bounded() -> None:
    streams = Streams()
    assert streams.take(chunks(post(b"", f"Content-Length: {MOST + 1}", length=False))) == []
    assert streams.refused == 1
    for conn in range(2 * CONNECTIONS):
        streams.take(chunks(b"POST", conn=conn))
    assert len(streams._connections) <= CONNECTIONS


def test_what_one_began_and_another_goes_on_with_is_nobodys() -> None:
    """A connection is inherited: a worker was forked."""
    streams = Streams()
    first, second = cut(post(BODY), 30)
    seq = len(first)
    assert streams.take(chunks(first, seq=0, tgid=77)) == []
    assert streams.take(chunks(second, seq=seq, tgid=78)) == []
    assert streams.take(chunks(post(BODY), seq=seq + len(second), tgid=78)) == [Export(78, 5, BODY, conn=1)]


@pytest.mark.parametrize("body", [frame(0, 0, 1, grpc(b"x" * 20)), PREFACE])
def test_a_body_is_not_taken_for_the_beginning_of_a_connection(body: bytes) -> None:
    streams = Streams()
    whole = post(body)
    head, rest = whole[: -len(body)], whole[-len(body) :]
    assert streams.take(chunks(head, rest, seq=0)) == [Export(77, 5, body, conn=1)]


def unfinished(streams: int) -> bytes:
    """So many requests on one connection, each of almost 4 MiB, of which the end is missing."""
    return b"".join(
        frame(0, 0, 2 * n + 1, grpc(b"x" * (MOST - 5))[at : at + 16384])
        for n in range(streams)
        for at in range(0, MOST - 16384, 16384)
    )


def test_what_is_never_finished_takes_no_more_memory_than_said() -> None:
    """And it is not those that send little who are forgotten for it."""
    streams = Streams()
    streams.take(chunks(post(BODY)[:-1], conn=5, seq=0))
    message = PREFACE + unfinished(HELD // MOST + 1)
    for at in range(0, len(message), 1 << 20):
        streams.take(chunks(*pieces_of(message[at : at + (1 << 20)]), seq=at))
        assert sum(one.size() for one in streams._connections.values()) <= HELD
    assert streams.refused > 0
    assert streams.take(chunks(post(BODY)[-1:], conn=5, seq=len(post(BODY)) - 1)) == [Export(77, 5, BODY, conn=5)]


def test_streams_that_are_reset_make_room() -> None:
    streams, seq = Streams(), 0
    for n in range(100):
        message = (
            (b"" if n else PREFACE) + frame(0, 0, 2 * n + 1, grpc(BODY)[:-1]) + frame(3, 0, 2 * n + 1, b"\0\0\0\x08")
        )
        streams.take(chunks(message, seq=seq))
        seq += len(message)
    assert streams.take(chunks(frame(0, 1, 999, grpc(BODY)), seq=seq)) == [Export(77, 5, BODY, conn=1)]


def test_of_exports_without_end_no_more_are_read_at_once_than_said() -> None:
    streams = Streams()
    message = PREFACE + frame(0, 0, 1, grpc(b"") * 2000 + grpc(b"x") * 2000)
    assert len(streams.take(chunks(*pieces_of(message)))) == CHUNKS
    assert streams.refused == 2000 - CHUNKS


def test_a_body_in_crumbs_is_refused() -> None:
    streams = Streams()
    body = b"1\r\nx\r\n" * (PIECES + 1) + b"0\r\n\r\n"
    message = post(body, "Transfer-Encoding: chunked", length=False)
    assert streams.take(chunks(*pieces_of(message))) == []
    assert streams.refused > 0


def test_connections_do_not_mix() -> None:
    streams = Streams()
    first, second = cut(post(BODY), 30)
    assert streams.take(
        np.concatenate([chunks(first), chunks(post(BODY), conn=2, tgid=8), chunks(second, seq=2**32 - 7 + 30)])
    ) == [
        Export(8, 5, BODY, conn=2),
        Export(77, 5, BODY, conn=1),
    ]


OTHERS = {
    "another request": post(b"x" * 20_000, path="/upload"),
    "binary": b"\x03" * 4096,
    "text": b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" * 100,
    "grpc": GRPC[:-12] + frame(0, 1, 1, grpc(b"y" * 12_000)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_carries_no_export_is_told_once_enough_of_it_has_come(other: bytes) -> None:
    streams, seq = Streams(), 0
    assert streams.others() == []
    while seq < 2 * TRIAL:
        streams.take(chunks(*pieces_of(other), seq=seq))
        seq += len(other)
    assert streams.others() == [1]
    assert streams.others() == []


@pytest.mark.parametrize("message", [post(BODY), PREFACE + GRPC], ids=["http", "grpc"])
def test_what_carries_exports_is_not(message: bytes) -> None:
    streams, seq = Streams(), 0
    for _ in range(3000):
        streams.prove(export.conn for export in streams.take(chunks(*pieces_of(message), seq=seq)))
        assert streams.others() == []
        seq += len(message)


LONG = {
    "length": post(b"x" * MOST),
    "chunked": post(
        (b"4000\r\n" + b"x" * 16384 + b"\r\n") * (MOST // 16384) + b"0\r\n\r\n",
        "Transfer-Encoding: chunked",
        length=False,
    ),
    "grpc": frame(1, 4, 1, b"") + data(grpc(b"x" * (MOST - 5))),
}


@pytest.mark.parametrize("message", LONG.values(), ids=LONG)
def test_a_long_export_is_waited_for(message: bytes) -> None:
    streams, found = Streams(), []
    for at in range(0, len(message), 1 << 20):
        found += streams.take(chunks(*pieces_of(message[at : at + (1 << 20)]), seq=at))
        streams.prove(export.conn for export in found)
        assert streams.others() == []
    assert len(found) == 1


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([PREFACE, GRPC, CHUNKED, post(gzip.compress(BODY))]), max_size=8)
)
@settings(max_examples=200)
def test_no_bytes_make_it_fail(pieces: list[bytes]) -> None:
    Streams().take(chunks(*pieces))
