"""Frames of real servers and clients, in plain text and from the plaintext of a TLS library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hpack import Decoder

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, watching
from tests.e2e.frames import Bit, Kind, Told, told, whole
from tests.processes import program
from tests.servers import nginx


def _decoded(end: Sequence[Told]) -> list[tuple[int, bool, dict[str, str]]]:
    """Stream, whether it is the request's, and fields of all header blocks of a connection, by the hpack package."""
    decoders = {True: Decoder(), False: Decoder()}
    found = []
    for kind, bits, stream, block in whole(end):
        if kind is Kind.HEADERS:
            assert isinstance(block, bytes)
            asks = bool(bits & Bit.REQUEST)
            found.append((stream, asks, {str(name): str(value) for name, value in decoders[asks].decode(block)}))
    return found


def _curl(*arguments: str) -> tuple[int, str]:
    process = subprocess.Popen([program("curl", "curl"), "-sS", *arguments], stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=30)
    return process.pid, said


def _assert_told(end: Sequence[Told], paths: Sequence[str], size: int) -> None:
    fields = _decoded(end)
    streams = [1 + 2 * i for i in range(len(paths))]
    assert [(stream, said[":path"]) for stream, asks, said in fields if asks] == list(zip(streams, paths, strict=True))
    assert [(stream, said[":status"]) for stream, asks, said in fields if not asks] == [(s, "200") for s in streams]
    for stream in streams:
        data = [one for one in end if one.stream == stream and one.kind is Kind.DATA]
        assert sum(one.bytes for one in data) == size
        assert data[-1].bits & Bit.END_STREAM
    assert end[-1].kind is Kind.CLOSED


FILES = {"a": b"a" * 100_000, "b": b"b" * 100_000}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_curl_and_nginx(capture: Capture, tls: bool) -> None:
    paths = ["/a", "/b"] if tls else ["/a"]  # curl 7.88 fails at its second request without TLS
    with nginx(files=FILES, tls=tls, http2=True) as web:
        pids = web.pids()
        how = ("--cacert", str(web.certificate)) if tls else ("--http2-prior-knowledge",)
        client, said = _curl(*how, *(f"{web.url}{path}" for path in paths))
        assert len(said) == 100_000 * len(paths)
        ends = told(capture, client, *pids, closed=2)
    for end in ends:
        _assert_told(end, paths, 100_000)
        assert all(bool(one.flag & Flag.TLS) is tls for one in end if one.kind is not Kind.CLOSED)
    by_id = {end[0].conn: end for end in ends}
    assert {int(capture.connections[conn]["peer"]) for conn in by_id} == set(by_id)
    assert capture.of(client, *pids) == []


NODE = """
const http2 = require('http2');
const server = http2.createServer();
server.on('stream', (stream, headers) => {
  stream.respond({ ':status': 200, 'x-path': headers[':path'], 'x-long': 'v'.repeat(3000) });
  stream.end('w'.repeat(50000));
});
server.listen(0, '127.0.0.1', () => {
  const client = http2.connect(`http://127.0.0.1:${server.address().port}`);
  let left = 20;
  for (let i = 0; i < 20; i++) {
    const request = client.request({ ':path': `/${i}` });
    request.on('data', () => {});
    request.on('end', () => { if (!--left) { client.close(); server.close(); } });
    request.end();
  }
});
"""


def test_twenty_streams_at_once_of_node(capture: Capture) -> None:
    process = subprocess.Popen([program("node", "nodejs"), "-e", NODE])
    assert process.wait(timeout=30) == 0
    for end in told(capture, process.pid, closed=2):
        fields = _decoded(end)
        asked = {stream: said[":path"] for stream, asks, said in fields if asks}
        assert sorted(asked.values()) == sorted(f"/{i}" for i in range(20))
        assert {stream: said["x-path"] for stream, asks, said in fields if not asks} == asked
        data: dict[int, int] = {}
        for one in end:
            if one.kind is Kind.DATA and not one.bits & Bit.REQUEST:
                data[one.stream] = data.get(one.stream, 0) + one.bytes
        assert data == dict.fromkeys(asked, 50_000)


GRPC_SERVER = """
import sys
from concurrent import futures
import grpc

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/shop.Echo/Stream":
            return grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request] * 3))
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)

server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Echo()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(None)
"""
GRPC_CLIENT = """
import sys, grpc
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    for line in sys.stdin:
        method = line.strip()
        call = channel.unary_stream(method) if method.endswith("Stream") else channel.unary_unary(method)
        print(len(list(call(b"hello")) if method.endswith("Stream") else call(b"hello")), flush=True)
"""


@contextmanager
def _grpc() -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """A server and a client that calls what it is told to on one channel."""

    def start(*command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    with start(GRPC_SERVER) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        with start(GRPC_CLIENT, port) as client:
            yield server, client
            assert client.stdin is not None
            client.stdin.close()
            assert client.wait(timeout=30) == 0
        assert server.stdin is not None
        server.stdin.close()


def _call(client: subprocess.Popen[str], method: str) -> None:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{method}\n")
    client.stdin.flush()
    assert client.stdout.readline().strip() == ("3" if method.endswith("Stream") else "5")


CALLS = ["/shop.Echo/Say", "/shop.Echo/Stream", "/shop.Echo/Say"]


def test_grpc(capture: Capture) -> None:
    with _grpc() as (server, client):
        for method in CALLS:
            _call(client, method)
    for end in told(capture, client.pid, server.pid, closed=2):
        fields = _decoded(end)
        assert [said[":path"] for _, asks, said in fields if asks] == CALLS
        answers = [said for _, asks, said in fields if not asks]
        assert [said["grpc-status"] for said in answers if "grpc-status" in said] == ["0"] * 3
        assert [one.bytes for one in end if one.kind is Kind.DATA and one.bits & Bit.REQUEST] == [10, 10, 10]
        assert sum(one.bytes for one in end if one.kind is Kind.DATA and not one.bits & Bit.REQUEST) == 10 * 5


@pytest.mark.parametrize("storage", [True, False], ids=["storage", "hash"])
def test_a_grpc_channel_that_was_there_before(storage: bool) -> None:
    """Such channels live for days. What their tables of header fields held before is not known, but all else is."""
    with _grpc() as (server, client):
        _call(client, CALLS[0])
        with watching(storage) as capture:
            capture.begin()
            for method in CALLS:
                _call(client, method)
            assert client.stdin is not None
            client.stdin.close()
            assert client.wait(timeout=30) == 0
            ends = told(capture, client.pid, server.pid, closed=2)
    for end in ends:
        whole(end)
        blocks = [(one.stream, one.bits) for one in end if one.kind is Kind.HEADERS]
        assert [stream for stream, bits in blocks if bits & Bit.REQUEST and bits & Bit.BEGINS] == [3, 5, 7]
        assert [stream for stream, bits in blocks if not bits & Bit.REQUEST and bits & Bit.END_STREAM] == [3, 5, 7]
        assert all(one.flag & Flag.MIDSTREAM for one in end[:-1])
    assert {bool(end[0].flag & Flag.SERVER) for end in ends} == {True, False}
