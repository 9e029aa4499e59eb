"""How each process deals with its threads, learned from the rows that it makes: which rule may speak for it.

Theory of operation. A rule that names a parent by the thread holds where a thread does one thing at a time, and errs
where tasks wander between threads. A process shows by its own rows which kind it is, and rows are judged hundreds of
milliseconds after they ended: evidence that came in meanwhile counts. Each trait only ever switches a rule off, and
stays until the process is gone.

Bounded: traits have places as `places.Places` gives them; who answered is kept in 1 MiB of hashes of threads.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.bits import ANSWERING, EPOLL, MANY
from otel_ebpf.tracing.places import Places

_ROLE_BITS = 20


class Trait(IntFlag):
    """What is known of a process."""

    SERVES = 1 << 0
    """It receives requests."""
    MANY_LOOPS = 1 << 1
    """Several of its threads do event-driven I/O: a task may go on in another thread (Go, tokio, Netty, Envoy)."""
    DISPATCHES = 1 << 2
    """A thread without an open request sent a call on a polled socket: work is queued, or outlives its request."""
    CALLS = 1 << 4
    """It sends requests: only then can one that it receives be anybody's parent."""
    MIGRATES = 1 << 3
    """A call went out on one thread and came back on another, and both answer requests: tasks are not threads."""


SERVES = np.uint8(Trait.SERVES)
MANY_LOOPS = np.uint8(Trait.MANY_LOOPS)
DISPATCHES = np.uint8(Trait.DISPATCHES)
MIGRATES = np.uint8(Trait.MIGRATES)
CALLS = np.uint8(Trait.CALLS)


class Processes:
    """Traits by process."""

    def __init__(self, places: Places | None = None) -> None:
        """places: those of others who forget at the same time."""
        self._places = Places() if places is None else places
        self._traits = self._places.column(np.uint8)
        self._since = self._places.column(np.uint64)
        self._loop = self._places.column(np.uint64)
        self._units = self._places.column(np.uint64)
        self._unseen = self._places.column(np.uint64)
        self._answers = np.zeros(1 << _ROLE_BITS, np.bool_)

    def traits(self, tgid: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """(n,) Trait of each process."""
        traits: NDArray[np.uint8] = self._traits[self._places.of(tgid)]
        return traits

    def answered_unseen(self, tgid: NDArray[np.uint32], time: NDArray[np.uint64]) -> None:
        """(n,) at these times they answered requests that had come before anybody looked; monotonic ns."""
        np.maximum.at(self._unseen, self._places.take(tgid), time)

    def half_seen(self, tgid: NDArray[np.uint32], start: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) whether a call may be for a request that nobody saw come."""
        early: NDArray[np.bool_] = start < self._unseen[self._places.of(tgid)]
        return early

    def serves(self, tgid: NDArray[np.uint32]) -> None:
        """These processes are known to listen, before their first request has ended."""
        self._traits[self._places.take(tgid)] |= SERVES

    def with_units(self, tgid: NDArray[np.uint32], time: NDArray[np.uint64]) -> None:
        """(n,) moments in which a unit of execution was read that is not the thread."""
        pids = self._places.take(tgid)
        unknown = self._units[pids] == 0
        if unknown.any():
            self._units[pids[unknown]] = np.iinfo(np.uint64).max
            np.minimum.at(self._units, pids[unknown], time[unknown])

    def before_units(self, tgid: NDArray[np.uint32], start: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) whether a row is older than all that its process showed of such units: until the runtime was known, a
        row without one said nothing."""
        since = self._units[self._places.of(tgid)]
        before: NDArray[np.bool_] = (since != 0) & (start < since)
        return before

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        """They exited or became another program."""
        self._places.forget(tgid)

    def arrived(
        self,
        server: NDArray[np.bool_],
        tgid: NDArray[np.uint32],
        thread: NDArray[np.uint64],
        waiter: NDArray[np.uint64],
        start: NDArray[np.uint64],
        flags: NDArray[np.uint32],
    ) -> None:
        """Learn from rows as they come in: who serves, on which threads, and whether several of them are loops."""
        pids = self._places.take(tgid)
        known = self._traits[pids]
        for new, trait in ((server & ((known & SERVES) == 0), SERVES), (~server & ((known & CALLS) == 0), CALLS)):
            self._traits[pids[new]] |= trait
        unseen = (server & (self._since[pids] == 0)).nonzero()[0]
        if len(unseen):
            self._since[pids[unseen]] = np.iinfo(np.uint64).max
            np.minimum.at(self._since, pids[unseen], start[unseen])
        self._answers[_slot(waiter[server])] = True
        looping = ((server | ((flags & EPOLL) != 0)) & ((known & MANY_LOOPS) == 0)).nonzero()[0]
        owners = pids[looping]
        for units in (thread[looping], waiter[looping]):
            unset = ((self._loop[owners] == 0) & (units != 0)).nonzero()[0]
            self._loop[owners[unset]] = units[unset]
            several = (self._loop[owners] != units) & (units != 0)
            self._traits[owners[several]] |= MANY_LOOPS

    def judged(
        self,
        tgid: NDArray[np.uint32],
        thread: NDArray[np.uint64],
        waiter: NDArray[np.uint64],
        start: NDArray[np.uint64],
        flags: NDArray[np.uint32],
        cause: NDArray[np.uint64],
    ) -> None:
        """Learn from client rows at the time when all that ended before them has come in."""
        pids = self._places.take(tgid)
        idle = ((cause == 0) | ((flags & ANSWERING) != 0)) & ((flags & (MANY | EPOLL)) == EPOLL)
        since = self._since[pids]
        self._traits[pids[idle & (since != 0) & (since <= start)]] |= DISPATCHES
        crossed = ((thread != waiter) & (waiter != 0)).nonzero()[0]
        both = self._answers[_slot(thread[crossed])] & self._answers[_slot(waiter[crossed])]
        self._traits[pids[crossed[both]]] |= MIGRATES

    def forget_threads(self) -> None:
        """Once in a while: who answered, of threads that may be gone; those that live show it again at once."""
        self._answers[:] = False


def _slot(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Threads share a byte by hash: a collision can only make a process look less predictable than it is."""
    slots: NDArray[np.uint64] = keys >> np.uint64(64 - _ROLE_BITS)
    return slots
