"""What a rung of the ladder sees and says: calls in, requests in, proposals out. One rung, one module.

A rung is asked in every pass about the calls (client rows) that have no parent yet, against the requests (server rows)
that have become known since. It proposes at most one request for a call, or says that it may still do so later, or
leaves the call alone for good. It decides nothing: `otel_ebpf.tracing.parents` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link

NONE, CONFLICT = -1, -2
_NOBODY = np.zeros(0, np.uint64)


@dataclass(slots=True)
class Calls:
    """Client rows whose parent is sought; n columns of equal length, times in monotonic ns."""

    row: NDArray[np.intp]
    span_id: NDArray[np.uint64]
    conn: NDArray[np.uint64]
    tgid: NDArray[np.uint32]
    thread: NDArray[np.uint64]
    """(n,) key of the thread that sent the call (`keys.unit_keys`)"""
    waiter: NDArray[np.uint64]
    """(n,) key of the thread that received its response; 0 if there was none"""
    unit: NDArray[np.uint64]
    """(n,) key of the unit of execution that sent it (`keys.unit_keys`); 0: it is the thread, or not known"""
    ids: NDArray[np.uint64]
    """(n,) Node's ids, as they are in a unit (`segments.Segments`); 0: they say nothing"""
    looping: NDArray[np.bool_]
    """(n,) the thread is the unit of execution, or one of Node's loops"""
    threaded: NDArray[np.bool_]
    """(n,) the thread is the unit of execution"""
    wanted: NDArray[np.uint64]
    """(n,) when the process began to want it: the connect of a fresh connection, else `start`"""
    start: NDArray[np.uint64]
    first_byte: NDArray[np.uint64]
    end: NDArray[np.uint64]
    after: NDArray[np.uint64]
    """(n,) span id of the exchange of which the thread had received bytes last before it (before `wanted`); 0: none"""
    flags: NDArray[np.uint32]
    single: NDArray[np.bool_]
    """(n,) the record is this one call, not several that were pipelined, which may be for different requests"""
    waiting: NDArray[np.bool_]
    """(n,) a request that began before the call may still become known"""
    kind: NDArray[np.uint64]
    """(n,) what it is like: the same for calls of the same shape to the same port"""
    found: NDArray[np.intp]
    """(n,) index of the request that the rungs above named, NONE, or CONFLICT: they contradict each other"""
    cause: NDArray[np.uint64]
    """(n,) span id of the one request that the sending thread had received and not answered; else 0"""
    named: NDArray[np.intp]
    """(n,) index of the request with that span id among the requests at hand, or NONE; not yet known in `wants`"""
    half_seen: NDArray[np.bool_]
    """(n,) the process had requests then that nobody saw come: which ones are open says little"""
    traits: NDArray[np.uint8]
    """(n,) what is known of the process (`processes.Trait`)"""
    remote_trace: NDArray[np.uint64]
    remote_parent: NDArray[np.uint64]
    """(n, 2), (n,) context in the call's own bytes; 0 = none"""
    request_id: NDArray[np.uint64]
    """(n,) the id in its X-Request-Id (`tracing.request_ids`)"""

    def __len__(self) -> int:
        return len(self.row)

    def has(self, bits: np.uint32) -> NDArray[np.bool_]:
        """(n,) whether any of the flags (`tracing.bits`) is set."""
        any_of: NDArray[np.bool_] = (self.flags & bits) != 0
        return any_of

    def of_process(self, traits: np.uint8) -> NDArray[np.bool_]:
        """(n,) whether the process has any of the traits."""
        any_of: NDArray[np.bool_] = (self.traits & traits) != 0
        return any_of


