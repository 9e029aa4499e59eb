"""Rung 2: the thread that writes the response of a request is the one that made the calls for it.

Only where the thread itself slept until its call was answered: the same thread sent the call and received its answer,
touched no other socket in between (Flag.DISTURBED), and the socket was in nobody's epoll set (Flag.EPOLL). Measured
without that gate 57-96 % wrong on virtual threads and tokio, with it 100/0/0 (right/wrong/undecided) on thread pools
and executor hand-offs of every runtime tried.

The call belongs to the response that the thread wrote next. If the thread had read that request itself, the kernel
must have seen the same (`cause`). If another thread had read it (hand-off), two more things must be ruled out:

- the request arrived before the thread's previous response was done (it waited in a queue): the call may be what was
  left to do after that one, unless the process has shown that its workers leave nothing;
- the thread had read yet another request and put it aside (into the queue): the call may have been made for that one,
  unless the process has shown that its threads answer what they have called for.

What a process has shown (`habits`) is the confidence then; a call waits a little for what it has not shown yet
(`suspended`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.bits import AWAKE
from otel_ebpf.tracing.keys import groups
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.processes import MIGRATES, SERVES
from otel_ebpf.tracing.rungs.base import NONE, Calls, Proposal, Requests, Rung, find, inside
from otel_ebpf.tracing.rungs.habits import Habit
from otel_ebpf.tracing.rungs.suspended import Suspended

_THREADS = 1 << 16
_TIME_BITS = np.uint64(44)
_TIME_MASK = (np.uint64(1) << _TIME_BITS) - np.uint64(1)


class ThreadResponse(Rung):
    """Exact for blocking threads. Keeps the end of each thread's last response (at most 65,536 threads)."""

    link = Link.THREAD_RESPONSE

    def __init__(self, places: Places | None = None) -> None:
        self._threads = np.zeros(0, np.uint64)
        self._last_end = np.zeros(0, np.uint64)
        self._leave = Habit(places)
        """calls after a response"""
        self._call_first = Habit(places)
        """calls for a request that is put aside then"""
        self._suspended = Suspended()

    def wants(self, calls: Calls, requests: Requests) -> NDArray[np.uint64]:
        self._suspended.begin(calls.span_id)
        return self._suspended.request

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        self._leave.forget(tgid)
        self._call_first.forget(tgid)

    def propose(self, calls: Calls, requests: Requests) -> Proposal:
        said = Proposal.silent(len(calls))
        said.later = np.zeros(len(calls), np.bool_)
        gated = slept(calls).nonzero()[0]
        gated = gated[~self._resume(said, calls, gated, requests)]
        named = calls.cause[gated] != 0
        # Without a cause only a process that receives requests at all can have had one handed over to this thread.
        serving = calls.of_process(SERVES)[gated]
        said.open[gated] = np.where(named, ~_answered_itself(calls, gated, requests), serving)
        # Nothing older can come for it: what such a call of a worker was for, it had answered before.
        given_up = gated[serving & ~calls.waiting[gated]]
        answered = ((requests.writer != 0) & requests.fresh).nonzero()[0]
        if len(answered):
            given_up = given_up[~np.isin(given_up, self._written_next(said, calls, gated, requests, answered))]
        self._learn_calls(calls, given_up)
        return said

    def _resume(self, said: Proposal, calls: Calls, gated: NDArray[np.intp], requests: Requests) -> NDArray[np.bool_]:
        """(n,) which calls wait for a habit only. Proposes what they wait for to those whose process has shown it."""
        at = self._suspended.find(calls.span_id[gated])
        resumed: NDArray[np.bool_] = at != NONE
        if not resumed.any():
            return resumed
        rows, at = gated[resumed], at[resumed]
        sure = self._sure(calls.tgid[rows], self._suspended.leave[at], self._suspended.call_first[at])
        request = find(requests.span_id, self._suspended.request[at])
        shown = (sure > 0) & (request != NONE)
        said.request[rows] = np.where(shown, request, NONE)
        said.confidence[rows[shown]] = sure[shown]
        assert said.later is not None
        said.later[rows] = ~shown
        return resumed

    def _sure(
        self, tgid: NDArray[np.uint32], leave: NDArray[np.bool_], call_first: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """(n,) how sure a conclusion is that takes these habits; 0: one of them is not known."""
        sure = np.where(leave, self._leave.never(tgid), np.float32(1))
        return np.where(call_first, np.minimum(sure, self._call_first.never(tgid)), sure)

    def _written_next(
        self,
        said: Proposal,
        calls: Calls,
        gated: NDArray[np.intp],
        requests: Requests,
        answered: NDArray[np.intp],
    ) -> NDArray[np.intp]:
        """Proposes to calls the request whose response their thread wrote next; returns those of which it is known."""
        writers, thread = groups(requests.writer[answered])
        ends = requests.end[answered]
        origin = ends.min()
        times = _clock(ends, origin)
        keys = (thread.astype(np.uint64) << _TIME_BITS) | times
        order = np.argsort(keys)
        keys, thread, written = keys[order], thread[order], answered[order]
        previous = self._previous(writers, thread, requests.end[written])
        waited = (previous != 0) & (requests.start[written] >= previous)
        self._leave.chance(requests.tgid[written[waited]])

        at = np.searchsorted(writers, calls.thread[gated])
        own = np.minimum(at, len(writers) - 1)
        wanted = (own.astype(np.uint64) << _TIME_BITS) | _clock(calls.end[gated], origin)
        ask = np.argsort(wanted)
        following = np.empty(len(gated), np.intp)
        following[ask] = np.searchsorted(keys, wanted[ask])
        following = np.minimum(following, len(keys) - 1)
        next_found = (writers[own] == calls.thread[gated]) & (thread[following] == own) & (keys[following] >= wanted)

        request, before = written[following], previous[following]
        start, tgid = calls.start[gated], calls.tgid[gated]
        named = calls.cause[gated] != 0
        same_cause = calls.cause[gated] == requests.span_id[request]
        # Made before the request came: for the one that the thread had read and put aside, or left from the one before.
        earlier = next_found & (start < requests.start[request]) & ~calls.half_seen[gated]
        self._call_first.taken(tgid[earlier & named & ~same_cause])
        self._leave.taken(tgid[earlier & ~named & (before != 0) & (before <= start)])

        fits = next_found & requests.single[request] & inside(start, calls.end[gated], requests, request)
        # No other response was being written meanwhile.
        fits &= (before <= start) & (before <= requests.first_byte[request])
        read_itself = requests.reader[request] == calls.thread[gated]
        self._call_first.chance(tgid[fits & read_itself & same_cause])
        fits &= ~read_itself | same_cause
        queued, put_aside = ~read_itself & (requests.start[request] < before), ~read_itself & named
        sure = self._sure(tgid, queued, put_aside)
        waits = fits & (sure == 0)
        waits &= ~(queued & self._leave.seen(tgid)) & ~(put_aside & self._call_first.seen(tgid))
        fits &= sure > 0
        self._suspended.add(
            calls.span_id[gated[waits]], requests.span_id[request[waits]], queued[waits], put_aside[waits]
        )
        assert said.later is not None
        said.later[gated[waits]] = True
        said.request[gated] = np.where(fits, request, NONE)
        said.confidence[gated[fits]] = sure[fits]
        said.open[gated[next_found]] = False
        found: NDArray[np.intp] = gated[next_found]
        return found

    def _learn_calls(self, calls: Calls, given_up: NDArray[np.intp]) -> None:
        """Of calls that no request explains: for what the thread had put aside, or left from what it had answered."""
        given_up = given_up[~calls.half_seen[given_up]]  # it may have been for a request that nobody saw come
        named = calls.cause[given_up] != 0
        self._call_first.taken(calls.tgid[given_up[named]])
        given_up = given_up[~named]
        if not len(given_up) or not len(self._threads):
            return
        at = np.minimum(np.searchsorted(self._threads, calls.thread[given_up]), len(self._threads) - 1)
        worker = (self._threads[at] == calls.thread[given_up]) & (self._last_end[at] <= calls.start[given_up])
        self._leave.taken(calls.tgid[given_up[worker]])

    def _previous(
        self, writers: NDArray[np.uint64], thread: NDArray[np.intp], end: NDArray[np.uint64]
    ) -> NDArray[np.uint64]:
        """(m,) end of the response that the same thread wrote before, 0 if none is known; remembers the last ones.

        thread: (m,) ascending index into `writers`; end: ascending within a thread.
        """
        first = np.append(0, (thread[1:] != thread[:-1]).nonzero()[0] + 1)
        last = np.append(first[1:], len(thread)) - 1
        at = np.minimum(np.searchsorted(self._threads, writers), max(len(self._threads) - 1, 0))
        known = self._threads[at] == writers if len(self._threads) else np.zeros(len(writers), np.bool_)
        remembered = np.zeros(len(writers), np.uint64)
        remembered[known] = self._last_end[at[known]]
        previous = np.empty(len(end), np.uint64)
        previous[1:] = end[:-1]
        previous[first] = remembered
        self._last_end[at[known]] = np.maximum(end[last[known]], self._last_end[at[known]])
        if not known.all():
            self._remember(writers[~known], end[last[~known]])
        return previous

    def _remember(self, writers: NDArray[np.uint64], end: NDArray[np.uint64]) -> None:
        threads = np.concatenate([self._threads, writers])
        last_end = np.concatenate([self._last_end, end])
        if len(threads) > _THREADS:
            recent = np.argsort(last_end)[-_THREADS // 2 :]
            threads, last_end = threads[recent], last_end[recent]
        order = np.argsort(threads)
        self._threads, self._last_end = threads[order], last_end[order]


def _answered_itself(calls: Calls, rows: NDArray[np.intp], requests: Requests) -> NDArray[np.bool_]:
    """(n,) whether the request that the thread of a call had read is known, and was answered by that thread."""
    known = calls.named[rows] != NONE
    itself = np.zeros(len(rows), np.bool_)
    itself[known] = requests.writer[calls.named[rows[known]]] == calls.thread[rows[known]]
    return itself


def slept(calls: Calls) -> NDArray[np.bool_]:
    """(n,) the gate: the sending thread did nothing else until its call was answered, in a process of real threads."""
    asleep: NDArray[np.bool_] = (calls.thread == calls.waiter) & calls.threaded & ~calls.has(AWAKE)
    asleep &= ~calls.of_process(MIGRATES)
    return asleep


def _clock(time: NDArray[np.uint64], origin: np.uint64) -> NDArray[np.uint64]:
    """(n,) time since `origin` in 44 bits (4.9 hours of ns), clipped at both ends."""
    since: NDArray[np.uint64] = np.maximum(time, origin) - origin
    np.minimum(since, _TIME_MASK, out=since)
    return since
