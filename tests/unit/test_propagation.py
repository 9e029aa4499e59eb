"""Contexts on the wire: what is said of what cannot be, and of what could not be noted."""

from __future__ import annotations

import errno
import itertools
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from otel_ebpf.capture import propagation, sockmap
from otel_ebpf.capture.propagation import HTTP_HEADER, WAYS, HttpHeader
from otel_ebpf.errors import KernelError
from otel_ebpf.tracing.join import take_over
from otel_ebpf.tracing.wire import MODES


def test_every_way_of_the_configuration_has_its_programs() -> None:
    assert ("off", *WAYS) == MODES


@pytest.fixture
def full() -> HttpHeader:
    """Its table of processes that are proven has no room."""
    way = HttpHeader.__new__(HttpHeader)
    way._unnoted, way._names = 0, {"written": 0, "lost": 1}
    proven = Mock(**{"update.side_effect": KernelError("bpf_map_update_elem: Argument list too long")})
    stats = Mock(**{"per_cpu_sums.return_value": np.array([7, 2], np.uint64)})
    way.object = SimpleNamespace(maps={"proven": proven, "wire_stats": stats})  # type: ignore[assignment]
    return way


def test_processes_that_there_is_no_room_for_are_counted(full: HttpHeader) -> None:
    full.proven([17, 18], True)
    full.proven([17], False)
    assert full.counts() == {"written": 7, "lost": 4}


def test_headers_are_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Mock(return_value="this kernel is not fit for it: FIONREAD says 0 of 5 bytes")
    monkeypatch.setattr(sockmap, "refusal", tried)
    propagation.refusal.cache_clear()
    try:
        said = {propagation.refusal(HTTP_HEADER) for _ in range(3)}
    finally:
        propagation.refusal.cache_clear()
    assert said == {"this kernel is not fit for it: FIONREAD says 0 of 5 bytes"}
    tried.assert_called_once_with()


@pytest.mark.parametrize("failure", [KernelError("load sockmap: Operation not permitted"), OSError("no loopback")])
def test_what_cannot_be_tried_is_refused(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(sockmap, "connections", Mock(side_effect=failure))
    assert sockmap.refusal() == f"whether this kernel is fit for it cannot be tried: {failure}"


FULL = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_socket_that_got_room_after_it_was_full_is_filled_again() -> None:
    socket = Mock(**{"send.side_effect": [65_536, FULL, 30, 900, FULL, FULL]})
    with pytest.raises(BlockingIOError):
        sockmap._sends_when_full(socket)
    assert socket.send.call_count == 6


def test_a_socket_that_always_says_that_it_has_sent_is_not_taken_for_full() -> None:
    socket = Mock(**{"send.side_effect": itertools.cycle([FULL, 30])})
    assert sockmap._sends_when_full(socket) == 30


def test_a_call_is_no_child_of_the_header_that_names_it() -> None:
    """Both ends on one host, in containers: the server's bytes bear what was put into the client's."""
    two = np.zeros(4, np.uint64)
    spans = SimpleNamespace(
        span_id=np.array([11, 12, 21, 22], np.uint64),
        remote_parent=np.array([0, 0, 11, 99], np.uint64),
        remote_link=np.array([0, 0, 3, 3], np.uint8),
        remote_flags=np.array([0, 0, 1, 1], np.uint8),
        remote_trace=np.zeros((4, 2), np.uint64),
        request_id=two.copy(),
        shape=two.copy(),
        slot_start=np.zeros((4, 1), np.uint32),
        slot_length=np.zeros((4, 1), np.uint32),
    )
    take_over(spans, np.array([0, 1]), np.array([2, 3]))  # type: ignore[arg-type]
    assert spans.remote_parent.tolist() == [0, 99, 11, 99]
    assert spans.remote_link.tolist() == [0, 3, 3, 3]
