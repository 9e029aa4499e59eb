"""Contexts that travel with requests (in TCP options, in headers put in), and whether what was sent came out as it was
said.

Theory of operation. The kernel side decides what a request bears when it is sent; this agent decides what is true when
it is over. `Evidence` holds the two against each other: for each process, whether the request that the sending thread
had open (`cause`) became the parent of the call, every time. A process is *proven* after AGREED such calls, seen over a
while in which an SDK of its own would have shown itself, and never again after one that came out otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Flag, Link, Spans
from otel_ebpf.tracing.bits import ANSWERING, CLIENT, EPOLL, MANY, NO_LINK, SERVER
from otel_ebpf.tracing.processes import DISPATCHES, MANY_LOOPS, MIGRATES, Processes

MODES = ("off", "tcp-option", "http-header")
"""`propagation` of the configuration."""
AGREED = 16
SDK_SHOWS_NS = 12 * 10**9
"""An SDK exports each 5 s: after this time one that is there was heard of."""
_WAITING = 1 << 16
_ENDED = 4096
_DOUBTS = ANSWERING | MANY
_CARRIED = np.uint32(Flag.CARRIED)
_LOOPS = MANY_LOOPS | DISPATCHES
_OPTION = np.uint8(Link.TCP_OPTION)


class Arrived:
    """What requests came with, until they are over. At most 65,536; the oldest go first, and are counted.

    >>> arrived.hear(drain.contexts)
    >>> arrived.apply(spans)
    """

    def __init__(self) -> None:
        self.forgotten = 0
        self._waiting: NDArray[np.void] | None = None

    def hear(self, contexts: NDArray[np.void]) -> None:
        """contexts: (n,) `struct arrived_context`."""
        if not len(contexts):
            return
        known = contexts.copy() if self._waiting is None else np.concatenate([self._waiting, contexts])
        self.forgotten += max(len(known) - _WAITING, 0)
        self._waiting = known[-_WAITING:]

    def apply(self, spans: Spans) -> None:
        """Requests that came with a context, and have none in their own bytes, are children of it."""
        known = self._waiting
        if known is None or not len(known):
            return
        servers = (spans.kind == SERVER).nonzero()[0]
        if not len(servers):
            return
        order = np.argsort(known["request"])
        wanted = spans.span_id[servers]
        at = order[np.minimum(np.searchsorted(known["request"][order], wanted), len(known) - 1)]
        hit = known["request"][at] == wanted
        rows, came = servers[hit], known[at[hit]]
        keep = np.ones(len(known), np.bool_)
        keep[at[hit]] = False
        self._waiting = known[keep]
        bare = spans.remote_link[rows] == NO_LINK
        rows, came = rows[bare], came[bare]
        spans.remote_link[rows] = _OPTION
        spans.remote_trace[rows] = came["trace"]
        spans.remote_parent[rows] = came["span"]
        spans.remote_flags[rows] = 1


class Evidence:
    """See the module's text. wrong: calls that were told otherwise than they came out.

    patience_ns: how long a process is watched before it can be proven.
    """

    def __init__(self, processes: Processes, patience_ns: int = SDK_SHOWS_NS) -> None:
        self.wrong = 0
        self._processes = processes
        self._patience = patience_ns
        self._agreed: dict[int, int] = {}
        self._since: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._proven: set[int] = set()
        self._never: set[int] = set()

    def judge(self, spans: Spans, covered: NDArray[np.bool_], now: int) -> tuple[list[int], list[int]]:
        """Decided rows as they are exported. Returns the processes that are proven now, and those that are no more.

        covered: (n,) rows of which an SDK tells. now: CLOCK_MONOTONIC ns.
        """
        calls = (spans.kind == CLIENT).nonzero()[0]
        if self._ended:
            calls = calls[[start >= self._ended.get(pid, 0) for pid, start in _who(spans, calls)]]
        if not len(calls):
            return [], []
        flags, tgid = spans.flags[calls], spans.tgid[calls]
        named = (spans.cause[calls] != 0) & ((flags & _DOUBTS) == 0)
        agrees = named & (spans.parent[calls] == spans.cause[calls]) & ~covered[calls]
        traits = self._processes.traits(tgid)
        unruly = ((traits & MIGRATES) != 0) | (((flags & EPOLL) != 0) & ((traits & _LOOPS) != 0))
        alone = (spans.cause[calls] == 0) & (spans.parent[calls] == 0)
        self.wrong += int(np.count_nonzero(((flags & _CARRIED) != 0) & ~agrees & ~alone))
        against = covered[calls] | unruly | (named & ~agrees)
        fallen = set(np.unique(tgid[against]).tolist()) - self._never
        self._never |= fallen
        risen = []
        pids, count = np.unique(tgid[agrees], return_counts=True)
        for pid, n in zip(pids.tolist(), count.tolist(), strict=True):
            if pid in self._never or pid in self._proven:
                continue
            self._agreed[pid] = self._agreed.get(pid, 0) + n
            since = self._since.setdefault(pid, now)
            if self._agreed[pid] >= AGREED and now - since >= self._patience:
                self._proven.add(pid)
                risen.append(pid)
        lost = [pid for pid in fallen if pid in self._proven]
        self._proven -= fallen
        return risen, lost

    def forget(self, events: NDArray[np.void]) -> None:
        """events: (n,) `struct process_event`: they ended, or became another program. Their rows may still come."""
        for pid, time in zip(events["tgid"].tolist(), events["t"].tolist(), strict=True):
            self._ended.pop(pid, None)
            self._ended[pid] = time
            self._agreed.pop(pid, None)
            self._since.pop(pid, None)
            self._proven.discard(pid)
            self._never.discard(pid)
        while len(self._ended) > _ENDED:
            del self._ended[next(iter(self._ended))]


def _who(spans: Spans, rows: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    return zip(spans.tgid[rows].tolist(), spans.start[rows].tolist(), strict=True)
