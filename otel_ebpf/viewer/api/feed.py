"""The spans that come in just now, handed to whoever listens; costs next to nothing while nobody does.

Rows are shared, not copied. Each listener has a queue of its own, bounded in rows: one that does not take them in time
is told how many it missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Lock

from otel_ebpf.viewer.api.sources import Busy, Row

LISTENERS = 32
QUEUED_ROWS = 5000


class Feed:
    """A `LiveSource`.

    >>> feed = Feed()
    >>> with contextlib.closing(feed.subscribe()) as listener:
    ...     feed.publish(batch.rows)
    ...     listener.take()
    ([(1763750000000000000, 1200, …)], 0)
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._queues: tuple[Queue, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return bool(self._queues)

    def publish(self, spans: Sequence[Row]) -> None:
        """Hand out the spans of one batch; from any thread, never blocks."""
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
        self._rows: deque[Row] = deque(maxlen=QUEUED_ROWS)
        self._missed = 0

    def put(self, spans: Sequence[Row]) -> None:
        """Add spans; the oldest give way."""
        with self._lock:
            self._missed += max(len(self._rows) + len(spans) - QUEUED_ROWS, 0)
            self._rows.extend(spans)

    def take(self) -> tuple[list[Row], int]:
        """See `Subscription.take`."""
        with self._lock:
            rows, missed = list(self._rows), self._missed
            self._rows.clear()
            self._missed = 0
        return rows, missed

    def close(self) -> None:
        """See `Subscription.close`."""
        self._feed.remove(self)
