"""`otel-ebpf run`: capture, pipeline, export and admin address put together, and the one loop that drives them."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING

from otel_ebpf import heap
from otel_ebpf.capture.live import CaptureSettings, LiveSource
from otel_ebpf.capture.namespace import inode_of
from otel_ebpf.config import Config
from otel_ebpf.config.otlp import SIGNALS
from otel_ebpf.control.admin import Admin, Health
from otel_ebpf.control.embedded import EmbeddedViewer, embedded_viewer
from otel_ebpf.control.report import report
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.control.tables import Sink
from otel_ebpf.control.text import clean
from otel_ebpf.errors import KernelError, UnsupportedError
from otel_ebpf.foreign.listening import port_of
from otel_ebpf.model import Resource
from otel_ebpf.otlp.configured import otlp_settings
from otel_ebpf.otlp.exporter import Exporter
from otel_ebpf.otlp.framing import Message
from otel_ebpf.otlp.metrics import encode as encode_metrics
from otel_ebpf.pipeline import Pipeline

if TYPE_CHECKING:
    from otel_ebpf.control.telemetry import Telemetry

TURN_ROWS, TURN_LEAST = 2500, 0.1
"""Rows gather in the rings for as long as it takes for so many to come, but not for less than so many seconds: most of
a batch's cost does not depend on its size, while that is small, and its memory does."""
GIVE_BACK_SECONDS = 60.0
"""So often freed memory goes back to the kernel: 2 ms, and a few pages that the next batch touches anew."""
FLUSH_SECONDS = 3.5
"""SIGTERM to exit takes at most 5 s: meanwhile all is detached, 60 ms for each probe on a library."""


class Agent:
    """One observing process.

    >>> agent = Agent(config)
    >>> agent.start()
    >>> agent.settle()
    >>> agent.turn()
    """

    def __init__(self, config: Config) -> None:
        heap.keep_freed()
        self.config = config
        self.health = Health()
        self.source = LiveSource(
            CaptureSettings(
                request_timeout_ns=int(config.kernel.request_timeout * 1e9),
                netns=inode_of(config.filter.network_namespace),
                propagation=config.propagation,
                trust=config.traces.trust_incoming,
                rings={
                    "exchanges_head": config.kernel.rings.head,
                    "exchanges_small": config.kernel.rings.small,
                    "exchanges_large": config.kernel.rings.large,
                    "frames_head": config.kernel.rings.frames_head,
                    "frames_small": config.kernel.rings.frames_small,
                    "frames_large": config.kernel.rings.frames_large,
                    "connections": config.kernel.rings.connections,
                    "processes": config.kernel.rings.processes,
                },
            )
        )
        self.sinks: list[Sink] = []
        self.notes: Sequence[str] = ()
        """What the operator should know besides what the parts report."""
        self.exporter = Exporter(otlp_settings(config))
        self.pipeline = Pipeline(
            config,
            self.source.object.btf.dtype("connection"),
            self._submit,
            self.sinks,
            self.source.follow_exports,
            self.source.leave_exports,
            self._proven,
            self.source.object.btf.dtype("exchange"),
        )
        self._metrics_due = time.monotonic() + config.metrics.interval
        self._given_back = time.monotonic()
        self._turned = 0.0
        self._pause = config.kernel.poll
        self._telemetry: Telemetry | None = None
        self._settling = Thread(target=self._settle, name="settle", daemon=True)
        self._itself = Resource(config.service.name, ())
        self._poll: select.epoll | None = None

    def start(self) -> None:
        """Attach everything."""
        self.source.start()
        targets = (self.config.otlp.of(signal) for signal in SIGNALS)
        self.pipeline.listening.begin(port_of(target.url) for target in targets if target is not None)
        self.health.ready()

    def settle(self) -> None:
        """Begin what can wait until all is attached: its own telemetry, whose SDK takes a second or more to load, and
        free memory. Beside the turns, since a service that starts meanwhile has to be recognised at its exec."""
        self._settling.start()

    def _settle(self) -> None:
        if self.exporter.exports("metrics"):
            from otel_ebpf.control.telemetry import Telemetry, own_resource

            own = own_resource(self.config)
            self._itself = Resource(self.config.service.name, tuple(own.items()))
            self._telemetry = Telemetry(self.config, self.report, lambda message: self._submit("metrics", message), own)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        heap.give_back()  # libbpf parsed the kernel's BTF in some 20 MB that are free again

    def turn(self, last: bool = False) -> None:
        """Everything that is due now. last: of all turns."""
        now = time.monotonic_ns()
        drain = self.source.read(now, last)
        self._pace(sum(map(len, drain.exchanges)) + sum(map(len, drain.frames)), now)
        self.pipeline.process(drain, now)
        self.health.turned()
        if time.monotonic() >= self._metrics_due:
            self._metrics_due = max(self._metrics_due + self.config.metrics.interval, time.monotonic())
            self._export_metrics()
            self._tell_refusals()
        if time.monotonic() - self._given_back >= GIVE_BACK_SECONDS:
            self._given_back = time.monotonic()
            heap.give_back()

    def _proven(self, pids: Iterable[int], yes: bool) -> None:
        if self.source.propagation is not None:
            self.source.propagation.proven(pids, yes)

    def _tell_refusals(self) -> None:
        """Once each, in the log."""
        for line in self.source.runtimes.news() if self.source.runtimes else ():
            sys.stderr.write(f"otel-ebpf: {clean(line)}\n")

    def _pace(self, rows: int, now: int) -> None:
        elapsed, self._turned = now / 1e9 - self._turned, now / 1e9
        self._pause = min(self.config.kernel.poll, max(TURN_LEAST, TURN_ROWS * elapsed / max(rows, 1)))

    def wait(self, stop: int) -> bool:
        """Sleep until a turn is due or a ring fills; False at once when the descriptor `stop` can be read."""
        if self._poll is None:
            self._poll = select.epoll()
            self._poll.register(stop, select.EPOLLIN)
            for ring in self.source.rings():
                self._poll.register(ring, select.EPOLLIN | select.EPOLLET)  # readable is any ring that is not empty
        return stop not in (descriptor for descriptor, _ in self._poll.poll(self._pause))

    def finish(self) -> None:
        """Read what is left, decide what is held, send what is queued."""
        self.turn(last=True)
        self.pipeline.finish()
        self._export_metrics()
        for sink in self.sinks:
            sink.close()
        if self._settling.ident is not None:
            self._settling.join()
        if self._telemetry is not None:
            self._telemetry.close()
        # All of the above may still ask what the source counted; the exporter does not, and detaching takes its time.
        detaching = Thread(target=self.source.close, name="detach")
        detaching.start()
        self.exporter.close(FLUSH_SECONDS)
        detaching.join()

    def report(self) -> Statistics:
        """What the agent counted so far, in all its parts."""
        found = report(self.source, self.pipeline, self.exporter, self.sinks)
        found.notes += self.notes
        return found

    def _submit(self, name: str, message: Message) -> None:
        self.exporter.submit(name, message.data, message.items)

    def _export_metrics(self) -> None:
        if not self.exporter.exports("metrics"):
            return
        pipeline = self.pipeline
        for collection in (pipeline.durations.collect(pipeline.clock.offset()), pipeline.graph.collect(self._itself)):
            for message in encode_metrics(collection):
                self._submit("metrics", message)


