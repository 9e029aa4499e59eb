"""What the kernel side tells of HTTP/2 connections, frame by frame: bpf/include/http2.h."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, watching
from tests.e2e.frames import (
    END_HEADERS,
    END_STREAM,
    GET,
    OK,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    SETTINGS,
    SETTINGS_ACK,
    WHOLE,
    WINDOW,
    Bit,
    Kind,
    Told,
    Type,
    frame,
    get,
    ok,
    padded,
    pieces,
    told,
    whole,
)
from tests.e2e.peers import Gate, Process, Side, connect, converse, listening, port_of, receive, unix_path, unread
from tests.processes import scratch

ASKED = (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM, 1, GET)
BEGUN = PREFACE + SETTINGS
CLOSED = (Kind.CLOSED, Bit(0), 0, 0)
LARGE = 1024
"""FRAME_BLOCK_LARGE of bpf/include/records.h."""

Said = list[tuple[Kind, Bit, int, bytes | int]]


def _ends(capture: Capture, serve: Side, ask: Side) -> tuple[list[Told], list[Told]]:
    """What is told of one connection: the client's end and the server's."""
    talk = converse(serve, ask)
    first, second = told(capture, talk.client, talk.server, closed=2)
    return (second, first) if first[0].flag & Flag.SERVER else (first, second)


def _exchange(capture: Capture, request: bytes, response: bytes) -> tuple[Said, Said]:
    """What both ends say of these bytes, in one message each way; nothing of it is an exchange as well."""
    client, server = _ends(capture, _answering(request, response), lambda c: _ask(c, request, response))
    assert capture.of(client[0].tgid, server[0].tgid) == []
    return whole(client), whole(server)


def _answering(request: bytes, response: bytes) -> Side:
    def serve(connection: socket.socket) -> None:
        receive(connection, len(request))
        connection.sendall(response)

    return serve


def _ask(connection: socket.socket, request: bytes, response: bytes) -> None:
    connection.sendall(request)
    assert receive(connection, len(response)) == response


def _requests(said: Said) -> Said:
    return [one for one in said if one[1] & Bit.REQUEST]


def _responses(said: Said) -> Said:
    return [one for one in said if not one[1] & Bit.REQUEST and one[0] is not Kind.CLOSED]


# What frames say


def test_a_request_and_its_response_are_told_by_both_ends(capture: Capture) -> None:
    request = BEGUN + frame(Type.HEADERS, END_HEADERS, 1, GET) + frame(Type.DATA, END_STREAM, 1, b"hello")
    response = SETTINGS + SETTINGS_ACK + frame(Type.HEADERS, END_HEADERS, 1, OK) + frame(Type.DATA, 0, 1, bytes(1000))
    trailers = frame(Type.HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x01a\x01b")
    for said in _exchange(capture, request, response + trailers):
        assert said == [
            (Kind.HEADERS, WHOLE | Bit.REQUEST, 1, GET),
            (Kind.DATA, Bit.REQUEST | Bit.END_STREAM, 1, 5),
            (Kind.HEADERS, WHOLE, 1, OK),
            (Kind.DATA, Bit(0), 1, 1000),
            (Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, b"\x40\x01a\x01b"),
            CLOSED,
        ]


def test_padding_and_priority_are_not_part_of_what_they_stand_beside(capture: Capture) -> None:
    flags = END_HEADERS | PADDED | PRIORITY
    head = frame(Type.HEADERS, flags, 1, b"\x07" + b"\0\0\0\0\x10" + GET + bytes(7))
    body = frame(Type.DATA, END_STREAM | PADDED, 1, padded(b"hello", 255))
    answer = frame(Type.HEADERS, END_HEADERS | PADDED, 1, padded(OK, 0))
    end = frame(Type.DATA, END_STREAM | PADDED, 1, padded(b"", 9))
    for said in _exchange(capture, BEGUN + head + body, answer + end):
        assert said == [
            (Kind.HEADERS, WHOLE | Bit.REQUEST, 1, GET),
            (Kind.DATA, Bit.REQUEST | Bit.END_STREAM, 1, 5),
            (Kind.HEADERS, WHOLE, 1, OK),
            (Kind.DATA, Bit.END_STREAM, 1, 0),
            CLOSED,
        ]


def test_a_header_block_goes_on_in_continuations(capture: Capture) -> None:
    block = GET + b"\x40\x01a\x7f\xb9\x01" + b"v" * 312
    request = (
        frame(Type.HEADERS, END_STREAM, 1, block[:2])
        + frame(Type.CONTINUATION, 0, 1, block[2:200])
        + frame(Type.CONTINUATION, 0, 1)
        + frame(Type.CONTINUATION, END_HEADERS, 1, block[200:])
    )
    client, server = _exchange(capture, BEGUN + request + get(3), ok(1) + ok(3))
    for said in (client, server):
        assert _requests(said) == [
            (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM, 1, block),
            (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM, 3, GET),
        ]


def test_a_long_header_block_comes_in_pieces_and_an_endless_one_is_cut(capture: Capture) -> None:
    long, endless = os.urandom(LARGE * 3 + 5), os.urandom(16_384)
    request = frame(Type.HEADERS, END_HEADERS | END_STREAM, 1, long)
    request += frame(Type.HEADERS, END_STREAM, 3, endless) + frame(Type.CONTINUATION, END_HEADERS, 3, endless)
    request += get(5)
    client, server = _ends(capture, _answering(BEGUN + request, ok(1)), lambda c: _ask(c, BEGUN + request, ok(1)))
    for end in (client, server):
        assert whole(end)[:3] == [
            (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM, 1, long),
            (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM | Bit.CUT, 3, endless),
            (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM, 5, GET),
        ]
        assert pieces(end).max() == LARGE


def test_streams_do_not_take_turns(capture: Capture) -> None:
    request = get(1) + get(3) + get(5)
    data = [frame(Type.DATA, 0, stream, bytes(10)) for stream in (5, 5, 3, 5)]
    response = ok(3) + frame(Type.HEADERS, END_HEADERS, 5, OK) + b"".join(data) + ok(1)
    client, server = _exchange(capture, BEGUN + request, response)
    assert client == server
    assert [(kind, stream, detail) for kind, _, stream, detail in _responses(client)] == [
        (Kind.HEADERS, 3, OK),
        (Kind.HEADERS, 5, OK),
        (Kind.DATA, 5, 20),
        (Kind.DATA, 3, 10),
        (Kind.DATA, 5, 10),
        (Kind.HEADERS, 1, OK),
    ]


def test_a_stream_that_is_reset_says_why(capture: Capture) -> None:
    cancel = frame(Type.RST_STREAM, 0, 1, struct.pack(">I", 8))
    refused = frame(Type.RST_STREAM, 0, 3, struct.pack(">I", 7))
    for said in _exchange(capture, BEGUN + get(1) + get(3) + cancel, refused):
        assert (Kind.RESET, Bit.REQUEST, 1, 8) in said
        assert (Kind.RESET, Bit(0), 3, 7) in said


def test_what_is_not_of_a_stream_or_not_known_is_passed_over(capture: Capture) -> None:
    """RFC 9113 §4.1: implementations MUST ignore and discard frames of unknown types."""
    unknown = frame(0x2A, 0xFF, 1, bytes(300)) + frame(0xFF, 0, 0) + frame(16, 0, 0, b"\0\0\0\1u=1")
    goaway = frame(Type.GOAWAY, 0, 0, bytes(8) + b"bye")
    noise = unknown + PING + WINDOW + frame(Type.PRIORITY, 0, 1, bytes(5)) + goaway
    strange = frame(Type.HEADERS, END_HEADERS, 0, b"x") + frame(Type.DATA, 0, 0, b"x")
    lone = frame(Type.CONTINUATION, END_HEADERS, 1, b"lone")
    for said in _exchange(capture, BEGUN + noise + get(1) + noise + strange + lone, noise + ok(1) + noise):
        assert said == [ASKED, (Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, OK), CLOSED]


def test_a_push_is_told_as_a_stream_of_the_servers(capture: Capture) -> None:
    """What it adds to the table of header fields counts for what follows."""
    promise = frame(Type.PUSH_PROMISE, END_HEADERS | PADDED, 1, padded(b"\0\0\0\x02" + GET, 3))
    for said in _exchange(capture, BEGUN + get(1), promise + ok(1) + ok(2)):
        assert _responses(said) == [
            (Kind.HEADERS, WHOLE, 2, GET),
            (Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, OK),
            (Kind.HEADERS, WHOLE | Bit.END_STREAM, 2, OK),
        ]


@pytest.mark.parametrize(
    "hostile",
    [
        frame(Type.HEADERS, PADDED | PRIORITY, 1, b"\xff"),
        frame(Type.HEADERS, PADDED | END_HEADERS, 1, b"\xff\x82"),
        frame(Type.DATA, PADDED, 1),
        frame(Type.RST_STREAM, 0, 1, b"\0"),
        frame(Type.PUSH_PROMISE, 0, 1, b"\0\0"),
        frame(Type.SETTINGS, 0, 0, b"\0"),
        frame(Type.PING, 0, 7, bytes(99)),
    ],
    ids=lambda bad: bad.hex(),
)
def test_a_frame_that_is_malformed_does_not_shift_the_next(capture: Capture, hostile: bytes) -> None:
    client, server = _exchange(capture, BEGUN + hostile + get(3), ok(3))
    for said in (client, server):
        assert (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM, 3, GET) in said
        assert _responses(said) == [(Kind.HEADERS, WHOLE | Bit.END_STREAM, 3, OK)]


def test_a_frame_that_says_it_is_huge_is_only_waited_for(capture: Capture) -> None:
    huge = b"\xff\xff\xff" + bytes([Type.DATA, 0]) + b"\0\0\0\1" + bytes(5000)
    for said in _exchange(capture, BEGUN + get(1) + huge + get(3), ok(1)):
        assert _requests(said) == [ASKED, (Kind.DATA, Bit.REQUEST, 1, 5000 + len(get(3)))]


# How bytes are moved

EVERYTHING = (
    BEGUN
    + frame(Type.HEADERS, PADDED | PRIORITY, 1, b"\x02" + bytes(5) + GET[:3] + bytes(2))
    + frame(Type.CONTINUATION, END_HEADERS, 1, GET[3:])
    + PING
    + frame(Type.DATA, PADDED, 1, padded(b"hello", 3))
    + frame(Type.DATA, END_STREAM, 1)
    + frame(Type.RST_STREAM, 0, 3, struct.pack(">I", 5))
    + get(5)
)
EVERYTHING_SAID: Said = [
    (Kind.HEADERS, WHOLE | Bit.REQUEST, 1, GET),
    (Kind.DATA, Bit.REQUEST | Bit.END_STREAM, 1, 5),
    (Kind.RESET, Bit.REQUEST, 3, 5),
    (Kind.HEADERS, WHOLE | Bit.REQUEST | Bit.END_STREAM, 5, GET),
]


def _in_two(cut: int) -> Callable[[socket.socket], None]:
    def ask(connection: socket.socket) -> None:
        connection.sendall(EVERYTHING[:cut])
        connection.sendall(EVERYTHING[cut:])
        receive(connection, len(ok(5)))

    return ask


def test_a_message_may_end_at_every_byte(capture: Capture) -> None:
    for cut in range(1, len(EVERYTHING)):

        def serve(connection: socket.socket, cut: int = cut) -> None:
            receive(connection, cut)
            receive(connection, len(EVERYTHING) - cut)
            connection.sendall(ok(5))

        for end in _ends(capture, serve, _in_two(cut)):
            assert _requests(whole(end)) == EVERYTHING_SAID, cut


def test_bytes_may_come_one_by_one(capture: Capture) -> None:
    def one_by_one(connection: socket.socket) -> None:
        for byte in EVERYTHING:
            connection.send(bytes([byte]))
        receive(connection, len(ok(5)))

    def serve(connection: socket.socket) -> None:
        for _ in EVERYTHING:
            connection.recv(1)
        for byte in ok(5):
            connection.send(bytes([byte]))

    for end in _ends(capture, serve, one_by_one):
        assert whole(end) == [*EVERYTHING_SAID, (Kind.HEADERS, WHOLE | Bit.END_STREAM, 5, OK), CLOSED]


def test_a_message_may_be_a_vector_of_buffers(capture: Capture) -> None:
    parts = [EVERYTHING[at : at + 41] for at in range(0, len(EVERYTHING), 41)]
    parts.insert(2, b"")

    def ask(connection: socket.socket) -> None:
        assert connection.sendmsg(parts) == len(EVERYTHING)
        receive(connection, len(ok(5)))

    def serve(connection: socket.socket) -> None:
        time.sleep(0.05)
        assert connection.recvmsg_into([bytearray(n) for n in (1, 24, 7, 9000)])[0] == len(EVERYTHING)
        os.writev(connection.fileno(), [ok(5)[:3], ok(5)[3:]])

    for end in _ends(capture, serve, ask):
        assert whole(end) == [*EVERYTHING_SAID, (Kind.HEADERS, WHOLE | Bit.END_STREAM, 5, OK), CLOSED]


def test_two_threads_may_move_both_directions_at_once(capture: Capture) -> None:
    streams = range(1, 2001, 2)
    sent, answered = sum(len(get(stream)) for stream in streams), sum(len(ok(stream, b"hello")) for stream in streams)

    def both(connection: socket.socket, messages: Iterable[bytes], awaited: int) -> None:
        def send() -> None:
            for message in messages:
                connection.sendall(message)

        sender = threading.Thread(target=send)
        sender.start()
        while awaited:
            awaited -= len(connection.recv(min(awaited, 4096)))
        sender.join()

    def ask(connection: socket.socket) -> None:
        connection.sendall(BEGUN)
        both(connection, map(get, streams), answered)

    def serve(connection: socket.socket) -> None:
        receive(connection, len(BEGUN))
        both(connection, [ok(stream, b"hello") for stream in streams], sent)

    for end in _ends(capture, serve, ask):
        said = whole(end)
        assert [stream for _, _, stream, _ in _requests(said)] == list(streams)
        assert [detail for kind, _, _, detail in _responses(said) if kind is Kind.DATA] == [5] * len(streams)


def test_a_thread_may_send_while_another_one_waits_for_the_rest_of_its_message(capture: Capture) -> None:
    """What that one has taken already is not yet told."""
    answered = Gate()

    def serve(connection: socket.socket) -> None:
        receive(connection, len(BEGUN + get(1)))
        connection.sendall(ok(1))
        answered.open()
        receive(connection, len(get(3)))
        connection.sendall(ok(3))

    def ask(connection: socket.socket) -> None:
        connection.sendall(BEGUN + get(1))
        size = len(ok(1) + ok(3))
        waiting = threading.Thread(target=connection.recv, args=(size, socket.MSG_WAITALL))
        waiting.start()
        answered.wait()
        while unread(connection):
            pass
        connection.sendall(get(3))
        waiting.join()

    for end in _ends(capture, serve, ask):
        assert [stream for _, _, stream, _ in _requests(whole(end))] == [1, 3]
        assert [stream for _, _, stream, _ in _responses(whole(end))] == [1, 3]


def test_a_file_may_be_sent_as_data(capture: Capture, tmp_path: Path) -> None:
    """sendfile: its bytes are not seen, and need not be."""
    content = tmp_path / "content"
    content.write_bytes(os.urandom(20_000))
    head = frame(Type.HEADERS, END_HEADERS, 1, OK) + (20_000).to_bytes(3, "big") + b"\0\1\0\0\0\1"

    def serve(connection: socket.socket) -> None:
        receive(connection, len(BEGUN + get(1)))
        connection.sendall(head)
        with content.open("rb") as file:
            os.sendfile(connection.fileno(), file.fileno(), 0, 20_000)
        connection.sendall(get(3))

    def ask(connection: socket.socket) -> None:
        connection.sendall(BEGUN + get(1))
        receive(connection, len(head) + 20_000 + len(get(3)))

    for end in _ends(capture, serve, ask):
        assert _responses(whole(end))[:2] == [
            (Kind.HEADERS, WHOLE, 1, OK),
            (Kind.DATA, Bit.END_STREAM, 1, 20_000),
        ]


def test_where_frames_begin_is_lost_with_a_header_that_cannot_be_read(capture: Capture, tmp_path: Path) -> None:
    before = capture.source.losses()["frame_sync"]
    content = tmp_path / "content"
    content.write_bytes(get(3) + get(5))

    def ask(connection: socket.socket) -> None:
        connection.sendall(BEGUN + get(1))
        with content.open("rb") as file:
            os.sendfile(connection.fileno(), file.fileno(), 0, 1000)
        connection.sendall(get(7))
        receive(connection, len(ok(1)))

    def serve(connection: socket.socket) -> None:
        receive(connection, len(BEGUN + get(1) * 4))
        connection.sendall(ok(1))

    client, _ = _ends(capture, serve, ask)
    assert whole(client) == [
        ASKED,
        (Kind.LOST, Bit.REQUEST, 0, 0),
        (Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, OK),
        CLOSED,
    ]
    assert capture.source.losses()["frame_sync"] == before + 1


def test_a_message_full_of_small_frames_is_followed(capture: Capture) -> None:
    many = SETTINGS_ACK * (64 * 1024 // len(SETTINGS_ACK))

    def ask(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection.sendall(BEGUN + get(1))
        assert connection.send(many) == len(many)
        connection.sendall(get(3))
        receive(connection, len(ok(3)))

    def serve(connection: socket.socket) -> None:
        receive(connection, len(BEGUN + get(1) + many + get(3)))
        connection.sendall(ok(3))

    client, _ = _ends(capture, serve, ask)
    if capture.source.storage:
        assert _requests(whole(client)) == [ASKED, (Kind.HEADERS, ASKED[1], 3, GET)]
    else:  # more of them than the loop of older kernels takes steps: that is told
        assert _requests(whole(client)) == [ASKED, (Kind.LOST, Bit.REQUEST, 0, 0)]


# How connections begin and end


def test_a_server_may_speak_first(capture: Capture) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(SETTINGS)
        receive(connection, len(BEGUN + get(1)))
        connection.sendall(ok(1))

    def ask(connection: socket.socket) -> None:
        receive(connection, len(SETTINGS))
        _ask(connection, BEGUN + get(1), ok(1))

    for end in _ends(capture, serve, ask):
        assert whole(end) == [ASKED, (Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, OK), CLOSED]


@pytest.mark.parametrize("size", [1, 7, 8, 23])
def test_a_server_may_speak_in_the_middle_of_the_preface(capture: Capture, size: int) -> None:
    def serve(connection: socket.socket) -> None:
        receive(connection, size)
        connection.sendall(SETTINGS)
        receive(connection, len(BEGUN + get(1)) - size)
        connection.sendall(ok(1))

    def ask(connection: socket.socket) -> None:
        connection.sendall(BEGUN[:size])
        receive(connection, len(SETTINGS))
        _ask(connection, (BEGUN + get(1))[size:], ok(1))

    for end in _ends(capture, serve, ask):
        assert whole(end) == [ASKED, (Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, OK), CLOSED]


UPGRADE = b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize("together", [True, False])
def test_an_upgrade_ends_the_exchange_and_begins_frames(capture: Capture, together: bool) -> None:
    def serve(connection: socket.socket) -> None:
        receive(connection, len(UPGRADE))
        if together:
            connection.sendall(SWITCH + SETTINGS + ok(1))
        else:
            connection.sendall(SWITCH)
            connection.sendall(SETTINGS + ok(1))
        receive(connection, len(BEGUN + get(3)))
        connection.sendall(ok(3))

    def ask(connection: socket.socket) -> None:
        connection.sendall(UPGRADE)
        if not together:
            receive(connection, len(SWITCH))
        receive(connection, len(SETTINGS + ok(1)) + (len(SWITCH) if together else 0))
        _ask(connection, BEGUN + get(3), ok(3))

    client, server = _ends(capture, serve, ask)
    exchanges = capture.of(client[0].tgid, server[0].tgid)
    assert len(exchanges) == 2
    for seen in exchanges:
        assert (seen.request, seen.response[:12]) == (UPGRADE[: len(seen.request)], SWITCH[:12])
        assert seen.rsp_bytes == len(SWITCH) or not capture.source.storage
    spans = {seen.span_id for seen in exchanges}
    for end in (client, server):
        assert _requests(whole(end)) == [(Kind.HEADERS, ASKED[1], 3, GET)]
        first = [(Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, OK)] if capture.source.storage else []
        assert _responses(whole(end)) == [*first, (Kind.HEADERS, WHOLE | Bit.END_STREAM, 3, OK)]
        assert not spans & {one.span_id for one in end}


def _at_once(connection: socket.socket, size: int) -> None:
    receive(connection, size)


def _header_by_itself(connection: socket.socket, size: int) -> None:
    """As Go's net/http does: it is no frame for sure until an answer is one."""
    receive(connection, 9)
    receive(connection, size - 9)


