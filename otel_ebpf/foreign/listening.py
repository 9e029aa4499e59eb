"""From what processes write to receivers of OTLP to what is known of their spans, and where such receivers are.

A receiver's port is one of the two that are OTLP's own, one that an observed process names in its environment, the one
that this agent exports to, or one at which a request to a trace receiver was seen and taken. Anybody may name any port,
so one that is only named is on trial, and so is each connection: what carries no export is soon copied no more.
Programs that name an exporter in their environment, or are started by OpenTelemetry's launchers, are likely to have an
SDK.

Who receives exports (`Receivers`) passes them on, and tells nothing of itself by that. Where it had passed some on
before anybody knew, it was taken for their author: that is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import CONNECTION_SERVER, Connections
from otel_ebpf.foreign.receivers import PORTS, Receivers
from otel_ebpf.foreign.spans import PROTOCOLS, ForeignSpans, Reader
from otel_ebpf.foreign.streams import MOST, Streams
from otel_ebpf.model import Attributes, Exchanges
from otel_ebpf.resource.procfs import Process
from otel_ebpf.tracing.completion import Completion

MOST_PORTS = 1000
TRIAL = 2 * MOST
"""Bytes to a port that is only named, of which some are an export if there is a receiver."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FIRST = np.frombuffer(b"POST /v1/traces ", np.uint64)
"""A request to a trace receiver, 16 bytes."""
_STATUS = len("HTTP/1.1 ")
"""Where a response's status is (RFC 9112 §4)."""


