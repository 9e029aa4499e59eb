"""The spans that come in just now, handed to whoever listens; costs next to nothing while nobody does.

Batches are shared, not copied. Each listener has a queue of its own, bounded in rows: one that does not take them in
time is told how many it missed.
"""

from __future__ import annotations

from collections import deque
from threading import Lock

from otel_ebpf.viewer.api.sources import Busy
from otel_ebpf.viewer.contract import Columns

LISTENERS = 32
QUEUED_ROWS = 20_000


class Feed:
    """A `LiveSource`.

    >>> feed = Feed()
    >>> with contextlib.closing(feed.subscribe()) as listener:
    ...     feed.publish(columns)
    ...     listener.take()
    ([columns], 0)
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._queues: tuple[Queue, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether anybody listens; if not, the columns need not be made."""
        return bool(self._queues)

    def publish(self, spans: Columns) -> None:
        """Hand out one batch, with the columns of `Subscription.take`; from any thread, never blocks."""
        for queue in self._queues:
            queue.put(spans)

    def subscribe(self) -> Queue:
        """A new listener; `Busy` beyond `LISTENERS`."""
        queue = Queue(self)
        with self._lock:
            if len(self._queues) >= LISTENERS:
                raise Busy(f"{LISTENERS} listeners are there already: close one of the live views")
            self._queues = (*self._queues, queue)
        return queue

    def remove(self, queue: Queue) -> None:
        """For `Queue.close`."""
        with self._lock:
            self._queues = tuple(q for q in self._queues if q is not queue)


class Queue:
    """A `Subscription` of a `Feed`."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._lock = feed, Lock()
        self._batches: deque[Columns] = deque()
        self._rows = self._missed = 0

    def put(self, spans: Columns) -> None:
        """Add a batch; the oldest give way."""
        with self._lock:
            self._batches.append(spans)
            self._rows += len(spans["start"])
            while self._rows > QUEUED_ROWS:
                dropped = len(self._batches.popleft()["start"])
                self._rows -= dropped
                self._missed += dropped

    def take(self) -> tuple[list[Columns], int]:
        with self._lock:
            batches, missed = list(self._batches), self._missed
            self._batches.clear()
            self._rows = self._missed = 0
        return batches, missed

    def close(self) -> None:
        self._feed.remove(self)