@dataclass(slots=True)
class Requests:
    """Server rows that have ended: those that became known since the last pass, and those that late calls name."""

    row: NDArray[np.intp]
    """(m,) row in the pool; `pool.NOWHERE` if it was released already"""
    tgid: NDArray[np.uint32]
    fresh: NDArray[np.bool_]
    """(m,) it became known since the last pass"""
    span_id: NDArray[np.uint64]
    conn: NDArray[np.uint64]
    reader: NDArray[np.uint64]
    writer: NDArray[np.uint64]
    """(m,) keys of the threads that read the request and wrote the response; writer 0: unanswered"""
    reader_unit: NDArray[np.uint64]
    unit: NDArray[np.uint64]
    """(m,) keys of the units of execution that did; 0: the thread is the unit, or it is not known"""
    start: NDArray[np.uint64]
    first_byte: NDArray[np.uint64]
    end: NDArray[np.uint64]
    after: NDArray[np.uint64]
    """(m,) span id of the exchange of which the thread had received bytes last before it answered; 0: none"""
    kind: NDArray[np.uint64]
    """(m,) what it is like: the same for requests of the same shape"""
    single: NDArray[np.bool_]
    """(m,) the record is this one request, not several that were pipelined"""
    remote_trace: NDArray[np.uint64]
    remote_parent: NDArray[np.uint64]
    """(m, 2), (m,) context in the request's own bytes; 0 = none"""
    request_id: NDArray[np.uint64]
    """(m,) the id in its X-Request-Id; UNKNOWN as well where nothing of it could be read"""

    def __len__(self) -> int:
        return len(self.row)


@dataclass(slots=True)
class Proposal:
    """What one rung says of n calls.

    request: (n,) index into Requests, or NONE. confidence: (n,) 0 … 1, of those proposed; 1 = deterministic.
    open: (n,) it may still propose something later; it must not stay open for calls that it can never decide.
    link: (n,) Link by which each was found; None: the rung's own. candidates: (n,) how many requests it could have been
    (255: that or more); None: one. later: (n,) it may still propose something although no request is to come, when more
    has been answered; None: of no call.
    """

    request: NDArray[np.intp]
    confidence: NDArray[np.float32]
    open: NDArray[np.bool_]
    link: NDArray[np.uint8] | None = None
    candidates: NDArray[np.uint8] | None = None
    later: NDArray[np.bool_] | None = None

    @staticmethod
    def silent(n: int) -> Proposal:
        """Nothing to say, now or later."""
        return Proposal(np.full(n, NONE, np.intp), np.ones(n, np.float32), np.zeros(n, np.bool_))


class Rung(ABC):
    """One way to find the request that a call was made for. A rung may keep state of its own, bounded."""

    link: ClassVar[Link]

    def wants(self, calls: Calls, requests: Requests) -> NDArray[np.uint64]:
        """Span ids of requests that it will name (0: none): asked before `propose`, with `calls.named` still empty.

        requests: those that became known since the last pass; `propose` sees the ones that were wanted as well.
        """
        return _NOBODY

    def forget(self, tgid: NDArray[np.uint32]) -> None:  # noqa: B027 - most rungs keep nothing by process
        """These processes ended, or became another program."""

    @abstractmethod
    def propose(self, calls: Calls, requests: Requests) -> Proposal:
        """Called once in each pass, also when there are no calls: a rung may learn from the requests."""


def inside(
    start: NDArray[np.uint64], end: NDArray[np.uint64], requests: Requests, request: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """(n,) whether a call lies between the request's arrival and its response, or within a streamed response.

    A call that was sent before the response began and answered after it is neither: the thread did not wait for it.
    """
    first_byte = requests.first_byte[request]
    before = end <= first_byte
    during: NDArray[np.bool_] = (start >= first_byte) & (end <= requests.end[request])
    during |= before
    during &= (first_byte != 0) & (requests.start[request] <= start)
    return during


def passed_on(calls: Calls, rows: NDArray[np.intp], requests: Requests, request: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(n,) whether the answer to a call began before the request's response did, and was over before that was: a proxy
    passes on what comes in, piece by piece. A call that got no answer was made before the response."""
    start, first_byte = calls.start[rows], calls.first_byte[rows]
    over = np.where(first_byte != 0, calls.end[rows], start)
    passed: NDArray[np.bool_] = (requests.start[request] <= start) & (start < requests.first_byte[request])
    passed &= (first_byte <= requests.first_byte[request]) & (over <= requests.end[request])
    return passed


def find(keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.intp]:
    """(n,) index of each wanted key in `keys` (distinct), or NONE."""
    if not len(keys) or not len(wanted):
        return np.full(len(wanted), NONE, np.intp)
    order = np.argsort(keys)
    ask = np.argsort(wanted)  # sorted questions are seven times faster to answer
    at = np.empty(len(wanted), np.intp)
    at[ask] = order[np.minimum(np.searchsorted(keys[order], wanted[ask]), len(keys) - 1)]
    return np.where(keys[at] == wanted, at, NONE)
