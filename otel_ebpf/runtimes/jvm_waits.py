"""Virtual threads: by which fields of objects the thread is reached that waits for one (bpf/include/waits_jvm.h).

A virtual thread leads to the job that it was made for, and that to whoever waits for the result:

- a future of an executor (`newVirtualThreadPerTaskExecutor().submit`: a CompletableFuture in JDK 21, later a
  FutureTask), or a FutureTask that a thread was made for;
- `Thread.join`, by the latch of the thread's end;
- a scope that threads are forked in (StructuredTaskScope) has an owner, whether that waits or not.

Not so `CompletableFuture.supplyAsync` and `runAsync`: when it begins, the job lets go of the future (AsyncSupply.run),
which only the thread's stack has then. Nor jobs without a result (`execute`), whatever latch they count down.

The classes are all the boot loader's, and a few: an application's own are never passed, nor what many threads share
(executors, schedulers, sets of threads). Classes are loaded when they are used first, so they are asked for again.
"""

from __future__ import annotations

import numpy as np

from otel_ebpf.runtimes.base import Numbers
from otel_ebpf.runtimes.jvm_classes import STRUCTURES as OF_CLASSES
from otel_ebpf.runtimes.jvm_classes import Class, Fields, classes_of
from otel_ebpf.runtimes.memory import Memory

STRUCTURES = OF_CLASSES | {"CompressedOops", "CompressedKlassPointers"}
"""Structures of which fields are kept."""
THREAD = 1
"""WAIT_THREAD: a field that leads to a thread."""
MOST_CLASSES = 16
"""WAIT_CLASSES."""

_VIRTUAL, _PLATFORM = "java/lang/VirtualThread", "java/lang/Thread"
_STARTS = ("cont", "termination", "container")
_QUEUE = "java/util/concurrent/locks/AbstractQueuedSynchronizer"
_WAYS: dict[str, tuple[str, ...]] = {
    "java/lang/VirtualThread$VThreadContinuation": ("target",),
    "java/lang/VirtualThread$VThreadContinuation$1": ("val$task",),
    "java/util/concurrent/ThreadPerTaskExecutor$ThreadBoundFuture": ("stack", "waiters"),
    "java/util/concurrent/CompletableFuture$Signaller": ("thread", "next"),
    "java/util/concurrent/FutureTask": ("waiters",),
    "java/util/concurrent/FutureTask$WaitNode": ("thread", "next"),
    "java/util/concurrent/CountDownLatch": ("sync",),
    "java/util/concurrent/CountDownLatch$Sync": ("head",),
    f"{_QUEUE}$ExclusiveNode": ("waiter", "next"),
    f"{_QUEUE}$SharedNode": ("waiter", "next"),
    "jdk/internal/misc/ThreadFlock$ThreadContainerImpl": ("owner",),
}
_TO_THREADS = frozenset({"thread", "waiter", "owner"})
_REFERENCES = ("name", "contextClassLoader", "holder", "threadLocals", "interruptLock", "parkBlocker")
"""Fields of a java.lang.Thread, side by side: pointers of 64 bits are all at multiples of 8."""
_CLASS = 1 << 32


def complete(numbers: Numbers) -> bool:
    """Whether all classes have been met."""
    classes = numbers.get("classes")
    return isinstance(classes, np.ndarray) and len(classes) == len(_WAYS)


def waits_of(memory: Memory, base: int, fields: Fields, eetop: int, samples: list[int]) -> Numbers | str:
    """The members of `struct jvm_runtime` that concern who waits, or why they are not to be had.

    base: where the library is loaded. eetop: where a java.lang.Thread has its JavaThread. samples: addresses of objects
    of java.lang.Thread and classes below it.
    """
    classes = classes_of(memory, base, fields, {_VIRTUAL, _PLATFORM, *_WAYS}, eetop)
    word = _words_of_classes(memory, base, fields, classes.get(_PLATFORM), samples)
    if _VIRTUAL not in classes:
        return "its classes are not where its table says"
    if word is None:
        return "its objects do not tell their class as expected"
    at, origin, shift = word
    passed = [(classes[name], _followed(classes[name], ways)) for name, ways in _WAYS.items() if name in classes]
    starts = [classes[_VIRTUAL].fields.get(name, 0) for name in _STARTS]
    return {
        "objects": _value(memory, base, fields, "CompressedOops", "base"),
        "shift": _value(memory, base, fields, "CompressedOops", "shift") & 7,
        "narrow": int(any(classes[_PLATFORM].fields.get(name, 0) % 8 for name in _REFERENCES)),
        "class_word": at,
        "virtual_class": _word(classes[_VIRTUAL], origin, shift),
        "starts": np.array(starts, np.uint32),
        "classes": np.array([_word(one, origin, shift) for one, _ in passed], np.uint32),
        "fields": np.array([followed for _, followed in passed], np.uint32),
    }


def _followed(one: Class, ways: tuple[str, ...]) -> int:
    """Two halves of a word, each the offset of a field and whether it leads to a thread."""
    offsets = [one.fields[name] | (THREAD if name in _TO_THREADS else 0) for name in ways if name in one.fields]
    return sum(offset << 16 * i for i, offset in enumerate(offsets[:2]))


def _words_of_classes(
    memory: Memory, base: int, fields: Fields, known: Class | None, samples: list[int]
) -> tuple[int, int, int] | None:
    """(where in an object the word is that tells its class, what it counts from, in units of 1 << this).

    None if that is not told as in most VMs (not with headers of 8 bytes): there must be a plain java.lang.Thread.
    """
    if known is None or ("oopDesc", "_metadata._klass") not in fields:
        return None
    at = fields["oopDesc", "_metadata._klass"][1]
    found = {memory.word(sample + at) % _CLASS for sample in samples}
    origin = _value(memory, base, fields, "CompressedKlassPointers", "base")
    shift = _value(memory, base, fields, "CompressedKlassPointers", "shift") & 31
    for way in ((origin, shift), (0, 0)):
        if _word(known, *way) in found:
            return at, *way
    return None


def _word(one: Class, origin: int, shift: int) -> int:
    return ((one.address - origin) >> shift) % _CLASS


def _value(memory: Memory, base: int, fields: Fields, structure: str, name: str) -> int:
    """A static field, whose name was longer until JDK 22."""
    prefix = {"CompressedOops": "_narrow_oop.", "CompressedKlassPointers": "_narrow_klass."}[structure]
    for one in (f"_{name}", f"{prefix}_{name}"):
        if (structure, one) in fields:
            return memory.word(base + fields[structure, one][2])
    return 0
