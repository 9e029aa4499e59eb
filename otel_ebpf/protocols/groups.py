"""Exchanges with equal bytes are read once: the whole batch is grouped by a hash of all that decides what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import Connections
from otel_ebpf.model import Flag
from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.extras import Batch, Leave
from otel_ebpf.protocols.memo import hash_matrix, mix
from otel_ebpf.protocols.memory import Entry, Outcome, Recent, Shapes, Tokens, failure_of
from otel_ebpf.protocols.pipeline import Pipelines
from otel_ebpf.protocols.work import Able, Counts, Job

MEMO = 8192
"""Readings that are remembered at least until so many others came."""
_CUTS = int(Flag.REQUEST_CUT | Flag.RESPONSE_CUT | Flag.UNANSWERED | Flag.RESET)
_REQUEST_CUT = int(Flag.REQUEST_CUT)


class Groups:
    """Reads the exchanges of modules that have no columnar reader."""

    def __init__(
        self, connections: Connections, shapes: Shapes, pipelines: Pipelines, options: Options, counts: Counts
    ) -> None:
        self._connections = connections
        self._shapes = shapes
        self._pipelines = pipelines
        self._options = options
        self._counts = counts
        self._tokens = Tokens()
        self._memo: Recent[int, Entry] = Recent(MEMO)

    def forget(self) -> None:
        """Some shapes are no more."""
        self._memo.clear()

    def read(self, job: Job, able: Able, rows: NDArray[np.intp], batch: Batch) -> None:
        """Read the rows of a job that are the batch; what must be read in order is left for later."""
        name = able.module.name
        keys = self._keys(able, batch)
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        one = batch.head[first]
        sizes = zip(
            *(one[column].tolist() for column in ("req_cap", "rsp_cap", "rsp_bytes", "flags")),
            batch.row[first].tolist(),
            strict=True,
        )
        entries = []
        for key, at, (asked, answered, total, flags, row) in zip(distinct.tolist(), first.tolist(), sizes, strict=True):
            entry = self._memo.get(key)
            if entry is None:
                request, response = batch.request[at, :asked].tobytes(), batch.response[at, :answered].tobytes()
                entry = self._memo[key] = self._parse(able, request, response, total, flags, row)
            entries.append(entry)
        outcome = np.array([entry.outcome for entry in entries], np.int8)[inverse]
        turn = outcome == Outcome.ORDERED
        if turn.any() or len(self._pipelines):
            conn = batch.head["conn"]
            turn |= np.isin(conn, np.concatenate([conn[turn], np.array(self._pipelines.connections(), np.uint64)]))
            job.later(able.index, rows[turn], keys[turn].tolist())
        self._counts.failures[name] += int(((outcome == Outcome.FAILED) & ~turn).sum())
        self._counts.ignored[name] += int(((outcome == Outcome.IGNORED) & ~turn).sum())
        places = np.array([job.pieces.add_all(entry.shapes, entry.texts) for entry in entries], np.intp)
        job.pieces.first[rows], job.pieces.count[rows] = places[inverse].T
        several = job.pieces.count[rows] > 1
        self._counts.cut += int((several & ~turn & ((batch.head["flags"] & _REQUEST_CUT) > 0)).sum())

    def _keys(self, able: Able, batch: Batch) -> NDArray[np.uint64]:
        """(n,) hashes of all that decides what an exchange says."""
        head = batch.head
        prefix = min(able.prefix, batch.response.shape[1])
        asked, answered = head["req_cap"].astype(np.uint64), np.minimum(head["rsp_cap"], prefix).astype(np.uint64)
        request = batch.request[:, : -(-int(asked.max()) // 8) * 8]
        response = batch.response[:, : -(-int(answered.max()) // 8) * 8]
        small = asked | answered << np.uint64(16) | (head["flags"] & _CUTS).astype(np.uint64) << np.uint64(32)
        keys = mix(hash_matrix(request), hash_matrix(response), small, able.index)
        sessions = self._connections.sessions
        if not sessions:
            return keys
        distinct, inverse = np.unique(batch.row, return_inverse=True)
        tokens = [self._tokens.of(row, sessions.get(row)) for row in distinct.tolist()]
        return mix(keys, np.array(tokens, np.uint64)[inverse]) if any(tokens) else keys

    def _parse(self, able: Able, request: bytes, response: bytes, total: int, flags: int, row: int) -> Entry:
        """What an exchange says that was not seen before; without any effect on its connection."""
        if able.stateful(request) or able.leaves(request, response) != Leave.NO:
            return Entry(Outcome.ORDERED)
        known = self._connections.sessions.get(row)
        session = Session() if known is None else Session(dict(known.remembered), known.version)
        before = session.version
        readings = able.module.parse(request, response, session, self._options)
        if session.version != before:
            return Entry(Outcome.ORDERED)
        failure = failure_of(flags)
        if len(readings) > 1 and not failure and able.framed is not None:
            answers = able.framed.replies(response)
            if answers and answers[-1] == total and len(answers) < len(readings):
                return Entry(Outcome.ORDERED)
        return self._shapes.entry(able.module, request, response, readings, failure)
