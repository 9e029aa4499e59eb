"""Unix time of the kernel's time stamps: one number for all batches, until somebody sets the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from otel_ebpf.clock import UnixClock


class Clocks:
    """Both clocks of a host; each reading takes up to `slow` ns."""

    def __init__(self, ahead: int) -> None:
        self.now, self.ahead, self.slow = 10**15, ahead, 100

    def monotonic_ns(self) -> int:
        self.now += self.slow
        return self.now

    def time_ns(self) -> int:
        self.now += self.slow // 3  # not in the middle of the two others
        return self.now + self.ahead


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    both = Clocks(1_700_000_000 * 10**9)
    monkeypatch.setattr(time, "monotonic_ns", both.monotonic_ns)
    monkeypatch.setattr(time, "time_ns", both.time_ns)
    yield both


def test_a_slow_reading_does_not_move_spans_against_each_other(clocks: Clocks) -> None:
    clock = UnixClock()
    first = clock.offset()
    for clocks.slow in (50, 100_000, 10**9, 70):
        assert clock.offset() == first
    assert abs(first - clocks.ahead) < 200


@pytest.mark.parametrize("step", [3600 * 10**9, -(10**9), 50_000])
def test_a_step_of_the_clock_is_followed(clocks: Clocks, step: int) -> None:
    clock = UnixClock()
    clocks.ahead += step
    assert abs(clock.offset() - clocks.ahead) < 200


def test_what_it_gives_is_unix_time() -> None:
    before = time.time_ns()
    now = UnixClock().offset() + time.monotonic_ns()
    assert before - 10**6 <= now <= time.time_ns() + 10**6
