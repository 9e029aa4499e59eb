"""CPU and memory of processes, from /proc; programs in C compiled on the spot."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.processes import program

HERE = Path(__file__).resolve().parent


@cache
def _build_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="otel-ebpf-bench.")


@cache
def compiled(name: str) -> Path:
    """bench/NAME.c as an executable, built once per run."""
    binary = Path(_build_folder().name) / name
    command = [program("cc", "gcc libc6-dev"), "-O2", "-Wall", "-Werror", "-o", str(binary), str(HERE / f"{name}.c")]
    subprocess.run(command, check=True)
    return binary


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU that the live threads of these processes have used, to the nanosecond (/proc/PID/task/TID/schedstat)."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue  # the thread ended
    return total / 1e9


def children_cpu_seconds() -> float:
    """CPU of all child processes that have ended: the load generators."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rss_mb(pid: int) -> float:
    """Resident memory, MB of 2^20."""
    return _field_kb(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024


def slab_mb() -> float:
    """Memory of the kernel's live objects that have no cache of their own: the BPF state of sockets is among them."""
    rows = (line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:])
    return sum(int(row[1]) * int(row[3]) for row in rows if row[0].startswith("kmalloc")) / 2**20


def _field_kb(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))


def bpf_map_mb(pid: int) -> float:
    """What the kernel accounts for the BPF maps that a process holds (`memlock` of each, once per map)."""
    maps: dict[int, int] = {}
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            fields = dict(line.split(":", 1) for line in entry.read_text().splitlines() if ":" in line)
        except OSError:
            continue  # the descriptor was closed
        if "map_id" in fields and "memlock" in fields:  # an iterator's link names its map, too
            maps[int(fields["map_id"])] = int(fields["memlock"])
    return sum(maps.values()) / 2**20
