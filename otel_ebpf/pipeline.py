"""From what the kernel handed over to export requests: the one place where the stages are put together.

    drain → connections, processes → engine (fields) → resource, endpoint → assembler (traces) → service graph
          → metrics → samplers → sinks (live lines) and encoder → exporter

One direction, whole batches; what is lost in a stage is counted by that stage and gathered here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import Connections
from otel_ebpf.capture.endpoints import Endpoints
from otel_ebpf.capture.live import IDLE_NS, Drain
from otel_ebpf.capture.servernames import ServerNames
from otel_ebpf.clock import UnixClock
from otel_ebpf.combinations import Combinations
from otel_ebpf.config import Config
from otel_ebpf.config.otlp import Signal
from otel_ebpf.control.tables import Sink, Tables, known
from otel_ebpf.foreign.complete import Callers, Completing
from otel_ebpf.foreign.listening import Listening, protocol_codes
from otel_ebpf.given_up import tell_given_up
from otel_ebpf.metrics.durations import DurationMetrics
from otel_ebpf.metrics.graph import ServiceGraph
from otel_ebpf.metrics.points import Temporality
from otel_ebpf.model import Exchanges, Flag, Intern, Resource, Spans
from otel_ebpf.otlp.encoder import SpanEncoder
from otel_ebpf.otlp.framing import Message
from otel_ebpf.otlp.logs import LogEncoder
from otel_ebpf.protocols import registry
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.completion import Completion
from otel_ebpf.protocols.dns import Dns
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.http2.streams import Streams
from otel_ebpf.resource.aliases import Aliases
from otel_ebpf.resource.describe import Describer
from otel_ebpf.resource.filters import Filter
from otel_ebpf.resource.host import host_attributes
from otel_ebpf.resource.peers import PeerNames
from otel_ebpf.resource.resources import Resources
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.bits import SERVER
from otel_ebpf.tracing.completion import Completion as ForeignCompletion
from otel_ebpf.tracing.sampling import Sampler
from otel_ebpf.tracing.tail import Tail, local_roots
from otel_ebpf.tracing.trust import Trust
from otel_ebpf.tracing.wire import SDK_SHOWS_NS, Arrived, Evidence

CONNECTION_SERVER, CONNECTION_UNSEEN = 1, 16
"""`enum connection_flags` of bpf/include/records.h."""
SHAPES, RESOURCES = 16384, 8192
"""Distinct ones that are remembered, with what is made of them: 2.5 KB each. Those used longest ago make room."""
ARRIVAL_NS = IDLE_NS + 10_000_000
"""A row is in the drain whose `swept` is this long after its exchange ended, at the latest."""
RENAMED_NS = 60 * 10**9
"""For so long after a process was found to be called otherwise, rows from before are called so, too."""
ROWS = 8192
"""Rows that are handed on together: their columns fit the cache, and come from memory that was used before."""
BATCHES = 64
"""Batches of kept traces that are encoded together, where there are many small ones."""
ENCODED: tuple[Signal, ...] = ("traces", "logs")


@dataclass(slots=True)
class Stages:
    """Seconds that each stage took so far, and how often it ran."""

    seconds: dict[str, float] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    _began: float = 0.0

    def begin(self) -> None:
        """Start the clock of the next stage."""
        self._began = time.perf_counter()

    def end(self, stage: str) -> None:
        """The stage is done; the next one begins."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._began
        self.runs[stage] = self.runs.get(stage, 0) + 1
        self._began = now


