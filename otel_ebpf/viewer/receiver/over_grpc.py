"""OTLP/gRPC: the Export calls of traces, metrics and logs, on the bytes as they came.

Source: opentelemetry-proto, docs/specification.md, "OTLP/gRPC".

Theory of operation: on the wire a unary call and one with a stream of requests are the same, and for the latter grpcio
leaves it to us when the message is read. So each call is taken as a stream of which one message is read: after the
token is checked and there is room, and by a few calls at a time, for grpcio gathers each message up to the limit and
does not say how much it holds. All others wait behind HTTP/2's flow control with 64 KiB each.

Decompression is ours as well: releases of grpcio differ in whether they bound what they make of a compressed message.
With `per_message_decompression` off they hand over what came. An export request begins with field 1 (0x0A), so the
first bytes tell gzip (0x1F8B) and zlib's format (0x78 …) from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc
import grpc.aio

from otel_ebpf.viewer.contract import Malformed, Signal
from otel_ebpf.viewer.receiver.access import Door
from otel_ebpf.viewer.receiver.answers import Failure, failure, status_details, success
from otel_ebpf.viewer.receiver.bodies import GZIP_MAGIC, inflate
from otel_ebpf.viewer.receiver.reception import Incomplete, NoRoom, Reception, Stay, Stranger, TooSlow, Unsupported

METHODS: dict[str, Signal] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}
_PROFILES = "/opentelemetry.proto.collector.profiles."
READERS = 4
"""Messages that are read at once."""
MESSAGE_S = 10.0
"""Longest time for one message to come, and for its turn."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}

_Handler: TypeAlias = "Callable[[object, grpc.aio.ServicerContext], Awaitable[bytes]]"


def options(request_bytes: int) -> list[tuple[str, int]]:
    """The server's settings. request_bytes: longest message on the wire."""
    return [
        ("grpc.max_receive_message_length", request_bytes),
        ("grpc.per_message_decompression", 0),
        ("grpc.max_concurrent_streams", 256),
        # two viewers on one port would each get a part of the data
        ("grpc.so_reuseport", 0),
        # what a stream may send before its message is read; without it, grpcio raises that by what the line could carry
        ("grpc.http2.lookahead_bytes", 64 << 10),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_metadata_size", 16 << 10),
    ]


class OtlpGrpc(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Handles the Export calls; anything else is UNIMPLEMENTED."""

    def __init__(self, reception: Reception, door: Door) -> None:
        self._reception, self._door = reception, door
        self._readers = asyncio.Semaphore(READERS)
        self._handlers = {path: self._handler(signal) for path, signal in METHODS.items()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The call's handler; None if there is no such method."""
        if details.method.startswith(_PROFILES):
            return grpc.stream_unary_rpc_method_handler(self._no_profiles)
        return self._handlers.get(details.method)

    def _handler(self, signal: Signal) -> grpc.RpcMethodHandler:
        async def export(_: object, context: grpc.aio.ServicerContext) -> bytes:
            return await self._export(signal, context)

        return grpc.stream_unary_rpc_method_handler(export)

    async def _no_profiles(self, _: object, context: grpc.aio.ServicerContext) -> bytes:
        error = Unsupported("profiles are not taken yet: traces, metrics and logs are", 404)
        self._reception.count(error)
        return await _abort(context, failure(error))

    async def _export(self, signal: Signal, context: grpc.aio.ServicerContext) -> bytes:
        stay: Stay | None = None
        handed = False
        try:
            self._check_token(context)
            stay = self._reception.room.enter()
            request = await self._read(context, stay)
            handed = True
            return success(signal, await self._reception.hand_in(signal, request, stay))
        except Exception as error:
            # a defect too must have an answer, and be counted
            self._reception.count(error)
            told = failure(error)
        finally:
            if stay is not None and not handed:
                stay.leave()
        return await _abort(context, told)

    def _check_token(self, context: grpc.aio.ServicerContext) -> None:
        if not self._door.wants_token:
            return
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and self._door.knows_authorization(value.encode("utf-8", "replace")):
                return
        raise Stranger("a token is needed: metadata authorization: Bearer …")

    async def _read(self, context: grpc.aio.ServicerContext, stay: Stay) -> bytes:
        """The decompressed message, its room taken."""
        try:
            await asyncio.wait_for(self._readers.acquire(), MESSAGE_S)
        except asyncio.TimeoutError:
            raise NoRoom("too many slow requests") from None
        try:
            message = await asyncio.wait_for(context.read(), MESSAGE_S)
        except asyncio.TimeoutError:
            raise TooSlow("the message did not come in time") from None
        finally:
            self._readers.release()
        if message is grpc.aio.EOF:
            # a client that went, or a message that is too long: to the latter grpcio has answered by itself
            raise Incomplete(f"no whole message of at most {self._reception.request_bytes} bytes")
        stay.take(len(message))
        return self._decompressed(message, stay)

    def _decompressed(self, message: bytes, stay: Stay) -> bytes:
        limit = self._reception.request_bytes
        if message.startswith(GZIP_MAGIC):
            inflated = inflate("gzip", message, limit)
        elif message[:1] == b"\x78":
            try:
                inflated = inflate("deflate", message, limit)
            except Malformed:
                return message  # an unknown field 15: the intake will say what it is
        else:
            return message
        stay.take(len(inflated))
        return inflated


async def _abort(context: grpc.aio.ServicerContext, told: Failure) -> bytes:
    metadata: tuple[tuple[str, bytes], ...] = ()
    if told.retry_after is not None:
        metadata = (("grpc-status-details-bin", status_details(told)),)
    await context.abort(_CODES[told.code], told.message, metadata)
    raise AssertionError("abort raises")
