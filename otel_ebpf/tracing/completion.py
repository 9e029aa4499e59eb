"""Services that trace themselves are completed, not copied: which of our rows tell what an SDK's span tells already.

Theory of operation. A row is *covered* if a span of the process's own SDK tells of the same exchange. It is not emitted
then, and its children are those of that span; where it is not known by which span it is covered, they are its parent's.
What witnesses that, best first:

1. A call carries a context that none of the process's requests had: its span is the SDK's.
2. The SDK's export, read from the wire or handed in (otel_ebpf.foreign): which spans there are, of which exchanges.
   Exports come some seconds late. Rows of a process that is known, or likely, to have an SDK wait for them: until
   one has come that tells of something later, or `wait_ns` from the row's end.
3. Nothing can be read (TLS, other formats), and a call made for the request carries the request's trace on: then the
   SDK has taken the request's context up, which is what instrumentation of servers does.

All else is a gap, and filled: a proxy's hop, a database's side, a client that the SDK does not instrument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.foreign.known import NONE, Known
from otel_ebpf.tracing.bits import CLIENT, NO_LINK, TCP_OPTION, TRACEPARENT
from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.outcome import set_top
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.pool import COVERED, OWN, UNASKED, Pool, Rows

MODES = ("fill-gaps", "network-only", "everything", "off")
WAIT_NS = 8 * 10**9
"""SDKs export each 5 s (OTEL_BSP_SCHEDULE_DELAY)."""
HOPE = 3
"""So many times that time exports are waited for of a process that none was seen of."""
LATER_NS = 500 * 10**6
"""Spans are exported in the order of their ends: one of so much later, and what is not there will not come."""
LATE_NS = 10**9
"""What is heard of a process so much later than that it has ended is of the next one with its number."""
_NO_SPAN = np.uint64(0)
_MOST_ENDED = 1 << 12


class Completion:
    """Decides for the assembler. protocols: (n,) shapes → codes of `foreign.spans.PROTOCOLS`.

    covered: rows by how they were found to be.
    """

    def __init__(
        self,
        mode: str = "everything",
        wait_ns: int = WAIT_NS,
        protocols: Callable[[NDArray[np.int32]], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.mode = mode
        self._places = Places()
        self.known = Known(self._places)
        self.covered = {"context": 0, "export": 0, "carried_on": 0}
        self._wait = np.uint64(wait_ns)
        self._protocols = protocols
        self._hoped = self._places.column(np.uint64)
        """by process: until when an export is hoped for though none was seen; 0: nothing hints at one"""
        self._hinted = self._places.column(np.uint64)
        """by process: when something hinted at it last"""
        self.met: Callable[[NDArray[np.uint64], NDArray[np.uint64]], object] = lambda _roots, _calls: None
        """Told of roots of foreign traces, and of the calls of ours that they answer."""
        self._ended: deque[tuple[int, NDArray[np.uint32]]] = deque(maxlen=_MOST_ENDED)
        self.active = False
        """Whether any process is known that traces itself."""

    @property
    def follows(self) -> bool:
        """Whether the contexts that SDKs put into calls count."""
        return self.mode != "off"

    @property
    def missed(self) -> int:
        """Processes of which nothing is kept: see `Places`."""
        return self._places.missed

    def hint(self, tgid: NDArray[np.uint32], now: int) -> None:
        """These processes seem to have an SDK."""
        if self.mode == "off" or not len(tgid):
            return
        pids = self._places.take(tgid)
        new = pids[self._hoped[pids] == 0]
        self._hoped[new] = np.uint64(now) + np.uint64(HOPE) * self._wait
        self._hinted[pids] = np.uint64(now)
        self.active = True

    def forget(self, tgid: NDArray[np.uint32], now: int) -> None:
        """These processes ended, or execute another program; what they did before may still be on its way."""
        if self.active and len(tgid):
            self._ended.append((now + 2 * int(self._wait), tgid.copy()))
        while self._ended and self._ended[0][0] <= now:
            due, ended = self._ended.popleft()
            last = np.uint64(due - 2 * int(self._wait) + LATE_NS)
            self._places.forget(ended[self._hinted[self._places.of(ended)] <= last])

    def waiting(self, pool: Pool, rows: Rows, time: np.uint64) -> NDArray[np.bool_]:
        """(n,) whether an export may still tell of the row."""
        spans = pool.spans
        tgid, end = spans.tgid[rows], spans.end[rows]
        told = self.known.told(tgid)
        waits: NDArray[np.bool_] = (told != 0) | (self._hoped[self._places.of(tgid)] > time)
        waits &= (end + self._wait > time) & (told <= end + np.uint64(LATER_NS)) & (pool.deadline[rows] != 0)
        return waits

    def notice(self, pool: Pool, rows: Rows, time: np.uint64) -> None:
        """These rows are open: calls among them that carry a context which no request had hint at an SDK."""
        spans = pool.spans
        carry = rows[(spans.remote_parent[rows] != 0) & (spans.remote_parent[rows] != spans.span_id[rows])]
        if not len(carry) or self.mode == "off":
            return
        call = spans.kind[carry] == CLIENT
        context = splitmix64(spans.remote_parent[carry]) ^ spans.tgid[carry]
        own = carry[call & ~np.isin(context, context[~call])]
        self.hint(np.unique(spans.tgid[own]), int(time))

    def requests(self, pool: Pool, rows: Rows, time: np.uint64) -> NDArray[np.bool_]:
        """(n,) which of these server rows are to be judged as usual: the others are covered now, or wait."""
        judged = np.ones(len(rows), np.bool_)
        if not self.active or self.mode == "off":
            return judged
        spans = pool.spans
        asked = (self.known.told(spans.tgid[rows]) != 0).nonzero()[0]
        if len(asked):
            some = rows[asked]
            found = self.known.requests(
                spans.tgid[some],
                spans.start[some],
                spans.end[some],
                spans.peer_port[some],
                spans.remote_trace[some],
                # What came in a TCP option the SDK has not seen.
                np.where(spans.remote_link[some] == TCP_OPTION, _NO_SPAN, spans.remote_parent[some]),
                int(time),
            )
            hit = (found != NONE).nonzero()[0]
            self._told(pool, some[hit], found[hit])
            judged[asked[hit]] = False
        rest = judged.nonzero()[0]
        judged[rest[self.waiting(pool, rows[rest], time)]] = False
        return judged

    def _told(self, pool: Pool, rows: Rows, found: NDArray[np.intp]) -> None:
        """Requests of which an export tells: in the SDK's trace, and for its span, or below it."""
        if not len(rows):
            return
        own, spans = self.known.spans, pool.spans
        everything = self.mode == "everything"
        set_top(pool, rows, own.trace[found], TRACEPARENT, np.uint8(1))
        spans.parent[rows] = own.span[found] if everything else own.parent[found]
        spans.link[rows] = TRACEPARENT
        if everything:
            pool.cover[rows] = OWN
            return
        pool.cover[rows], pool.alias[rows] = COVERED, own.span[found]
        self.covered["export"] += len(rows)

    def carried(self, pool: Pool, rows: Rows, time: np.uint64) -> None:
        """Calls with a context of their process's SDK: its span is the parent by now, and tells of the call."""
        if not len(rows):
            return
        spans = pool.spans
        self.hint(np.unique(spans.tgid[rows]), int(time))
        if self.mode != "fill-gaps":
            pool.cover[rows] = OWN
            return
        kept = rows[(spans.remote_flags[rows] & 1) != 0]  # of what the SDK does not sample it sends no span
        pool.cover[kept], pool.alias[kept] = COVERED, spans.remote_parent[kept]
        self.covered["context"] += len(kept)

    def carried_on(self, pool: Pool, calls: Rows, requests: Rows) -> None:
        """Calls with a context of their SDK's, and the requests that they were made for, in the pool or NOWHERE."""
        here = requests >= 0
        calls, requests = calls[here], requests[here]
        if self.mode not in ("fill-gaps", "network-only") or not len(calls):
            return
        spans = pool.spans
        same = (spans.remote_trace[calls] == spans.remote_trace[requests]).all(axis=1)
        same &= (spans.remote_parent[requests] != 0) & (spans.remote_link[requests] != NO_LINK)
        same &= (spans.remote_flags[calls] & 1 != 0) & (self.known.told(spans.tgid[calls]) == 0)
        same &= pool.cover[requests] == UNASKED
        requests = np.unique(requests[same])
        pool.cover[requests], pool.alias[requests] = COVERED, _NO_SPAN
        self.covered["carried_on"] += len(requests)

    def calls(self, pool: Pool, rows: Rows, top: Rows) -> None:
        """Rows whose topmost ancestor is known now: those of them that are calls of which an export tells."""
        if not self.active or self.mode == "off":
            return
        spans = pool.spans
        asked = (spans.kind[rows] == CLIENT) & (pool.cover[rows] == UNASKED)
        asked &= self.known.told(spans.tgid[rows]) != 0
        if not asked.any():
            return
        top, rows = top[asked], rows[asked]
        pool.cover[rows] = COVERED if self.mode == "network-only" else OWN
        came = (pool.came_by[top] != NO_LINK)[:, None]
        shape = spans.shape[rows]
        found = self.known.calls(
            spans.tgid[rows],
            spans.start[rows],
            spans.end[rows],
            spans.peer_port[rows],
            self._protocols(shape) if self._protocols is not None else np.zeros(len(rows), np.uint8),
            np.where(came, spans.trace[top], _NO_SPAN),
        )
        hit = found.covered.nonzero()[0]
        if not len(hit):
            return
        told, span, own = rows[hit], found.span[hit], self.known.spans
        exact = span != NONE
        alone = exact & (top[hit] == told)
        set_top(pool, told[alone], own.trace[span[alone]], TRACEPARENT, np.uint8(1))
        alias = np.where(exact, own.span[span], _NO_SPAN)
        if self.mode == "fill-gaps":
            pool.cover[told], pool.alias[told] = COVERED, alias
            self.covered["export"] += len(told)
        else:
            pool.cover[told], pool.given[told] = OWN, alias
