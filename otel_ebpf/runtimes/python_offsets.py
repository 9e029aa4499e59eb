"""Offsets in CPython's structures, by minor version. Written by scripts/python_offsets.py: do not edit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offsets:
    """Bytes from the start of the structure; measured with `measured`, in a build with the GIL on x86_64."""

    measured: str
    runtime_key: int
    """_PyRuntime: gilstate.autoTSSkey {int is_initialized = 1; pthread_key_t key}"""
    runtime_main: int
    """_PyRuntime: interpreters.main"""
    interpreter_threads: int
    """PyInterpreterState: the head of the list of its threads"""
    thread_next: int
    thread_interpreter: int
    thread_id: int
    """PyThreadState: pthread_self() of its thread"""
    context: int
    """PyThreadState: the current PyContext, or NULL"""
    stack: int
    """PyThreadState: 3.11 and later: the topmost chunk of the data stack; before: the topmost frame"""
    stack_back: int
    """of that: the one below, NULL in the lowest"""
    entered: int
    """PyContext: ctx_entered, 1 while it was entered by Context.run"""


OFFSETS: dict[tuple[int, int], Offsets] = {
    (3, 7): Offsets(
        measured="3.7.16",
        runtime_key=0x5E0,
        runtime_main=0x20,
        interpreter_threads=0x8,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0xB0,
        context=0x100,
        stack=0x18,
        stack_back=0x18,
        entered=0x28,
    ),
    (3, 8): Offsets(
        measured="3.8.18",
        runtime_key=0x570,
        runtime_main=0x28,
        interpreter_threads=0x8,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0xB0,
        context=0xF0,
        stack=0x18,
        stack_back=0x18,
        entered=0x28,
    ),
    (3, 9): Offsets(
        measured="3.9.18",
        runtime_key=0x248,
        runtime_main=0x28,
        interpreter_threads=0x8,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0xB0,
        context=0xF0,
        stack=0x18,
        stack_back=0x18,
        entered=0x28,
    ),
    (3, 10): Offsets(
        measured="3.10.13",
        runtime_key=0x248,
        runtime_main=0x28,
        interpreter_threads=0x8,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0xB0,
        context=0xF0,
        stack=0x18,
        stack_back=0x18,
        entered=0x28,
    ),
    (3, 11): Offsets(
        measured="3.11.2",
        runtime_key=0x250,
        runtime_main=0x30,
        interpreter_threads=0x10,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0x98,
        context=0xE0,
        stack=0x128,
        stack_back=0x0,
        entered=0x28,
    ),
    (3, 12): Offsets(
        measured="3.12.1",
        runtime_key=0x608,
        runtime_main=0x30,
        interpreter_threads=0x48,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0x88,
        context=0xD0,
        stack=0xE8,
        stack_back=0x0,
        entered=0x28,
    ),
    (3, 13): Offsets(
        measured="3.13.0",
        runtime_key=0x870,
        runtime_main=0x280,
        interpreter_threads=0x1CB0,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0x98,
        context=0xD0,
        stack=0xE8,
        stack_back=0x0,
        entered=0x28,
    ),
    (3, 14): Offsets(
        measured="3.14.6",
        runtime_key=0x920,
        runtime_main=0x330,
        interpreter_threads=0x1CB0,
        thread_next=0x8,
        thread_interpreter=0x10,
        thread_id=0x98,
        context=0xD0,
        stack=0xE8,
        stack_back=0x0,
        entered=0x28,
    ),
}