def run(config: Config, sinks: Sequence[Sink] | None = None) -> int:
    """Observe until SIGTERM or SIGINT; returns the exit code. sinks: None = what the configuration says."""
    stopping = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def stop(_number: int, _frame: FrameType | None) -> None:
        os.eventfd_write(stopping, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if os.geteuid() != 0:
        raise UnsupportedError("must run as root: loading BPF programs needs it (try `sudo otel-ebpf run`)")
    with embedded_viewer(config, stopping) as viewer:
        return _observe(config, sinks, stopping, viewer)


def _observe(config: Config, sinks: Sequence[Sink] | None, stopping: int, viewer: EmbeddedViewer | None) -> int:
    title = ""
    if viewer is not None:
        title = f"view: {viewer.page}"
        sys.stderr.write(f"{title}\n")  # in one call: the viewer's own words come from another thread
    agent = Agent(config if viewer is None else viewer.receiving(config))
    if viewer is not None:
        agent.pipeline.filter.leave_out(viewer.pid, viewer.ports)
        agent.notes = viewer.notes
    admin = None
    if config.admin.address != "none":
        completing = agent.pipeline.completing
        completing.enabled = config.completion != "off" and "traces" in config.signals
        admin = Admin(config.admin.address, agent.health, agent.report, completing.ask if completing.enabled else None)
        admin.start()
    if sinks is None and config.console:
        from otel_ebpf.control.console import open_console

        sinks = [open_console(sys.stdout, agent.report, title)]
    agent.sinks += sinks or []
    try:
        agent.start()
    except KernelError as failure:
        raise UnsupportedError(f"{failure}; `otel-ebpf doctor` says what is missing") from failure
    for program, why in agent.source.failures.items():
        print(f"otel-ebpf: not attached: {program}: {why}", file=sys.stderr)
    print("ready", file=sys.stderr, flush=True)
    try:
        agent.settle()
        while agent.wait(stopping):
            agent.turn()
    except BrokenPipeError:
        pass  # the reader of the live lines has gone; so do we
    finally:
        if admin is not None:
            admin.close()
        agent.finish()
    return 0
