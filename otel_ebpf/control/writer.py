"""Output that cannot hold up the agent: a thread writes, the loop only queues, and what does not fit is counted."""

from __future__ import annotations

import os
import select
import threading
from collections import deque

from otel_ebpf.errors import UnsupportedError

QUEUE_BYTES = 8 << 20
CLOSE_S = 1.0
_CHUNK = 64 << 10


class Writer:
    """Writes to a descriptor in the background. `dropped`: lines that the reader was too slow for.

    >>> writer = Writer(1)
    >>> writer.put(b"one line\\n", 1)
    >>> writer.close()
    """

    def __init__(self, fd: int, limit: int = QUEUE_BYTES) -> None:
        self.dropped = 0
        self._fd = fd
        self._limit = limit
        self._queue: deque[tuple[bytes, int]] = deque()
        self._waiting = 0
        self._closing = False
        self._failure: OSError | None = None
        self._raised = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def put(self, data: bytes, lines: int) -> None:
        """Queue whole lines, or drop and count them.

        BrokenPipeError: the reader has gone. UnsupportedError: nothing can be written (disk full).
        """
        self.check()
        with self._changed:
            if self._raised or self._waiting + len(data) > self._limit:
                self.dropped += lines
                return
            self._queue.append((data, lines))
            self._waiting += len(data)
            self._changed.notify()

    def check(self) -> None:
        """Raise what kept the thread from writing, once: whoever ends because of it has more to hand in."""
        failure = self._failure
        if self._raised:
            return
        self._raised = failure is not None
        if isinstance(failure, BrokenPipeError):
            raise failure
        if failure is not None:
            raise UnsupportedError(f"standard output cannot be written: {failure.strerror}: give it another place")

    def close(self, timeout: float = CLOSE_S) -> None:
        """Write what is queued, for at most `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            self.dropped += sum(lines for _, lines in self._queue)
            self._queue.clear()

    def _run(self) -> None:
        try:
            while (data := self._next()) is not None:
                write_all(self._fd, data)
                with self._changed:
                    self._waiting -= len(data)
        except OSError as failure:
            self._failure = failure

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            return self._queue.popleft()[0]


def write_all(fd: int, data: bytes) -> None:
    """Write it all, however long that takes."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest[:_CHUNK]) :]
        except BlockingIOError:  # somebody who shares the terminal has made it non-blocking
            select.select([], [fd], [])
