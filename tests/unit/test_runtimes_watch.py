"""Which processes are looked at, and how often. What a recogniser says is invented; the kernel's map is a dict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from otel_ebpf.kernel import elf
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.kernel.objects import Object
from otel_ebpf.runtimes import watch
from otel_ebpf.runtimes.base import Kind, Layout, Probe, Refusal
from otel_ebpf.runtimes.probes import Probes
from otel_ebpf.runtimes.watch import Runtimes


@dataclass
class Recogniser:
    answers: Callable[[int], Layout | Refusal | None]
    kind: Kind = Kind.NODE
    asked: list[int] = field(default_factory=list)

    def recognise(self, pid: int) -> Layout | Refusal | None:
        self.asked.append(pid)
        return self.answers(pid)


class KernelMap:
    def __init__(self) -> None:
        self.entries: dict[int, bytes] = {}

    def update(self, key: NDArray[np.generic], value: NDArray[np.generic]) -> None:
        self.entries[int(key)] = value.tobytes()

    def delete(self, key: NDArray[np.generic]) -> None:
        self.entries.pop(int(key), None)


@dataclass
class World:
    """What of a loaded object is used."""

    btf: Btf
    maps: dict[str, KernelMap]


@pytest.fixture
def world() -> World:
    return World(Btf.of_object(object_path("requests")), {"runtimes": KernelMap(), "runtimes_epoch": KernelMap()})


def run(world: World, recogniser: Recogniser, until: Callable[[], bool], *pids: int) -> Runtimes:
    runtimes = Runtimes(cast(Object, world), [recogniser], "storage", {})
    runtimes.meet(pids)
    runtimes._thread.start()
    while not until():
        time.sleep(0.001)
    runtimes.close()
    return runtimes


def test_a_layout_is_told_to_the_kernel_with_a_new_epoch(world: World) -> None:
    layout = Layout(Kind.NODE, "22.1.0")
    runtimes = run(world, Recogniser(lambda pid: layout), lambda: bool(world.maps["runtimes_epoch"].entries), 77)
    assert world.maps["runtimes"].entries == {77: layout.packed(world.btf)}
    assert int.from_bytes(world.maps["runtimes_epoch"].entries[0], "little") == 1
    assert runtimes.found == {77: ("node", "22.1.0")}
    runtimes.gone([77])
    assert runtimes.found == {}


def test_nothing_is_kept_of_a_process_that_ended_while_it_was_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    executables = iter([(1, 2)] + [None] * 9)
    monkeypatch.setattr(elf, "identity", lambda path: next(executables))
    epochs = world.maps["runtimes_epoch"].entries
    runtimes = run(world, Recogniser(lambda pid: Layout(Kind.NODE, "22.1.0", refresh=9.0)), lambda: bool(epochs), 77)
    assert world.maps["runtimes"].entries == {}
    assert runtimes.found == {}
    assert runtimes._told == {}


def test_what_cannot_be_read_yet_is_looked_at_again_some_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LATER", (0.001, 0.001, 0.001))
    recogniser = Recogniser(lambda pid: Refusal("Node 99", "no idle loop", again=True))
    runtimes = run(world, recogniser, lambda: len(recogniser.asked) == 4, 5)
    assert recogniser.asked == [5] * 4
    assert runtimes.refusals == {"Node 99": "no idle loop"}
    assert world.maps["runtimes"].entries == {}


def test_a_part_that_is_not_read_is_told_and_the_rest_is_used(world: World) -> None:
    layout = Layout(Kind.GO, "1.26.0", without=(Refusal("grpc-go v9.1.0", "no offsets"),))
    runtimes = run(world, Recogniser(lambda pid: layout), lambda: bool(world.maps["runtimes_epoch"].entries), 7)
    assert world.maps["runtimes"].entries == {7: layout.packed(world.btf)}
    assert runtimes.news() == ["units of execution of grpc-go v9.1.0 are not read: no offsets"]


def test_too_many_that_wait_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_WAITING", 3)
    runtimes = Runtimes(cast(Object, world), [], "storage", {})
    runtimes.meet(range(5))
    assert runtimes.dropped == 2


class Wanted:
    """The kernel's map of processes in which probes would help."""

    def __init__(self, *pids: int) -> None:
        self.pids = list(pids)

    def entries(self, key: np.dtype[np.uint32], value: np.dtype[np.uint32]) -> tuple[NDArray[np.uint32], ...]:
        return np.array(self.pids, key), np.ones(len(self.pids), value)

    def delete(self, key: NDArray[np.generic]) -> None:
        self.pids.remove(int(key))


def test_a_process_is_recognised_while_probes_of_another_are_being_attached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a kernel that takes its time for them."""
    begun, done = threading.Event(), threading.Event()

    def attach(self: Probes, kind: Kind, probe: Probe, pid: int = -1) -> bool:
        begun.set()
        return done.wait(60)

    monkeypatch.setattr(Probes, "attach", attach)
    layout = Layout(Kind.GO, "1.26.0", on_need=(Probe("/proc/7/exe", 64, "go_send", need=1),), needed={1: {}})
    monkeypatch.setitem(world.maps, "probes_wanted", cast(KernelMap, Wanted(7)))
    runtimes = Runtimes(cast(Object, world), [Recogniser(lambda pid: layout)], "storage", {})
    runtimes.meet([7])
    runtimes._thread.start()
    runtimes.probes.start()
    assert begun.wait(60)
    runtimes.meet([8])
    while 8 not in runtimes.found:
        time.sleep(0.001)
    assert not done.is_set()
    done.set()
    runtimes.close()
