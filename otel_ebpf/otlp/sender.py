"""One signal's queue and the thread that empties it, with the retry rules of the OTLP specification.

Theory of operation: messages wait in a queue that is bounded in bytes and items. The worker takes as many as fit into
one request: the concatenation of two export requests is the request with both contents (protobuf concatenation merges
repeated fields), so joining them costs a copy. It sends, and on a retryable answer waits (exponential back-off with
jitter, at least as long as the receiver asked for) and sends the same bytes again, until `export_timeout` is over.
Meanwhile the queue fills, and what finds it full is dropped: new data cannot push out what is being retried, and memory
stays bounded whatever the receiver does.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from otel_ebpf.otlp.framing import Message
from otel_ebpf.otlp.settings import SignalSettings
from otel_ebpf.otlp.transport import Transport, Verdict

log = logging.getLogger(__name__)

QUEUE_BYTES = 16 << 20
REQUEST_BYTES = 1_000_000
LOG_INTERVAL = 30.0
"""Seconds between two log lines about the same trouble."""
_LONGEST_COMPLAINT = 300
RETRYING = "retrying"
"""What is complained of while nothing is lost yet."""

LONGEST_RETRY_AFTER = 300.0
"""Seconds: a receiver whose clock or mind is wrong must not silence a signal for years."""

QUEUE_FULL = "queue_full"
REFUSED = "refused"
RETRIES_EXHAUSTED = "retries_exhausted"
PARTIAL_SUCCESS = "partial_success"
SHUTDOWN = "shutdown"
FAULT = "fault"
REASONS = (QUEUE_FULL, REFUSED, RETRIES_EXHAUSTED, PARTIAL_SUCCESS, SHUTDOWN, FAULT)
"""Why items were lost: the label of the agent's own metric."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: first, then twice as long each time, up to longest; each ± `jitter` of itself."""

    first: float = 1.0
    longest: float = 30.0
    jitter: float = 0.25

    def delay(self, attempt: int) -> float:
        """How long to wait after the given failed attempt, from 0."""
        return min(self.longest, self.first * 2.0 ** min(attempt, 30)) * random.uniform(
            1 - self.jitter, 1 + self.jitter
        )


@dataclass(slots=True)
class Statistics:
    """Counters of one signal. Items are spans, log records or data points; bytes are before compression.

    errors: requests that failed, each try by itself, by `Answer.error`.
    """

    requests: int = 0
    retries: int = 0
    delivered_items: int = 0
    delivered_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    errors: dict[str, int] = field(default_factory=dict)
    queued_items: int = 0
    queued_bytes: int = 0
    last_error: str = ""


