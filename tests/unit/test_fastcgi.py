"""FastCGI, as nginx and PHP-FPM speak it (tests/tools/record_fastcgi.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.protocols.base import Options, Reading, Session
from otel_ebpf.protocols.fastcgi import FastCgi, as_http, records, status_line, variables
from tests.unit.recorded import conversations, readings

MODULE = FastCgi()
RECORDED = {one.name: one.exchanges for one in conversations("fastcgi")}


def record(kind: int, content: bytes) -> bytes:
    padding = -len(content) % 8
    return bytes([1, kind, 0, 1]) + len(content).to_bytes(2, "big") + bytes([padding, 0]) + content + bytes(padding)


def asked(**pairs: str) -> bytes:
    params = b"".join(bytes([len(k), len(v)]) + k.encode() + v.encode() for k, v in pairs.items())
    return record(1, bytes([0, 1, 0, 0, 0, 0, 0, 0])) + record(4, params) + record(4, b"") + record(5, b"")


def reading(name: str) -> Reading:
    [one] = readings(MODULE, "fastcgi", name, Options(redact=False))
    return one


def test_a_request_is_told_as_the_http_request_that_it_was() -> None:
    one = reading("get")
    server = dict(one.fields.server.attributes)
    assert one.fields.protocol == "fastcgi" and one.fields.status == "200" and one.fields.server.name == "GET /hello"
    assert server["http.request.method"] == "GET" and server["http.response.status_code"] == 200
    assert server["network.protocol.name"] == "fastcgi" and "network.protocol.version" not in server
    assert "server.address" in server and str(server["user_agent.original"]).startswith("Python-urllib/")
    assert one.texts[1:] == ("/hello", "n=3")


@pytest.mark.parametrize(("name", "status", "error"), [("not found", "410", False), ("failed", "500", True)])
def test_the_status_is_that_of_the_cgi_response(name: str, status: str, error: bool) -> None:
    one = reading(name)
    assert (one.fields.status, one.fields.server.error, one.fields.client.error) == (status, error, True)


def test_literals_are_redacted_as_elsewhere() -> None:
    [one] = MODULE.parse(asked(REQUEST_METHOD="GET", REQUEST_URI="/a?token=s"), b"", Session(), Options())
    assert "token=s" not in one.texts[2]


def test_without_request_uri_the_script_and_its_path_are_the_target() -> None:
    request = asked(REQUEST_METHOD="GET", SCRIPT_NAME="/a.php", PATH_INFO="/b", QUERY_STRING="c=d", HTTPS="on")
    assert as_http(request) == (b"GET /a.php/b?c=d HTTP/1.1\r\n\r\n", True)


def test_a_variable_cannot_add_a_line() -> None:
    request = asked(REQUEST_METHOD="GET", REQUEST_URI="/", HTTP_HOST="a\r\nUser-Agent: b")
    assert as_http(request)[0].count(b"\r\n") == 3


def test_what_is_cut_before_the_target_is_not_told() -> None:
    request = RECORDED["get"][0][0]
    assert MODULE.parse(request[:60], b"", Session(), Options()) == ()


def test_a_program_that_ended_without_an_answer_failed() -> None:
    assert status_line(record(3, bytes(8))) == b"HTTP/1.1 500"


@pytest.mark.parametrize("name", ["get", "kept connection", "failed"])
def test_an_answer_is_whole_when_its_last_record_was_seen(name: str) -> None:
    request, response = RECORDED[name][0]
    assert MODULE.complete(request, response, len(request), len(response)) is True
    assert MODULE.complete(request, response[:-16], len(request), len(response) - 16) is False
    assert MODULE.complete(request, response[:-16], len(request), len(response)) is None


def test_the_recorded_exchanges_cannot_be_anything_else() -> None:
    for exchanges in RECORDED.values():
        for request, response in exchanges:
            assert MODULE.detect(request, response) == 1.0 and MODULE.detect(request, b"") == 0.9


@given(st.binary(max_size=1100), st.binary(max_size=600))
def test_no_bytes_raise(request: bytes, response: bytes) -> None:
    for data in (request, b"\x01\x01\x00\x01\x00\x08\x00\x00" + request):
        MODULE.detect(data, response)
        MODULE.parse(data, response, Session(), Options())
        MODULE.complete(data, response, len(data), len(response))
        assert len(list(records(data))) <= 64
        variables(data)
