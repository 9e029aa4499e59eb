"""Rows' process ids → ids of resources, without touching a row: each process is looked at once.

Theory of operation. A process is (pid, start), and what a pid means changes with time: it ends, is used again, or
executes another program. So each pid has *lives*, each with its resource and the time from which it holds; the kernel's
process events begin and end them. Most pids have one life that goes on: their resource stands in an array indexed by
pid, and a batch is one look-up in it. Only rows of pids with a story are sorted out by their times.

A life that ended is kept for a while, for exchanges that are still on their way. A process that was gone before anybody
looked is named by the kernel's `comm`: so look early, when it executes and when its first connection is announced. Ends
may have been lost (a full ring): every living pid is looked up again now and then, a few at a time.

Process ids are below 2^22 (PID_MAX_LIMIT), so the array is 16 MiB of which only the touched pages exist.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct, sparse
from otel_ebpf.model import Attributes, Intern, Resource
from otel_ebpf.resource import procfs
from otel_ebpf.resource.describe import Describer
from otel_ebpf.resource.procfs import Process

GRACE_NS = 120 * 10**9
"""How long an ended life is kept; UNUSED_GRACE_NS: one that nobody asked for."""
UNUSED_GRACE_NS = 3 * 10**9
VERIFY_NS = 10**9
VERIFIED_AT_ONCE = 64
READ_AHEAD = 10
"""Executing processes that are looked at per batch of events, before anybody asks."""
MOST_ENDED = 1 << 13
"""Ended lives that are kept, used and unused, 1 KB each with what /proc said; of more, those that ended first go before
their time."""
MOST_LIVES = 16
"""Of one pid within the grace; more are only possible for a program that executes itself in a loop."""
_PIDS = 1 << 22
_PID_MASK = np.uint32(_PIDS - 1)
_UNKNOWN, _STORY = 0, -1
_PROCESS_EXEC, _PROCESS_EXIT = 1, 2
_TICK_NS = 10**7
_FOREVER = (1 << 63) - 1


@dataclass(slots=True)
class _Life:
    """since, until: CLOCK_MONOTONIC ns. process: None if it was never seen in /proc. comm: by the kernel."""

    since: int
    comm: str
    process: Process | None = None
    until: int = _FOREVER
    resource: Resource | None = None
    """None = nobody asked yet"""
    said: Attributes = ()
    """what its own SDK calls it (`Resources.say`)"""


class Resources:
    """Who made each row.

    >>> resources = Resources(table := Intern[Resource](4096), Describer(host=host_attributes()))
    >>> mine = resources.ids(np.array([os.getpid()], np.uint32), np.array([time.monotonic_ns()], np.uint64))
    >>> table[mine[0]].service
    'pytest'
    """

    def __init__(
        self,
        table: Intern[Resource],
        describer: Describer,
        looked: Callable[[Process], object] = lambda _: None,
        met: Callable[[Process], object] = lambda _: None,
    ) -> None:
        """looked: told of each process as soon as it was looked at; met: when its resource is made, for its first row.
        hurried: ended lives that went before their time."""
        self.hurried = 0
        self._looked, self._met = looked, met
        self._table = table
        self._describer = describer
        self._ids = sparse(_PIDS, np.int32)
        """by pid: resource id + 1, or _UNKNOWN, or _STORY = look at its lives"""
        self._lives: dict[int, list[_Life]] = {}
        self._pids: dict[int, set[int]] = {}
        """by resource id: the pids in `_ids` that have it"""
        self._ended: deque[tuple[int, int]] = deque()
        self._ended_unused: deque[tuple[int, int]] = deque()
        """(when to drop, pid), in order of time"""
        self._to_verify: dict[int, None] = {}
        """pids, the one that was verified longest ago first"""
        self._verify_at = 0
        table.on_forget.append(self._forgotten)

    def __len__(self) -> int:
        """How many pids are known."""
        return len(self._lives)

    def ids(self, tgids: NDArray[np.uint32], times: NDArray[np.uint64]) -> NDArray[np.int32]:
        """(n,) resource id of each row. times: (n,) CLOCK_MONOTONIC ns at which the process did what the row says.

        Call `update` and `meet` with what the kernel sent before these rows first."""
        self._keep()
        found: NDArray[np.int32] = self._ids[tgids & _PID_MASK] - np.int32(1)
        rest = np.flatnonzero(found < 0)
        if not len(rest):
            return found
        order = rest[np.argsort(tgids[rest], kind="stable")]
        pids, starts = np.unique(tgids[order] & _PID_MASK, return_index=True)
        for pid, rows in zip(pids.tolist(), np.split(order, starts[1:]), strict=True):
            found[rows] = self._sort_out(pid, times[rows])
        return found

    def update(self, events: NDArray[np.void]) -> None:
        """Take over the kernel's process events (`struct process_event`), in their order."""
        ahead = READ_AHEAD
        for at, pid, kind, comm in zip(
            events["t"].tolist(), events["tgid"].tolist(), events["kind"].tolist(), events["comm"].tolist(), strict=True
        ):
            if kind == _PROCESS_EXIT:
                self.forget(pid, at)
            elif kind == _PROCESS_EXEC:
                self.learn(pid, comm.decode(errors="replace"), at, look=ahead > 0)
                ahead -= 1

    def meet(self, connections: NDArray[np.void]) -> None:
        """Look at the processes of announced connections (`struct connection`) while they are there."""
        unsettled = connections[self._ids[connections["tgid"] & _PID_MASK] <= 0]
        if not len(unsettled):
            return
        now = time.monotonic_ns()
        for pid, comm in dict(zip(unsettled["tgid"].tolist(), unsettled["comm"].tolist(), strict=True)).items():
            lives = self._lives.get(pid)
            if not lives or lives[-1].until < now:
                self._next_life(pid, lives[-1].until if lives else 0, now, comm.decode(errors="replace"))
            elif lives[-1].process is None:
                lives[-1].process = self._look(pid)

    def learn(self, pid: int, comm: str, at: int, *, look: bool = True) -> None:
        """The process executes another program since `at`. look: at /proc, even if nobody knows the pid yet."""
        lives = self._lives.get(pid)
        if lives:
            self._end(pid, at)
        elif not look:
            return
        self._begin(pid, _Life(at, comm, self._look(pid) if look else None))

    def forget(self, pid: int, at: int) -> None:
        """The process ended at `at`. Rows from before that are still its own."""
        if pid in self._lives:
            self._end(pid, at)

    def say(self, pid: int, names: Attributes) -> bool:
        """What the process calls itself in what it exports (service.name and the like); whether that is news."""
        lives = self._lives.get(pid)
        if not lives or lives[-1].process is None or lives[-1].said == names:
            return False
        lives[-1].said, lives[-1].resource = names, None
        self._settle(pid)
        return True

    def identified(self, own_pid: int, service: str) -> int:
        """The living process that has this id in its own pid namespace; of several, or if none is told (0), the one of
        this service. 0: nobody, or still several."""
        found = {pid: lives[-1] for pid, lives in self._lives.items() if lives[-1].until == _FOREVER}
        if own_pid:
            found = {pid: life for pid, life in found.items() if life.process and life.process.own_pid == own_pid}
        if not own_pid or len(found) > 1:
            found = {pid: life for pid, life in found.items() if life.resource and life.resource.service == service}
        return next(iter(found)) if len(found) == 1 else 0

    # ---- lives ----

    def _begin(self, pid: int, life: _Life) -> None:
        lives = self._lives.get(pid)
        if lives is None:
            lives = self._lives[pid] = []
            self._to_verify[pid] = None
        lives.append(life)
        del lives[:-MOST_LIVES]
        self._settle(pid)

    def _end(self, pid: int, at: int) -> None:
        life = self._lives[pid][-1]
        if life.until != _FOREVER:
            return
        life.until = max(at, life.since)
        now = time.monotonic_ns()
        if life.resource is None:
            self._ended_unused.append((now + UNUSED_GRACE_NS, pid))
        else:
            self._ended.append((now + GRACE_NS, pid))
        self._settle(pid)

    def _settle(self, pid: int) -> None:
        """Let the array say what the lives say."""
        lives = self._lives.get(pid, [])
        before = int(self._ids[pid])
        if before > 0:
            self._pids[before - 1].discard(pid)
        if len(lives) == 1 and lives[0].until == _FOREVER and lives[0].resource is not None:
            number = self._table.id(lives[0].resource)
            self._ids[pid] = number + 1
            self._pids.setdefault(number, set()).add(pid)
        else:
            self._ids[pid] = _STORY if lives else _UNKNOWN

    def _forgotten(self, number: int) -> None:
        """The table gave the id away: the next row asks for a new one."""
        for pid in self._pids.pop(number, ()):
            self._ids[pid] = _STORY

    # ---- rows of pids with a story ----

    def _sort_out(self, pid: int, at: NDArray[np.uint64]) -> NDArray[np.int32]:
        """(n,) ids of rows of one pid; at: (n,) their times."""
        lives = self._lives.get(pid)
        if not lives or int(at.max()) > lives[-1].until:
            self._next_life(pid, lives[-1].until if lives else 0, int(at.max()), "")
            lives = self._lives[pid]
        which = np.searchsorted(np.array([life.since for life in lives], np.uint64), at, side="right") - 1
        found = np.empty(len(at), np.int32)
        for n in distinct(which).tolist():
            # Before the first life that is known there was another one, of which nothing is known.
            life = lives[n] if n >= 0 else _Life(0, "")
            found[which == n] = self._table.id(self._resource(pid, life))
        self._settle(pid)
        return found

    def _next_life(self, pid: int, after: int, at: int, comm: str) -> None:
        """A life that no event told of: a fork, a lost event, or a process from before the agent. after: end of the
        life before; at: when it was surely there."""
        process = self._look(pid)
        since = _monotonic(process.start_ns) - _TICK_NS if process else 0
        if process is not None and after <= since + 2 * _TICK_NS and since <= at:
            self._begin(pid, _Life(max(since, after + 1 if after else 0), comm or process.comm, process))
            return
        # Gone already, or the pid has another owner by now: its comm is all that is known.
        last = self._lives[pid][-1] if after else None
        if last is not None and last.process is None and comm in ("", last.comm):
            last.until = at
            return
        self._begin(pid, _Life(after + 1 if after else 0, comm))
        self._end(pid, at)

    def _look(self, pid: int) -> Process | None:
        process = procfs.read(pid)
        if process is not None:
            self._looked(process)
        return process

    def _resource(self, pid: int, life: _Life) -> Resource:
        if life.resource is None:
            if life.process is None and life.until == _FOREVER and life.since:
                life.process = self._look(pid)
            if life.process is not None:
                life.resource = self._describer.of_process(life.process, life.said)
                self._met(life.process)
            else:
                life.resource = self._describer.of_comm(life.comm)
        return life.resource

    # ---- upkeep ----

    def _keep(self) -> None:
        now = time.monotonic_ns()
        for ended in (self._ended_unused, self._ended):  # what was asked for since goes from one to the other
            while ended and (ended[0][0] <= now or len(ended) > MOST_ENDED):
                due, pid = ended.popleft()
                before = len(self._lives)
                self._drop_ended(pid, max(due, now))
                self.hurried += before - len(self._lives) if due > now else 0
        if now < self._verify_at:
            return
        self._verify_at = now + VERIFY_NS
        for pid in list(islice(self._to_verify, VERIFIED_AT_ONCE)):
            del self._to_verify[pid]
            self._to_verify[pid] = None
            self._verify(pid, now)

    def _drop_ended(self, pid: int, now: int) -> None:
        def kept(life: _Life) -> bool:
            return life.until + (UNUSED_GRACE_NS if life.resource is None else GRACE_NS) > now

        lives = [life for life in self._lives.get(pid, ()) if kept(life)]
        if lives:
            self._lives[pid] = lives
        else:
            self._lives.pop(pid, None)
            self._to_verify.pop(pid, None)
        self._settle(pid)
        if any(life.until != _FOREVER for life in lives):  # asked for since it ended: it has the longer grace
            self._ended.append((now + GRACE_NS, pid))

    def _verify(self, pid: int, now: int) -> None:
        """Has an end, or an end and a new beginning, been missed?"""
        life = self._lives[pid][-1]
        if life.until != _FOREVER:
            return
        start = procfs.start_of(pid)
        if start is None:
            self._end(pid, now)
        elif life.process is not None and life.process.start != start:
            self._end(pid, _monotonic(procfs.nanoseconds(start)) - _TICK_NS)


def _monotonic(since_boot: int) -> int:
    """CLOCK_MONOTONIC for a time after boot, which counts suspended time as well."""
    return max(since_boot - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + time.monotonic_ns(), 0)
