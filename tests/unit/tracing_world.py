"""Rows for tests of tracing, written down by hand or made by small programs whose truth is known.

`Host` writes rows as the kernel would: both ends of an exchange, with times in ms. `Simulation` runs threads, pools and
event loops, and a model of the kernel that records the evidence (`cause`, Flag.MANY, Flag.DISTURBED, units).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeAlias, TypedDict, cast

import numpy as np

from otel_ebpf.model import Flag, Kind, Link, Spans
from otel_ebpf.tracing.assemble import Assembler

if TYPE_CHECKING:
    from typing_extensions import Unpack

MS = 10**6
NO_FLAG = Flag(0)
Context: TypeAlias = tuple[tuple[int, int], int, int]
"""What a request carried: the halves of the trace id, the parent's span id, the flags."""


class Row(TypedDict, total=False):
    """Columns of `Spans` in which a row differs from an empty one; `texts` are the texts of its slots."""

    span_id: int
    conn: int
    pair: int
    seq: int
    kind: int
    flags: int
    tgid: int
    tid_req: int
    tid_rsp: int
    unit_req: int
    unit_rsp: int
    after: int
    start: int
    wanted: int
    end: int
    first_byte: int
    cause: int
    shape: int
    texts: Sequence[bytes]
    rsp_bytes: int
    remote_link: int
    remote_trace: tuple[int, int]
    remote_parent: int
    remote_flags: int
    request_id: int
    trace: tuple[int, int]
    parent: int
    link: int


class Evidence(TypedDict, total=False):
    """What else is known of one end of an exchange; `columns` as they are, over all others."""

    writer: Process | None
    cause: Row | None
    flags: Flag
    context: Context | None
    columns: Row


def spans(rows: Sequence[Row]) -> Spans:
    """A batch of rows; `texts` of a row are the texts of its slots."""
    batch = Spans.empty(len(rows))
    text = b""
    for i, row in enumerate(rows):
        for name, value in row.items():
            if name != "texts":
                getattr(batch, name)[i] = value
        for slot, part in enumerate(row.get("texts", ())):
            batch.slot_start[i, slot], batch.slot_length[i, slot] = len(text), len(part)
            text += part
    batch.text = np.frombuffer(text, np.uint8).copy()
    return batch


def parents_by(batches: Sequence[Spans], *links: Link) -> dict[int, int]:
    """Span id → the span id of its parent, 0: undecided. Each parent must have been found in one of these ways."""
    found = {}
    for batch in batches:
        for span, parent, link in zip(batch.span_id, batch.parent, batch.link, strict=True):
            found[int(span)] = int(parent)
            assert not parent or link in links
    return found


def texts(batch: Spans, row: int) -> list[bytes]:
    """The texts of a row's slots."""
    begins, lengths = batch.slot_start[row], batch.slot_length[row]
    return [batch.text[b : b + n].tobytes() for b, n in zip(begins, lengths, strict=True)]


@dataclass(frozen=True)
class Process:
    """A process with one thread of the same number; `thread(n)` is another one."""

    pid: int
    tid: int

    def thread(self, n: int) -> Process:
        return Process(self.pid, self.pid + n)


@dataclass
class Host:
    """Makes rows. Ids count up: span 1, 2, …; connections 1001, …"""

    _last: int = 0
    _sequence: int = 4000
    _pid: int = 100

    def process(self) -> Process:
        self._pid += 1000
        return Process(self._pid, self._pid)

    def new_id(self) -> int:
        self._last += 1
        return self._last

    def end(
        self,
        kind: Kind,
        who: Process,
        start: float,
        end: float,
        *,
        writer: Process | None = None,
        cause: Row | None = None,
        flags: Flag = NO_FLAG,
        context: Context | None = None,
        columns: Row | None = None,
    ) -> Row:
        """One end of an exchange; its peer is on another host unless `pair` says otherwise. Times in ms."""
        number = self.new_id()
        columns = columns or {}
        conn = columns.get("conn", 1000 + number)
        row: Row = {
            "span_id": number,
            "conn": conn,
            "pair": conn,
            "seq": self.sequence(),
            "kind": kind,
            "flags": int(flags | (Flag.SERVER if kind == Kind.SERVER else Flag(0))),
            "tgid": who.pid,
            "tid_req": who.tid,
            "tid_rsp": (writer or who).tid,
            "start": round(start * MS),
            "wanted": round(start * MS),
            "end": round(end * MS),
            "first_byte": round(end * MS),
            "cause": cause["span_id"] if cause else 0,
            "shape": 0,
        }
        if flags & Flag.UNANSWERED:
            row |= {"first_byte": 0, "tid_rsp": 0}
        if context is not None:
            row |= {"remote_link": Link.TRACEPARENT, "remote_trace": context[0], "remote_parent": context[1]}
            row |= {"remote_flags": context[2]}
        return row | columns

    def sequence(self) -> int:
        self._sequence += 500
        return self._sequence

    def request(self, who: Process, start: float, end: float, **more: Unpack[Evidence]) -> Row:
        """What a process received from another host."""
        return self.end(Kind.SERVER, who, start, end, **more)

    def call(self, who: Process, start: float, end: float, **more: Unpack[Evidence]) -> Row:
        """What a process sent to another host."""
        return self.end(Kind.CLIENT, who, start, end, **more)

    def exchange(
        self,
        client: Process,
        server: Process,
        start: float,
        end: float,
        *,
        unix: bool = False,
        head: bool = True,
        cause: Row | None = None,
        flags: Flag = NO_FLAG,
        context: Context | None = None,
        texts: Sequence[bytes] = (b"/path",),
        shape: int = 7,
    ) -> tuple[Row, Row]:
        """Both ends of an exchange on this host: the client's row (without payload unless `head` is False), the
        server's row, 0.01 ms within it."""
        pair = 1000 + self._last
        seq = 0 if unix else self.sequence()
        flags |= Flag.PEER | (Flag.HEAD if head else NO_FLAG)
        columns: Row = {"pair": pair, "seq": seq}
        call = self.call(client, start, end, cause=cause, flags=flags, columns=columns | {"conn": pair})
        request = self.request(
            server,
            start + 0.01,
            end - 0.01,
            flags=Flag.PEER,
            context=context,
            columns=columns | {"conn": pair + 1, "shape": shape, "texts": texts},
        )
        if head:
            call["shape"] = -1
        else:
            call |= {"shape": shape, "texts": texts}
            call |= cast(Row, {name: value for name, value in request.items() if name.startswith("remote_")})
        return call, request