class Sender:
    """One signal on its way out."""

    def __init__(
        self,
        settings: SignalSettings,
        transport: Transport,
        *,
        backoff: Backoff | None = None,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.statistics = Statistics()
        self._settings, self._transport = settings, transport
        self._backoff = backoff or Backoff()
        self._queue_bytes = queue_bytes
        self._queue: deque[tuple[float, Message]] = deque()
        self._changed = threading.Condition()
        self._in_flight: Message | None = None
        self._abandoned = False
        self._hurry = False
        self._closed_at: float | None = None
        self._not_before = 0.0
        self._logged: dict[str, float] = {}
        self._worker = threading.Thread(target=self._run, name=f"otlp-{settings.signal}", daemon=True)
        self._worker.start()

    def submit(self, message: Message) -> bool:
        """Queue a message; False if there is no room or the sender is closed. Never waits."""
        statistics = self.statistics
        with self._changed:
            if self._closed_at is not None:
                statistics.dropped[SHUTDOWN] += message.items
                return False
            full = (
                statistics.queued_items + message.items > self._settings.queue_items
                or statistics.queued_bytes + len(message.data) > self._queue_bytes
            )
            if full:
                statistics.dropped[QUEUE_FULL] += message.items
            else:
                self._queue.append((time.monotonic(), message))
                statistics.queued_items += message.items
                statistics.queued_bytes += len(message.data)
                self._changed.notify_all()
        if full:
            self._complain(QUEUE_FULL, f"the queue is full: {_items(message.items)} dropped")
        return not full

    def hurry(self) -> None:
        """Send what is queued without waiting for more."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()

    def wait_idle(self, deadline: float) -> bool:
        """True as soon as all was dealt with; False at the deadline (time.monotonic)."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, max(0.0, deadline - time.monotonic()))

    def begin_close(self, deadline: float) -> None:
        """Take no more; send what is queued until the deadline (time.monotonic)."""
        with self._changed:
            self._closed_at = deadline
            self._changed.notify_all()

    def finish_close(self, deadline: float) -> None:
        """Wait for what `begin_close` began; give up and count the rest at the deadline."""
        self._worker.join(max(0.0, deadline - time.monotonic()))
        self._transport.close()
        self._worker.join(0.5)
        with self._changed:
            if self._in_flight is not None and self._worker.is_alive():
                # stuck, in connect(2) for one: the thread ends with the process, and must not count this again
                self._abandoned = True
                self.statistics.dropped[SHUTDOWN] += self._in_flight.items
            while self._queue:
                _, message = self._queue.popleft()
                self.statistics.dropped[SHUTDOWN] += message.items
                self.statistics.queued_items -= message.items
                self.statistics.queued_bytes -= len(message.data)

    def _run(self) -> None:
        while True:
            message = self._next()
            if message is None:
                return
            try:
                self._deliver(message)
            except Exception as error:
                # the thread must outlive whatever a batch does to it: its signal would be silent from then on
                log.debug("otlp %s: fault while sending", self._settings.signal, exc_info=True)
                self._drop(FAULT, message, f"fault while sending: {type(error).__name__}: {error}")
            with self._changed:
                self._in_flight = None
                self._hurry = self._hurry and bool(self._queue)
                self.statistics.queued_items -= message.items
                self.statistics.queued_bytes -= len(message.data)
                self._changed.notify_all()

    def _next(self) -> Message | None:
        """As many queued messages as make one request, as one; None when closed and empty."""
        settings = self._settings
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed_at is not None)
                if not self._queue:
                    return None
                ready_at = self._queue[0][0] + settings.schedule_delay
                wait = ready_at - time.monotonic()
                enough = self.statistics.queued_items >= settings.batch_items
                enough |= self.statistics.queued_bytes >= REQUEST_BYTES
                if wait <= 0 or enough or self._hurry or self._closed_at is not None:
                    break
                self._changed.wait(wait)
            taken = [self._queue.popleft()[1]]
            items, size = taken[0].items, len(taken[0].data)
            while self._queue:
                following = self._queue[0][1]
                if items + following.items > settings.batch_items or size + len(following.data) > REQUEST_BYTES:
                    break
                taken.append(self._queue.popleft()[1])
                items, size = items + following.items, size + len(following.data)
            joined = taken[0] if len(taken) == 1 else Message(b"".join(message.data for message in taken), items)
            self._in_flight = joined
        return joined

    def _deliver(self, message: Message) -> None:
        statistics = self.statistics
        attempt = 0
        give_up_at = time.monotonic() + self._settings.export_timeout
        while self._wait_until(self._not_before, give_up_at):
            left = min(give_up_at, self._closed_at or give_up_at) - time.monotonic()
            statistics.requests += 1
            statistics.retries += attempt > 0
            answer = self._transport.send(message.data, max(0.05, min(self._settings.timeout, left)))
            if self._abandoned:
                return
            if answer.verdict is Verdict.DELIVERED:
                rejected = min(answer.rejected, message.items)
                statistics.delivered_items += message.items - rejected
                statistics.delivered_bytes += len(message.data)
                if rejected or answer.message:
                    statistics.dropped[PARTIAL_SUCCESS] += rejected
                    self._complain(PARTIAL_SUCCESS, f"{rejected} of {message.items} items rejected: {answer.message}")
                return
            # A new dict each time: it may be read meanwhile.
            statistics.errors = {**statistics.errors, answer.error: statistics.errors.get(answer.error, 0) + 1}
            if answer.verdict is Verdict.REFUSED:
                self._drop(REFUSED, message, answer.message)
                return
            statistics.last_error = answer.message
            self._complain(RETRYING, f"{answer.message}; trying again")
            delay = self._backoff.delay(attempt)
            if answer.retry_after is not None:
                delay = max(delay, min(answer.retry_after, LONGEST_RETRY_AFTER))
            self._not_before = time.monotonic() + delay
            attempt += 1
        closed = self._closed_at is not None and self._closed_at < give_up_at
        why = statistics.last_error or "no answer before the agent ended"
        self._drop(SHUTDOWN if closed else RETRIES_EXHAUSTED, message, why)

    def _wait_until(self, moment: float, give_up_at: float) -> bool:
        """Wait for the moment; False, at once, if it comes too late, also when that turns out while waiting."""
        with self._changed:
            while True:
                limit = give_up_at if self._closed_at is None else min(give_up_at, self._closed_at)
                now = time.monotonic()
                if max(moment, now) >= limit:
                    return False
                if now >= moment:
                    return True
                self._changed.wait(moment - now)

    def _is_idle(self) -> bool:
        return not self._queue and self._in_flight is None

    def _drop(self, reason: str, message: Message, why: str) -> None:
        if self._abandoned:
            return
        self.statistics.dropped[reason] += message.items
        self.statistics.last_error = why
        self._complain(reason, f"{_items(message.items)} dropped: {why}")

    def _complain(self, reason: str, what: str) -> None:
        now = time.monotonic()
        if now - self._logged.get(reason, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged[reason] = now
            # What the receiver says is a stranger's text: it must not move the cursor, nor fill the screen.
            shown = "".join(c if c.isprintable() else "?" for c in what[:_LONGEST_COMPLAINT])
            log.warning("otlp %s to %s: %s", self._settings.signal, self._settings.endpoint, shown)


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"
