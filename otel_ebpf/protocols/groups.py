"""Exchanges with equal bytes are read once: the whole batch is grouped by a hash of all that decides what they say.

What was not seen before is read by columns where the module can do that (`extras.Plural`), else parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import Connections
from otel_ebpf.model import Flag
from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.extras import Batch, Columns, Leave, Plural
from otel_ebpf.protocols.headers import Lines
from otel_ebpf.protocols.memo import hash_matrix, mix
from otel_ebpf.protocols.memory import Entry, Lately, Outcome, Recent, Shapes, Tokens, failure_of
from otel_ebpf.protocols.work import Able, Counts, Job

MEMO = 8192
"""Readings that are remembered at least until so many others came."""
LATELY = 14
"""Readings by columns are remembered if their bytes came before, among the last 2^LATELY or so."""
MANY = 256
"""Of more different exchanges in a batch only those that came lately are looked up one by one."""
FEW = 3000
"""New requests of fewer bytes in all are read one by one: columns have a fixed cost."""
_CUT_COUNTS = 64
"""Bytes that a cut one counts for: it is one request with a long value rather than many."""
_NO_LINES = Lines.of(np.zeros((0, 8), np.uint8))
_CUTS = int(Flag.REQUEST_CUT | Flag.RESPONSE_CUT | Flag.UNANSWERED | Flag.RESET)
_REQUEST_CUT = int(Flag.REQUEST_CUT)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of k rows of a batch that speak one protocol.

    conn: (k,) their connections. ordered: (k,) which are to be read in order. settle: takes what was found, except for
    the rows that it is given: all of the connections, in whatever batch, of which one row is to be read in order.
    alone: no row has anything to do with the others of its connection.
    """

    conn: NDArray[np.uint64]
    ordered: NDArray[np.bool_]
    settle: Callable[[NDArray[np.bool_]], None]
    alone: bool = False