class Decided:
    """What an assembler returned, by span id."""

    def __init__(self, batches: Sequence[Spans]) -> None:
        self.rows: dict[int, Row] = {}
        self.doubled: list[int] = []
        for batch in batches:
            for i, number in enumerate(batch.span_id.tolist()):
                row = cast(Row, {f.name: getattr(batch, f.name)[i] for f in fields(Spans) if f.name != "text"})
                row["texts"] = texts(batch, i)
                if number in self.rows:
                    self.doubled.append(number)
                self.rows[number] = row

    def parent(self, row: Row) -> int:
        return int(self.rows[row["span_id"]]["parent"])

    def link(self, row: Row) -> Link:
        return Link(self.rows[row["span_id"]]["link"])

    def trace(self, row: Row) -> tuple[int, int]:
        high, low = self.rows[row["span_id"]]["trace"]
        return int(high), int(low)

    def __contains__(self, row: Row) -> bool:
        return row["span_id"] in self.rows

    def __len__(self) -> int:
        return len(self.rows)


def deliver(
    rows: Sequence[Row],
    assembler: Assembler | None = None,
    *,
    delay: random.Random | None = None,
    until_ms: int = 0,
    tick_ms: int = 100,
) -> Decided:
    """Feed rows as the kernel would: each 0 to 500 ms after its end, drained every 100 ms; what then waits is flushed.

    until_ms: do not flush, but go on with empty drains until this time.
    """
    assembler = assembler or Assembler(random=np.random.default_rng(7).bytes)
    arrivals = sorted(
        ((row["end"] + (delay.randrange(500 * MS) if delay else 0), i) for i, row in enumerate(rows)),
    )
    batches = []
    now, at = 0, 0
    while at < len(arrivals) or now < until_ms * MS:
        now += tick_ms * MS
        due = []
        while at < len(arrivals) and arrivals[at][0] <= now:
            due.append(rows[arrivals[at][1]])
            at += 1
        if delay:
            delay.shuffle(due)
        batches.append(assembler.feed(spans(due), now))
    if not until_ms:
        batches.append(assembler.flush())
    return Decided(batches)


Steps = Generator[float, None, None]


