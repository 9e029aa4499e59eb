"""From requests to transactions: what came together is written together, and acknowledged when it is on disk.

Theory of operation: receivers put requests into one bounded queue. One thread takes all that is there, decodes it,
writes it in one transaction and ends the futures; while it writes, the next ones gather. When little comes it waits a
moment for more, since a transaction costs a flush of the disk. Full queue, full disk: refused with a time to come
back, counted, and told to whoever looks.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import duckdb

from otel_ebpf.viewer.contract import Malformed, Outcome, Refused, Signal
from otel_ebpf.viewer.decode import DECODERS, Batch
from otel_ebpf.viewer.decode.context import Context
from otel_ebpf.viewer.store import Database, Writer
from otel_ebpf.viewer.store.keep import Keeper

QUEUE = 32 << 20
"""Bytes of requests that wait; beyond, senders are asked to come again."""
TRANSACTION = 2 << 20
"""Bytes of requests in one transaction: bounds the memory that their columns take."""
ROWS = 100_000
"""Rows in one transaction, for the same reason; those of the last request may be more."""
GATHER = 0.1
"""Seconds that a request waits for company when less than a transaction's worth is there."""
JOIN, KEEP, LOOK = 1.0, 10.0, 1.0
"""Seconds between two rounds of making edges, of looking after age and size, and of looking whether trouble is over."""
AGAIN = 2.0
"""Seconds after which a refused sender may come again."""
RESERVE = 64 << 20
"""Bytes that stay free on the disk: what is stored must be able to be written down, and deleted."""


_UNWRITABLE = (
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.IOException,
    duckdb.ConnectionException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
)
"""Errors of the store, whatever is written. Others say that something which was to be written does not fit it."""
_ENDS = (duckdb.FatalException, duckdb.InternalException, duckdb.IOException, duckdb.ConnectionException)
"""Those after which the database takes nothing until it is opened anew; the last, if that failed before."""


@dataclass(frozen=True, slots=True)
class _Request:
    signal: Signal
    data: bytes
    done: Future[Outcome]


@dataclass(slots=True)
class _Part:
    """Requests that are written in one transaction, decoded."""

    batches: dict[str, Batch] = field(default_factory=dict)
    outcomes: list[tuple[_Request, Outcome]] = field(default_factory=list)
    rows: int = 0
    _lost: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, request: _Request, batch: Batch) -> None:
        """One more."""
        for reason, count in [*batch.rejected.items(), *batch.cut.items()]:
            self._lost[request.signal, reason] = self._lost.get((request.signal, reason), 0) + count
        self.outcomes.append((request, Outcome(sum(batch.rejected.values()), batch.message())))
        self.batches.setdefault(request.signal, Batch(request.signal)).extend(batch)
        self.rows += len(batch.rows)

    def lost(self) -> list[tuple[str, str, int]]:
        """What was not kept: (signal, reason, count)."""
        return [(signal, reason, count) for (signal, reason), count in self._lost.items()]


@dataclass(slots=True)
class Counts:
    """Since the start. refused: items are not known of what was not read, so these are requests; rejected are items."""

    accepted: dict[str, int] = field(default_factory=lambda: {"traces": 0, "metrics": 0, "logs": 0})
    rejected: int = 0
    refused: int = 0
    malformed: int = 0


