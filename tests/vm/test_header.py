"""`propagation: http-header` under kernels that are fit for it: who is told what, and that nobody else notices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vm.boot import run_inside
from tests.vm.header import CONNECTIONS, HEAD, LINE, MESSAGES, REQUESTS
from tests.vm.kernels import SERIES, fetch

LIMIT_S = 1200.0
HEADER = b"traceparent: 00-"
LENGTH = len(HEADER) + 32 + 1 + 16 + len(b"-01\r\n")
TOLD = {
    *("blocking", "plain", "version 1.0", "with a body", "with a body of its own", "with a long body"),
    *("a body like a request", "in chunks", "a long head", "two without an answer"),
}
"""Cases in which the first message is one request's head, and all of it."""
WHOLE = (
    "client driver > server shop connection > client shop thread-response > server stock traceparent > "
    "client stock thread-response > server ledger traceparent > 1 trace > 6 spans"
)


@pytest.fixture(scope="module", params=list(SERIES))
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What one of these kernels did."""
    facts = run_inside(fetch(request.param), "tests.vm.header", LIMIT_S)
    assert "error" not in facts, f"{facts['release']}: {facts['error']}"
    return facts


def test_debians_kernels_are_fit_for_it(found: dict[str, Any]) -> None:
    assert found["refusal"] == ""
    assert "not attached" not in found["said"]


def test_requests_are_told_of_once_and_no_other_byte_changes(found: dict[str, Any]) -> None:
    told = set()
    for case, hexed in found["messages"].items():
        sent, received = b"".join(MESSAGES.get(case, [HEAD])), bytes.fromhex(hexed)
        if received == sent:
            continue
        at = received.index(b"\r\n") + 2
        assert received[at:].startswith(HEADER), case
        assert received[:at] + received[at + LENGTH :] == sent, case
        told.add(case)
    assert told == TOLD


def test_what_they_are_told_is_what_the_agent_says(found: dict[str, Any]) -> None:
    at = len(LINE) + len(HEADER)
    said = bytes.fromhex(found["messages"]["plain"])[at:]
    trace, span = said[:32].decode(), said[33:49].decode()
    assert ["client", trace, span] in found["spans"]


def test_calls_that_wait_go_on_after_signals_and_tell_a_reset(found: dict[str, Any]) -> None:
    late = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nlate"
    assert found["waiting"] == [late, "ConnectionResetError"] * 3


def test_the_second_call_of_a_program_is_told_of(found: dict[str, Any]) -> None:
    assert [said[0] for said in found["curl"]] == ["0", "1", "1"]


def test_an_agent_that_is_killed_under_load_harms_no_request(found: dict[str, Any]) -> None:
    load = found["load"]
    assert load["told 0"]
    assert load["told 1"]
    assert set(load) == {"told 0", "told 1", "workers"}


def test_requests_through_hosts_are_one_trace(found: dict[str, Any]) -> None:
    """Shop and stock tell of each. The driver is on the shop's host, as is known from a connection's second on."""
    traces = found["traces"]
    requests = CONNECTIONS * REQUESTS
    assert traces["lines"] == {WHOLE: requests}, traces
    assert traces["outcomes"] == {"written": 2 * requests, "read": 2 * requests, "unwatched": CONNECTIONS}, traces
