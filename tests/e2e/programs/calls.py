"""A gRPC server or client (grpcio).

calls.py serve PORT
calls.py call PORT WHAT…      # OK, NOT_FOUND, INTERNAL, Sleep (given up after 0.3 s), Watch (a stream), Nothing
calls.py wait PORT WHAT…      # one call (OK), then those, one for each line on standard input
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc


class Shop(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = call.method.rpartition("/")[2]
        if name == "Watch":
            return grpc.unary_stream_rpc_method_handler(watched)
        if name == "Sleep":
            return grpc.unary_unary_rpc_method_handler(slept)
        if name.isupper():
            return grpc.unary_unary_rpc_method_handler(lambda _request, context: ended(name, context))
        return None


def slept(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    time.sleep(2)
    return b""


def watched(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    for _ in range(3):
        time.sleep(0.2)
        yield b"w" * 1000


def ended(name: str, context: grpc.ServicerContext) -> bytes:
    if name != "OK":
        context.abort(grpc.StatusCode[name], "as asked")
    return b"done"


def call(channel: grpc.Channel, what: str) -> None:
    method = f"/shop.Cart/{what}"
    try:
        if what == "Watch":
            list(channel.unary_stream(method)(b""))
        else:
            channel.unary_unary(method)(b"item", timeout=0.3 if what == "Sleep" else 10)
    except grpc.RpcError as error:
        print(what, error.code().name, flush=True)
    else:
        print(what, "OK", flush=True)


def main(command: str, port: str, *whats: str) -> None:
    if command == "serve":
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((Shop(),))
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        server.wait_for_termination()
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        if command == "wait":
            call(channel, "OK")
        for what in whats:
            if command == "wait":
                sys.stdin.readline()
            call(channel, what)


main(*sys.argv[1:])