class Pipeline:
    """All stages between capture and export.

    submit: takes (signal, message), must not block. connection: dtype of `struct connection`. follow: told of ports
    at which there are receivers of telemetry. leave: told of ports at which there are none, and of connections. proven:
    told of processes whose calls the kernel side may tell to other hosts (True), or may no more. exchange: dtype of
    `struct exchange`, which streams of HTTP/2 become; None: there will be none.
    """

    def __init__(
        self,
        config: Config,
        connection: np.dtype[np.void],
        submit: Callable[[str, Message], object],
        sinks: Sequence[Sink] = (),
        follow: Callable[[Iterable[int]], object] = lambda _: None,
        leave: Callable[[Iterable[int], Iterable[int]], object] = lambda _ports, _connections: None,
        proven: Callable[[Iterable[int], bool], object] | None = None,
        exchange: np.dtype[np.void] | None = None,
    ) -> None:
        self.config = config
        self.clock = UnixClock()
        self.stages = Stages()
        self.counts = {
            "exchanges": 0,
            "spans": 0,
            "exported": 0,
            "excluded": 0,
            "unrecognised": 0,
            "without_payload": 0,
        }
        self.spans_by_protocol: dict[str, int] = {}
        self.connections = Connections(connection)
        self.shapes = Intern[Fields](SHAPES)
        self.resource_table = Intern[Resource](RESOURCES)
        self.peers, aliases = PeerNames(Dns().answers), Aliases(config.peers.aliases)
        self.server_names = ServerNames()
        self.endpoints = Endpoints(self.connections, names=self.peers, aliases=aliases, servers=self.server_names)
        options = Options(config.redact.enabled, config.http.routes, config.redact.parameters)
        listeners = {Dns.name: self.peers.hear} if config.peers.dns else {}
        self.engine = Engine(self.connections, self.shapes, options, listeners=listeners)
        self.completion = Completion(self.engine)
        self.streams = Streams(exchange or np.dtype([]), int(config.kernel.request_timeout * 1e9))
        self.resources = Resources(
            self.resource_table,
            Describer(
                host=host_attributes(),
                rules=config.resource.services,
                extra=config.resource.attributes,
                command_args=config.resource.command_args,
            ),
            looked=lambda process: self.listening.expect(process),
            met=lambda process: self.listening.meet(process, time.monotonic_ns()),
        )
        self.filter = Filter(config.filter.include, config.filter.exclude)
        self.foreign = ForeignCompletion(
            config.completion, int(config.traces.completion_wait * 1e9), protocol_codes(self._protocol_of)
        )
        self.listening = Listening(self.foreign, self.clock.offset, follow, leave)
        callers = Callers()
        self.foreign.met = callers.note
        self.completing = Completing(self.listening, self._encode_again, self.resources.identified, callers)
        self.assembler = Assembler(
            int(config.hold.time * 1e9),
            config.hold.spans,
            lag_ns=ARRIVAL_NS,
            completion=self.foreign,
            statistics=config.traces.statistics,
            random=os.urandom if config.propagation == "off" else None,
        )
        self.arrived = Arrived()
        patience = 0 if config.completion == "off" else SDK_SHOWS_NS
        self.evidence = Evidence(self.assembler.processes, patience) if config.propagation != "off" else None
        self._proven = proven or (lambda _pids, _yes: None)
        self.trust = Trust(config.traces.trust_incoming)
        self.sample = Sampler(config.sampling.sampler, config.sampling.ratio).sample
        self.tail = self._make_tail(config)
        tables = (self.shapes, self.endpoints.table, self.resource_table)
        self.durations = DurationMetrics(
            *tables,
            names={p.name: p.duration_metric for p in registry()},
            temporality=Temporality.preferred(config.metrics.temporality),
            max_series=config.metrics.series,
        )
        self.graph = ServiceGraph(
            *tables,
            aliases=aliases,
            addresses=config.peers.addresses,
            temporality=Temporality.preferred(config.metrics.temporality),
            max_series=config.metrics.series,
        )
        has_metrics = "metrics" in config.signals and config.otlp.of("metrics") is not None
        self._is_measured = has_metrics
        """What is not collected would not be dropped either."""
        self._is_graphed = config.metrics.service_graph and has_metrics
        self._tables = tables
        self._encoders = {
            "traces": SpanEncoder(*tables, max_items=config.batch.size),
            "logs": LogEncoder(*tables, max_items=config.batch.size),
        }
        self._exported = [s for s in ENCODED if s in config.signals and config.otlp.of(s) is not None]
        self._submit = submit
        self._sinks = sinks
        self._forgotten = 0
        self._swept = 0
        self._renamed = -RENAMED_NS

    def process(self, drain: Drain, now: int) -> None:
        """One drain of the rings, taken at CLOCK_MONOTONIC `now`."""
        self.stages.begin()
        if now - self._forgotten > 10**10:
            self._forgotten = now
            self.connections.forget(now)
            self.server_names.forget(now)
        if not drain and not self.assembler.counters.held and not self.streams.pending:
            self.completing.turn(now)
            self.graph.expire(now)
            self._show(Spans.empty(), self.clock.offset())
            self._decide_tail()
            return
        self.connections.update(drain.connections, now)
        if drain.server_names is not None:
            self.endpoints.learn(drain.server_names, now)
        self.resources.update(drain.processes)
        if len(drain.processes):
            self.assembler.forget(drain.processes["tgid"])
            if self.evidence is not None:
                self.evidence.forget(drain.processes)
        self.foreign.forget(drain.processes["tgid"], now)
        if len(drain.connections):
            served = (drain.connections["flags"] & np.uint32(CONNECTION_SERVER)) != 0
            self.assembler.processes.serves(drain.connections["tgid"][served])
            self.resources.meet(drain.connections)
            self.listening.announced(drain.connections)
            unseen = drain.connections[(drain.connections["flags"] & np.uint32(CONNECTION_UNSEEN)) != 0]
            self.assembler.processes.answered_unseen(unseen["tgid"], unseen["t_open"])
        self.stages.end("connections")
        for pid, names in self.listening.take(drain.exports, self.connections, now).items():
            if self.resources.say(pid, names):
                self._renamed = now
        self.listening.forget(drain.processes["tgid"].tolist())
        self.completing.turn(now)
        self.listening.look(drain.exchanges, self.connections, now)
        self.stages.end("foreign")
        spans, waits = self._read([*drain.exchanges, *self.streams.read(drain.frames, now)], now)
        if drain.contexts is not None:
            self.arrived.hear(drain.contexts)
            self.arrived.apply(spans)
        open_since = self.streams.open_since(drain.open_since, drain.swept)
        self.assembler.hear(
            drain.lineages, open_since, drain.swept, drain.segments, drain.swept_until, drain.heap_marks
        )
        decided = self.assembler.feed(spans, drain.swept, waits)
        if now - self._renamed < RENAMED_NS and len(decided):
            decided.resource = self.resources.ids(decided.tgid, decided.start)
        if self.evidence is not None:
            risen, fallen = self.evidence.judge(decided, self.assembler.covered, now)
            self._proven(fallen, False)
            self._proven(risen, True)
        self._swept = drain.swept
        self._hand_on(decided, drain.swept)
        self._decide_tail()

    def finish(self) -> None:
        """Decide and hand on everything that is still held."""
        self.stages.begin()
        spans, waits = self._read(self.streams.finish(), time.monotonic_ns())
        if len(spans):
            self._hand_on(self.assembler.feed(spans, self._swept, waits), self._swept)
        self._hand_on(self.assembler.flush(), time.monotonic_ns())
        self.graph.finish()
        self._decide_tail(everything=True)

    def _read(self, exchanges: Sequence[Exchanges], now: int) -> tuple[Spans, NDArray[np.uint64]]:
        """The observed spans of exchanges, and (n,) how long an amendment of each is awaited."""
        spans = self.engine.parse_batches(exchanges, now)
        waits = self.completion.waits(exchanges, spans)
        self.counts["exchanges"] += sum(map(len, exchanges))
        self.stages.end("parse")
        if len(spans):
            kept = self._identify(spans, self.engine.rows)
            if not kept.all():
                self.counts["excluded"] += int(len(kept) - np.count_nonzero(kept))
                spans, waits = spans.take(kept), waits[kept]
        self.stages.end("resource")
        return spans, waits

    def _hand_on(self, decided: Spans, now: int) -> None:
        """What the assembler has decided, to all that follow."""
        tell_given_up(decided, self.shapes)
        self.stages.end("trace")
        self._graph(decided, now)
        self.emit(decided, self.assembler.covered, self.assembler.mates)

    def _make_tail(self, config: Config) -> Tail | None:
        keys = config.sampling.tail
        if not keys.enabled:
            return None
        return Tail(
            self.shapes,
            self.resource_table,
            slowest=keys.slowest,
            ratio=keys.ratio,
            budget=keys.budget,
            wait_ns=int(keys.wait * 1e9),
            limit=keys.spans,
        )

    def _graph(self, decided: Spans, now: int) -> None:
        if self._is_graphed:
            self.graph.record(decided, self.assembler.mates, now)
            self.stages.end("graph")

    def emit(
        self,
        spans: Spans,
        covered: NDArray[np.bool_] | None = None,
        mates: NDArray[np.intp] | None = None,
    ) -> None:
        """Count, sample, show and encode decided spans. covered: (n,) which of them are not exported. mates: (n,) as of
        `Assembler`, for sampling by the tail."""
        if not len(spans) and not self._sinks:  # these are told that nothing came
            return
        roots = local_roots(spans, mates) if self.tail is not None and mates is not None else None
        for begin in range(0, len(spans) or 1, ROWS):
            part = slice(begin, begin + ROWS)
            hidden = None if covered is None or not covered[part].any() else covered[part]
            rows = spans if len(spans) <= ROWS else spans.part(begin, begin + ROWS)
            self._emit(rows, hidden, None if roots is None else roots[part])

    def _emit(self, spans: Spans, covered: NDArray[np.bool_] | None, roots: NDArray[np.bool_] | None = None) -> None:
        named = spans.shape >= 0
        if not named.all():
            self.counts["unrecognised"] += int(np.count_nonzero(spans.shape == -2))
            self.counts["without_payload"] += int(np.count_nonzero(spans.shape == -1))
            spans = spans.take(named)
            covered = None if covered is None else covered[named]
            roots = None if roots is None else roots[named]
        offset = self.clock.offset()
        self.counts["spans"] += len(spans)
        found = Combinations.among(spans)
        self._count_protocols(found)
        sampled = self.sample(spans)
        if self._is_measured:
            self.durations.record(spans, self._with_exemplar(sampled), found)
        self.stages.end("metrics")
        self._show(spans, offset)
        if not self._exported or not len(spans):
            return
        mine = sampled if covered is None else sampled & ~covered
        if self.tail is not None and roots is not None:
            now = time.monotonic_ns()
            self.completing.keep(spans, now, mine)  # who asks has the trace, whatever is exported of it
            self.tail.take(spans, found, roots, sampled, covered, now)
            self.stages.end("sample")
            return
        if not mine.all():
            spans, found = spans.take(mine), found.take(mine)
        self.completing.keep(spans, time.monotonic_ns())
        self._export(spans, found, offset)

    def _decide_tail(self, everything: bool = False) -> None:
        """Export what sampling by the tail has kept by now."""
        if self.tail is None:
            return
        kept = self.tail.decide(time.monotonic_ns(), everything)
        self.stages.end("sample")
        for begin in range(0, len(kept), BATCHES):
            spans = Spans.concat(kept[begin : begin + BATCHES])
            found = Combinations.among(spans)
            if self.config.metrics.exemplars == "trace_based":
                self.durations.exemplify(spans, found)
            self._export(spans, found, self.clock.offset())

    def _export(self, spans: Spans, found: Combinations, offset: int) -> None:
        self.counts["exported"] += len(spans)
        for signal in self._exported:
            for message in self._encoders[signal].encode(spans, offset, found):
                self._submit(signal, message)
        self.stages.end("encode")

    def _show(self, spans: Spans, offset: int) -> None:
        if self._sinks:
            tables = Tables(*self._tables, offset)
            for sink in self._sinks:
                sink.show(spans, tables)
            self.stages.end("show")

    def _with_exemplar(self, sampled: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """(n,) the rows that may become exemplars; None: all (OTEL_METRICS_EXEMPLAR_FILTER)."""
        if self.config.metrics.exemplars == "always_on":
            return None
        known = self.config.metrics.exemplars == "trace_based" and self.tail is None
        return sampled if known else np.zeros_like(sampled)

    def _encode_again(self, spans: Spans) -> Iterable[Message]:
        return self._encoders["traces"].encode(spans, self.clock.offset(), Combinations.among(spans))

    def _protocol_of(self, shape: int) -> str:
        fields = known(self.shapes, shape)
        return fields.protocol if fields is not None else ""

    def _count_protocols(self, found: Combinations) -> None:
        for side, count in zip(found.side, np.bincount(found.of, minlength=len(found)).tolist(), strict=True):
            shape = known(self.shapes, side >> 1)
            protocol = shape.protocol if shape is not None else "forgotten"
            self.spans_by_protocol[protocol] = self.spans_by_protocol.get(protocol, 0) + count

    def _identify(self, spans: Spans, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Fill resource, endpoint and peer_port; returns which rows are observed. rows: (n,) of their connections."""
        spans.resource = self.resources.ids(spans.tgid, spans.start)
        spans.endpoint = self.endpoints.ids(rows, spans.kind)
        spans.peer_port = self.endpoints.ports(rows)
        self.trust.apply(spans, self.connections.table, rows)
        born = ((spans.flags & np.uint32(Flag.BORN)) != 0).nonzero()[0]
        spans.wanted[born] = self.connections.table["t_open"][rows[born]]
        last = (spans.flags & np.uint32(Flag.LAST)) != 0
        if self.filter.selective:
            kept = self.filter.mask(spans.tgid, spans.resource, self._server_ports(spans, rows), self.resource_table)
        else:
            kept = self.filter.others(spans.tgid)
        if self.filter.has_ports:
            kept &= ~self.filter.reaching(self.connections.table, rows)
        if last.any():
            gone = rows[last & (rows >= 0)]
            if self.server_names:
                self.server_names.close(self.connections.table["id"][gone].tolist())
            self.connections.close(gone)
        return kept

    def _server_ports(self, spans: Spans, rows: NDArray[np.int32]) -> NDArray[np.uint16]:
        table = self.connections.table
        return np.where(spans.kind == SERVER, table["local_port"][rows], table["remote_port"][rows])
