"""What a transport says of each answer that the OTLP specification knows."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
import zstandard
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_ebpf.errors import ConfigError
from otel_ebpf.otlp.settings import SignalSettings
from otel_ebpf.otlp.transport import Answer, Transport, Verdict, open_transport
from otel_ebpf.otlp.transport.over_http import retry_after
from tests.unit.receivers import Certificates, Failure, Reply, grpc_receiver, http_receiver, make_certificates

BODY = b"\x0a\x00" * 500
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@contextmanager
def transport(protocol: str, endpoint: str, **more: object) -> Iterator[Transport]:
    settings = SignalSettings("traces", endpoint, protocol, **more)  # type: ignore[arg-type]
    opened = open_transport(settings)
    try:
        yield opened
    finally:
        opened.close()


def http_answer(reply: Reply) -> Answer:
    with http_receiver(lambda _: reply) as (host, _), transport("http/protobuf", f"http://{host}/v1/traces") as sender:
        return sender.send(BODY, 5)


def grpc_answer(failure: Failure) -> Answer:
    with grpc_receiver(lambda _: failure) as (host, _), transport("grpc", f"http://{host}") as sender:
        return sender.send(BODY, 5)


def partial(rejected: int, message: str = "") -> bytes:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_http_errors_that_pass_are_retryable(status: int) -> None:
    assert http_answer(Reply(status)).verdict is Verdict.RETRYABLE


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 408, 413, 415, 500, 501, 505])
def test_all_other_http_errors_are_final(status: int) -> None:
    assert http_answer(Reply(status)).verdict is Verdict.REFUSED


def test_an_http_error_says_what_the_receiver_said() -> None:
    body = Status(code=3, message="no such tenant").SerializeToString()
    assert http_answer(Reply(400, body)).message == "HTTP 400 Bad Request: no such tenant"
    assert http_answer(Reply(400, b"<html>no protobuf")).message == "HTTP 400 Bad Request"


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_taken_from_throttling_answers(status: int) -> None:
    assert http_answer(Reply(status, headers={"Retry-After": "7"})).retry_after == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("soon", None),
        ("-5", None),
        ("9" * 400, 999_999_999),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds
    assert retry_after((NOW + timedelta(hours=1)).isoformat(), NOW) is None


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("CANCELLED", Verdict.RETRYABLE),
        ("DEADLINE_EXCEEDED", Verdict.RETRYABLE),
        ("ABORTED", Verdict.RETRYABLE),
        ("OUT_OF_RANGE", Verdict.RETRYABLE),
        ("UNAVAILABLE", Verdict.RETRYABLE),
        ("DATA_LOSS", Verdict.RETRYABLE),
        ("UNKNOWN", Verdict.REFUSED),
        ("INVALID_ARGUMENT", Verdict.REFUSED),
        ("NOT_FOUND", Verdict.REFUSED),
        ("ALREADY_EXISTS", Verdict.REFUSED),
        ("PERMISSION_DENIED", Verdict.REFUSED),
        ("UNAUTHENTICATED", Verdict.REFUSED),
        ("RESOURCE_EXHAUSTED", Verdict.REFUSED),
        ("FAILED_PRECONDITION", Verdict.REFUSED),
        ("UNIMPLEMENTED", Verdict.REFUSED),
        ("INTERNAL", Verdict.REFUSED),
    ],
)
def test_grpc_codes_are_retryable_as_the_specification_lists_them(code: str, verdict: Verdict) -> None:
    answer = grpc_answer(Failure(grpc.StatusCode[code], "because"))
    assert (answer.verdict, answer.message, answer.retry_after) == (verdict, f"{code}: because", None)


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_retry_info_makes_exhaustion_retryable_and_says_when(code: grpc.StatusCode) -> None:
    answer = grpc_answer(Failure(code, retry_delay=2.5))
    assert (answer.verdict, answer.retry_after) == (Verdict.RETRYABLE, 2.5)


def test_retry_info_does_not_make_a_final_error_retryable() -> None:
    assert grpc_answer(Failure(grpc.StatusCode.INVALID_ARGUMENT, retry_delay=1)).verdict is Verdict.REFUSED


def test_partial_success_is_a_delivery_with_rejected_items() -> None:
    expected = Answer(Verdict.DELIVERED, "too long", 3)
    assert http_answer(Reply(200, partial(3, "too long"))) == expected
    assert grpc_answer(Failure(body=partial(3, "too long"))) == expected


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff", partial(-4)])
def test_any_other_success_is_a_delivery(body: bytes) -> None:
    assert http_answer(Reply(200, body)) == Answer(Verdict.DELIVERED)
    assert grpc_answer(Failure(body=body)) == Answer(Verdict.DELIVERED)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_nobody_there_is_retryable(protocol: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with transport(protocol, f"http://127.0.0.1:{taken.getsockname()[1]}") as sender:
            assert sender.send(BODY, 5).verdict is Verdict.RETRYABLE


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_receiver_that_never_answers_is_given_up_in_time(protocol: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with transport(protocol, f"http://127.0.0.1:{silent.getsockname()[1]}") as sender:
            assert sender.send(BODY, 0.2).verdict is Verdict.RETRYABLE


def test_a_connection_is_kept_and_quietly_opened_again_when_it_had_been_closed() -> None:
    """Given a receiver that closes after its second answer, when a third is sent, then it arrives all the same."""
    replies = [Reply(), Reply(), Reply(hang_up=True), Reply(), Reply()]
    with (
        http_receiver(lambda n: replies[n]) as (host, seen),
        transport("http/protobuf", f"http://{host}/x?k=v") as sender,
    ):
        answers = [sender.send(BODY, 5).verdict for _ in range(4)]
    assert answers == [Verdict.DELIVERED] * 4
    assert len(seen.connections) == 2
    assert set(seen.paths) == {"/x?k=v"}


def test_a_receiver_that_hangs_up_without_answer_is_retryable() -> None:
    assert http_answer(Reply(hang_up=True)).verdict is Verdict.RETRYABLE


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    endless = Reply(200, b"\0" * 1_000_000)
    with http_receiver(lambda _: endless) as (host, _), transport("http/protobuf", f"http://{host}/") as sender:
        assert [sender.send(BODY, 5).verdict for _ in range(3)] == [Verdict.DELIVERED] * 3


def test_headers_and_compression_reach_the_http_receiver() -> None:
    for compression, unpack in (("none", bytes), ("gzip", gzip.decompress), ("zstd", _unzstd)):
        with http_receiver(lambda _: Reply()) as (host, seen):
            options = {"headers": (("api-key", "s3cret"),), "compression": compression}
            with transport("http/protobuf", f"http://{host}/v1/traces", **options) as sender:
                sender.send(BODY, 5)
        (headers,) = seen.headers
        assert unpack(seen.bodies[0]) == BODY
        assert headers["api-key"] == "s3cret"
        assert headers["content-type"] == "application/x-protobuf"
        assert headers.get("content-encoding", "none") == compression
        assert headers["user-agent"].startswith("otel-ebpf/")


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data)


@pytest.mark.parametrize(
    ("signal", "method"),
    [
        ("traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        ("metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),
        ("logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
    ],
)
def test_headers_and_compression_reach_the_grpc_receiver(signal: str, method: str) -> None:
    with grpc_receiver(lambda _: Failure()) as (host, seen):
        settings = SignalSettings(signal, host, "grpc", (("api-key", "s3cret"),), compression="gzip", insecure=True)
        sender = open_transport(settings)
        assert sender.send(BODY, 5).verdict is Verdict.DELIVERED
        sender.close()
        assert sender.send(BODY, 5).verdict is Verdict.RETRYABLE
    assert seen.paths == [method]
    assert seen.bodies == [BODY]
    assert seen.headers[0]["api-key"] == "s3cret"
    assert seen.headers[0]["user-agent"].startswith("otel-ebpf/")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_mutual_tls(protocol: str, certificates: Certificates) -> None:
    """Given a receiver that demands a client certificate, then only ours by its authority gets through."""
    certificate, key = map(str, certificates.client)
    with _tls_receiver(protocol, certificates) as host:
        trust = {"certificate": str(certificates.authority)}
        cases = (
            ({**trust, "client_certificate": certificate, "client_key": key}, Verdict.DELIVERED),
            (trust, Verdict.RETRYABLE),
            ({"client_certificate": certificate, "client_key": key}, Verdict.RETRYABLE),
            ({"certificate": str(certificates.stranger[0])}, Verdict.RETRYABLE),
        )
        for options, verdict in cases:
            with transport(protocol, f"https://{host}", **options) as sender:
                assert sender.send(BODY, 5).verdict is verdict


@contextmanager
def _tls_receiver(protocol: str, certificates: Certificates) -> Iterator[str]:
    if protocol == "grpc":
        with grpc_receiver(lambda _: Failure(), certificates.server_credentials()) as (host, _):
            yield host
    else:
        with http_receiver(lambda _: Reply(), certificates.server_context()) as (host, _):
            yield host


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_file_that_is_no_certificate_is_a_configuration_error(protocol: str, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(ConfigError, match=r"junk\.pem"), transport(protocol, "https://x", certificate=str(junk)):
        pass
