"""Node 18–24: where each event loop of a process keeps its asynchronous ids.

`AsyncHooks` in node's src/env.h has four doubles in malloc's memory: execution id, trigger id, id counter, default
trigger id (`async_id_fields`). They are read while the loop makes a socket call (bpf/include/unit_node.h); ids advance
also where nobody uses async_hooks. They are found without symbols, versions or offsets:

- `AsyncHooks` holds three `AliasedBuffer`s (src/aliased_buffer.h) in a row, each six words (isolate, count, offset,
  address, handle, index), or seven with a vtable before them (from 18.20 on). The second has the counts of its nine
  fields, the third has four elements, both have byte offset 0 and the same isolate. What the third one points to must
  be whole numbers, none above the counter. In 18.18, 18.20, 20.20, 22.23 and 24.21 just one place of a process matches
  for each loop, worker threads included.
- A loop's thread has the `Environment` that `AsyncHooks` is part of on its stack, several times (`uv_run`'s caller and
  theirs). While it sleeps in epoll, /proc/PID/task/TID/syscall says where its stack is. The thread whose stack leads to
  the place has these ids.
"""

from __future__ import annotations

import os
import platform
import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.kernel import elf
from otel_ebpf.resource.procfs import start_of
from otel_ebpf.runtimes.base import Kind, Layout, Numbers, Refusal
from otel_ebpf.runtimes.memory import Mapping, Memory, Words

LOOPS = 16
"""Threads with a loop that are told to the kernel side: `NODE_LOOPS` of bpf/include/unit_node.h."""
REFRESH_S = 10.0
"""Until a process is looked at again: worker threads come and go."""
_START = "_ZN4node5StartEiPPc"  # node::Start(int, char**)
_PATTERN = 11 * 8
"""Bytes from the second buffer's isolate to the third one's address, at most."""
_COUNT, _OFFSET, _ADDRESS = 1, 2, 3
"""Words from a buffer's isolate."""
_STRIDES = (6, 7)
_ENVIRONMENT = 2048
"""`AsyncHooks` lies within the first bytes of an `Environment`: measured 1,032 to 1,160."""
_WITNESSES = 3
"""How often a stack must lead there: measured 6 and more, and 0 for threads of other loops."""
_STACK = 32 << 10
_ARENA = 64 << 20  # glibc's malloc/arena.c: HEAP_MAX_SIZE, and heaps are aligned to it
_MOST_PLACES = 64
_MOST_THREADS = 1024
_MOST_EXECUTABLES = 4096
_IDS = struct.Struct("<4d")
_WHOLE = float(1 << 53)
_SLEEPS = frozenset({22, 441} if platform.machine() == "aarch64" else {232, 281, 441})
"""epoll_wait, epoll_pwait, epoll_pwait2"""


@dataclass(frozen=True, slots=True)
class Place:
    """One loop's ids. slot: address of the word that points to them, in the `Environment`. ids: their address."""

    slot: int
    ids: int


@dataclass(frozen=True, slots=True)
class Known:
    """What was found in a process. start: of the process, so that a pid that is used again is another one."""

    start: int
    places: tuple[Place, ...]
    threads: tuple[tuple[int, int], ...]
    """(tid, address of its ids)"""
    without: frozenset[int] = frozenset()
    """threads that slept in epoll and have none: of the tracing controller, of native addons"""


class Node:
    """Recognises Node. Remembers what it found, so that a second look at a process is a few reads."""

    kind = Kind.NODE

    def __init__(self) -> None:
        self._executables: dict[tuple[int, int], bool] = {}
        self._known: dict[int, Known] = {}

    def recognise(self, pid: int) -> Layout | Refusal | None:
        start = start_of(pid)
        if start is None or not self._is_node(pid):
            self._known.pop(pid, None)
            return None
        known = self._known.get(pid)
        if known is None or known.start != start:
            known = Known(start, (), ())
        with Memory(pid) as memory:
            known = look(memory, known)
        if len(self._known) >= _MOST_EXECUTABLES:
            self._known.clear()
        self._known[pid] = known
        if not known.threads:
            return Refusal("Node", "its asynchronous ids were not found", again=True)
        tids, addresses = zip(*known.threads[:LOOPS], strict=True)
        numbers: Numbers = {"tids": np.array(tids, np.uint32), "ids": np.array(addresses, np.uint64)}
        return Layout(Kind.NODE, f"{len(tids)} loops" if len(tids) > 1 else "", numbers, refresh=REFRESH_S)

    def _is_node(self, pid: int) -> bool:
        executable = f"/proc/{pid}/exe"
        identity = elf.identity(executable)
        if identity is None:
            return False
        known = self._executables.get(identity)
        if known is None:
            if len(self._executables) >= _MOST_EXECUTABLES:
                self._executables.clear()
            # Debian's node exports nothing itself: it asks libnode.so for its beginning.
            known = self._executables[identity] = elf.mentions(executable, _START)
        return known


