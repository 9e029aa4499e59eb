"""OTLP/HTTP as the specification has it, and what strangers send instead."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.viewer.contract import Malformed, Outcome, Refused
from otel_ebpf.viewer.receiver import bodies
from otel_ebpf.viewer.receiver.reception import REQUEST_BYTES, Room, TooLarge
from tests.unit.viewer_receivers import MemoryIntake, Served, served

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


def request_of(name: str = "GET /") -> bytes:
    """A request with one span."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name, span.trace_id, span.span_id = name, b"t" * 16, b"s" * 8
    return request.SerializeToString()


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    with served() as it:
        yield it


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as it:
        yield it


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_each_signal_is_stored_as_it_came(signal: str, client: httpx.Client) -> None:
    with served() as it:
        response = client.post(it.http(signal), content=b"\x0a\x00", headers=PROTOBUF)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "application/x-protobuf"
        assert it.intake.taken == [(signal, b"\x0a\x00")]
        assert it.reception.accepted == {signal: 1}


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]) + b"\0" * 100),
    ],
)
def test_codings(coding: str, encode: object, running: Served, client: httpx.Client) -> None:
    """Each coding of the standard; of gzip also several members and the padding that gzip(1) allows."""
    assert callable(encode)
    content = encode(request_of("a name that can be halved"))
    response = client.post(running.http(), content=content, headers={**PROTOBUF, "content-encoding": coding})
    assert response.status_code == 200
    assert running.intake.taken[-1][1] == request_of("a name that can be halved")


def test_a_chunked_body_needs_no_length(running: Served, client: httpx.Client) -> None:
    pieces = [request_of()[i : i + 1] for i in range(len(request_of()))]
    assert client.post(running.http(), content=iter(pieces), headers=PROTOBUF).status_code == 200
    assert running.intake.taken[-1][1] == request_of()


def test_json_is_stored_as_protobuf(running: Served, client: httpx.Client) -> None:
    span = {"name": "GET /", "traceId": (b"t" * 16).hex(), "spanId": (b"s" * 8).hex(), "kind": 0, "unheardOf": [1]}
    content = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    response = client.post(running.http(), content=content, headers={"content-type": "application/json; charset=UTF-8"})
    assert (response.status_code, response.json()) == (200, {})
    assert response.headers["content-type"] == "application/json"
    assert running.intake.taken[-1][1] == request_of()


def test_partial_success_in_both_encodings(client: httpx.Client) -> None:
    with served(intake=MemoryIntake(lambda _: Outcome(3, "3 log records have no time"))) as it:
        content = client.post(it.http("logs"), content=b"", headers=PROTOBUF).content
        partial = ExportLogsServiceResponse.FromString(content).partial_success
        assert (partial.rejected_log_records, partial.error_message) == (3, "3 log records have no time")
        assert client.post(it.http("logs"), content=b"{}", headers=JSON).json() == {
            "partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "3 log records have no time"}
        }
        assert it.reception.rejected == 6


@pytest.mark.parametrize(
    ("said", "status", "code", "retry_after"),
    [
        (Malformed("no OTLP"), 400, 3, None),
        (Refused("the disk is full", 2.5), 503, 14, "3"),
        (ValueError("a secret of ours"), 500, 13, None),
    ],
)
def test_failures_have_the_status_and_a_body_that_says_why(
    said: Malformed | Refused | ValueError, status: int, code: int, retry_after: str | None, client: httpx.Client
) -> None:
    with served(intake=MemoryIntake(lambda _: said)) as it:
        for headers, content in ((PROTOBUF, b""), (JSON, b"{}")):
            response = client.post(it.http(), content=content, headers=headers)
            assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
            if headers is JSON:
                told = response.json()
                body = Status(code=told["code"], message=told["message"])
            else:
                body = Status.FromString(response.content)
            assert body.code == code
            assert body.message == ("internal error" if status == 500 else str(said))
        assert sum(it.reception.refused.values()) == 2


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/traces", {}, 415),
        ("POST", "/v1/traces", {"content-type": "text/plain"}, 415),
        ("POST", "/v1/traces", {"content-type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/v1/traces", {**PROTOBUF, "content-encoding": "br"}, 415),
        ("POST", "/v1/traces", {**PROTOBUF, "content-encoding": "zstd"}, 415),
        ("POST", "/v1/traces", {**PROTOBUF, "content-encoding": "gzip, gzip"}, 415),
        ("GET", "/v1/traces", PROTOBUF, 405),
        ("OPTIONS", "/v1/traces", {"origin": "http://example.org", "access-control-request-method": "POST"}, 405),
        ("POST", "/", PROTOBUF, 404),
        ("POST", "/v1/traces/", PROTOBUF, 404),
        ("POST", "/v1development/profiles", PROTOBUF, 404),
    ],
)
def test_what_is_not_served(
    method: str, path: str, headers: dict[str, str], status: int, running: Served, client: httpx.Client
) -> None:
    before = running.reception.refused["unsupported"]
    response = client.request(method, running.http().replace("/v1/traces", path), headers=headers)
    assert response.status_code == status
    assert Status.FromString(response.content).message
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert running.reception.refused["unsupported"] == before + 1


