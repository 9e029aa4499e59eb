"""Greenlets of CPython (the library `greenlet`, on which gevent and eventlet stand): which one runs in a thread.

The library keeps a ThreadState in a thread-local variable: its main greenlet, which is the thread itself, and the one
that runs. The number of its thread-local block is a relocation, so it lies in memory for us to read; `PyGreenlet_Type`
is exported, and so every greenlet can be told from other words. Older releases (1.x) keep this elsewhere: there the
bottom of the stack tells greenlets apart, without saying which one made which.

Sources: TThreadState.hpp, TThreadStateCreator.hpp, PyGreenlet.cpp of greenlet 2 and 3; ELF Handling For Thread-Local
Storage (dtv); sysdeps/x86_64/nptl/tls.h of glibc; arch/x86_64/pthread_arch.h of musl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from otel_ebpf.kernel import elf
from otel_ebpf.runtimes.base import Probe
from otel_ebpf.runtimes.memory import Mapping, Memory, link_of

_LIBRARY = re.compile(r"/_greenlet\.[^/]*$")
_TYPE = "PyGreenlet_Type"
_TYPE_NEW = 312
"""struct _typeobject: tp_new"""
_BORN = "greenlet_born"
_DTV = 8
"""Thread pointer + 8: the vector of thread-local blocks, glibc and musl."""
_STRIDES = (16, 8)
"""Bytes of its entries: glibc, musl."""
_MOST_MODULES, _MOST_TLS = 4096, 128
_ABSENT, BY_STACK, BY_OBJECT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Greenlets:
    """numbers: members of `struct python_runtime`. refresh: more may be known later."""

    numbers: dict[str, int]
    probes: tuple[Probe, ...] = ()
    refresh: bool = False


def find(memory: Memory, mapped: Sequence[Mapping], pointers: Iterable[int]) -> Greenlets:
    """How greenlets are read in a process. pointers: thread pointers of threads of Python's."""
    area = next((m for m in mapped if m.inode and _LIBRARY.search(m.path)), None)
    if area is None:
        return Greenlets({"greenlets": _ABSENT}, refresh=True)
    path = link_of(memory.pid, area)
    image = elf.image(path, {_TYPE})
    own = image.address(area.offset) if image is not None else None
    if image is None or own is None or _TYPE not in image.symbols or not 8 <= image.tls <= _MOST_TLS:
        return Greenlets({"greenlets": BY_STACK})
    bias = area.start - own
    kind = image.symbols[_TYPE] + bias
    makes = image.code_offset(elf.pointers(path, image, [image.symbols[_TYPE] + _TYPE_NEW])[0])
    modules = {memory.word(bias + at) for at in elf.module_numbers(path, image)}
    if makes is None or len(modules) != 1 or not 0 < (module := modules.pop()) < _MOST_MODULES:
        return Greenlets({"greenlets": BY_STACK})
    # Where a thread shows it; else where it has been so far, which the kernel side checks each time.
    stride, at = _STRIDES[0], image.tls - 8
    shown = False
    for pointer, some, offset in product(pointers, _STRIDES, range(0, image.tls, 8)):
        if _main(memory, pointer, some, module, offset, kind):
            stride, at, shown = some, offset, True
            break
    numbers = {"greenlets": BY_OBJECT, "greenlet_type": kind, "tls_block": stride * module, "tls_state": at}
    probe = Probe(path, elf.probe_point(path, makes), _BORN, returns=True)
    return Greenlets(numbers, (probe,), refresh=not shown)


def _main(memory: Memory, pointer: int, stride: int, module: int, offset: int, kind: int) -> bool:
    """Whether a thread's state of the library lies there, by its main greenlet."""
    vector = memory.word(pointer + _DTV)
    block = memory.word(vector + stride * module) if vector else 0
    state = memory.word(block + offset) if block else 0
    main = memory.word(state) if state > 1 else 0
    return main != 0 and memory.word(main + 8) == kind
