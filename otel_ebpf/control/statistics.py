"""What the agent says of itself: one table of instruments, one snapshot of their values.

The agent fills a `Statistics` about once a second; OTLP export, /metrics and the live view all read the same snapshot.
docs/semconv/otel_ebpf_metrics.yaml documents the same table in the form of the semantic conventions' registry; a test
holds the two against each other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

InstrumentKind = Literal["counter", "updowncounter", "gauge"]
Labels: TypeAlias = tuple[tuple[str, str], ...]
Number: TypeAlias = "int | float"

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. labels: the attributes that each of its values has, in this order; unit as in UCUM."""

    name: str
    kind: InstrumentKind
    unit: str
    help: str
    labels: tuple[str, ...] = ()


_SIZE, _PROTOCOL, _REASON, _RING = "otel_ebpf.record.size", "otel_ebpf.protocol", "otel_ebpf.reason", "otel_ebpf.ring"
_STAGE, _PROGRAM, _SIGNAL, _WHERE = "otel_ebpf.stage", "otel_ebpf.program", "otel_ebpf.signal", "otel_ebpf.where"
_OUTCOME = "otel_ebpf.outcome"
_METHOD, _RUNTIME, _WHAT = "otel_ebpf.link.method", "otel_ebpf.runtime", "otel_ebpf.runtime.version"
_PROCESS = "otel_ebpf.process"
_ERROR, _MODE = "error.type", "cpu.mode"

INSTRUMENTS = {
    instrument.name: instrument
    for instrument in (
        Instrument(
            "otel_ebpf.exchanges",
            "counter",
            "{exchange}",
            "Exchanges (a request and its response, at one end) that the kernel handed over",
            (_SIZE,),
        ),
        Instrument(
            "otel_ebpf.frames",
            "counter",
            "{frame}",
            "Records of HTTP/2 frames that the kernel handed over; exchanges are made of them",
            (_SIZE,),
        ),
        Instrument(
            "otel_ebpf.spans",
            "counter",
            "{span}",
            "Spans made of exchanges, before sampling; several for a pipelined exchange",
            (_PROTOCOL,),
        ),
        Instrument(
            "otel_ebpf.losses",
            "counter",
            "{loss}",
            "What was lost, by the place where it was lost and the reason",
            (_WHERE, _REASON),
        ),
        Instrument(
            "otel_ebpf.parse.failures",
            "counter",
            "{exchange}",
            "Exchanges that could not be read, by protocol; unknown: they are in none that the agent reads",
            (_PROTOCOL,),
        ),
        Instrument(
            "otel_ebpf.ring.fill", "gauge", "1", "Part of a ring that was in use when it was last read", (_RING,)
        ),
        Instrument("otel_ebpf.stage.time", "counter", "s", "Time that the agent's loop spent in a stage", (_STAGE,)),
        Instrument("otel_ebpf.stage.runs", "counter", "{run}", "Batches that went through a stage", (_STAGE,)),
        Instrument(
            "otel_ebpf.bpf.time",
            "counter",
            "s",
            "Time that the kernel spent in a BPF program (while kernel.bpf_stats_enabled)",
            (_PROGRAM,),
        ),
        Instrument(
            "otel_ebpf.bpf.runs",
            "counter",
            "{run}",
            "Runs of a BPF program (while kernel.bpf_stats_enabled)",
            (_PROGRAM,),
        ),
        Instrument("otel_ebpf.bpf.memory", "updowncounter", "By", "Memory of all BPF maps, by the kernel's account"),
        Instrument(
            "otel_ebpf.attach.failures",
            "updowncounter",
            "{failure}",
            "BPF programs that could not be attached: 1 for each",
            (_PROGRAM,),
        ),
        Instrument(
            "otel_ebpf.links",
            "counter",
            "{span}",
            "Spans by the way in which their parent was found; none: it was not, or there is none",
            (_METHOD,),
        ),
        Instrument(
            "otel_ebpf.runtimes",
            "updowncounter",
            "{process}",
            "Processes whose units of execution (goroutines, CPython contexts, …) can be read",
            (_RUNTIME,),
        ),
        Instrument(
            "otel_ebpf.probe.hits",
            "updowncounter",
            "{hit}",
            "Hits of probes in the code of processes that live, about 1 µs each to them: the 50 that were hit most",
            (_PROCESS, _RUNTIME),
        ),
        Instrument(
            "otel_ebpf.runtimes.refused",
            "updowncounter",
            "{runtime}",
            "Runtimes that are not as expected, so that their units of execution are not read: 1 for each",
            (_WHAT, _REASON),
        ),
        Instrument(
            "otel_ebpf.export.items",
            "counter",
            "{item}",
            "Spans, data points, log records that were accepted",
            (_SIGNAL,),
        ),
        Instrument(
            "otel_ebpf.export.errors",
            "counter",
            "{request}",
            "Export requests that failed, each try by itself",
            (_SIGNAL, _ERROR),
        ),
        Instrument("otel_ebpf.queue.length", "updowncounter", "{item}", "Items that wait for export", (_SIGNAL,)),
        Instrument("otel_ebpf.connections", "updowncounter", "{connection}", "Connection ends that the agent knows"),
        Instrument("otel_ebpf.held", "updowncounter", "{span}", "Spans that wait until their parent is known"),
        Instrument(
            "otel_ebpf.sampling.traces",
            "counter",
            "{trace}",
            "Traces that sampling by the tail decided on, by what became of them and why",
            (_OUTCOME, _REASON),
        ),
        Instrument(
            "otel_ebpf.sampling.spans",
            "counter",
            "{span}",
            "Spans of such traces, those included that came after their trace was decided",
            (_OUTCOME, _REASON),
        ),
        Instrument(
            "otel_ebpf.sampling.held", "updowncounter", "{span}", "Spans that wait until it is decided on their trace"
        ),
        Instrument("otel_ebpf.graph.edges", "updowncounter", "{edge}", "Edges of the service graph"),
        Instrument(
            "otel_ebpf.graph.waiting",
            "updowncounter",
            "{exchange}",
            "Client ends that wait for the server's end to count the edge once",
        ),
        Instrument(
            "otel_ebpf.peers.addresses",
            "updowncounter",
            "{address}",
            "Addresses whose names are known from DNS answers, by process and for the host",
        ),
        Instrument(
            "otel_ebpf.gateway.joins",
            "counter",
            "{span}",
            "Server spans of requests from other hosts that a gateway saw, by what became of them",
            (_OUTCOME,),
        ),
        Instrument(
            "otel_ebpf.gateway.rules", "updowncounter", "{rule}", "Traces of which a gateway knows the other name"
        ),
        Instrument(
            "otel_ebpf.propagation",
            "counter",
            "{request}",
            "Requests to and from other hosts, by what became of their context on the wire (with `propagation`)",
            (_OUTCOME,),
        ),
        Instrument("process.cpu.time", "counter", "s", "CPU time of the agent", (_MODE,)),
        Instrument("process.memory.usage", "updowncounter", "By", "Resident memory of the agent"),
        Instrument(
            "process.unix.file_descriptor.count", "updowncounter", "{file_descriptor}", "Files that the agent has open"
        ),
        Instrument("process.uptime", "gauge", "s", "Time since the agent was started"),
    )
}
"""All instruments by name. Those of the process are the semantic conventions' own."""