class Groups:
    """Reads the exchanges of modules that have no columnar reader."""

    def __init__(self, connections: Connections, shapes: Shapes, options: Options, counts: Counts) -> None:
        self._connections = connections
        self._shapes = shapes
        self._options = options
        self._counts = counts
        self._tokens = Tokens()
        self._memo: Recent[int, Entry] = Recent(MEMO)
        self._lately = Lately(LATELY)

    def forget(self) -> None:
        """Some shapes are no more."""
        self._memo.clear()

    def read(self, job: Job, able: Able, rows: NDArray[np.intp], batch: Batch) -> Found:
        """Read the rows of a job that are the batch; what must be read in order is left for later."""
        keys = self._keys(able, batch)
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        place, count = np.zeros(len(first), np.intp), np.zeros(len(first), np.intp)
        again = self._lately.again(distinct)
        asked = again.nonzero()[0] if able.plural is not None and len(first) > MANY else np.arange(len(first))
        keyed = zip(asked.tolist(), distinct[asked].tolist(), strict=True)
        entries = {i: entry for i, key in keyed if (entry := self._memo.get(key)) is not None}
        columns = None
        if able.plural is not None and len(entries) < len(first):
            new = np.ones(len(first), np.bool_)
            new[list(entries)] = False
            if _worth(batch.head, first[new]):
                columns, place[new], count[new] = self._by_columns(able.plural, batch, first[new])
                self._remember(columns, distinct, place, count, again & (count > 0))
        left = (count == 0).nonzero()[0]
        if len(left) > len(entries):
            self._read_singly(able, batch, distinct, first, entries, [i for i in left.tolist() if i not in entries])
        singly = [entries[i] for i in left.tolist()]
        carriers = {i: entry.carriers for i, entry in zip(left.tolist(), singly, strict=True) if entry.carriers}
        outcome = np.full(len(first), Outcome.READ, np.int8)
        outcome[left] = [entry.outcome for entry in singly]
        outcome = outcome[inverse]
        read = count > 0
        if singly:
            places = np.array([job.pieces.add_all(entry.shapes, entry.texts) for entry in singly], np.intp)
            place[left], count[left] = places.T

        def settle(ordered: NDArray[np.bool_]) -> None:
            if ordered.any():
                job.later(able.index, rows[ordered], keys[ordered].tolist())
            here, name = ~ordered, able.module.name
            self._counts.failures[name] += int(((outcome == Outcome.FAILED) & here).sum())
            self._counts.ignored[name] += int(((outcome == Outcome.IGNORED) & here).sum())
            job.pieces.first[rows], job.pieces.count[rows] = place[inverse], count[inverse]
            by_columns = (read[inverse] & here).nonzero()[0]
            if columns is not None and len(by_columns):
                job.pieces.columns(rows[by_columns], place[inverse[by_columns]], columns)
            if carriers:
                for at in (np.isin(inverse, list(carriers)) & here).nonzero()[0].tolist():
                    for k, carrier in carriers[int(inverse[at])]:
                        job.pieces.carries(int(rows[at]), k, carrier)
            several = count[inverse] > 1
            self._counts.cut += int((several & here & ((batch.head["flags"] & _REQUEST_CUT) > 0)).sum())

        return Found(batch.head["conn"], outcome == Outcome.ORDERED, settle)

    def _by_columns(
        self, plural: Plural, batch: Batch, rows: NDArray[np.intp]
    ) -> tuple[Columns | None, NDArray[np.intp], NDArray[np.intp]]:
        """What these rows of the batch say, so far as it can be read at once: columns, and each row's place in them.

        Columns, (n,) first, (n,) count as in `Readings`.
        """
        order = np.argsort(rows)
        part = batch if len(rows) == len(batch.head) else _part(batch, rows[order])
        readings = plural.read(part, self._connections.sessions, self._options)
        first, count = np.zeros(len(rows), np.intp), np.zeros(len(rows), np.intp)
        first[order], count[order] = readings.first, readings.count
        if not count.any():
            return None, first, count
        shape = self._shapes.ids(readings.fields)[readings.which]
        return Columns(shape, readings.slot_start, readings.slot_length, readings.text, _NO_LINES), first, count

    def _remember(
        self,
        columns: Columns | None,
        keys: NDArray[np.uint64],
        place: NDArray[np.intp],
        count: NDArray[np.intp],
        which: NDArray[np.bool_],
    ) -> None:
        """Take from columns what is likely to come again."""
        if columns is None or not which.any():
            return
        text = columns.text.data
        for key, first, number in zip(keys[which].tolist(), place[which].tolist(), count[which].tolist(), strict=True):
            rows = slice(first, first + number)
            places = zip(columns.slot_start[rows].tolist(), columns.slot_length[rows].tolist(), strict=True)
            texts = tuple(
                tuple(bytes(text[at : at + size]) for at, size in zip(*of_one, strict=True)) for of_one in places
            )
            self._memo[key] = Entry(Outcome.READ, tuple(columns.shape[rows].tolist()), texts)

    def _read_singly(
        self,
        able: Able,
        batch: Batch,
        keys: NDArray[np.uint64],
        first: NDArray[np.intp],
        entries: dict[int, Entry],
        which: list[int],
    ) -> None:
        """What rows of the batch say that were not read by columns; it goes to `entries`."""
        rows = first[which]
        one = batch.head[rows]
        columns = (one[column].tolist() for column in ("req_cap", "rsp_cap", "rsp_bytes", "flags"))
        told = zip(which, keys[which].tolist(), rows.tolist(), *columns, batch.row[rows].tolist(), strict=True)
        for i, key, at, asked, answered, total, flags, row in told:
            entry = self._memo.get(key)
            if entry is None:
                request, response = batch.request[at, :asked].tobytes(), batch.response[at, :answered].tobytes()
                entry = self._memo[key] = self._parse(able, request, response, total, flags, row)
            entries[i] = entry

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


def _worth(head: NDArray[np.void], rows: NDArray[np.intp]) -> bool:
    """Whether to read these requests by columns."""
    size = head["req_cap"][rows]
    if int(size.sum()) <= FEW:
        return False
    return int(np.where((head["flags"][rows] & _REQUEST_CUT) > 0, _CUT_COUNTS, size).sum()) > FEW


def _part(batch: Batch, rows: NDArray[np.intp]) -> Batch:
    return Batch(batch.head[rows], batch.request[rows], batch.response[rows], batch.row[rows], batch.table)