@dataclass
class Simulation:
    """Programs as generators that yield how long (ms) until their next step, and the kernel that watches them."""

    random: random.Random
    host: Host = field(default_factory=Host)
    now: float = 0.0
    rows: list[Row] = field(default_factory=list)
    truth: dict[int, int] = field(default_factory=dict)
    """span id of a call → span id of the request that it was made for; 0: for none"""
    _queue: list[tuple[float, int, Steps]] = field(default_factory=list)
    _open: dict[int, list[int]] = field(default_factory=dict)
    _sent: dict[int, list[Row]] = field(default_factory=dict)
    _backend: dict[int, Row] = field(default_factory=dict)
    """span id of a call → the row of the other end"""
    _steps: int = 0

    def start(self, program: Steps, at: float = 0.0) -> None:
        self._steps += 1
        heapq.heappush(self._queue, (at, self._steps, program))

    def run(self) -> None:
        while self._queue:
            at, _, program = heapq.heappop(self._queue)
            self.now = max(self.now + 0.001, at)
            for wait in program:
                self.start(program, self.now + wait)
                break

    # What the kernel notes.

    def read(self, thread: Process) -> Row:
        """A thread receives a request."""
        self._touch(thread, None)
        request = self.host.request(thread, self.now, self.now)
        self._open.setdefault(thread.tid, []).append(request["span_id"])
        return request

    def send(self, thread: Process, request: Row | None, *, polled: bool, backend: Process | None = None) -> Row:
        """A thread sends a call, in truth for `request`."""
        self._touch(thread, None)
        opened = self._open.get(thread.tid, [])
        flags = (Flag.EPOLL if polled else Flag(0)) | (Flag.MANY if len(opened) > 1 else Flag(0))
        if backend:
            call, other = self.host.exchange(thread, backend, self.now, self.now, flags=flags)
            self._backend[call["span_id"]] = other
        else:
            call = self.host.call(thread, self.now, self.now, flags=flags)
        call["cause"] = opened[0] if len(opened) == 1 else 0
        self._sent.setdefault(thread.tid, []).append(call)
        self.truth[call["span_id"]] = request["span_id"] if request else 0
        return call

    def receive(self, thread: Process, call: Row) -> None:
        """A thread receives the response of a call."""
        self._touch(thread, call)
        for calls in self._sent.values():
            calls[:] = [other for other in calls if other is not call]
        call |= {"end": round(self.now * MS), "first_byte": round(self.now * MS), "tid_rsp": thread.tid}
        other = self._backend.pop(call["span_id"], None)
        if other is not None:
            middle = (call["start"] + round(self.now * MS)) // 2
            self.rows.append(other | {"start": middle, "end": middle, "first_byte": middle})
        self.rows.append(call)

    def respond(self, thread: Process, request: Row) -> None:
        """A thread writes the first byte of a response."""
        self._touch(thread, None)
        request |= {"first_byte": round(self.now * MS), "tid_rsp": thread.tid}

    def finish(self, request: Row) -> None:
        """The last byte of a response was written."""
        for opened in self._open.values():
            opened[:] = [number for number in opened if number != request["span_id"]]
        request["end"] = round(self.now * MS)
        self.rows.append(request)

    def _touch(self, thread: Process, answered: Row | None) -> None:
        for call in self._sent.get(thread.tid, []):
            if call is not answered:
                call["flags"] |= int(Flag.DISTURBED)

    # What programs do.

    def pause(self, longest: float = 8.0) -> float:
        return self.random.uniform(0.05, longest)

    def blocking_work(self, thread: Process, request: Row, backend: Process | None) -> Steps:
        """Call and sleep until it is answered, some times; respond; perhaps call while the response is streamed."""
        for _ in range(self.random.randrange(4)):
            yield self.pause()
            call = self.send(thread, request, polled=False, backend=backend)
            yield self.pause(30)
            self.receive(thread, call)
        yield self.pause()
        self.respond(thread, request)
        if self.random.random() < 0.2:
            yield self.pause(1)
            call = self.send(thread, request, polled=False, backend=backend)
            yield self.pause(5)
            self.receive(thread, call)
            yield 0.1
        self.finish(request)

    def blocking_thread(self, thread: Process, requests: int, backend: Process | None = None) -> Steps:
        """A thread of a pool, or a pre-fork worker: reads a request, answers it, reads the next."""
        for _ in range(requests):
            yield self.pause(40)
            request = self.read(thread)
            yield from self.blocking_work(thread, request, backend)

    def hand_off(self, process: Process, workers: int, requests: int) -> None:
        """One thread reads all requests, workers take them from a queue."""
        queue: list[Row] = []
        left = [requests]

        def reader() -> Steps:
            for _ in range(requests):
                yield self.pause(20)
                queue.append(self.read(process))

        def worker(thread: Process) -> Steps:
            while True:
                while not queue:
                    if not left[0]:
                        return
                    yield 0.2
                left[0] -= 1
                yield from self.blocking_work(thread, queue.pop(0), None)

        self.start(reader())
        for n in range(1, workers + 1):
            self.start(worker(process.thread(n)))

    def task(self, threads: Sequence[Process], *, polled: bool, parallel: bool = False) -> Steps:
        """A request of an event-driven program: each step runs on any of `threads`."""

        def somewhere() -> Process:
            return self.random.choice(threads)

        request = self.read(somewhere())
        for _ in range(self.random.randrange(4)):
            yield self.pause()
            calls = [self.send(somewhere(), request, polled=polled) for _ in range(1 + parallel)]
            for call in calls:
                yield self.pause(30)
                self.receive(somewhere(), call)
        yield self.pause()
        self.respond(somewhere(), request)
        self.finish(request)

    def arrivals(self, threads: Sequence[Process], requests: int, gap: float, *, polled: bool = True) -> None:
        """Requests for an event-driven program, `gap` ms between them on average."""
        at = 0.0
        for _ in range(requests):
            at += self.random.uniform(0, 2 * gap)
            self.start(self.task(threads, polled=polled, parallel=self.random.random() < 0.3), at)


@dataclass
class Score:
    """Calls right, wrong (a parent that is not the true one), undecided (root although made for a request)."""

    right: int = 0
    wrong: int = 0
    undecided: int = 0


def score(simulation: Simulation, decided: Decided) -> Score:
    result = Score()
    for number, parent in simulation.truth.items():
        given = int(decided.rows[number]["parent"])
        if given == parent:
            result.right += 1
        elif given:
            result.wrong += 1
        else:
            result.undecided += 1
    return result