def test_a_refusal_names_what_would_be_taken(running: Served, client: httpx.Client) -> None:
    assert client.get(running.http()).headers["allow"] == "POST"
    headers = {**PROTOBUF, "content-encoding": "br"}
    assert "gzip" in client.post(running.http(), headers=headers).headers["accept-encoding"]
    assert b"profiles" in client.post(running.http().replace("v1/traces", "v1development/profiles")).content


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"\xff" * 100, PROTOBUF),
        (b"not gzip", {**PROTOBUF, "content-encoding": "gzip"}),
        (gzip.compress(request_of())[:-4], {**PROTOBUF, "content-encoding": "gzip"}),
        (gzip.compress(request_of()) + b"more", {**PROTOBUF, "content-encoding": "gzip"}),
        (gzip.compress(b"") * 10_000, {**PROTOBUF, "content-encoding": "gzip"}),
        (b"[" * 1_000_000, JSON),
        (b"{", JSON),
        (b"\xff\xfe", JSON),
        (b"", JSON),
        (b"[]", JSON),
        (b"1" * 100_000, JSON),
    ],
)
def test_malformed_bodies(content: bytes, headers: dict[str, str], running: Served, client: httpx.Client) -> None:
    response = client.post(running.http(), content=content, headers=headers)
    assert response.status_code == 400
    assert response.headers["content-type"] == headers["content-type"]


def test_garbage_that_is_no_http(running: Served) -> None:
    host, _, port = running.servers.addresses["http"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01" + bytes(range(256)) + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_hundred_megabytes_are_not_read(chunked: bool, running: Served, client: httpx.Client) -> None:
    """By its length it is refused at once; without, as soon as it is too long. Never with Retry-After."""
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1 << 20
            yield b"\0" * (1 << 20)

    headers = PROTOBUF if chunked else {**PROTOBUF, "content-length": str(100 << 20)}
    response = client.post(running.http(), content=pieces(), headers=headers)
    assert response.status_code == 413
    assert "retry-after" not in response.headers
    assert sent < (REQUEST_BYTES if chunked else 0) + (32 << 20)


def test_the_longest_request_is_taken_and_one_byte_more_is_not(running: Served, client: httpx.Client) -> None:
    # an unknown field of so many bytes: its tag and length take 5
    longest = b"\x7a" + b"\xfb\xff\xff\x07" + b"\0" * (REQUEST_BYTES - 5)
    assert len(longest) == REQUEST_BYTES
    assert client.post(running.http(), content=longest, headers=PROTOBUF).status_code == 200
    assert client.post(running.http(), content=longest + b"\0", headers=PROTOBUF).status_code == 413


@pytest.mark.parametrize(("coding", "window_bits"), [("gzip", 31), ("deflate", 15)])
def test_a_bomb_is_not_unpacked(coding: str, window_bits: int, running: Served, client: httpx.Client) -> None:
    """A quarter of a gigabyte of zeros: refused when the limit is reached, whatever would follow."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window_bits)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(256)) + packer.flush()
    response = client.post(running.http(), content=bomb, headers={**PROTOBUF, "content-encoding": coding})
    assert response.status_code == 413
    assert b"when decompressed" in response.content


def test_the_inflater_never_makes_more_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * (8 << 20))
    inflater = bodies.Inflater("gzip", 1000)
    with pytest.raises(TooLarge):
        inflater.feed(bomb)
    assert bodies.inflate("gzip", gzip.compress(b"a" * 1000), 1000) == b"a" * 1000


def test_json_of_more_values_than_can_be_held(running: Served, client: httpx.Client) -> None:
    response = client.post(running.http(), content=b"[" + b"{}," * 1_000_000 + b"{}]", headers=JSON)
    assert (response.status_code, response.headers["content-type"]) == (413, "application/json")


def test_a_slow_sender_is_told_to_come_back(running: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PAUSE_S", 0.05)
    host, _, port = running.servers.addresses["http"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
            b"Content-Length: 1000\r\n\r\nhalf"
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
    assert running.reception.refused["too_slow"] == 1


def test_who_hangs_up_within_the_body_leaves_nothing(client: httpx.Client) -> None:
    with served() as it:
        host, _, port = it.servers.addresses["http"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
                b"Content-Length: 1000\r\n\r\nhalf"
            )
        assert client.post(it.http(), content=b"", headers=PROTOBUF).status_code == 200
    assert it.intake.taken == [("traces", b"")]
    assert it.reception.refused["incomplete"] == 1


def test_a_full_room_refuses_and_what_was_in_it_is_stored(client: httpx.Client) -> None:
    """Given requests that wait in the intake with all the bytes there may be, then others are to come again."""
    body = b"\x7a\x64" + b"\0" * 100
    with served(intake=MemoryIntake(waiting=[]), room=Room(limit_bytes=2 * len(body), limit_requests=10)) as it:
        waiting = it.intake.waiting
        assert waiting is not None
        responses: list[int] = []

        def post() -> None:
            responses.append(httpx.post(it.http(), content=body, headers=PROTOBUF).status_code)

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert it.intake.arrived.acquire(timeout=20)
        refused = client.post(it.http(), content=body, headers=PROTOBUF)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert it.reception.refused["no_room"] == 1
        for future in waiting:
            future.set_result(Outcome())
        for thread in threads:
            thread.join()
        assert responses == [200, 200]


def test_a_client_that_goes_does_not_take_its_request_along(client: httpx.Client) -> None:
    """The intake's future stays its own: cancelling it would be an error in the thread that ends it."""
    with served(intake=MemoryIntake(waiting=[])) as it:
        with pytest.raises(httpx.ReadTimeout):
            client.post(it.http(), content=b"", headers=PROTOBUF, timeout=httpx.Timeout(20, read=0.2))
        assert it.intake.waiting is not None
        (future,) = it.intake.waiting
        assert not future.cancelled()
        assert it.reception.room.requests == 1
        future.set_result(Outcome())
