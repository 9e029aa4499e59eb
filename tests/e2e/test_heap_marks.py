"""JVM: where threads allocate is marked for as long as one of them works on jobs."""

from __future__ import annotations

import ctypes
import mmap
import socket

import numpy as np
import pytest

from otel_ebpf.runtimes.base import Kind, Layout
from otel_ebpf.tracing.marks import CLIENT, JOB, SENDS
from tests.e2e.capture import Capture, watching
from tests.e2e.peers import Process, connect, listening, port_of

SLOT, THREAD, COUNTERS = 0, 64, 256
"""In the process's area: the pointer to its JavaThread; the buffer of that; what a VM counts."""


def answer(listener: socket.socket) -> None:
    with listener.accept()[0] as connection:
        connection.sendall(b"+" + connection.recv(64))


def ask(listener: socket.socket) -> None:
    with connect(listener) as connection:
        connection.sendall(b"PING\r\n")
        connection.recv(64)


@pytest.mark.parametrize("storage", [True, False])
def test_what_is_found_out_about_a_process_meanwhile_costs_no_mark(storage: bool) -> None:
    """Given a process that says it were a JVM, and calls without a request; when more of its classes become known; then
    its next request is marked, where it is read and where it is answered."""
    area = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    at = ctypes.addressof(ctypes.c_char.from_buffer(area))  # the same in the child
    area[SLOT : SLOT + 8] = (at + THREAD).to_bytes(8, "little")
    go, gone = socket.socketpair()
    with go, gone, listening() as backend, listening() as front, watching(storage) as capture:

        def work() -> None:
            go.recv(1)
            ask(backend)
            answer(front)

        server, program = Process(lambda: answer(backend)), Process(work)
        pretend(capture, program.pid, at, classes=1)
        gone.send(b"!")
        capture.wait(lambda: capture.at(port_of(backend)), 2)
        pretend(capture, program.pid, at, classes=2)
        client = Process(lambda: ask(front))
        for process in (client, program, server):
            process.end()
        capture.wait(lambda: capture.at(port_of(front)), 2)
        marks = [one for drain in capture.drains if drain.heap_marks is not None for one in drain.heap_marks]
        assert [int(one["bits"]) for one in marks if one["tgid"] == program.pid] == [SENDS | CLIENT | JOB, 0, SENDS]


def pretend(capture: Capture, pid: int, area: int, classes: int) -> None:
    pointer = ctypes.CDLL(None).pthread_self
    pointer.restype = ctypes.c_size_t  # on x86-64 it is the thread pointer, and the forked thread keeps it
    numbers = {
        "slot": area + SLOT - pointer(),
        "start": 0,
        "top": 8,
        "end": 16,
        "base": 24,
        "native": 8,
        "heap": 1 << 32,
        "heap_end": 1 << 33,
        "collections": area + COUNTERS,
        "collecting": area + COUNTERS + 8,
        "classes": np.arange(classes, dtype=np.uint32),
    }
    assert capture.source.runtimes is not None
    capture.source.runtimes.found[pid] = ("jvm", "")  # so that it is not looked at: it would be found to be Python
    maps, btf = capture.source.object.maps, capture.source.object.btf
    value = np.frombuffer(Layout(Kind.JVM, "", numbers).packed(btf), np.uint8).copy()
    maps["runtimes"].update(np.array(pid, np.uint32), value)
    maps["runtimes_epoch"].update(np.array(0, np.uint32), np.array((1 << 20) + classes, np.uint32))
