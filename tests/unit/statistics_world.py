"""Services as they behave, with the truth: which request made which call. Times in ns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.statistics import NONE, Columns

_MS = 1e6
_WORK = (5 * _MS, 3 * _MS, 8 * _MS, 4 * _MS)
"""Median duration of the calls to each callee."""
BEGIN = 1_700_000_000 * 10**9


class Handler:
    """One request: what its handler does, in words."""

    def __init__(self, random: np.random.Generator, arrival: float) -> None:
        self.random, self.now = random, arrival
        self.calls: list[tuple[int, float, float]] = []

    def pause(self, median: float = 0.2 * _MS, spread: float = 0.5) -> None:
        self.now += self._around(median, spread)

    def call(self, callee: int) -> None:
        """Waits for the answer."""
        self.pause()
        self.now = self._send(callee, self.now)

    def together(self, *callees: int) -> None:
        """All at once; waits for the last answer."""
        self.pause()
        ends = []
        for callee in callees:
            ends.append(self._send(callee, self.now))
            self.pause(0.02 * _MS, 0.3)
        self.now = max(*ends, self.now)

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def _send(self, callee: int, at: float) -> float:
        end = at + self._around(_WORK[callee], 0.6)
        self.calls.append((callee, at, end))
        return end

    def _around(self, median: float, spread: float) -> float:
        return float(median * np.exp(spread * self.random.standard_normal()))


def in_sequence(handler: Handler) -> None:
    handler.call(0)
    handler.call(1)
    handler.call(2)


def in_parallel(handler: Handler) -> None:
    handler.together(0, 1, 2)


def cached(handler: Handler) -> None:
    handler.call(0)
    if handler.chance(0.3):
        handler.call(1)


def retried(handler: Handler) -> None:
    handler.call(0)
    while handler.chance(0.2):
        handler.pause(1 * _MS, 0.1)
        handler.call(0)
    handler.call(1)


def mixed(handler: Handler) -> None:
    handler.call(0)
    handler.together(1, 2)
    if handler.chance(0.6):
        handler.call(3)


def repeated(handler: Handler) -> None:
    handler.call(0)
    for _ in range(int(handler.random.integers(1, 6))):
        handler.call(1)


@dataclass(frozen=True, slots=True)
class World:
    """columns as an observer has them, known: none. truth: (n,) request of each call, or NONE."""

    columns: Columns
    truth: NDArray[np.int64]


def world(
    handle: Callable[[Handler], None],
    requests: int = 1000,
    in_flight: float = 10,
    burst: int = 1,
    background: float = 0.0,
    places: int = 1,
    seed: int = 1,
) -> World:
    """So many requests, in_flight of them open on average; `burst` arrive at once; calls that belong to none besides:
    `background` times as many as requests make."""
    random = np.random.default_rng(seed)
    trial = [Handler(random, 0.0) for _ in range(100)]
    for one in trial:
        handle(one)
    pause = float(np.mean([one.now for one in trial])) / in_flight
    arrival = 0.0
    handlers = []
    for i in range(requests):
        arrival += random.exponential(pause * burst) if i % burst == 0 else random.exponential(0.02 * _MS)
        handler = Handler(random, arrival)
        handle(handler)
        handler.pause()
        handlers.append((arrival, handler))
    calls = [(*call, i) for i, (_, handler) in enumerate(handlers) for call in handler.calls]
    for _ in range(int(background * len(calls))):
        start = random.random() * arrival
        calls.append((0, start, start + _WORK[0] * float(np.exp(0.6 * random.standard_normal())), NONE))
    calls.sort(key=lambda call: call[1])
    kinds, starts, ends, truth = (np.array(column) for column in zip(*calls, strict=True))
    place = np.arange(requests) % places
    begins, finishes = starts.astype(np.int64) + BEGIN, ends.astype(np.int64) + BEGIN
    columns = Columns(
        request_start=np.array([at for at, _ in handlers]).astype(np.int64) + BEGIN,
        request_end=np.array([handler.now for _, handler in handlers]).astype(np.int64) + BEGIN,
        request_kind=np.zeros(requests, np.int64),
        request_place=place,
        call_start=begins,
        call_end=finishes,
        call_kind=kinds.astype(np.int64),
        call_place=np.where(truth == NONE, 0, place[truth]),
        work=finishes - begins,
        known=np.full(len(calls), NONE),
        request_kinds=1,
        call_kinds=int(kinds.max()) + 1,
    )
    return World(columns, truth)