class Listening:
    """Feeds `completion.known`. streams, reader: what they could not read is counted there.

    follow: called with ports that are new. leave: with ports, and connections, that are not to be followed any more.
    offset: Unix ns minus monotonic ns, now.
    """

    def __init__(
        self,
        completion: Completion,
        offset: Callable[[], int],
        follow: Callable[[Iterable[int]], object],
        leave: Callable[[Iterable[int], Iterable[int]], object],
    ) -> None:
        self.streams = Streams()
        self.reader = Reader(offset)
        self._receivers = Receivers(self.reader.forward)
        self.ports: set[int] = set()
        self.heard = 0
        """spans"""
        self.ports_left_out = 0
        """times that there were too many"""
        self._completion = completion
        self._follow = follow
        self._leave = leave
        self._proven: set[int] = set()
        self._placed: set[int] = set()
        """connections of the exports that were read last, as far as they were announced"""
        self._copied = np.zeros(1 << 16, np.uint64)
        """by port: bytes"""

    def begin(self, more: Iterable[int] = ()) -> None:
        """Listen at OTLP's ports, and where else receivers may be."""
        self._prove(PORTS)
        self._add(more)

    def _prove(self, ports: Iterable[int]) -> None:
        """Receivers are at these ports: if there is no room, those go at which there may be one."""
        self._proven.update(ports := list(ports))
        surplus = len(self.ports.union(ports)) - MOST_PORTS
        if surplus > 0:
            self._drop(sorted(self.ports - self._proven)[:surplus], ())
        self._add(ports)

    def _drop(self, ports: Collection[int], connections: Collection[int]) -> None:
        if ports or connections:
            self.ports.difference_update(ports)
            self._leave(sorted(ports), sorted(connections))

    def _add(self, ports: Iterable[int]) -> None:
        """Receivers may be at these ports."""
        new = {port for port in ports if 0 < port < 1 << 16} - self.ports
        if self._completion.mode == "off" or not new:
            return
        if len(self.ports) + len(new) > MOST_PORTS:
            self.ports_left_out += len(new)
            return
        self.ports |= new
        self._follow(sorted(new))

    def announced(self, connections: NDArray[np.void]) -> None:
        """Ends (`struct connection`) that are new, or still in use."""
        self._receivers.announced(connections)

    def forget(self, tgids: Iterable[int]) -> None:
        """These processes ended, or execute another program, and all that they exported was taken."""
        gone = set(tgids)
        if gone:
            self._receivers.forget(gone)
            self.reader.forwarders -= gone

    def take(self, chunks: NDArray[np.void] | None, connections: Connections, now: int) -> dict[int, Attributes]:
        """Chunks of exports (`struct export_chunk`); returns what their resources call the processes.

        A process that turns out to pass on what others tell is called nothing: ()."""
        names: dict[int, Attributes] = {}
        if chunks is not None and len(chunks):
            exports = self.streams.take(chunks)
            spans, names = self.reader.read(exports, lambda conns: self._exported(conns, connections, now))
            self.streams.prove(self.reader.proven)
            self._judge(chunks, connections, now)
            if exports:
                self.hear(spans, now)
        return {**names, **dict.fromkeys(self._unmask(), ())}

    def _exported(self, conns: set[int], connections: Connections, now: int) -> None:
        """Exports were seen on these."""
        ends = self._receivers.exported(conns, connections, now)
        self._prove(ends["remote_port"].tolist())
        self._placed = set(ends["id"].tolist())

    def _judge(self, chunks: NDArray[np.void], connections: Connections, now: int) -> None:
        """Leave what has shown that it carries no exports, or only such as are passed on and lead to a known place."""
        passed_on = np.isin(chunks["tgid"], np.fromiter(self.reader.forwarders, np.uint32))
        others = self._placed.intersection(chunks["conn"][passed_on].tolist())
        others.update(self.streams.others())
        row = connections.rows(np.ascontiguousarray(chunks["conn"]), now)
        chunks, port = chunks[row >= 0], connections.table["remote_port"][row[row >= 0]]
        np.add.at(self._copied, port, chunks["len"])
        useless = self.ports.intersection(np.unique(port[self._copied[port] > TRIAL]).tolist()) - self._proven
        self._drop(useless, others)

    def _unmask(self) -> list[int]:
        """Processes that were taken for authors, and are none: what they told is forgotten."""
        unmasked, self.reader.unmasked = list(self.reader.unmasked), set()
        if not unmasked:
            return []
        tgids = np.array(unmasked, np.uint32)
        tgids = tgids[self._completion.known.told(tgids) != 0]
        self._completion.known.disown(tgids)
        found: list[int] = tgids.tolist()
        return found

    def hear(self, spans: ForeignSpans, now: int) -> None:
        """Spans that were exported, or handed in."""
        self.heard += len(spans)
        self._completion.known.hear(spans, now)
        self._completion.hint(np.unique(spans.tgid), now)

    def look(self, batches: Iterable[Exchanges], connections: Connections, now: int) -> None:
        """Find receivers by requests that were seen, and taken."""
        for batch in batches:
            if batch.request.shape[1] < 1024 or batch.response.shape[1] <= _STATUS:  # an export is long
                continue
            first = np.ascontiguousarray(batch.request[:, :16]).view(np.uint64)
            took = (first == _FIRST).all(axis=1) & (batch.response[:, _STATUS] == ord("2"))
            ends = self._receivers.exported(set(batch.head["conn"][took].tolist()), connections, now)
            if len(ends):
                serves = (ends["flags"] & CONNECTION_SERVER) != 0
                self._prove(np.where(serves, ends["local_port"], ends["remote_port"]).tolist())

    def expect(self, process: Process) -> None:
        """A process was looked at, before it exports anything: where it will is to be listened to by then."""
        if _exports(process):
            self._add(port for port in map(port_of, _endpoints(process)) if port and self._copied[port] <= TRIAL)

    def meet(self, process: Process, now: int) -> None:
        """A process receives or makes its first request: does its environment say that it has an SDK?"""
        if not _exports(process):
            return
        instrumented = any("opentelemetry-instrument" in argument for argument in process.argv[:3])
        agent = "opentelemetry-javaagent" in process.environment.get("JAVA_TOOL_OPTIONS", "") or any(
            "opentelemetry-javaagent" in argument for argument in process.argv
        )
        if _endpoints(process) or instrumented or agent or process.environment.get("OTEL_TRACES_EXPORTER"):
            self._completion.hint(np.array([process.pid], np.uint32), now)


def _exports(process: Process) -> bool:
    """Whether an SDK in it would, by its environment."""
    environment = process.environment
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and environment.get("OTEL_TRACES_EXPORTER", "otlp").lower() != "none"


def _endpoints(process: Process) -> list[str]:
    return [process.environment[name] for name in _ENDPOINTS if process.environment.get(name)]


def port_of(endpoint: str) -> int:
    """Of a URL, or host:port; 0: it has none that can be told.

    >>> port_of("http://collector:4318/x"), port_of("https://c"), port_of("c:55680"), port_of("?")
    (4318, 443, 55680, 0)
    """
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return 0


def protocol_codes(name_of: Callable[[int], str]) -> Callable[[NDArray[np.int32]], NDArray[np.uint8]]:
    """(n,) shapes → codes of PROTOCOLS, by the protocol's name of each distinct shape."""

    def codes(shapes: NDArray[np.int32]) -> NDArray[np.uint8]:
        distinct, which = np.unique(shapes, return_inverse=True)
        names = (name_of(shape) if shape >= 0 else "" for shape in distinct.tolist())
        found = [PROTOCOLS.index(name) if name in PROTOCOLS else 0 for name in names]
        return np.array(found, np.uint8)[which]

    return codes
