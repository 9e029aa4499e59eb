"""Exchanges in the order of time, one by one: what needs or changes its connection's memory, and what is pipelined.

Which request an answer belongs to is told one by one. Where the protocol has a columnar reader, that then reads the
requests of all exchanges at once, each as a row of its own; only what it leaves is read one by one as well.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import UNDECIDED, UNKNOWN, Connections
from otel_ebpf.model import STREAM, Flag
from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.extras import Batch, Framed, Leave, Reader, Told
from otel_ebpf.protocols.memory import NO_RESPONSE, Entry, Outcome, Recent, Shapes, failure, failure_of
from otel_ebpf.protocols.pipeline import Asked, Pairing, Pipelines
from otel_ebpf.protocols.work import Able, Counts, Job, Turn
from otel_ebpf.tracing.context import remote

MEMO = 8192
_FEW = 4
"""So many exchanges are faster read one by one."""
AMENDMENT = -1
"""Instead of a module: a head that amends what was read before."""
AT_ONCE = 4096
"""So many requests become one matrix, which is as wide as the longest of them."""
_SERVER, _TLS, _UNANSWERED = int(Flag.SERVER), int(Flag.TLS), int(Flag.UNANSWERED)
_LAST, _PARTIAL, _AMENDS, _REQUEST_CUT = (int(f) for f in (Flag.LAST, Flag.PARTIAL, Flag.AMENDS, Flag.REQUEST_CUT))


class Turns:
    """Reads what was left for later, across all batches of one moment."""

    def __init__(
        self, connections: Connections, shapes: Shapes, pipelines: Pipelines, options: Options, counts: Counts
    ) -> None:
        self._connections = connections
        self._shapes = shapes
        self._pipelines = pipelines
        self._options = options
        self._counts = counts
        self._memo: Recent[tuple[int, int, int], tuple[Session, Entry]] = Recent(MEMO)

    def forget(self) -> None:
        """Some shapes are no more."""
        self._memo.clear()

    def take(self, jobs: Sequence[Job], modules: Sequence[Able]) -> None:
        """Read all turns of all jobs."""
        settled: dict[tuple[int, int], list[_Settled]] = {}
        # An amendment has the number of what it amends, and comes after it.
        turns = [(turn.conn, turn.n, turn.index == AMENDMENT, turn.i, job, turn) for job in jobs for turn in job.turns]
        turns.sort(key=lambda one: one[:4])
        for conn, _, amends, i, job, turn in turns:
            row = int(job.row[i])
            if job.exchanges.protocol:
                self._alone(job, modules[turn.index], i)
                continue
            if amends:
                if self._connections.protocol[row] >= 0:
                    self._amend(conn, modules[self._connections.protocol[row]])
                continue
            if self._connections.protocol[row] == UNDECIDED and int(job.exchanges.head["flags"][i]) & _TLS:
                self._connections.protocol[row] = turn.index  # it turned to TLS just now: its own plain text
            if self._connections.protocol[row] != turn.index:
                self._counts.unrecognised += 1  # an earlier exchange has turned the connection into something else
                job.pieces.first[i], job.pieces.count[i] = 1, 1
                continue
            able = modules[turn.index]
            request, response = job.payload(i)
            head = job.exchanges.head[i]
            if able.framed is not None:
                pairing = self._pair(able.framed, head, conn, request, response)
            else:
                asked = [Asked(request, int(head["t_req"]))]
                pairing = Pairing([], (), asked) if int(head["flags"]) & _UNANSWERED else Pairing(asked, ())
            if able.reader is not None:
                settled.setdefault((id(job), turn.index), []).append(_Settled(i, pairing, response))
            else:
                self._remembering(job, turn, able, pairing, response)
            leave = able.leaves(request, response)
            if leave != Leave.NO:
                self._connections.protocol[row] = UNKNOWN if leave == Leave.UNKNOWN else UNDECIDED
        for job in jobs:
            for able in modules:
                of_reader = settled.get((id(job), able.index))
                if of_reader and able.reader is not None:
                    for portion in _portions(of_reader):
                        self._by_columns(job, able, able.reader, portion)

    def _alone(self, job: Job, able: Able, i: int) -> None:
        """Read an exchange that has nothing to do with what came before on its connection."""
        request, response = job.payload(i)
        asked = [Asked(request, int(job.exchanges.head["t_req"][i]))]
        if able.reader is not None:
            self._one_by_one(job, able, able.reader, _Settled(i, Pairing(asked, ()), response))

    def _pair(self, framed: Framed, head: np.void, conn: int, request: bytes, response: bytes) -> Pairing:
        flags = int(head["flags"])
        pairing = self._pipelines.pair(
            framed,
            conn,
            int(head["span_id"]),
            request,
            response,
            int(head["rsp_bytes"]),
            int(head["t_req"]),
            answered=not flags & _UNANSWERED,
            last=bool(flags & _LAST),
            partial=bool(flags & _PARTIAL),
            amends=bool(flags & _AMENDS),
        )
        several = len(pairing.answered) + len(pairing.unanswered) > 1
        self._counts.cut += several and bool(flags & _REQUEST_CUT)
        return pairing

    def _amend(self, conn: int, able: Able) -> None:
        """More of a response has come than its record has: the answers to what waits, by all that can be known."""
        if able.framed is not None and conn in self._pipelines:
            given_up = self._pipelines.pair(
                able.framed, conn, 0, b"", b"", 0, 0, answered=True, last=True, partial=False, amends=False
            )
            self._pipelines.lost += len(given_up.answered)

    def _by_columns(self, job: Job, able: Able, reader: Reader, settled: Sequence[_Settled]) -> None:
        """Read the requests of exchanges, each request as an exchange of its own."""
        if len(settled) <= _FEW:
            for one in settled:
                self._one_by_one(job, able, reader, one)
            return
        count = np.array([len(one.asked) for one in settled], np.intp)
        first = np.cumsum(count) - count
        i = np.repeat(np.array([one.i for one in settled], np.intp), count)
        requests = [asked.request for one in settled for asked in one.asked]
        answers = [answer for one in settled for answer in one.answers()]
        unanswered = np.array([k >= len(one.pairing.answered) for one in settled for k in range(len(one.asked))], bool)
        head = job.exchanges.head[i]
        head["req_cap"] = [len(request) for request in requests]
        head["rsp_cap"] = [len(answer) for answer in answers]
        head["req_bytes"] = 0  # it is known already that nothing follows the request
        head["flags"] |= unanswered * np.uint32(_UNANSWERED)
        row = job.row[i].astype(np.intp)
        columns = reader.read(Batch(head, matrix(requests), matrix(answers), row, self._connections.table))
        whole = np.logical_and.reduceat(columns.shape >= 0, first)
        carries = remote(columns.lines).tells
        for at, good in enumerate(whole.tolist()):
            one = settled[at]
            if not good:
                self._one_by_one(job, able, reader, one)
                continue
            for k, asked in enumerate(one.asked):
                if carries[first[at] + k]:
                    job.pieces.carries(one.i, k, asked.request)
                self._note(job, one.i, k, asked, k >= len(one.pairing.answered))
        rows = i[first[whole]]
        job.pieces.columns(rows, first[whole], columns)
        job.pieces.count[rows] = count[whole]

    def _one_by_one(self, job: Job, able: Able, reader: Reader, settled: _Settled) -> None:
        """Read the requests of an exchange each by itself."""
        i, pairing = settled.i, settled.pairing
        told = self._told(job, i)
        first = job.pieces.size
        for at, (asked, answer) in enumerate(zip(settled.asked, settled.answers(), strict=True)):
            unanswered = NO_RESPONSE if at >= len(pairing.answered) else ""
            given = replace(told, failure=told.failure or unanswered)
            reading = reader.read_one(asked.request, answer, given)
            if reading is None:
                self._counts.failures[able.module.name] += 1
                continue
            k = job.pieces.size - first
            entry = self._shapes.entry(able.module, asked.request, answer, (reading,), "")
            job.pieces.add_all(entry.shapes, entry.texts)
            job.pieces.carries(i, k, asked.request)
            self._note(job, i, k, asked, at >= len(pairing.answered))
        count = job.pieces.size - first
        job.pieces.first[i], job.pieces.count[i] = (first, count) if count else (1, 1)

    def _remembering(self, job: Job, turn: Turn, able: Able, pairing: Pairing, response: bytes) -> None:
        """Read an exchange with its connection's session."""
        name, i = able.module.name, turn.i
        session = self._connections.session(int(job.row[i]))
        version = session.version
        everything = (*pairing.answered, *pairing.unanswered)
        # Alone: nothing from another record and nothing left over, so equal bytes say the same.
        alone = not pairing.left and not any(asked.carried for asked in everything)
        known = (turn.key, turn.conn, version)
        seen = self._memo.get(known) if alone else None
        # Another session counts its versions anew: the connection was forgotten in a long pause.
        entry = seen[1] if seen is not None and seen[0] is session else None
        if entry is None:
            entry = self._settle(able, session, pairing, response, failure_of(int(job.exchanges.head["flags"][i])))
            if alone and session.version == version:
                self._memo[known] = session, entry
        self._counts.failures[name] += entry.outcome == Outcome.FAILED
        self._counts.ignored[name] += entry.outcome == Outcome.IGNORED
        job.pieces.first[i], job.pieces.count[i] = job.pieces.add_all(entry.shapes, entry.texts)
        for k, carrier in entry.carriers:
            job.pieces.carries(i, k, carrier)
        if len(everything) == len(entry.shapes):
            for k, asked in enumerate(everything):
                self._note(job, i, k, asked, k >= len(pairing.answered))

    def _settle(self, able: Able, session: Session, pairing: Pairing, response: bytes, failure: str) -> Entry:
        """The entry of answered and unanswered requests."""
        entry = Entry(Outcome.IGNORED)
        if pairing.answered:
            request = b"".join(asked.request for asked in pairing.answered)
            readings = able.module.parse(request, response, session, self._options)
            entry = self._shapes.entry(able.module, request, response, readings, "")
        if not pairing.unanswered:
            return entry
        request = b"".join(asked.request for asked in pairing.unanswered)
        readings = able.module.parse(request, b"", session, self._options)
        other = self._shapes.entry(able.module, request, b"", readings, failure or NO_RESPONSE)
        if not other.shapes:
            return entry if pairing.answered else other
        behind = tuple((len(entry.shapes) + k, carrier) for k, carrier in other.carriers)
        shapes, texts = entry.shapes + other.shapes, entry.texts + other.texts
        return Entry(Outcome.READ, shapes, texts, entry.carriers + behind)

    def _note(self, job: Job, i: int, k: int, asked: Asked, unanswered: bool) -> None:
        """What is different for the k-th span of an exchange."""
        if asked.carried:
            job.pieces.starts(i, k, asked.start)
        flags = int(job.exchanges.head["flags"][i])
        if unanswered and not flags & _UNANSWERED:
            job.pieces.flags(i, k, flags | _UNANSWERED)

    def _told(self, job: Job, i: int) -> Told:
        """What is known about an exchange beside its bytes."""
        head = job.exchanges.head[i]
        flags = int(head["flags"])
        end = self._connections.table[int(job.row[i])]
        server = bool(flags & _SERVER)
        side = "local" if server else "remote"
        address = _address(int(end["family"]), end[side].tobytes())
        port = int(end[f"{side}_port"])
        service = int(end["netns"]) << 16 | int(end["local_port"])
        return Told(bool(flags & _TLS), failure(head), service, server, address, port, bool(flags & STREAM))


