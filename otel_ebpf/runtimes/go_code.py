"""What machine code of Go's own functions says (x86-64): where they call each other, where g is, what they keep.

Only patterns that Go's compiler and assembler write, in functions of its runtime and of net/http; what does not look
like them is not found.
"""

from __future__ import annotations

import re
import struct

_CALL = 0xE8
_RELATIVE = struct.Struct("<i")
_ENTRY = 8 + 32
"""Above a goroutine's first frame: the return address into goexit, and 4 words (runtime.newproc1)."""
_PUSH = rb"(?P<push>\x55\x48\x89\xe5)?"  # push %rbp; mov %rsp,%rbp: since Go 1.21. Before, the frame holds %rbp itself
_FRAME = re.compile(_PUSH + rb"\x48(?:\x83\xec(?P<short>.)|\x81\xec(?P<long>.{4})|\x83\xc4(?P<added>.))", re.DOTALL)
_PROLOGUE = 64
_SPILL = re.compile(rb"\x48\x89(?:\x84\x24(?P<long>.{4})|\x44\x24(?P<short>.))", re.DOTALL)  # mov %rax,n(%rsp)
_SPILLED_WITHIN = 128
_SLOT = re.compile(rb"\x64\x4c\x8b\x34\x25(.{4})", re.DOTALL)  # mov %fs:n,%r14
_SLOT_CONSTANT = re.compile(rb"\x49\xc7\xc6(.{4})\x64\x4d\x8b\x36", re.DOTALL)  # mov $n,%r14; mov %fs:(%r14),%r14
_SLOT_LOADED = re.compile(rb"\x4c\x8b\x35(.{4})\x64\x4d\x8b\x36", re.DOTALL)  # mov n(%rip),%r14; mov %fs:(%r14),%r14


def calls(code: bytes, at: int, target: int) -> list[int]:
    """Where code that begins at `at` calls `target`: addresses of the call instructions."""
    found = []
    place = code.find(_CALL)
    while 0 <= place <= len(code) - 5:
        if at + place + 5 + _RELATIVE.unpack_from(code, place + 1)[0] == target:
            found.append(at + place)
        place = code.find(_CALL, place + 1)
    return found


def thread_slot(code: bytes, at: int) -> tuple[int, int]:
    """(what is added to the thread pointer to get the address of g, 0), or (0, the address at which that is told).

    (0, 0): this code does not say. It is a negative number.
    """
    for pattern in (_SLOT, _SLOT_CONSTANT):
        match = pattern.search(code)
        if match:
            return _RELATIVE.unpack(match[1])[0], 0
    match = _SLOT_LOADED.search(code)
    return (0, at + match.start() + 7 + _RELATIVE.unpack(match[1])[0]) if match else (0, 0)


def _frame(code: bytes) -> tuple[int, int] | None:
    """(bytes that the frame takes below the return address, where its prologue ends)."""
    match = _FRAME.search(code, 0, _PROLOGUE)
    if not match:
        return None
    if match["long"]:
        size = _RELATIVE.unpack(match["long"])[0]
    elif match["short"]:
        size = match["short"][0]
    else:
        size = -struct.unpack("b", match["added"])[0]
    return size + (8 if match["push"] else 0), match.end()


def first_argument(starter: bytes, function: bytes) -> int:
    """How far below its stack's end a goroutine keeps the argument of the function that it runs; 0 if that is not so.

    starter: what the goroutine starts with, which calls `function` with one argument. That has its home above the
    return address of the call (Go internal ABI: spill area), at the bottom of the starter's frame, the first one.
    """
    outer, inner = _frame(starter), _frame(function)
    if not outer or not inner:
        return 0
    for match in _SPILL.finditer(function, inner[1], _SPILLED_WITHIN):
        place = _RELATIVE.unpack(match["long"])[0] if match["long"] else match["short"][0]
        if place == inner[0] + 8:
            return _ENTRY + outer[0]
    return 0
