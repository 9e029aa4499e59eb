"""JVM: where threads allocate is marked while there are jobs among them, and those that give jobs are looked at."""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
from collections.abc import Callable
from threading import Thread

import numpy as np
import pytest

from otel_ebpf.runtimes.base import Kind, Layout, Numbers
from otel_ebpf.tracing.marks import CLIENT, JOB, SEEN, SENDS
from tests.e2e.capture import Capture, watching
from tests.e2e.peers import Process, connect, listening, port_of

HEAP, BUFFER = 1 << 32, 1 << 20
WORKER, READER, WRITER = 0, 1, 2
CALL = SENDS | CLIENT | JOB
DESCRIPTOR = 1536
"""Bytes of a thread's own memory, from its thread pointer on, in which its first keys have their values (glibc)."""


class Vm:
    """In the memory of this process and its children: a JVM's threads, each with a buffer of the heap."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.pthread_self.restype = ctypes.c_size_t
        self._area = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.at = ctypes.addressof(ctypes.c_char.from_buffer(self._area))
        self._key = ctypes.c_uint()
        self._libc.pthread_key_create(ctypes.byref(self._key), None)
        self.run(WORKER)
        words = struct.unpack(f"<{DESCRIPTOR // 8}Q", ctypes.string_at(self._libc.pthread_self(), DESCRIPTOR))
        self.slot = 8 * words.index(self.at)
        for thread in (WORKER, READER, WRITER):
            self.refill(thread, 0)

    def run(self, thread: int) -> None:
        """From now on it is this one that runs here."""
        self._libc.pthread_setspecific(self._key, ctypes.c_void_p(self.at + 64 * thread))

    def refill(self, thread: int, n: int) -> None:
        """It gets its n-th buffer."""
        start = HEAP + BUFFER * thread + 4096 * n
        struct.pack_into("<4Q", self._area, 64 * thread, start, start + 64, start + 4096, 0)

    def told(self, capture: Capture, pid: int, classes: int) -> None:
        """That process is such a VM, which has so many classes. (It would be found to be Python, were it looked at.)"""
        numbers: Numbers = {
            "slot": self.slot,
            **dict(zip(("start", "top", "end", "base"), range(0, 32, 8), strict=True)),
            "native": 8,
            "heap": HEAP,
            "heap_end": 2 * HEAP,
            "collections": self.at + 1024,
            "collecting": self.at + 1032,
            "classes": np.arange(classes, dtype=np.uint32),
        }
        assert capture.source.runtimes is not None
        capture.source.runtimes.found[pid] = ("jvm", "")
        maps, btf = capture.source.object.maps, capture.source.object.btf
        value = np.frombuffer(Layout(Kind.JVM, "", numbers).packed(btf), np.uint8).copy()
        maps["runtimes"].update(np.array(pid, np.uint32), value)
        maps["runtimes_epoch"].update(np.array(0, np.uint32), np.array((1 << 20) + classes, np.uint32))


def ask(listener: socket.socket) -> None:
    with connect(listener) as connection:
        connection.sendall(b"PING\r\n")
        connection.recv(64)


def answer(listener: socket.socket) -> None:
    with listener.accept()[0] as connection:
        connection.sendall(b"+" + connection.recv(64))


@pytest.fixture(scope="module")
def vm() -> Vm:
    return Vm()


@pytest.fixture(scope="module", params=[True, False])
def marks(vm: Vm, request: pytest.FixtureRequest) -> list[tuple[int, int]]:
    """(bits, thread) of a process that says it were a JVM: a worker calls, one thread reads a request and another one
    answers it, both get another buffer, the worker calls again. After the first call, more of its classes are known."""
    go, gone = socket.socketpair()
    with go, gone, listening() as backend, listening() as front, watching(request.param) as capture:

        def work() -> None:
            go.recv(1)
            ask(backend)
            with front.accept()[0] as connection:
                on(READER, lambda: connection.recv(64))
                on(WRITER, lambda: connection.sendall(b"+PONG\r\n"))
            vm.refill(READER, 1)
            vm.refill(WRITER, 1)
            ask(backend)

        def on(thread: int, act: Callable[[], object]) -> None:
            def run() -> None:
                vm.run(thread)
                act()

            one = Thread(target=run)
            one.start()
            one.join()

        def serve() -> None:
            answer(backend)
            answer(backend)

        server, program = Process(serve), Process(work)
        vm.told(capture, program.pid, classes=1)
        gone.send(b"!")
        capture.wait(lambda: capture.at(port_of(backend)), 2)
        vm.told(capture, program.pid, classes=2)
        client = Process(lambda: ask(front))
        for process in (client, program, server):
            process.end()
        capture.wait(lambda: capture.at(port_of(backend)), 4)
        told = [one for drain in capture.drains if drain.heap_marks is not None for one in drain.heap_marks]
        return [(int(m["bits"]), (int(m["start"]) - HEAP) // BUFFER) for m in told if m["tgid"] == program.pid]


def test_what_is_found_out_about_a_process_meanwhile_costs_no_mark(marks: list[tuple[int, int]]) -> None:
    own = [mark for mark in marks if not mark[0] & SEEN]
    assert own == [(CALL, WORKER), (0, READER), (SENDS, WRITER), (CALL, WORKER)]


def test_who_has_handed_its_request_over_is_not_looked_at_any_more(marks: list[tuple[int, int]]) -> None:
    assert [mark for mark in marks if mark[0] & SEEN] == [(CLIENT | SEEN, WRITER)]