class Ingest:
    """The viewer's intake, and the one thread that writes its store.

    on_spans: told of the rows of spans (`decode.traces.COLUMNS`) of each transaction, after it. trouble: why nothing
    is taken at the moment, or "".

    >>> ingest = Ingest(database, age_ns=24 * 3600 * 10**9, size=2 << 30)
    >>> ingest.start()
    >>> ingest.submit("traces", request).result()
    Outcome(rejected=0, message='')
    """

    def __init__(
        self,
        database: Database,
        *,
        age_ns: int,
        size: int,
        on_spans: Callable[[list[tuple[object, ...]]], None] | None = None,
        reserve: int = RESERVE,
    ) -> None:
        self.counts = Counts()
        self.trouble = ""
        self._database = database
        self._writer = Writer(database)
        self._keeper = Keeper(database, age_ns, size)
        self._age_ns, self._reserve = age_ns, reserve
        self._on_spans = on_spans
        self._context = Context(now=time.time_ns(), oldest=0)
        self._queue: deque[_Request] = deque()
        self._waiting = 0
        self._losses: dict[str, int] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, signal: Signal, request: bytes) -> Future[Outcome]:
        """See `Intake.submit`."""
        done: Future[Outcome] = Future()
        with self._changed:
            refusal = self._refusal(len(request))
            if refusal:
                self.counts.refused += 1
                self._count(f"requests refused: {refusal.partition(' (')[0]}")
                done.set_exception(Refused(refusal, AGAIN))
                return done
            self._queue.append(_Request(signal, request, done))
            self._waiting += len(request)
            self._changed.notify()
        return done

    def _refusal(self, size: int) -> str:
        if self._closing:
            return "the viewer is stopping"
        if self.trouble:
            return self.trouble
        return "more comes than can be written" if self._waiting and self._waiting + size > QUEUE else ""

    def lose(self, reason: str) -> None:
        """See `Intake.lose`."""
        with self._changed:
            self.counts.refused += 1
            self._count(reason)

    def _count(self, reason: str) -> None:
        self._losses[reason] = self._losses.get(reason, 0) + 1

    def close(self, seconds: float) -> None:
        """Write what was taken; what comes from now on is refused."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        join_due = keep_due = time.monotonic() + JOIN
        pending = True  # ends of the run before this one may be there
        while True:
            due = min(join_due, keep_due) if pending else keep_due
            if self.trouble:
                due = min(due, time.monotonic() + LOOK)
            requests = self._take(due - time.monotonic())
            self._look_at_disk()
            if requests:
                self._store(requests)
                self._guarded(self._database.tidy)
                pending = True
            now = time.monotonic()
            if pending and (now >= join_due or self._closing):
                join_due = now + JOIN
                pending = self._guarded(self._join) is not False
            if now >= keep_due or self._closing:
                keep_due = now + KEEP
                self._guarded(self._keep)
            if self._closing and not self._queue:
                return

    def _take(self, seconds: float) -> list[_Request]:
        """What is to be written next, after `seconds` at the latest."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._queue) or self._closing, max(seconds, 0.0))
            if self._queue and self._waiting < TRANSACTION:
                self._changed.wait_for(lambda: self._waiting >= TRANSACTION or self._closing, GATHER)
            taken: list[_Request] = []
            size = 0
            while self._queue and (not taken or size + len(self._queue[0].data) <= TRANSACTION):
                taken.append(self._queue.popleft())
                size += len(taken[-1].data)
            self._waiting -= size
            return taken

    def _store(self, requests: list[_Request]) -> None:
        """Write them together; if that fails for what one of them holds, each by itself."""
        try:
            self._write(requests)
        except _UNWRITABLE as error:
            self._failed(error)
            for request in requests:
                if not request.done.done():
                    self.counts.refused += 1
                    _end(request, Refused("the store cannot be written", AGAIN))
        except Exception as error:
            left = [request for request in requests if not request.done.done()]
            if len(requests) == 1 and left:
                self._malformed(left[0], Malformed(f"cannot be stored ({type(error).__name__})"))
                return
            for request in left:
                self._store([request])

    def _malformed(self, request: _Request, error: Malformed) -> None:
        with self._changed:
            self.counts.malformed += 1
            self._count(f"{request.signal} requests malformed")
        _end(request, error)

    def _write(self, requests: list[_Request]) -> None:
        self._context.now = time.time_ns()
        self._context.oldest = self._context.now - self._age_ns
        part = _Part()
        for request in requests:
            try:
                part.add(request, DECODERS[request.signal](request.data, self._context))
            except Malformed as error:
                self._malformed(request, error)
                continue
            if part.rows >= ROWS:
                self._commit(part)
                part = _Part()
        self._commit(part)

    def _commit(self, part: _Part) -> None:
        """One transaction; then whoever waits for it is told."""
        lost = [*self._lost(), *((f"viewer: {signal}", reason, count) for signal, reason, count in part.lost())]
        self._writer.write(part.batches.values(), lost, self._context.now)
        self._told(lost)
        for signal, batch in part.batches.items():
            self.counts.accepted[signal] += len(batch.rows)
        for request, outcome in part.outcomes:
            self.counts.rejected += outcome.rejected
            _end(request, outcome)
        if self._on_spans is not None and "traces" in part.batches:
            self._on_spans(part.batches["traces"].rows)

    def _lost(self) -> list[tuple[str, str, int]]:
        """What was counted since the last transaction: (what, reason, count)."""
        with self._changed:
            return [("viewer", reason, count) for reason, count in self._losses.items()]

    def _told(self, lost: list[tuple[str, str, int]]) -> None:
        """These are in the store now."""
        with self._changed:
            for what, reason, count in lost:
                if what == "viewer" and reason in self._losses:
                    self._losses[reason] -= count
                    if self._losses[reason] <= 0:
                        del self._losses[reason]

    def _join(self) -> bool:
        """True while ends wait."""
        self._writer.join(time.time_ns())
        return bool(self._database.rows("SELECT 1 AS one FROM ends LIMIT 1"))

    def _keep(self) -> None:
        lost = self._lost()
        if lost:
            self._writer.write([], lost, time.time_ns())
            self._told(lost)
        if self._keeper.run(time.time_ns()):
            self._writer.forget()

    def _guarded(self, work: Callable[[], bool | None]) -> bool | None:
        """Do it; what fails is counted, and due again at its next time."""
        try:
            return work()
        except Exception as error:
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._count(f"transactions failed ({type(error).__name__})")
        if isinstance(error, _ENDS):
            with suppress(Exception):  # the next transaction tells whether it helped
                self._database.reopen()
                self._writer.forget()

    def _look_at_disk(self) -> None:
        """Refuse before the disk is full, so that what is stored stays whole."""
        try:
            disk = os.statvfs(self._database.path.parent)
        except OSError as error:
            self.trouble = f"the folder of the store is gone ({error.strerror})"
            return
        free = disk.f_bavail * disk.f_frsize
        if free < self._reserve:
            left = free >> 20
            self.trouble = f"the disk of the store is full ({left} MB left of the {self._reserve >> 20} that stay free)"
        else:
            self.trouble = ""


def _end(request: _Request, outcome: Outcome | Exception) -> None:
    """Tell the receiver, unless its sender has gone."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            request.done.set_exception(outcome)
        else:
            request.done.set_result(outcome)
