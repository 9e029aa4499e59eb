"""What both transports share: the room that requests under way may take, and handing them to the `Intake`.

Theory of operation: a request enters the room before its first byte is read, takes room for each piece that is kept,
and gives all back when the intake has ended with it (not when the client has gone: the bytes are still there). When the
room is full, who comes gets the retryable answer. So memory is bounded whatever the number and speed of clients.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from concurrent.futures import Future

from otel_ebpf import heap
from otel_ebpf.errors import OtelEbpfError
from otel_ebpf.viewer.contract import Intake, Malformed, Outcome, Refused, Signal

REQUEST_BYTES = 16 << 20
"""Longest request, decompressed as well as on the wire (grpc-go's and the Collector's default is 4 MiB on the wire)."""
ROOM_BYTES = 64 << 20
ROOM_REQUESTS = 4096
RETRY_AFTER_S = 1.0
ANSWER_S = 60.0
"""Longest wait for the intake; most clients have given up after 10 s."""
TIDY_BYTES, TIDY_S = 8 << 20, 1.0
LOG_INTERVAL_S = 30.0
_LOG = logging.getLogger(__name__)

MALFORMED = "malformed"
TOO_LARGE = "too_large"
INCOMPLETE = "incomplete"
TOO_SLOW = "too_slow"
NO_ROOM = "no_room"
REFUSED = "refused"
STRANGER = "unauthorized"
UNSUPPORTED = "unsupported"
FAULT = "fault"
REASONS = (MALFORMED, TOO_LARGE, INCOMPLETE, TOO_SLOW, NO_ROOM, REFUSED, STRANGER, UNSUPPORTED, FAULT)
"""Why requests were not taken: keys of `Reception.refused`."""


class TooLarge(OtelEbpfError):
    """413, RESOURCE_EXHAUSTED without RetryInfo: sending it again is of no use, sending less is."""


class Incomplete(OtelEbpfError):
    """The client went before its request was whole; over gRPC perhaps it was too long, which looks the same there."""


class TooSlow(Refused):
    """503, UNAVAILABLE: the request did not come in time. (408 would be HTTP's word, but OTLP's clients drop on it.)"""

    def __init__(self, message: str) -> None:
        super().__init__(message, RETRY_AFTER_S)


class NoRoom(Refused):
    """503, UNAVAILABLE: too much is under way; said before the request has been read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, RETRY_AFTER_S)


class Stranger(OtelEbpfError):
    """401, UNAUTHENTICATED: no token, or not ours."""


class Unsupported(OtelEbpfError):
    """403, 404, 405, 415, 421, UNIMPLEMENTED: not a request of the kind that is served here.

    status: the HTTP status. headers: what its RFC wants to be said along.
    """

    def __init__(self, message: str, status: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


_REASON_OF = (
    (Malformed, MALFORMED),
    (TooLarge, TOO_LARGE),
    (Incomplete, INCOMPLETE),
    (TooSlow, TOO_SLOW),
    (NoRoom, NO_ROOM),
    (Refused, REFUSED),
    (Stranger, STRANGER),
    (Unsupported, UNSUPPORTED),
)
"""The first that fits."""


class Stay:
    """One request's share of the room. Leave it once; taking more may raise `Refused`."""

    __slots__ = ("_bytes", "_room")

    def __init__(self, room: Room) -> None:
        self._room: Room | None = room
        self._bytes = 0

    def take(self, count: int) -> None:
        """So many bytes more; Refused if there is no room for them."""
        if self._room is not None:
            self._room.take(count)
            self._bytes += count

    def leave(self) -> None:
        """Give all back; again: nothing."""
        room, self._room = self._room, None
        if room is not None:
            room.give(self._bytes)


class Room:
    """Bytes and requests under way over all clients; used from any thread.

    peak: the most bytes since somebody set it to 0.
    """

    def __init__(self, limit_bytes: int = ROOM_BYTES, limit_requests: int = ROOM_REQUESTS) -> None:
        self._limit_bytes, self._limit_requests = limit_bytes, limit_requests
        self._lock = threading.Lock()
        self.bytes = 0
        self.requests = 0
        self.peak = 0

    def enter(self) -> Stay:
        """Room for one more request; Refused if there is none."""
        with self._lock:
            if self.requests >= self._limit_requests:
                raise NoRoom(f"{self._limit_requests} requests are waiting")
            self.requests += 1
        return Stay(self)

    def take(self, count: int) -> None:
        """See `Stay.take`."""
        with self._lock:
            if self.bytes + count > self._limit_bytes:
                raise NoRoom(f"requests of {self._limit_bytes >> 20} MiB are waiting")
            self.bytes += count
            self.peak = max(self.peak, self.bytes)

    def give(self, count: int) -> None:
        """One request leaves with so many bytes."""
        with self._lock:
            self.bytes -= count
            self.requests -= 1


class Reception:
    """What the transports hand requests to.

    accepted: requests stored, by signal. refused: requests not taken, by reason (`REASONS`). rejected: items of
    accepted requests that were not stored.
    """

    def __init__(self, intake: Intake, *, request_bytes: int = REQUEST_BYTES, room: Room | None = None) -> None:
        self.request_bytes = request_bytes
        self.room = room or Room()
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.rejected = 0
        self._intake = intake
        self._logged = -LOG_INTERVAL_S
        self._tidying = False

    async def hand_in(self, signal: Signal, request: bytes, stay: Stay) -> Outcome:
        """Wait until the request is stored; `stay` leaves when the intake has ended with it.

        Malformed, Refused: as the intake says; Refused too if it says nothing in time.
        """
        try:
            future: Future[Outcome] = self._intake.submit(signal, request)
        except BaseException:
            stay.leave()
            raise
        future.add_done_callback(lambda _: stay.leave())
        # shielded: a client that hangs up must not cancel what the intake is about to finish
        waiting = asyncio.shield(asyncio.wrap_future(future))
        try:
            outcome = await asyncio.wait_for(waiting, ANSWER_S)
        except asyncio.TimeoutError:
            raise Refused(f"not stored within {ANSWER_S:.0f} s", RETRY_AFTER_S) from None
        finally:
            self._look_at_peak()
        self.accepted[signal] += 1
        self.rejected += outcome.rejected
        return outcome

    def count(self, failure: Exception) -> None:
        """A request was not taken."""
        reason = _reason(failure)
        self.refused[reason] += 1
        if reason not in (MALFORMED, REFUSED):  # these the intake itself has counted
            self._intake.lose(f"requests not taken: {reason}")
        now = time.monotonic()
        if reason == FAULT and now - self._logged >= LOG_INTERVAL_S:
            self._logged = now
            _LOG.error("otlp: a request failed: %s: %s", type(failure).__name__, failure, exc_info=failure)
        self._look_at_peak()

    def tidy_later(self) -> None:
        """After something large, give freed memory back: what it left behind is scattered over the heap."""
        if not self._tidying:
            self._tidying = True
            asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    def _look_at_peak(self) -> None:
        if self.room.peak >= TIDY_BYTES:
            self.tidy_later()

    def _tidy(self) -> None:
        self._tidying, self.room.peak = False, 0
        heap.give_back()


def _reason(failure: Exception) -> str:
    return next((reason for kind, reason in _REASON_OF if isinstance(failure, kind)), FAULT)