@dataclass(frozen=True, slots=True)
class _Settled:
    """An exchange (row i of its batch) whose requests have found their answers."""

    i: int
    pairing: Pairing
    response: bytes

    @property
    def asked(self) -> Sequence[Asked]:
        return (*self.pairing.answered, *self.pairing.unanswered)

    def answers(self) -> list[bytes]:
        """What each request was answered. All is the first one's if the ends cannot be told."""
        ends = self.pairing.answers
        texts = [self.response[begin:end] for begin, end in zip((0, *ends), ends, strict=False)]
        if not ends and self.pairing.answered:
            texts = [self.response]
        return texts + [b""] * (len(self.asked) - len(texts))


def _portions(settled: Sequence[_Settled]) -> Iterator[Sequence[_Settled]]:
    """All of them, in portions of not much more than AT_ONCE requests."""
    begin = requests = 0
    for end, one in enumerate(settled, 1):
        requests += len(one.asked)
        if requests >= AT_ONCE or end == len(settled):
            yield settled[begin:end]
            begin, requests = end, 0


def matrix(messages: Sequence[bytes]) -> NDArray[np.uint8]:
    """(n, W) the messages, zero padded; W is a multiple of 8, 16 at least."""
    width = -(-max(16, *map(len, messages)) // 8) * 8
    flat = b"".join(message.ljust(width, b"\0") for message in messages)
    return np.frombuffer(flat, np.uint8).reshape(len(messages), width)


def _address(family: int, address: bytes) -> str:
    """An IP address as text; "" for unix sockets."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    if address[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)
