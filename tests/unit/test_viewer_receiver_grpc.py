"""OTLP/gRPC as the specification has it, and what strangers send instead."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from otel_ebpf.viewer.contract import Malformed, Outcome, Refused
from otel_ebpf.viewer.receiver import over_grpc
from otel_ebpf.viewer.receiver.over_grpc import METHODS
from otel_ebpf.viewer.receiver.reception import REQUEST_BYTES, Room
from tests.unit.viewer_receivers import MemoryIntake, Served, served

EXPORT = {signal: method for method, signal in METHODS.items()}
REQUEST = b"\x0a\x00" * 50


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    with served() as it:
        yield it


@contextmanager
def channel(it: Served, compression: grpc.Compression = grpc.Compression.NoCompression) -> Iterator[grpc.Channel]:
    """A client without bounds or retries of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(it.grpc, options, compression) as opened:
        yield opened


def export(
    it: Served,
    request: bytes = REQUEST,
    method: str = EXPORT["traces"],
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> bytes:
    """One call."""
    with channel(it, compression) as opened:
        response: bytes = opened.unary_unary(method)(request, timeout=20)
        return response


def failure(it: Served, request: bytes = REQUEST, method: str = EXPORT["traces"], **how: grpc.Compression) -> grpc.Call:
    """The error of one call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        export(it, request, method, **how)
    error = caught.value
    assert isinstance(error, grpc.Call)
    return error


def retry_after(error: grpc.Call) -> float | None:
    """Seconds of its RetryInfo."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = RetryInfo()
            assert Status.FromString(value).details[0].Unpack(info)
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_each_signal_is_stored_as_it_came(signal: str, compression: grpc.Compression, running: Served) -> None:
    method = next(path for path, name in METHODS.items() if name == signal)
    assert export(running, method=method, compression=compression) == b""
    assert running.intake.taken[-1] == (signal, REQUEST)


def test_an_empty_request_is_one(running: Served) -> None:
    assert export(running, b"") == b""


def test_a_field_that_looks_like_zlib_stays_as_it_is(running: Served) -> None:
    """0x78 also begins an unknown field of number 15."""
    export(running, b"\x78\x01" + REQUEST)
    assert running.intake.taken[-1][1] == b"\x78\x01" + REQUEST


def test_partial_success() -> None:
    with served(intake=MemoryIntake(lambda _: Outcome(2, "2 points have no name"))) as it:
        partial = ExportMetricsServiceResponse.FromString(export(it, method=EXPORT["metrics"])).partial_success
        assert (partial.rejected_data_points, partial.error_message) == (2, "2 points have no name")


@pytest.mark.parametrize(
    ("said", "code", "wait"),
    [
        (Malformed("no OTLP"), grpc.StatusCode.INVALID_ARGUMENT, None),
        (Refused("the disk is full", 2.5), grpc.StatusCode.UNAVAILABLE, 2.5),
        (ValueError("a secret of ours"), grpc.StatusCode.INTERNAL, None),
    ],
)
def test_failures(said: Malformed | Refused | ValueError, code: grpc.StatusCode, wait: float | None) -> None:
    with served(intake=MemoryIntake(lambda _: said)) as it:
        error = failure(it)
        assert (error.code(), retry_after(error)) == (code, wait)
        assert error.details() == ("internal error" if isinstance(said, ValueError) else str(said))


@pytest.mark.parametrize("method", ["/opentelemetry.proto.collector.trace.v1.TraceService/Import", "/x/y"])
def test_other_methods_are_unimplemented(method: str, running: Served) -> None:
    assert failure(running, method=method).code() is grpc.StatusCode.UNIMPLEMENTED


def test_profiles_are_said_not_to_be_taken_yet(running: Served) -> None:
    method = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
    error = failure(running, method=method)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "profiles" in error.details()


@pytest.mark.parametrize("garbage", [b"\xff" * 1000, b"\x0a\xff", b"\x1f\x8bno gzip", gzip.compress(REQUEST)[:-5]])
def test_garbage_is_an_invalid_argument(garbage: bytes, running: Served) -> None:
    assert failure(running, garbage).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01" + bytes(range(256)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" * 100_000,
    ],
)
def test_garbage_that_is_no_http2_ends_its_connection_alone(garbage: bytes, running: Served) -> None:
    host, _, port = running.grpc.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection, suppress(ConnectionError):
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    assert export(running) == b""


