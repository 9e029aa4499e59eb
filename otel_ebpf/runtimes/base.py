"""What a recogniser says of a process: the layout of its runtime, or why there is none that can be trusted.

One runtime, one module. A recogniser reads /proc/PID/{exe,maps,mem} and files that the process maps, bounded in bytes
and time; it writes nothing, and whatever it reads, it raises nothing: all of that is a stranger's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.kernel.btf import Btf

Numbers: TypeAlias = Mapping[str, "int | NDArray[np.uint32] | NDArray[np.uint64]"]


class Kind(IntEnum):
    """`enum runtime_kind` of bpf/include/unit.h; a test holds the two against each other through BTF."""

    GO = 1
    PYTHON = 2
    NODE = 3
    JVM = 4


@dataclass(frozen=True, slots=True)
class Probe:
    """A uprobe that a layout needs. file: a path that leads to it for us, e.g. below /proc/PID/map_files.

    offset: in the file. program: of the object of this runtime. need: one of `enum probes` (bpf/include/lineage.h), 0:
    always.
    """

    file: str
    offset: int
    program: str
    returns: bool = False
    need: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in one process. numbers: members of `struct NAME_runtime` by name (an array's
    first elements); the rest is 0.

    version: of the runtime, for reports, e.g. "3.11.7". probes: to attach now. unprobed: the numbers that are others
    where one of those cannot be attached. on_need: only when calls of the process stay undecided, as they cost it
    something; needed: by `Probe.need`, the numbers that are others once all of those are attached. refresh: seconds
    until the process is to be looked at again; 0: never. without: parts of it that are not read.
    """

    kind: Kind
    version: str
    numbers: Numbers = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    unprobed: Numbers = field(default_factory=dict)
    on_need: tuple[Probe, ...] = ()
    needed: Mapping[int, Numbers] = field(default_factory=dict)
    refresh: float = 0.0
    without: tuple[Refusal, ...] = ()

    def packed(self, btf: Btf) -> bytes:
        """The value of map `runtimes` (`struct runtime`)."""
        whole = btf.dtype("runtime")
        head = np.zeros((), np.dtype([("kind", "<u4"), ("unused", "<u4")]))
        head["kind"] = self.kind
        own = np.zeros((), btf.dtype(f"{self.kind.name.lower()}_runtime"))
        for name, number in self.numbers.items():
            if isinstance(number, np.ndarray):
                own[name][: len(number)] = number
            else:
                own[name] = number
        data = head.tobytes() + own.tobytes()
        return data + bytes(whole.itemsize - len(data))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The runtime is there, and cannot be read: its rungs are off for the process, which `doctor` and a log line tell.

    what: "Go 1.29.0", "CPython 3.15.0a1". why: "no offsets for this version". again: whether a later look may succeed.
    """

    what: str
    why: str
    again: bool = False


class Recogniser(Protocol):
    """Finds one kind of runtime."""

    kind: Kind

    def recognise(self, pid: int) -> Layout | Refusal | None:
        """None: this process does not run it."""
