"""Probes on every dynamically linked OpenSSL of this host, in any mount namespace, as processes come and go.

A probe sits on a file, not on a process: attached once, it fires in all processes that map the file, also in those that
start later. So only files not seen before are work: those of the host's own library folders and of running processes at
start, then those of processes that begin connections with TLS. What such a process said before is lost.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from otel_ebpf.errors import KernelError
from otel_ebpf.kernel import elf
from otel_ebpf.kernel.objects import Iterator, Link, Map, Object, detach

_LIBRARY = re.compile(r"^([0-9a-f]+-[0-9a-f]+) r-xp \S+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(\S*libssl\S*)")
_MOST_LIBRARIES = 64
"""Mappings of one process that are looked at."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 3600.0
"""Seconds: a program may load its library after its first connection with TLS, or never: Go and Java have their own."""
_MOST_LOOKED = 1 << 14
_HOST_FOLDERS = ("/usr/lib/*/libssl.so.[0-9]*", "/usr/lib/libssl.so.[0-9]*", "/usr/lib64/libssl.so.[0-9]*")
_PROBES: dict[str, tuple[str, str | None]] = {
    "SSL_read": ("tls_enter", "tls_read"),
    "SSL_write": ("tls_enter", "tls_write"),
    "SSL_read_ex": ("tls_enter_ex", "tls_read_ex"),
    "SSL_write_ex": ("tls_enter_ex", "tls_write_ex"),
    "SSL_do_handshake": ("tls_handshake", None),
    "SSL_free": ("tls_free", None),
    "SSL_ctrl": ("tls_control", "tls_controlled"),
}
"""function → program at its entry, program at its return"""
_FOR_NAMES = "SSL_ctrl"
"""Without it servers have no names; all else is as it was."""


class TlsSource:
    """The TLS half of live capture; shares rings and state with the object of socket messages.

    failures: library → why it could not be probed. libraries: probed files by (device, inode).
    """

    def __init__(self, requests: Object, constants: dict[str, int], front: str) -> None:
        programs = {f"{p}_{front}" for pair in _PROBES.values() for p in pair if p}
        self._front = front
        self.object = Object("tls", {*programs, f"sweep_tls_{front}"})
        self.object.share(requests.maps)
        self.object.set_constants("config", **constants)
        self.failures: dict[str, str] = {}
        self.libraries: dict[tuple[int, int], list[Link]] = {}
        self._refused: set[tuple[int, int]] = set()
        self._met = requests.maps["tls_met"]
        self._looked: dict[int, tuple[float, float]] = {}
        """when each process may be looked at again, and the pause after that"""
        self._sweep: Iterator | None = None

    def start(self, unused: Iterable[str], state: Map) -> None:
        """Load, and attach to all libraries that are there now."""
        self.object.leave_out([name for name in unused if name in self.object.maps])
        self.object.load()
        self._sweep = self.object.attach_iterator(f"sweep_tls_{self._front}", state)
        for pattern in _HOST_FOLDERS:
            for path in glob.glob(pattern):  # noqa: PTH207
                self._attach(path, path)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                self.look_at(int(entry.name))

    def meet(self, now: float) -> None:
        """Look at the processes that have begun connections with TLS, each time again after a longer while."""
        number = np.dtype(np.uint32)
        for pid in self._met.entries(number, number)[0]:
            self._met.delete(np.array(pid))
            due, pause = self._looked.get(int(pid), (0.0, _FIRST_PAUSE))
            if now < due:
                continue
            if len(self._looked) >= _MOST_LOOKED:
                self._looked.clear()
            self._looked[int(pid)] = now + pause, min(2 * pause, _LONGEST_PAUSE)
            self.look_at(int(pid))

    def gone(self, pids: Iterable[int]) -> None:
        """These processes ended, or became another program."""
        for pid in pids:
            self._looked.pop(pid, None)

    def look_at(self, tgid: int) -> None:
        """Probe the TLS libraries that this process maps and that are not probed yet."""
        try:
            with Path(f"/proc/{tgid}/maps").open("rb") as maps:  # up to 300 MB of text, if a process is after that
                lines = [line for line in maps if b"libssl" in line][:_MOST_LIBRARIES]
        except OSError:  # gone, or a kernel thread
            return
        for line in lines:
            mapped = _LIBRARY.match(line.decode("utf-8", "replace"))
            if mapped:
                self._attach(f"/proc/{tgid}/map_files/{mapped[1]}", mapped[4])

    def sweep(self) -> None:
        """Send what is answered on idle connections, end what got no answer."""
        if self._sweep:
            self._sweep.run()

    def _attach(self, path: str, name: str) -> None:
        file = elf.identity(path)
        if file is None or file in self.libraries or file in self._refused:
            return
        offsets = elf.functions(path, _PROBES)
        naming = offsets.pop(_FOR_NAMES, None)
        links: list[Link] = []
        try:
            for function, offset in offsets.items():
                self._probe(path, function, offset, links)
        except KernelError as failure:
            self.failures[name] = str(failure)
        if not links or name in self.failures:
            for link in links:
                link.destroy()
            self._refused.add(file)
            return
        self.libraries[file] = links
        if naming is not None:
            try:
                self._probe(path, _FOR_NAMES, naming, links)
            except KernelError as failure:
                self.failures[f"{name} {_FOR_NAMES}"] = str(failure)

    def _probe(self, path: str, function: str, offset: int, links: list[Link]) -> None:
        """Attach to the function's entry, and to its return if there is a program for that; adds to `links`."""
        enter, leave = _PROBES[function]
        links.append(self.object.attach_uprobe(f"{enter}_{self._front}", path, offset))
        if leave:
            links.append(self.object.attach_uprobe(f"{leave}_{self._front}", path, offset, returns=True))

    def close(self) -> None:
        """Detach everything."""
        detach(link for links in self.libraries.values() for link in links)
        self.object.close()
