"""From exchanges to spans: which protocol, what was said, whose answer is whose.

Theory of operation. A batch goes through four steps, all but the last without a step in Python per row:

1. Rows of connections that were never announced are counted and dropped; heads without payload pass through.
2. The protocol is the connection's; where that is undecided the Detector looks at the bytes (detection.py).
3. What can be read by columns or was read before is: a columnar reader (HTTP; equal rows once, repeats.py), or groups
   of rows with equal bytes, of which each is read once (memory.py).
4. In order of time, one by one: requests that change or need the connection's memory, and pipelined requests whose
   answers come with other records (pipeline.py).

Every exchange with a known connection gives at least one row: shape -1 for heads, -2 for what was not understood or is
no application's request; an exchange of several requests gives one row each, consecutive, the first with its own ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import UNDECIDED, UNKNOWN, Connections
from otel_ebpf.heap import distinct
from otel_ebpf.model import Exchanges, Flag, Intern, Spans
from otel_ebpf.protocols import registry
from otel_ebpf.protocols.base import Fields, Options, Protocol
from otel_ebpf.protocols.detection import Detector
from otel_ebpf.protocols.extras import Alike, Batch, Reader
from otel_ebpf.protocols.groups import Found, Groups
from otel_ebpf.protocols.headers import Lines
from otel_ebpf.protocols.memory import Shapes
from otel_ebpf.protocols.pieces import Pieces, written
from otel_ebpf.protocols.pipeline import Pipelines
from otel_ebpf.protocols.repeats import Repeats, Share
from otel_ebpf.protocols.turns import AMENDMENT, AT_ONCE, Turns, matrix
from otel_ebpf.protocols.work import Able, Counts, Job, Listener
from otel_ebpf.tracing.context import Remote, remote

_HEAD, _AMENDS = int(Flag.HEAD), int(Flag.AMENDS)


class Engine:
    """Turns batches of exchanges into spans; remembers what repeats. See `parse`.

    failures, ignored: exchanges by protocol that could not be understood; that were the protocol's own business. cut:
    exchanges of several requests of which not all were kept. unknown_connections: rows dropped because the connection's
    announcement was lost. unrecognised: exchanges of no protocol of ours. unreadable: exchanges without a byte of
    request. pipelines.lost, pipelines.resynchronised: see Pipelines.
    """

    def __init__(
        self,
        connections: Connections,
        shapes: Intern[Fields],
        options: Options,
        modules: Sequence[Protocol] | None = None,
        listeners: Mapping[str, Listener] | None = None,
    ) -> None:
        """listeners: who else wants a protocol's exchanges, by its name."""
        self.modules = registry() if modules is None else tuple(modules)
        self._listeners = {i: heard for i, m in enumerate(self.modules) if (heard := (listeners or {}).get(m.name))}
        names = [module.name for module in self.modules]
        self._indices = {name: i for i, name in enumerate(names)}
        self._counts = Counts(dict.fromkeys(names, 0), dict.fromkeys(names, 0))
        self.pipelines = Pipelines()
        self._connections = connections
        self._intern = shapes
        self._able = [Able.of(i, module, options, shapes) for i, module in enumerate(self.modules)]
        self._readers: dict[int, Reader] = {a.index: a.reader for a in self._able if a.reader is not None}
        for reader in self._readers.values():
            shapes.on_forget.append(reader.forget)
        self._repeats = {i: Repeats(r, shapes) for i, r in self._readers.items() if isinstance(r, Alike)}
        shapes.on_forget.extend(repeats.forget for repeats in self._repeats.values())
        self._detector = Detector(self.modules, self._readers)
        self._shapes = Shapes(shapes)
        self._groups = Groups(connections, self._shapes, options, self._counts)
        self._turns = Turns(connections, self._shapes, self.pipelines, options, self._counts)
        self._now = 0
        self.rows: NDArray[np.int32] = np.zeros(0, np.int32)
        """(n,) in the table of connections, of the spans that were returned last"""

    @property
    def failures(self) -> dict[str, int]:
        return self._counts.failures

    @property
    def ignored(self) -> dict[str, int]:
        return self._counts.ignored

    @property
    def cut(self) -> int:
        return self._counts.cut

    @property
    def unknown_connections(self) -> int:
        return self._counts.unknown_connections

    @property
    def unrecognised(self) -> int:
        return self._counts.unrecognised

    @property
    def unreadable(self) -> int:
        return self._counts.unreadable

    @property
    def left_out(self) -> dict[str, int]:
        """How often a text did not become an attribute because there were too many different ones, by kind."""
        return {kind: count for reader in self._readers.values() for kind, count in reader.left_out.items()}

    def parse(self, exchanges: Exchanges, now: int) -> Spans:
        """The spans of one batch of n rows; now: CLOCK_MONOTONIC ns."""
        return self.parse_batches((exchanges,), now)

    def parse_batches(self, batches: Sequence[Exchanges], now: int) -> Spans:
        """The spans of several batches of one moment, in their order.

        Size classes come in batches of their own; what is to be read in order (a statement prepared by a long request
        and executed by a short one) is read in order across all of them.
        """
        self._now = now
        if self._shapes.forgotten:
            self._shapes.forgotten = False
            self._groups.forget()
            self._turns.forget()
        found: list[Found] = []
        jobs = [self._begin(batch, now, found) for batch in batches if len(batch)]
        self._order(found)
        self._turns.take(jobs, self._able)
        parts = [(job.pieces, job.exchanges, job.row, self._late(job)) for job in jobs]
        spans, self.rows = written(parts, self._connections.pair, self._connections.key)
        return spans

    def complete(self, exchanges: Exchanges) -> NDArray[np.int8]:
        """(n,) whether each response is whole: 1 yes, 0 no, -1 it cannot be told. For rows with Flag.PARTIAL."""
        n = len(exchanges)
        result = np.full(n, -1, np.int8)
        if not n or not exchanges.request.shape[1]:
            return result
        row = self._connections.rows(exchanges.head["conn"], self._now)
        protocol = np.where(row >= 0, self._connections.protocol[row], UNKNOWN)
        for index, reader in self._readers.items():
            new = protocol == UNDECIDED
            if new.any():
                protocol[new & reader.detect(exchanges.request, exchanges.response)] = index
        for index in distinct(protocol[protocol >= 0]).tolist():
            rows = (protocol == index).nonzero()[0]
            able = self._able[index]
            if able.reader is not None:
                result[rows] = able.reader.complete(self._batch(exchanges, row, rows))
            elif able.completing is not None:
                job = Job(exchanges, row, Pieces(0), [])
                for i in rows.tolist():
                    request, response = job.payload(i)
                    sizes = int(exchanges.head["req_bytes"][i]), int(exchanges.head["rsp_bytes"][i])
                    told = able.completing.complete(request, response, *sizes)
                    result[i] = -1 if told is None else int(told)
        return result

    # 1 and 2: connections and protocols

    def _begin(self, exchanges: Exchanges, now: int, found: list[Found]) -> Job:
        row = self._connections.rows(exchanges.head["conn"], now)
        lost = row < 0
        if lost.any():
            self._counts.unknown_connections += int(lost.sum())
            known = (~lost).nonzero()[0]
            exchanges, row = exchanges.take(known), row[known]
        job = Job(exchanges, row, Pieces(len(row)), [])
        flags = exchanges.head["flags"]
        bare = (flags & _HEAD) > 0
        job.pieces.first[bare] = 0
        amends = (bare & ((flags & _AMENDS) > 0)).nonzero()[0]
        if len(amends):
            found.append(self._amendments(job, amends))
        silent = ~bare & (exchanges.head["req_cap"] == 0)
        self._counts.unreadable += int(silent.sum())
        if not exchanges.request.shape[1] or bare.all():
            return job
        if exchanges.protocol:
            return self._told(job, found)
        protocol = np.where(bare | silent, UNKNOWN, self._connections.protocol[row])
        undecided = (protocol == UNDECIDED).nonzero()[0]
        if len(undecided):
            self._detector.decide(self._connections, exchanges, row, undecided)
            protocol[undecided] = self._connections.protocol[row[undecided]]
        kinds = np.bincount(protocol + 2, minlength=2)
        self._counts.unrecognised += int(kinds[:2].sum() - bare.sum() - silent.sum())
        for index in kinds[2:].nonzero()[0].tolist():
            rows = (protocol == index).nonzero()[0]
            able, batch = self._able[index], self._batch(exchanges, row, rows)
            if index in self._listeners:
                self._listeners[index](batch.head, batch.response)
            if able.reader is not None:
                found.append(self._by_columns(job, able.reader, index, rows, batch))
            else:
                found.append(self._groups.read(job, able, rows, batch))
        return job

    def _told(self, job: Job, found: list[Found]) -> Job:
        """A batch whose protocol is known, and whose rows are each for themselves."""
        index = self._indices[job.exchanges.protocol]
        able, rows = self._able[index], np.arange(len(job.row))
        batch = self._batch(job.exchanges, job.row, rows)
        assert able.reader is not None, f"{able.module.name} has no reader"
        found.append(replace(self._by_columns(job, able.reader, index, rows, batch), alone=True))
        return job

    def _amendments(self, job: Job, rows: NDArray[np.intp]) -> Found:
        """Heads that concern what was said before on connections that are read in order; others pass through."""
        nothing = np.zeros(len(rows), np.bool_)
        return Found(job.exchanges.head["conn"][rows], nothing, lambda ordered: job.later(AMENDMENT, rows[ordered]))

    def _order(self, found: Sequence[Found]) -> None:
        """If one row of a connection is to be read in order all are, in whatever size class they came."""
        conns = [one.conn[one.ordered] for one in found if not one.alone]
        several = np.concatenate([*conns, np.array(self.pipelines.connections(), np.uint64)])
        for one in found:
            one.settle(np.isin(one.conn, several) if len(several) and not one.alone else one.ordered)

    def _batch(self, exchanges: Exchanges, row: NDArray[np.int32], rows: NDArray[np.intp]) -> Batch:
        pick = slice(None) if len(rows) == len(exchanges) else rows
        request, response = exchanges.request[pick], exchanges.response[pick]
        return Batch(exchanges.head[pick], request, response, row[pick].astype(np.intp), self._connections.table)

    def _by_columns(self, job: Job, reader: Reader, index: int, rows: NDArray[np.intp], batch: Batch) -> Found:
        repeats = self._repeats.get(index)
        shares = [Share.whole(reader.read(batch))] if repeats is None else repeats.read(batch)
        slow = np.zeros(len(rows), np.bool_)
        for share in shares:
            slow[share.rows] = share.columns.shape[share.which] < 0

        def settle(ordered: NDArray[np.bool_]) -> None:
            some = bool(ordered.any())
            if some:
                job.later(index, rows[ordered])
            for share in shares:
                at, which, found = share.rows, share.which, share.context
                if some:
                    quick = ~ordered[at]
                    at, which = at[quick], which[quick]
                job.pieces.columns(rows[at], which, share.columns)
                tells = found.tells
                if tells.any():
                    has = tells[which].nonzero()[0]
                    job.pieces.remote(rows[at[has]], found.take(which[has]))

        return Found(batch.head["conn"], slow, settle)

    def _late(self, job: Job) -> Remote:
        """The contexts of what was read one by one."""
        self._intern.touch(job.pieces.shapes())
        requests = [request for _, _, request in job.pieces.requests()]
        result = Remote.none(len(requests))
        for at in range(0, len(requests), AT_ONCE):
            part, here = remote(Lines.of(matrix(requests[at : at + AT_ONCE]))), slice(at, at + AT_ONCE)
            for column in fields(result):
                getattr(result, column.name)[here] = getattr(part, column.name)
        return result
