"""Exchanges in the order of time, one by one: what needs or changes its connection's memory, and what is pipelined."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import numpy as np

from otel_ebpf.capture.connections import UNDECIDED, UNKNOWN, Connections
from otel_ebpf.model import Flag
from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.extras import Framed, Leave, Reader, Told
from otel_ebpf.protocols.memory import NO_RESPONSE, Entry, Outcome, Recent, Shapes, failure_of
from otel_ebpf.protocols.pipeline import Asked, Pairing, Pipelines
from otel_ebpf.protocols.work import Able, Counts, Job, Turn

MEMO = 8192
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
        self._memo: Recent[tuple[int, int, int], Entry] = Recent(MEMO)

    def forget(self) -> None:
        """Some shapes are no more."""
        self._memo.clear()

    def take(self, jobs: Sequence[Job], modules: Sequence[Able]) -> None:
        """Read all turns of all jobs."""
        turns = [(turn.conn, turn.n, turn.i, job, turn) for job in jobs for turn in job.turns]
        turns.sort(key=lambda one: one[:3])
        for conn, _, i, job, turn in turns:
            row = int(job.row[i])
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
                self._one_by_one(job, i, able, able.reader, pairing, response)
            else:
                self._remembering(job, turn, able, pairing, response)
            leave = able.leaves(request, response)
            if leave != Leave.NO:
                self._connections.protocol[row] = UNKNOWN if leave == Leave.UNKNOWN else UNDECIDED

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

    def _one_by_one(self, job: Job, i: int, able: Able, reader: Reader, pairing: Pairing, response: bytes) -> None:
        """Read the requests of an exchange each by itself."""
        told = self._told(job, i)
        first = job.pieces.size
        begin = 0
        for at, asked in enumerate((*pairing.answered, *pairing.unanswered)):
            answer, failure = b"", told.failure
            if at >= len(pairing.answered):
                failure = failure or NO_RESPONSE
            elif pairing.answers:
                answer = response[begin : pairing.answers[at]]
                begin = pairing.answers[at]
            elif at == 0:
                answer = response
            given = Told(told.https, failure, told.service, told.server, told.address, told.port)
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
        entry = self._memo.get(known) if alone else None
        if entry is None:
            entry = self._settle(able, session, pairing, response, failure_of(int(job.exchanges.head["flags"][i])))
            if alone and session.version == version:
                self._memo[known] = entry
        self._counts.failures[name] += entry.outcome == Outcome.FAILED
        self._counts.ignored[name] += entry.outcome == Outcome.IGNORED
        job.pieces.first[i], job.pieces.count[i] = job.pieces.add_all(entry.shapes, entry.texts)
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
        return Entry(Outcome.READ, entry.shapes + other.shapes, entry.texts + other.texts)

    def _note(self, job: Job, i: int, k: int, asked: Asked, unanswered: bool) -> None:
        """What is different for the k-th span of an exchange."""
        if asked.carried:
            job.pieces.starts(i, k, asked.start)
        flags = int(job.exchanges.head["flags"][i])
        if unanswered and not flags & _UNANSWERED:
            job.pieces.flags(i, k, flags | _UNANSWERED)

    def _told(self, job: Job, i: int) -> Told:
        """What is known about an exchange beside its bytes."""
        flags = int(job.exchanges.head["flags"][i])
        end = self._connections.table[int(job.row[i])]
        server = bool(flags & _SERVER)
        side = "local" if server else "remote"
        address = _address(int(end["family"]), end[side].tobytes())
        port = int(end[f"{side}_port"])
        service = int(end["netns"]) << 16 | int(end["local_port"])
        return Told(bool(flags & _TLS), failure_of(flags), service, server, address, port)


def _address(family: int, address: bytes) -> str:
    """An IP address as text; "" for unix sockets."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    if address[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)
