"""Rung 3: the sending thread had exactly one request open, read by itself and answered by itself.

The kernel names it (`cause`), or sets Flag.MANY when there were several. This needs no sleep of the thread, so it also
speaks for an event loop that handles one request at a time, and for calls in parallel from one thread. It is off

- for a process whose tasks wander between threads (Trait.MIGRATES);
- on polled sockets, for a process with several event loops (Trait.MANY_LOOPS: a task may have moved to this thread), or
  whose threads call without an open request (Trait.DISPATCHES: queued work, work after the response, timers).

Measured without the last two on an event loop with work after the response: 0/31/567 (right/wrong/undecided).
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.model import Link
from otel_ebpf.tracing.bits import EPOLL
from otel_ebpf.tracing.processes import DISPATCHES, MANY_LOOPS, MIGRATES
from otel_ebpf.tracing.rungs.base import NONE, Calls, Proposal, Requests, Rung, inside, passed_on

_LOOPS = MANY_LOOPS | DISPATCHES


class ThreadAlone(Rung):
    """Exact as long as the process does no work of its own while a request is open; see the module's text."""

    link = Link.THREAD_ALONE

    def propose(self, calls: Calls, requests: Requests) -> Proposal:
        said = Proposal.silent(len(calls))
        doubtful = calls.of_process(MIGRATES) | (calls.has(EPOLL) & calls.of_process(_LOOPS))
        named = ((calls.cause != 0) & ~doubtful & ~calls.half_seen & calls.threaded).nonzero()[0]
        said.open[named] = True
        if not len(named) or not len(requests):
            return said
        request = calls.named[named]
        found = request != NONE
        fits = found & requests.single[request]
        fits &= (requests.reader[request] == calls.thread[named]) & (requests.writer[request] == calls.thread[named])
        within = inside(calls.start[named], calls.end[named], requests, request)
        fits &= within | passed_on(calls, named, requests, request)
        said.request[named] = np.where(fits, request, NONE)
        said.open[named[found]] = False
        return said
