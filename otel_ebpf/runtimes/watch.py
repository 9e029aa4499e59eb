"""Which processes have a runtime with units of its own: looked for as they come, in a thread of its own.

A process is looked at when the agent starts, when it first uses a connection, and shortly after it called exec. What a
recogniser finds goes into the kernel's map; probes that it wants are attached once for each file. A runtime that cannot
be read yet is looked at again, some times, less and less often.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from otel_ebpf.errors import KernelError
from otel_ebpf.kernel import elf
from otel_ebpf.kernel.objects import Object
from otel_ebpf.runtimes.base import Layout, Recogniser, Refusal
from otel_ebpf.runtimes.probes import Probes

AT_ONCE, SOON, LATER = 0.02, 0.3, (1.0, 4.0, 30.0, 300.0)
"""Seconds after exec until a program is there; until its runtime has begun; and until one that could not be read is
looked at again."""
FIRST_LOOK = 3.0
"""Seconds for the processes that are there at start."""
_WAITING = 1 << 14
_REMEMBERED = 1 << 12
_SHOWN = 50


class Runtimes:
    """The layouts of this host's processes, from `start` to `close`.

    kernel: the loaded object of socket messages. front: suffix of programs, as for TLS. constants: of section `config`.
    """

    def __init__(
        self,
        kernel: Object,
        recognisers: Sequence[Recogniser],
        front: str,
        constants: dict[str, int],
        unused: Iterable[str] = (),
    ) -> None:
        self.found: dict[int, tuple[str, str]] = {}
        """by process: runtime and its version"""
        self.refusals: dict[str, str] = {}
        """what cannot be read → why: at most 4,096"""
        self.probes = Probes(kernel, front, constants, unused, self._tell)
        self._kernel = kernel
        self._recognisers = recognisers
        self._told: dict[int, bytes] = {}
        self._announced: set[str] = set()
        self._due: list[tuple[float, int, int]] = []
        self._queued: dict[int, float] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._epoch = 0
        self._thread = threading.Thread(target=self._work, name="runtimes", daemon=True)
        self.dropped = 0
        """processes that were not looked at, since too many waited"""

    def start(self) -> None:
        """Look at what runs now, for a few seconds at most, and go on looking.

        To be called before connections are observed: what is seen of a process whose runtime is not known yet would be
        taken for its threads'.
        """
        entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        # Threads of the kernel have no program: on a small host they are most of all processes.
        pids = sorted((int(one.name) for one in entries if elf.identity(f"{one}/exe") is not None), reverse=True)
        until = time.monotonic() + FIRST_LOOK
        at = 0
        while at < len(pids) and time.monotonic() < until:
            self._looked(pids[at], 0, self._look(pids[at]))
            at += 1
        self.meet(pids[at:])
        self.probes.start()
        self._thread.start()

    def meet(self, pids: Iterable[int], began: bool = False) -> None:
        """These processes use connections, or (began) have just called exec: they are looked at twice."""
        now, delay = time.monotonic(), AT_ONCE if began else 0.0
        with self._wake:
            for pid in pids:
                if pid in self.found or self._queued.get(pid, math.inf) <= now + delay:
                    continue
                if len(self._due) >= _WAITING:
                    self.dropped += 1
                    continue
                self._queue(pid, now + delay, -1 if began else 0)
            self._wake.notify()

    def news(self) -> list[str]:
        """Refusals that have not been told yet, a line each."""
        with self._wake:
            new = [what for what in self.refusals if what not in self._announced]
            self._announced.update(new)
        return [f"units of execution of {what} are not read: {self.refusals[what]}" for what in new]

    def hits(self) -> dict[int, tuple[str, int]]:
        """By process: its runtime, and how often the probes in its code were hit, each of which costs it about 1 µs.

        Of the 50 processes that were hit most.
        """
        pids, counts = self._kernel.maps["probe_hits"].entries(np.dtype(np.uint32), np.dtype(np.uint64))
        most = np.argsort(counts)[::-1][:_SHOWN]
        with self._wake:
            named = {pid: self.found.get(pid, ("", ""))[0] for pid in pids[most].tolist()}
        return {pid: (named[pid], count) for pid, count in zip(named, counts[most].tolist(), strict=True)}

    def gone(self, pids: Sequence[int]) -> None:
        """These processes ended or became another program; the kernel side has forgotten them by itself."""
        with self._wake:
            for pid in pids:
                self.found.pop(pid, None)
                self._told.pop(pid, None)
        self.probes.gone(pids)

    def close(self) -> None:
        """Stop looking, detach all probes."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        self.probes.close()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._closed and (wait := self._wait()) is not None:
                    self._wake.wait(wait)
                if self._closed:
                    return
                due, pid, looks = heapq.heappop(self._due)
                if self._queued.get(pid) != due:  # it was looked at sooner
                    continue
                del self._queued[pid]
            self._looked(pid, looks, self._look(pid))

    def _wait(self) -> float | None:
        """Seconds until something may be due; None: a process is."""
        due = self._due[0][0] - time.monotonic() if self._due else threading.TIMEOUT_MAX
        return None if due <= 0 else due

    def _looked(self, pid: int, looks: int, again: bool | float) -> None:
        """Look again at a runtime that could not be read, or that changes."""
        if looks < 0 and (again is True or not again):
            delay, looks = SOON, 0
        elif again is True:
            delay, looks = LATER[min(looks, len(LATER) - 1)], looks + 1
        else:
            delay, looks = float(again), 0
        if delay and looks <= len(LATER):
            with self._wake:
                if pid not in self._queued and (looks or pid not in self.found or again):
                    self._queue(pid, time.monotonic() + delay, looks)

    def _queue(self, pid: int, due: float, looks: int) -> None:
        self._queued[pid] = due
        heapq.heappush(self._due, (due, pid, looks))

    def _look(self, pid: int) -> bool | float:
        """Returns whether to look again, or after how many seconds."""
        again = False
        program = elf.identity(f"/proc/{pid}/exe")
        for recogniser in self._recognisers:
            said = recogniser.recognise(pid)
            if isinstance(said, Layout):
                for part in said.without:
                    self._refuse(part)
                self._tell(pid, said)
                if program is not None and elf.identity(f"/proc/{pid}/exe") != program:
                    self._take_back(pid)
                return said.refresh
            if isinstance(said, Refusal):
                again |= said.again
                self._refuse(said)
        return again

    def _refuse(self, refusal: Refusal) -> None:
        if len(self.refusals) < _REMEMBERED or refusal.what in self.refusals:
            self.refusals[refusal.what] = refusal.why

    def _tell(self, pid: int, layout: Layout) -> None:
        attached = [self.probes.attach(layout.kind, probe) for probe in layout.probes]
        if not all(attached):
            layout = replace(layout, numbers={**layout.numbers, **layout.unprobed})
        value = np.frombuffer(layout.packed(self._kernel.btf), np.uint8).copy()
        if layout.refresh and self._told.get(pid) == value.tobytes():
            return
        self.probes.found(pid, layout)  # before the kernel side can ask for them
        try:
            self._kernel.maps["runtimes"].update(np.array(pid, np.uint32), value)
        except KernelError as failure:
            self.probes.gone([pid])
            self.refusals[f"{layout.kind.name} {layout.version}"] = str(failure)
            return
        with self._wake:
            self._epoch += 1
            self._kernel.maps["runtimes_epoch"].update(np.array(0, np.uint32), np.array(self._epoch, np.uint32))
            if layout.refresh:
                self._told[pid] = value.tobytes()
            self.found[pid] = (layout.kind.name.lower(), layout.version)

    def _take_back(self, pid: int) -> None:
        """It ended, or became another program, while it was looked at: who told of that may have come before us."""
        self._kernel.maps["runtimes"].delete(np.array(pid, np.uint32))
        self.gone([pid])
