"""Records what a real gRPC client and server (grpcio) say to each other, as fixtures for the tests.

    python -m tests.tools.record_grpc tests/unit/data/grpc.txt

The bytes are those of HTTP/2; what is written is what is handed on of them: the heads of each stream.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from otel_ebpf.protocols.http2.streams import Streams
from tests.tools.recorder import Recorder
from tests.unit.http2_wire import EXCHANGE, Wire

Call = Callable[[grpc.Channel], object]
TRACEPARENT = ("traceparent", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")


class Shop(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Methods whose names are the status that they end with, and streams."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = call.method.rpartition("/")[2]
        if name == "Watch":
            return grpc.unary_stream_rpc_method_handler(lambda _request, _context: iter([b"one", b"two"]))
        if name == "Chat":
            return grpc.stream_stream_rpc_method_handler(lambda requests, _context: iter(list(requests)))
        if name == "Sleep":
            return grpc.unary_unary_rpc_method_handler(slept)
        if name == "Break":
            return grpc.unary_unary_rpc_method_handler(broken)
        if name.isupper():
            return grpc.unary_unary_rpc_method_handler(lambda _request, context: ended(name, context))
        return None


def ended(name: str, context: grpc.ServicerContext) -> bytes:
    if name != "OK":
        context.abort(grpc.StatusCode[name], "a secret")
    return b"done"


def slept(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    time.sleep(1)
    return b""


def broken(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    raise RuntimeError("a secret")


def unary(method: str, **more: object) -> Call:
    return lambda channel: channel.unary_unary(f"/shop.Cart/{method}")(b"item", **more)


def given_up(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/shop.Cart/Sleep").future(b"")
    time.sleep(0.1)
    call.cancel()


SCENARIOS: list[tuple[str, Call]] = [
    ("unary", unary("OK")),
    ("a traceparent", unary("OK", metadata=[TRACEPARENT, ("authorization", "Bearer secret")])),
    *((status.lower(), unary(status)) for status in ("NOT_FOUND", "UNAVAILABLE", "PERMISSION_DENIED", "DATA_LOSS")),
    *((status.lower(), unary(status)) for status in ("UNKNOWN", "INTERNAL", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED")),
    ("a method that is not there", unary("Nothing")),
    ("an exception", unary("Break")),
    ("a deadline", unary("Sleep", timeout=0.2)),
    ("given up", given_up),
    ("server stream", lambda channel: list(channel.unary_stream("/shop.Cart/Watch")(b""))),
    ("both streams", lambda channel: list(channel.stream_stream("/shop.Cart/Chat")(iter([b"1", b"2"])))),
]


def heads(turns: list[tuple[str, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The heads of the streams of a connection, as they are handed on."""
    wire, streams = Wire(server=False), Streams(EXCHANGE)
    for i, (mark, data) in enumerate(turns):
        (wire.sent_by_client if mark == ">" else wire.sent_by_server)(data, 1 + i * 10**9)
    wire.close(1 + len(turns) * 10**9)
    for batch in streams.read(wire.frames(), 10**12):
        for row, request, response in zip(batch.head, batch.request, batch.response, strict=True):
            yield request[: row["req_cap"]].tobytes(), response[: row["rsp_cap"]].tobytes()


def main(out: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Shop(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    recorder = Recorder(("127.0.0.1", port))
    with out.open("w") as file:
        for name, scenario in SCENARIOS:
            with grpc.insecure_channel(f"localhost:{recorder.port}") as channel, contextlib.suppress(grpc.RpcError):
                scenario(channel)
            for turns in recorder.take():
                print(f"# {name}", file=file)
                for request, response in heads(turns):
                    print(f"> {request!r}\n< {response!r}", file=file)
    server.stop(None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
