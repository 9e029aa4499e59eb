"""Uprobes in runtimes' own code: once for each file, or on need for a process in which calls stay undecided.

To attach or detach one takes the kernel 60 ms on an idle host and a second on a busy one, so what is done on need, and
after a process has ended, is done in a thread of its own: meanwhile services that have just begun are recognised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from otel_ebpf.errors import KernelError, UnsupportedError
from otel_ebpf.kernel import elf
from otel_ebpf.kernel.objects import Link, Object, detach
from otel_ebpf.runtimes.base import Kind, Layout, Probe

OBJECTS = {Kind.GO: "golang", Kind.PYTHON: "python"}
"""Objects with the uprobes of a runtime, `bpf/NAME.bpf.c`."""
_ANSWER = 0.5
"""Seconds after which the kernel side is asked what it wants."""


class Probes:
    """What is attached, from `start` to `close`.

    kernel: the loaded object of socket messages. front: suffix of programs, as for TLS. constants: of section `config`.
    tell: called with a process and its layout when what was wanted on need has been attached.
    """

    def __init__(
        self,
        kernel: Object,
        front: str,
        constants: Mapping[str, int],
        unused: Iterable[str],
        tell: Callable[[int, Layout], object],
    ) -> None:
        self.failures: dict[str, str] = {}
        """program → why it could not be attached"""
        self._kernel = kernel
        self._front = front
        self._constants = dict(constants)
        self._unused = tuple(unused)
        self._tell = tell
        self._objects: dict[Kind, Object | None] = {}
        self._loading = threading.Lock()
        self._links: dict[tuple[tuple[int, int], int, str, int], Link] = {}
        self._needed: dict[int, Layout] = {}
        self._probed: set[int] = set()
        self._ended: list[int] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="probes", daemon=True)

    def start(self) -> None:
        """Answer to what the kernel side wants, from now on."""
        self._thread.start()

    def close(self) -> None:
        """Detach all."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        detach(self._links.values())
        for loaded in self._objects.values():
            if loaded is not None:
                loaded.close()

    def found(self, pid: int, layout: Layout) -> None:
        """This process has such a layout; it may be that its calls stay undecided."""
        if layout.on_need:
            with self._wake:
                self._needed[pid] = layout
                self._wake.notify()

    def gone(self, pids: Iterable[int]) -> None:
        """These processes ended or became another program."""
        with self._wake:
            for pid in pids:
                self._needed.pop(pid, None)
                if pid in self._probed:
                    self._probed.discard(pid)
                    self._ended.append(pid)
            self._wake.notify()

    def attach(self, kind: Kind, probe: Probe, pid: int = -1) -> bool:
        """Returns whether it is attached. pid: to that process only."""
        file = elf.identity(probe.file)
        loaded = self.loaded(kind)
        if file is None or loaded is None:
            return False
        key = (file, probe.offset, probe.program, pid)
        if key in self._links:
            return True
        try:
            self._links[key] = loaded.attach_uprobe(
                f"{probe.program}_{self._front}", probe.file, probe.offset, returns=probe.returns, pid=pid
            )
        except KernelError as failure:
            self.failures[probe.program] = str(failure)
            return False
        return True

    def loaded(self, kind: Kind) -> Object | None:
        """The loaded object of this runtime's probes; None if it cannot be loaded."""
        with self._loading:
            if kind not in self._objects:
                self._objects[kind] = self._load(OBJECTS[kind])
            return self._objects[kind]

    def _load(self, name: str) -> Object | None:
        try:
            loaded = Object(name, None, suffix=f"_{self._front}")
            loaded.share(self._kernel.maps)
            loaded.set_constants("config", **self._constants)
            loaded.leave_out([m for m in self._unused if m in loaded.maps])
            loaded.load()
        except (KernelError, UnsupportedError) as failure:
            self.failures[name] = str(failure)
            return None
        return loaded

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._ended or self._needed):
                    self._wake.wait()
                if not (self._closed or self._ended):
                    self._wake.wait(_ANSWER)
                if self._closed:
                    return
                ended, self._ended = self._ended, []
                needed = bool(self._needed)
            if needed:
                self._answer()
            self._detach(set(ended))

    def _answer(self) -> None:
        """Attach what the kernel side asks for, where it meets calls that probes would decide."""
        wanted = self._kernel.maps["probes_wanted"]
        pids, needs = wanted.entries(np.dtype(np.uint32), np.dtype(np.uint32))
        for pid in pids:  # at once: what is wanted while others are being attached is another entry
            wanted.delete(np.array(pid))
        for pid, which in zip(pids.tolist(), needs.tolist(), strict=True):
            self._attach_wanted(pid, which)

    def _attach_wanted(self, pid: int, which: int) -> None:
        """Calls of this process stay undecided: attach what helps there and costs it. which: of `Probe.need`."""
        with self._wake:
            layout = self._needed.get(pid)
            wanted = [probe for probe in layout.on_need if probe.need & which] if layout else []
            if layout is None or not wanted:
                return
            del self._needed[pid]
            self._probed.add(pid)
        rest = tuple(probe for probe in layout.on_need if not probe.need & which)
        attached = {probe.need: True for probe in wanted}
        for probe in wanted:
            attached[probe.need] &= self.attach(layout.kind, probe, pid)
        with self._wake:
            if pid not in self._probed:  # it ended meanwhile
                self._ended.append(pid)
                return
        more = {name: number for need, good in attached.items() if good for name, number in layout.needed[need].items()}
        if more or rest:
            self._tell(pid, replace(layout, numbers={**layout.numbers, **more}, on_need=rest))

    def _detach(self, ended: set[int]) -> None:
        for key in [key for key in tuple(self._links) if key[3] in ended]:
            self._links.pop(key).destroy()
