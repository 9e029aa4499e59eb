"""Requests that wait for what others say of the same traces: bounded in time and bytes, first come, first gone."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from otel_ebpf.viewer.contract import Signal


class Held(NamedTuple):
    """One serialized request, when it may go (monotonic seconds), and how many spans or log records are in it."""

    due: float
    signal: Signal
    data: bytes
    items: int


class Window:
    """What waits. early: items that had to go before their time, as there was no room for more."""

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self.early = 0
        self.items = 0
        self._seconds, self._most = seconds, most_bytes
        self._bytes = 0
        self._held: deque[Held] = deque()

    def put(self, signal: Signal, data: bytes, items: int, now: float) -> None:
        """From now on it waits."""
        self._held.append(Held(now + self._seconds, signal, data, items))
        self._bytes += len(data)
        self.items += items

    @property
    def due(self) -> float | None:
        """When the next one may go; None: nothing waits."""
        if not self._held:
            return None
        return 0.0 if self._bytes > self._most else self._held[0].due

    def take(self, now: float) -> Held | None:
        """The next one that may go, or must."""
        due = self.due
        if due is None or due > now:
            return None
        held = self._held.popleft()
        self._bytes -= len(held.data)
        self.items -= held.items
        if held.due > now:
            self.early += held.items
        return held