@dataclass(slots=True)
class Statistics:
    """A snapshot: (name, labels) → value, and notes for the operator.

    notes: what does not work and why, a line each ("on_exec is not attached: Permission denied"), for the live view.

    >>> statistics = Statistics()
    >>> statistics.add("otel_ebpf.losses", 3, "kernel", "ring_full_exchange")
    >>> statistics.of("otel_ebpf.losses")
    {('kernel', 'ring_full_exchange'): 3}
    """

    values: dict[str, dict[tuple[str, ...], Number]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: Number, *labels: str) -> None:
        """Count into the value for these labels, which are given in the order of `INSTRUMENTS[name].labels`.

        Counters are totals since the start of the agent.
        """
        assert len(labels) == len(INSTRUMENTS[name].labels), (name, labels)
        values = self.values.setdefault(name, {})
        values[labels] = values.get(labels, 0) + value

    def of(self, name: str) -> dict[tuple[str, ...], Number]:
        """All values of one instrument."""
        return self.values.get(name, {})

    def __iter__(self) -> Iterator[tuple[Instrument, dict[tuple[str, ...], Number]]]:
        """Instruments that have values, in the order of the table."""
        for name, instrument in INSTRUMENTS.items():
            if self.values.get(name):
                yield instrument, self.values[name]

    def add_process(self) -> None:
        """CPU time, memory, files and age of this process."""
        times = os.times()
        self.add("process.cpu.time", times.user, "user")
        self.add("process.cpu.time", times.system, "system")
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        self.add("process.memory.usage", resident * _PAGE)
        self.add("process.unix.file_descriptor.count", len(os.listdir("/proc/self/fd")) - 1)  # noqa: PTH208
        self.add("process.uptime", time.clock_gettime(time.CLOCK_BOOTTIME) - _started())


def _started() -> float:
    """Start of this process, seconds on CLOCK_BOOTTIME (proc_pid_stat(5), starttime)."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(after_name[19]) / _CLOCK_TICKS