def look(memory: Memory, known: Known) -> Known:
    """What is known of the process by now: its memory is searched only if a thread sleeps whose ids are not known."""
    tasks = _tasks(memory.pid)
    places = tuple(place for place in known.places if _ids(memory, place) is not None)
    addresses = {place.ids for place in places}
    threads = {tid: ids for tid, ids in known.threads if tid in tasks and ids in addresses}
    without = known.without & tasks
    asleep = {
        tid: stack for tid in sorted(tasks - threads.keys() - without) if (stack := _stack(memory.pid, tid)) is not None
    }
    if threads and not asleep:
        return replace(known, places=places, threads=tuple(sorted(threads.items())), without=without)
    places = search(memory)
    for tid, stack in asleep.items():
        words = memory.words(stack, _STACK)
        if _stack(memory.pid, tid) != stack:
            continue  # it woke up
        ids = owner(words, places)
        if ids is None:
            without |= {tid}
        elif ids not in threads.values():
            threads[tid] = ids
    if not threads and len(places) == 1:  # it does not sleep, and there is no other loop: the main thread's
        threads[memory.pid] = places[0].ids
    return Known(known.start, places, tuple(sorted(threads.items())), without)


def search(memory: Memory) -> tuple[Place, ...]:
    """Everything in malloc's memory that looks like `AsyncHooks` of a loop."""
    anonymous = [m for m in memory.mappings() if m.writable and m.anonymous]
    usual = [m for m in anonymous if m.path == "[heap]" or m.start % _ARENA == 0]
    # Another malloc than glibc's: anywhere.
    return _search(memory, usual) or _search(memory, [m for m in anonymous if m not in usual])


def _search(memory: Memory, mappings: list[Mapping]) -> tuple[Place, ...]:
    found: dict[int, Place] = {}
    for mapping in mappings:
        for start, words in memory.pieces(mapping, overlap=_PATTERN):
            slots = (
                np.concatenate([candidates(words, stride)[:_MOST_PLACES] + stride for stride in _STRIDES]) + _ADDRESS
            )
            for slot in slots.tolist():
                place = Place(start + 8 * slot, int(words[slot]))
                if len(found) < _MOST_PLACES and _ids(memory, place) is not None:
                    found.setdefault(place.ids, place)
    return tuple(found.values())


def candidates(words: Words, stride: int) -> NDArray[np.intp]:
    """Where two buffers of the same isolate follow each other, of 6…16 and of 4 elements, both from their beginning.

    >>> candidates(np.array([8, 9, 0, 96, 0, 0, 7, 8, 4, 0, 64], np.uint64), 7)
    array([0])
    """
    n = len(words) - stride - _ADDRESS
    if n <= 0:
        return np.zeros(0, np.intp)
    at: NDArray[np.intp] = (words[stride + _COUNT :][:n] == 4).nonzero()[0]
    at = at[words[at + stride + _OFFSET] == 0]
    at = at[words[at] == words[at + stride]]
    at = at[(words[at] != 0) & (words[at] % 8 == 0)]
    at = at[words[at + _OFFSET] == 0]
    at = at[(words[at + _COUNT] >= 6) & (words[at + _COUNT] <= 16)]
    aligned: NDArray[np.bool_] = words[at + stride + _OFFSET + 1] % 8 == 0
    return at[aligned]


def owner(stack: Words, places: tuple[Place, ...]) -> int | None:
    """The ids of the one place whose `Environment` this stack leads to; None if there is none, or more than one."""
    led = [
        place.ids
        for place in places
        if np.count_nonzero((stack < place.slot) & (stack > place.slot - min(_ENVIRONMENT, place.slot))) >= _WITNESSES
    ]
    return led[0] if len(led) == 1 else None


def _ids(memory: Memory, place: Place) -> tuple[float, float, float] | None:
    """(execution, trigger, counter) if that is what lies there."""
    if memory.word(place.slot) != place.ids:
        return None
    data = memory.read(place.ids, _IDS.size)
    if not data:
        return None
    execution, trigger, counter, default = _IDS.unpack(data)
    # A NaN fails every comparison.
    if not (1 <= counter < _WHOLE and 0 <= execution <= counter and 0 <= trigger <= counter and default >= -1):
        return None
    whole = all(value == int(value) for value in (execution, trigger, counter)) and default <= counter
    return (execution, trigger, counter) if whole else None


def _tasks(pid: int) -> frozenset[int]:
    try:
        with os.scandir(f"/proc/{pid}/task") as entries:
            return frozenset(int(entry.name) for entry, _ in zip(entries, range(_MOST_THREADS), strict=False))
    except (OSError, ValueError):
        return frozenset()


def _stack(pid: int, tid: int) -> int | None:
    """The stack pointer of a thread that sleeps in epoll; None if it does anything else. proc(5): /proc/PID/syscall."""
    try:
        with open(f"/proc/{pid}/task/{tid}/syscall", "rb", buffering=0) as file:  # noqa: PTH123
            fields = file.read(512).split()
        return int(fields[-2], 16) if len(fields) == 9 and int(fields[0]) in _SLEEPS else None
    except (OSError, ValueError):
        return None