@pytest.mark.parametrize("receive_frame", [_at_once, _header_by_itself])
@pytest.mark.parametrize("storage", [True, False], ids=["storage", "hash"])
def test_a_connection_that_was_there_before_is_recognised_by_its_frames(
    storage: bool, receive_frame: Callable[[socket.socket, int], None]
) -> None:
    def answer(stream: int) -> bytes:
        """Whose end is said by itself, as Envoy does."""
        head, body = frame(Type.HEADERS, END_HEADERS, stream, OK), frame(Type.DATA, 0, stream, b"hello")
        return head + body + frame(Type.DATA, END_STREAM, stream)

    with listening() as listener:
        first, go = Gate(), Gate()

        def serve() -> None:
            connection = listener.accept()[0]
            receive(connection, len(BEGUN + get(1)))
            connection.sendall(SETTINGS + ok(1))
            for stream in (3, 5):
                receive_frame(connection, len(get(stream)))
                connection.sendall(answer(stream))

        def ask() -> None:
            with connect(listener) as connection:
                _ask(connection, BEGUN + get(1), SETTINGS + ok(1))
                first.open()
                go.wait()
                for stream in (3, 5):
                    _ask(connection, get(stream), answer(stream))

        processes = Process(serve), Process(ask)
        first.wait()
        with watching(storage) as capture:
            capture.begin()
            go.open()
            for process in processes:
                process.end()
            for end in told(capture, *(process.pid for process in processes), closed=2):
                said = [
                    (Kind.HEADERS, ASKED[1], 3, GET),
                    (Kind.HEADERS, WHOLE, 3, OK),
                    (Kind.DATA, Bit.END_STREAM, 3, 5),
                    (Kind.HEADERS, ASKED[1], 5, GET),
                    (Kind.HEADERS, WHOLE, 5, OK),
                    (Kind.DATA, Bit.END_STREAM, 5, 5),
                    CLOSED,
                ]
                late = receive_frame is _header_by_itself and end[0].flag & Flag.SERVER
                assert whole(end) == said[1 if late else 0 :]
                assert all(one.flag & Flag.MIDSTREAM for one in end if one.kind is not Kind.CLOSED)