def test_a_request_that_is_too_long_is_not_to_be_sent_again(running: Served) -> None:
    error = failure(running, b"\0" * (100 << 20))
    assert (error.code(), retry_after(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)
    longest = b"\x7a" + b"\xfb\xff\xff\x07" + b"\0" * (REQUEST_BYTES - 5)
    assert export(running, longest) == b""
    assert failure(running, longest + b"\0").code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_bomb_is_not_unpacked(compression: grpc.Compression, running: Served) -> None:
    error = failure(running, b"\0" * (256 << 20), compression=compression)
    assert (error.code(), retry_after(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)


def test_a_full_room_refuses_and_what_was_in_it_is_stored() -> None:
    with served(intake=MemoryIntake(waiting=[]), room=Room(limit_bytes=1 << 20, limit_requests=2)) as it:
        waiting = it.intake.waiting
        assert waiting is not None
        with channel(it) as opened:
            calls = [opened.unary_unary(EXPORT["traces"]).future(REQUEST, timeout=20) for _ in range(2)]
            for _ in calls:
                assert it.intake.arrived.acquire(timeout=20)
            error = failure(it)
            assert (error.code(), retry_after(error)) == (grpc.StatusCode.UNAVAILABLE, 1.0)
            for future in waiting:
                future.set_result(Outcome())
            assert [call.result() for call in calls] == [b"", b""]


def test_thousands_wait_in_one_thread() -> None:
    """Given requests that nobody stores yet, they wait as they are; none is lost, no thread is made for them."""
    with served(intake=MemoryIntake(waiting=[])) as it:
        waiting = it.intake.waiting
        assert waiting is not None
        before = threading.active_count()
        with channel(it) as opened:
            call = opened.unary_unary(EXPORT["traces"])
            calls = [call.future(REQUEST, timeout=60) for _ in range(200)]
            for _ in calls:
                assert it.intake.arrived.acquire(timeout=20)
            assert threading.active_count() <= before + 4
            for future in waiting:
                future.set_result(Outcome())
            assert {call.result() for call in calls} == {b""}


def test_a_call_that_never_sends_its_message_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_grpc, "MESSAGE_S", 0.2)
    with served() as it, channel(it) as opened:
        end = threading.Event()

        def nothing() -> Iterator[bytes]:
            end.wait(20)
            yield from ()

        with pytest.raises(grpc.RpcError) as caught:
            opened.stream_unary(EXPORT["traces"])(nothing(), timeout=20)
        end.set()
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert it.reception.refused["too_slow"] == 1
        assert export(it) == b""


def test_a_client_that_goes_does_not_take_its_request_along() -> None:
    with served(intake=MemoryIntake(waiting=[])) as it, channel(it) as opened:
        call = opened.unary_unary(EXPORT["traces"]).future(REQUEST, timeout=20)
        assert it.intake.arrived.acquire(timeout=20)
        call.cancel()
        assert it.intake.waiting is not None
        (future,) = it.intake.waiting
        assert not future.cancelled()
        assert it.reception.room.requests == 1
        future.set_result(Outcome())


def test_grpcio_knows_every_setting() -> None:
    """A name that it does not know would be ignored without a word, and with it a bound."""
    library = Path(grpc.__file__).parent / "_cython"
    binary = b"".join(file.read_bytes() for file in library.glob("cygrpc*.so"))
    assert [name for name, _ in over_grpc.options(1) if name.encode() not in binary] == []
