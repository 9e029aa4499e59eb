"""Whatever call moves the bytes, the exchange is the same: both ends, bytes, sizes, order of times, processes."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture
from tests.e2e.peers import Talk, answering, asking, converse, receive

REQUEST = b"what is the answer?!"
RESPONSE = b"forty-two"
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),
        ("moved", ctypes.c_size_t),
    ]


def _headers(pieces: list[bytes]) -> ctypes.Array[_Header]:
    """struct mmsghdr[], one buffer a message; a buffer to receive into is bytes of its size."""
    headers = (_Header * len(pieces))()
    for header, piece in zip(headers, pieces, strict=True):
        header.vectors = ctypes.pointer(_Vector(piece, len(piece)))
        header.count = 1
    return headers


def _sendmmsg(connection: socket.socket, data: bytes) -> None:
    pieces = [data[:3], data[3:4], data[4:]]
    assert _LIBC.sendmmsg(connection.fileno(), _headers(pieces), 3, 0) == 3


def _recvmmsg(connection: socket.socket, size: int) -> None:
    first = bytes(range(3)) + b"\0"
    rest = bytes(size - 4) + b"x"
    done = _LIBC.recvmmsg(connection.fileno(), _headers([first[:4], rest[: size - 4]]), 2, socket.MSG_WAITALL, None)
    assert done == 2


def _sendto(connection: socket.socket, data: bytes) -> None:
    assert _LIBC.sendto(connection.fileno(), data, len(data), 0, None, 0) == len(data)


def _duplicate(connection: socket.socket, data: bytes) -> None:
    """The message in two parts, by two descriptors of the one socket."""
    other = os.dup(connection.fileno())
    os.write(other, data[:5])
    os.close(other)
    os.write(connection.fileno(), data[5:])


SENDS: dict[str, Callable[[socket.socket, bytes], object]] = {
    "write": lambda s, data: os.write(s.fileno(), data),
    "writev": lambda s, data: os.writev(s.fileno(), [data[:5], data[5:6], b"", data[6:]]),
    "send": lambda s, data: s.send(data),
    "sendto": _sendto,
    "sendmsg": lambda s, data: s.sendmsg([data[:2], data[2:8], data[8:]]),
    "sendmmsg": _sendmmsg,
    "dup": _duplicate,
    "byte by byte": lambda s, data: [s.send(bytes([byte])) for byte in data],
}


def _peek(connection: socket.socket, size: int) -> None:
    connection.recv(size, socket.MSG_PEEK)
    connection.recv(3, socket.MSG_PEEK)
    receive(connection, size)


def _by_header(connection: socket.socket, size: int) -> None:
    """As clients of MySQL do: 4 bytes that tell the length, then the rest."""
    receive(connection, 4)
    receive(connection, size - 4)


RECEIVES: dict[str, Callable[[socket.socket, int], object]] = {
    "read": lambda s, size: [os.read(s.fileno(), 1), os.read(s.fileno(), size)],
    "readv": lambda s, size: os.readv(s.fileno(), [bytearray(3), bytearray(4), bytearray(100)]),
    "recv": receive,
    "recvfrom": lambda s, size: s.recvfrom(size),
    "recvmsg": lambda s, size: s.recvmsg_into([bytearray(2), bytearray(100)]),
    "recvmmsg": _recvmmsg,
    "peek": _peek,
    "header first": _by_header,
}


def _assert_one(capture: Capture, talk: Talk) -> None:
    client, server = capture.one(talk.port)
    assert (client.tgid, server.tgid) == (talk.client, talk.server)
    assert (client.tid_req, server.tid_rsp) == (talk.client, talk.server)
    assert (client.request, client.response) == (REQUEST, RESPONSE)
    assert (server.request, server.response) == (REQUEST, RESPONSE)
    for end in (client, server):
        assert (end.req_bytes, end.rsp_bytes) == (len(REQUEST), len(RESPONSE))
        assert end.t_req <= end.t_req_end <= end.t_rsp <= end.t_rsp_end
        assert not end.flag & (Flag.UNANSWERED | Flag.NO_REQUEST | Flag.NO_RESPONSE | Flag.REQUEST_CUT)


@pytest.mark.parametrize("call", SENDS)
def test_whatever_call_sends(capture: Capture, call: str) -> None:
    def serve(connection: socket.socket) -> None:
        receive(connection, len(REQUEST))
        SENDS[call](connection, RESPONSE)

    def ask(connection: socket.socket) -> None:
        SENDS[call](connection, REQUEST)
        receive(connection, len(RESPONSE))

    _assert_one(capture, converse(serve, ask))


@pytest.mark.parametrize("call", RECEIVES)
def test_whatever_call_receives(capture: Capture, call: str) -> None:
    def serve(connection: socket.socket) -> None:
        RECEIVES[call](connection, len(REQUEST))
        connection.sendall(RESPONSE)

    def ask(connection: socket.socket) -> None:
        connection.sendall(REQUEST)
        RECEIVES[call](connection, len(RESPONSE))

    _assert_one(capture, converse(serve, ask))


def test_sendfile_has_sizes_and_times_and_the_header_before_it_has_bytes(capture: Capture, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"b" * 70_000)

    def serve(connection: socket.socket) -> None:
        receive(connection, len(REQUEST))
        connection.sendall(RESPONSE, socket.MSG_MORE)
        with body.open("rb") as file:
            connection.sendfile(file)

    talk = converse(serve, asking(REQUEST, len(RESPONSE) + 70_000))
    client, server = capture.one(talk.port)
    assert (server.rsp_bytes, client.rsp_bytes) == (70_009, 70_009)
    assert server.response == RESPONSE
    assert server.has(Flag.RESPONSE_CUT)
    assert not server.has(Flag.NO_RESPONSE)


def test_a_response_of_sendfile_alone_has_no_bytes_and_says_so(capture: Capture, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"b" * 1000)

    def serve(connection: socket.socket) -> None:
        receive(connection, len(REQUEST))
        with body.open("rb") as file:
            connection.sendfile(file)

    client, server = capture.one(converse(serve, asking(REQUEST, 1000)).port)
    assert server.has(Flag.NO_RESPONSE)
    assert server.response == b""
    assert server.rsp_bytes == 1000
    assert client.response == b"b" * len(client.response)
    assert client.t_rsp <= client.t_rsp_end


def test_splice_out_of_a_pipe_has_sizes_and_times(capture: Capture) -> None:
    def serve(connection: socket.socket) -> None:
        read, write = os.pipe()
        for _ in range(2):
            receive(connection, len(REQUEST))
            os.write(write, RESPONSE)
            assert os.splice(read, connection.fileno(), len(RESPONSE)) == len(RESPONSE)

    clients, servers = capture.ends(converse(serve, asking(REQUEST, len(RESPONSE), 2)).port, 2)
    for server in servers:
        assert server.has(Flag.NO_RESPONSE)
        assert server.rsp_bytes == len(RESPONSE)
    # The first one may have been read before it was known that the server's cannot be.
    assert clients[-1].response == RESPONSE


def test_splice_into_a_pipe_has_sizes_and_times(capture: Capture) -> None:
    def ask(connection: socket.socket) -> None:
        read, write = os.pipe()
        for _ in range(2):
            connection.sendall(REQUEST)
            left = len(RESPONSE)
            while left:
                left -= os.splice(connection.fileno(), write, left)
            assert os.read(read, 100) == RESPONSE

    clients, servers = capture.ends(converse(answering(len(REQUEST), RESPONSE), ask).port, 2)
    for client, server in zip(clients, servers, strict=True):
        assert client.has(Flag.NO_RESPONSE)
        assert client.rsp_bytes == len(RESPONSE)
        assert server.response == RESPONSE


def test_a_message_of_many_buffers_is_read_across_them(capture: Capture) -> None:
    lines = [b"GET / HTTP/1.1\r\n", *(b"X-%d: %d\r\n" % (n, n) for n in range(10)), b"\r\n"]
    request = b"".join(lines)

    def ask(connection: socket.socket) -> None:
        os.writev(connection.fileno(), lines)
        receive(connection, len(RESPONSE))

    client, server = capture.one(converse(answering(len(request), RESPONSE), ask).port)
    assert server.request == request
    assert client.request == request


def test_more_than_is_kept_is_counted_and_the_beginning_is_there(capture: Capture) -> None:
    request, response = bytes(range(256)) * 20, bytes(range(255, -1, -1)) * 20
    talk = converse(answering(len(request), response), asking(request, len(response)))
    client, server = capture.one(talk.port)
    for end in (client, server):
        assert end.request == request[:1024]
        assert end.response == response[: len(end.response)]
        assert len(end.response) >= 64
        assert (end.req_bytes, end.rsp_bytes) == (len(request), len(response))
        assert end.has(Flag.REQUEST_CUT, Flag.RESPONSE_CUT)