def test_a_unix_socket_speaks_it_too(capture: Capture) -> None:
    request = BEGUN + get(1)

    def serve(connection: socket.socket) -> None:
        receive(connection, len(request))
        connection.sendall(ok(1))
        receive(connection, 1)

    def ask(connection: socket.socket) -> None:
        _ask(connection, request, ok(1))

    with scratch() as folder:
        talk = converse(serve, ask, socket.AF_UNIX, unix_path(folder))
    for end in told(capture, talk.client, talk.server, closed=2):
        assert whole(end) == [ASKED, (Kind.HEADERS, WHOLE | Bit.END_STREAM, 1, OK), CLOSED]


def test_a_reset_connection_says_so(capture: Capture) -> None:
    def ask(connection: socket.socket) -> None:
        connection.sendall(BEGUN + get(1))
        receive(connection, len(SETTINGS))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def serve(connection: socket.socket) -> None:
        receive(connection, len(BEGUN + get(1)))
        connection.sendall(SETTINGS)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    _, server = _ends(capture, serve, ask)
    assert server[-1].kind is Kind.CLOSED
    assert server[-1].flag & Flag.RESET


# What causes are known by


def test_both_ends_know_each_other_and_their_streams(capture: Capture) -> None:
    def serve(connection: socket.socket) -> None:
        receive(connection, len(BEGUN))
        for stream in (1, 3, 5):
            receive(connection, len(get(stream)))
            connection.sendall(ok(stream))

    def ask(connection: socket.socket) -> None:
        connection.sendall(BEGUN)
        for stream in (1, 3, 5):
            _ask(connection, get(stream), ok(stream))

    client, server = _ends(capture, serve, ask)
    for mine, other in ((client, server), (server, client)):
        assert int(capture.connections[mine[0].conn]["peer"]) == other[0].conn
        spans = {one.stream: one.span_id for one in mine if one.stream}
        assert len(set(spans.values())) == len(spans) == 3
        assert all(one.span_id == spans[one.stream] for one in mine if one.stream)
    assert all(one.flag & Flag.PEER for one in (*client[3:-1], *server[3:-1]))


