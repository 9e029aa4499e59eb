"""Gathers what the stages count into one `Statistics`: every exchange that is not exported stands in it somewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from otel_ebpf.capture.live import LiveSource
from otel_ebpf.capture.propagation import Propagation
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.control.tables import Sink
from otel_ebpf.kernel.objects import Object
from otel_ebpf.otlp.exporter import Exporter
from otel_ebpf.pipeline import Pipeline
from otel_ebpf.runtimes.watch import Runtimes
from otel_ebpf.tracing.tail import Tail


def report(source: LiveSource, pipeline: Pipeline, exporter: Exporter, sinks: Sequence[Sink] = ()) -> Statistics:
    """The totals since the start of the agent. May be called from any thread: it only reads.

    What grows meanwhile is copied first: a dict must not change while one goes through it.
    """
    found = Statistics()
    for size, count in source.received.items():
        found.add("otel_ebpf.exchanges", count, size)
    for size, count in source.frames.items():
        found.add("otel_ebpf.frames", count, size)
    for reason, count in source.losses().items():
        found.add("otel_ebpf.losses", count, "kernel", reason)
    for ring, fill in source.fills().items():
        found.add("otel_ebpf.ring.fill", fill, ring)
    _add_runs(found, source.object)
    found.add("otel_ebpf.bpf.memory", sum(m.memory for m in source.object.maps.values() if m.created))
    for program, why in dict(source.failures).items():
        found.add("otel_ebpf.attach.failures", 1, program)
        found.notes.append(f"{program} is not attached: {why}")
    if source.runtimes is not None:
        _add_runtimes(found, source.runtimes)
    if source.propagation is not None:
        _add_propagation(found, source.propagation)
    if pipeline.evidence is not None:
        found.add("otel_ebpf.propagation", pipeline.evidence.wrong, "came_out_otherwise")
        found.add("otel_ebpf.losses", pipeline.arrived.forgotten, "tracing", "context_forgotten")
    _add_pipeline(found, pipeline)
    for signal, sent in exporter.statistics.items():
        found.add("otel_ebpf.export.items", sent.delivered_items, signal)
        found.add("otel_ebpf.queue.length", sent.queued_items, signal)
        for reason, count in sent.dropped.items():
            found.add("otel_ebpf.losses", count, f"export.{signal}", reason)
        for error, count in sent.errors.items():
            found.add("otel_ebpf.export.errors", count, signal, error)
    for sink in sinks:
        found.add("otel_ebpf.losses", sink.dropped, "output", "slow_reader")
    found.add_process()
    return found


def _add_runtimes(found: Statistics, runtimes: Runtimes) -> None:
    for name, count in Counter(name for name, _ in list(runtimes.found.values())).items():
        found.add("otel_ebpf.runtimes", count, name)
    for pid, (name, hits) in runtimes.hits().items():
        found.add("otel_ebpf.probe.hits", hits, str(pid), name or "unknown")
    for what, why in dict(runtimes.refusals).items():
        found.add("otel_ebpf.runtimes.refused", 1, what, why)
    for program, why in dict(runtimes.probes.failures).items():
        found.add("otel_ebpf.attach.failures", 1, program)
        found.notes.append(f"{program} is not attached: {why}")
    found.add("otel_ebpf.losses", runtimes.dropped, "runtimes", "too_many_processes")


def _add_tail(found: Statistics, tail: Tail) -> None:
    for (outcome, reason), count in dict(tail.traces).items():
        found.add("otel_ebpf.sampling.traces", count, outcome, reason)
    for (outcome, reason), count in dict(tail.spans).items():
        found.add("otel_ebpf.sampling.spans", count, outcome, reason)
    found.add("otel_ebpf.sampling.held", tail.held)
    for reason, count in (
        ("held_too_many", tail.hurried),
        ("late_error", tail.late_errors),
        ("decision_forgotten", tail.decisions.forgotten),
        ("too_many_routes", tail.slowest.unjudged),
    ):
        found.add("otel_ebpf.losses", count, "sampling", reason)
    if tail.rootless:
        found.notes.append(f"{tail.rootless} traces were sampled without the request by which they came to this host")


def _add_runs(found: Statistics, programs: Object) -> None:
    for program, (runs, ns) in programs.run_statistics().items():
        if runs:
            found.add("otel_ebpf.bpf.runs", runs, program)
            found.add("otel_ebpf.bpf.time", ns / 1e9, program)


def _add_propagation(found: Statistics, propagation: Propagation) -> None:
    for outcome, count in propagation.counts().items():
        found.add("otel_ebpf.propagation", count, outcome)
    _add_runs(found, propagation.object)
    found.add("otel_ebpf.bpf.memory", propagation.memory)


def _add_pipeline(found: Statistics, pipeline: Pipeline) -> None:
    engine, traced, counts = pipeline.engine, pipeline.assembler.counters, pipeline.counts
    for protocol, count in dict(pipeline.spans_by_protocol).items():
        found.add("otel_ebpf.spans", count, protocol)
    for protocol, count in engine.failures.items():
        found.add("otel_ebpf.parse.failures", count, protocol)
    found.add("otel_ebpf.parse.failures", engine.unrecognised, "unknown")
    for reason, count in (
        ("unknown_connection", engine.unknown_connections),
        ("pipeline_cut", engine.cut),
        ("no_request_bytes", engine.unreadable),
        ("pipeline_given_up", engine.pipelines.lost),
    ):
        found.add("otel_ebpf.losses", count, "protocols", reason)
    for reason, count in pipeline.streams.losses.items():
        found.add("otel_ebpf.losses", count, "http2", reason)
    for method, count in traced.released.items():
        found.add("otel_ebpf.links", count, method)
    for kind, count in engine.left_out.items():
        found.add("otel_ebpf.losses", count, "attributes", f"too_many_{kind}")
    for reason, count in (
        ("other_end_missing", traced.unjoined_heads),
        ("late_amendment", traced.amended_late),
        ("held_too_many", traced.overflow),
        ("rungs_disagreed", traced.conflicts),
        ("no_time_for_statistics", traced.no_time),
    ):
        found.add("otel_ebpf.losses", count, "tracing", reason)
    if pipeline.tail is not None:
        _add_tail(found, pipeline.tail)
    graph, peers = pipeline.graph, pipeline.peers
    for where, reason, count in (
        ("metrics", "too_many_series", pipeline.durations.overflowed),
        ("service_graph", "too_many_edges", graph.series.overflowed),
        ("service_graph", "server_end_late", graph.already_counted),
        ("service_graph", "waiting_too_many", graph.hurried),
        ("service_graph", "too_many_addresses", graph.ends.unnamed),
        ("peers", "too_many_addresses", peers.forgotten),
        ("peers", "too_many_server_names", pipeline.server_names.forgotten),
        ("resources", "too_many_ended", pipeline.resources.hurried),
        ("processes", "too_many", pipeline.assembler.missed + pipeline.foreign.missed),
        ("peers", "not_a_server_name", pipeline.server_names.refused),
    ):
        found.add("otel_ebpf.losses", count, where, reason)
    for stage, runs in dict(pipeline.stages.runs).items():
        found.add("otel_ebpf.stage.time", pipeline.stages.seconds[stage], stage)
        found.add("otel_ebpf.stage.runs", runs, stage)
    found.add("otel_ebpf.connections", len(pipeline.connections))
    found.add("otel_ebpf.held", traced.held)
    found.add("otel_ebpf.graph.edges", len(graph.series))
    found.add("otel_ebpf.graph.waiting", graph.waiting)
    found.add("otel_ebpf.peers.addresses", len(peers))
    listening = pipeline.listening
    for reason, count in (
        ("bytes_missing", listening.streams.lost),
        ("not_understood", listening.streams.refused + listening.reader.refused),
        ("span_left_out", listening.reader.left_out),
        ("port_left_out", listening.ports_left_out),
        ("span_forgotten", pipeline.foreign.known.forgotten),
    ):
        found.add("otel_ebpf.losses", count, "foreign", reason)
    if listening.heard:
        covered = sum(pipeline.foreign.covered.values())
        found.notes.append(f"{listening.heard} spans of SDKs were heard of; {covered} exchanges are told of by them")
    if pipeline.trust.refused:
        found.notes.append(f"{pipeline.trust.refused} requests came with a trace context that is not believed")
    if counts["excluded"]:
        found.notes.append(f"{counts['excluded']} exchanges are excluded by the filter")
