"""What is kept by process: as much as there are processes, whatever their numbers are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from otel_ebpf.tracing.places import PIDS, Places
from otel_ebpf.tracing.processes import CALLS, SERVES, Processes
from otel_ebpf.tracing.rungs.habits import Habit


def pids(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.array(numbers, np.uint32)


def resident_kb() -> int:
    found = re.search(r"^Rss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_a_process_has_one_place_until_it_is_forgotten() -> None:
    places = Places()
    counts = places.column(np.uint32)
    counts[places.take(pids(7, 4_194_303, 7))] += 1
    assert len(places) == 2
    assert counts[places.of(pids(7, 8, 4_194_303))].tolist() == [1, 0, 1]
    places.forget(pids(7, 8))
    assert len(places) == 1
    assert counts[places.of(pids(7, 4_194_303))].tolist() == [0, 1]


def test_a_place_that_was_left_is_empty_for_who_comes_next() -> None:
    places = Places()
    counts = places.column(np.uint32)
    counts[places.take(pids(7))] = 5
    places.forget(pids(7))
    assert counts[places.take(pids(9))].tolist() == [0]
    assert len(places) == 1


def test_when_all_places_are_taken_those_of_processes_that_are_gone_are_given_away() -> None:
    places = Places(most=4, there=lambda pid: pid in (1, 2))
    counts = places.column(np.uint32)
    counts[places.take(pids(1, 2, 3, 4))] = 9
    counts[places.take(pids(5))] = 1
    assert counts[places.of(pids(1, 2, 3, 4, 5))].tolist() == [9, 9, 0, 0, 1]
    assert places.missed == 0


def test_of_those_that_find_no_place_nothing_is_kept_and_they_are_counted() -> None:
    places = Places(most=2, there=lambda pid: True)
    counts = places.column(np.uint32)
    counts[places.take(pids(1, 2, 3, 4))] += 1
    assert counts[places.of(pids(1, 2, 3, 4))].tolist() == [1, 1, 0, 0]
    assert counts[0] == 0
    assert places.missed == 2


def test_a_million_processes_that_come_and_go_take_no_more_memory_than_those_at_the_same_time() -> None:
    """They serve, call, and end: a day of a host whose process ids go up to 2^22."""
    places = Places()
    processes, habit = Processes(places), Habit(places)
    before = resident_kb()
    for first in range(1, PIDS - 1000, 4000):
        some = np.arange(first, first + 1000, dtype=np.uint32)
        thread = some.astype(np.uint64)
        processes.arrived(some % 2 == 0, some, thread, thread, thread, some)
        habit.chance(some)
        assert set(processes.traits(some).tolist()) <= {int(SERVES), int(CALLS)}
        places.forget(some)
    assert len(places) == 0
    assert resident_kb() - before < 12 << 10


def test_what_is_missed_when_processes_end_is_bounded() -> None:
    places = Places(there=lambda pid: False)
    processes = Processes(places)
    for first in range(1, 400_000, 20_000):
        processes.serves(np.arange(first, first + 20_000, dtype=np.uint32))
    assert len(places) < 1 << 16
    assert processes.traits(pids(399_999)).tolist() == [int(SERVES)]