def test_a_call_is_made_for_the_stream_that_its_thread_has_open(capture: Capture) -> None:
    with listening() as back:

        def answer() -> None:
            connection = back.accept()[0]
            receive(connection, len(BEGUN))
            for stream in (1, 3):
                receive(connection, len(get(stream)))
                connection.sendall(ok(stream))

        server = Process(answer)

        def serve(connection: socket.socket) -> None:
            receive(connection, len(BEGUN + get(1)))
            with connect(back) as upstream:
                _ask(upstream, BEGUN + get(1), ok(1))
                connection.sendall(ok(1))
                receive(connection, len(get(3)))
                _ask(upstream, get(3), ok(3))
                connection.sendall(ok(3))

        def ask(connection: socket.socket) -> None:
            _ask(connection, BEGUN + get(1), ok(1))
            _ask(connection, get(3), ok(3))

        talk = converse(serve, ask)
        server.end()
        ends = told(capture, talk.server, closed=2)
    front = next(end for end in ends if end[0].flag & Flag.SERVER)
    calls = [one for end in ends if end is not front for one in end if one.bits & Bit.REQUEST]
    opened = [one for one in front if one.bits & Bit.REQUEST]
    assert [call.cause for call in calls] == [call.after for call in calls] == [one.span_id for one in opened]
    answered = [one for one in front if one.kind is Kind.HEADERS and not one.bits & Bit.REQUEST]
    assert [one.after for one in answered] == [call.span_id for call in calls]
    heard = [one for end in ends if end is not front for one in end if not one.bits & Bit.REQUEST and one.stream]
    assert not any(one.flag & Flag.DISTURBED for one in heard)


def test_a_thread_with_several_streams_open_has_no_one_cause(capture: Capture) -> None:
    with listening() as back:
        server = Process(lambda: receive(back.accept()[0], 4))

        def serve(connection: socket.socket) -> None:
            receive(connection, len(BEGUN + get(1) + get(3)))
            with connect(back) as upstream:
                upstream.sendall(b"many")
            connection.sendall(ok(1) + ok(3))

        talk = converse(serve, lambda c: _ask(c, BEGUN + get(1) + get(3), ok(1) + ok(3)))
        server.end()
        port = port_of(back)
        (call,) = capture.wait(lambda: [seen for seen in capture.at(port) if not seen.is_server], 1)
    assert call.tgid == talk.server
    assert call.has(Flag.MANY)
    assert (call.cause, call.after) == (0, 0)
