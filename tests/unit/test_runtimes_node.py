"""Where a Node keeps its asynchronous ids: found in what looks like it, and in nothing else."""

from __future__ import annotations

import ctypes
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.runtimes.memory import Memory
from otel_ebpf.runtimes.node import Node, Place, candidates, owner, search

WORD = st.sampled_from([0, 1, 4, 7, 8, 9, 16, 17, 64, (1 << 64) - 1])


def hooks(isolate: int, fields: int, ids: int, stride: int = 7) -> list[int]:
    """`AsyncHooks` as it lies in memory: vtable (if any), isolate, count, offset, address, handle, index, twice."""
    vtable = [77] if stride == 7 else []
    return [*vtable, isolate, 9, 0, fields, 5, 0, *vtable, isolate, 4, 0, ids, 6, 0]


def is_candidate(words: list[int], at: int, stride: int) -> bool:
    """The twin of `candidates`, one place at a time."""
    isolate, count, offset = words[at : at + 3]
    return (
        isolate == words[at + stride] != 0
        and isolate % 8 == 0
        and 6 <= count <= 16
        and offset == 0
        and words[at + stride + 1 : at + stride + 3] == [4, 0]
        and words[at + stride + 3] % 8 == 0
    )


@given(st.lists(WORD, max_size=40), st.booleans(), st.sampled_from([6, 7]))
def test_candidates_are_found_as_one_by_one(words: list[int], some: bool, stride: int) -> None:
    words = words + hooks(16, 64, 64, stride) if some else words
    expected = [at for at in range(len(words) - stride - 3) if is_candidate(words, at, stride)]
    assert candidates(np.array(words, np.uint64), stride).tolist() == expected
    assert expected or not some


@pytest.mark.parametrize(
    "ids",
    [
        (float("nan"), 0, 9, -1),
        (0, float("inf"), 9, -1),
        (0, 0, float("nan"), -1),
        (-1, 0, 9, -1),
        (10, 0, 9, -1),
        (0.5, 0, 9, -1),
        (0, 0, 2.0**60, -1),
        (0, 0, 0, -1),
        (0, 0, 9, -2),
        (0, 0, 9, float("nan")),
    ],
)
def test_what_are_no_ids_is_not_taken_for_some(ids: tuple[float, ...]) -> None:
    assert not found_here(ids)


def test_ids_are_found() -> None:
    assert found_here((3.0, 2.0, 9.0, -1.0))
    assert found_here((0.0, 0.0, 2.0**40, 5.0), stride=6)


def found_here(ids: tuple[float, ...], stride: int = 7) -> bool:
    """Whether the search of this process finds ids that were put into its own memory."""
    doubles = ctypes.create_string_buffer(struct.pack("<4d", *ids), 32)
    at = ctypes.addressof(doubles)
    place = ctypes.create_string_buffer(struct.pack(f"<{2 * stride}Q", *hooks(0x1238, 0x2000, at, stride)))
    with Memory(os.getpid()) as memory:
        found = search(memory)
    assert place
    return any(one.ids == at for one in found)


def test_pointers_into_nothing_are_followed_to_nothing() -> None:
    wild = [0, 8, 1 << 60, (1 << 64) - 8, 4096]
    places = [ctypes.create_string_buffer(struct.pack("<14Q", *hooks(0x1238, 0x2000, at))) for at in wild]
    with Memory(os.getpid()) as memory:
        found = search(memory)
    assert places
    assert not {one.ids for one in found} & set(wild)


def test_a_stack_belongs_to_the_environment_that_it_leads_to() -> None:
    one, other = Place(0x10_0480, 0x5000), Place(0x20_0480, 0x6000)
    stack = np.array([0x10_0000, 7, 0x10_0000, 0x10_0008, 0x20_0000], np.uint64)
    assert owner(stack, (one, other)) == 0x5000
    assert owner(stack[:2], (one, other)) is None
    assert owner(np.append(stack, stack + np.uint64(0x10_0000)), (one, other)) is None
    assert owner(stack, (Place(8, 0x5000), Place(0, 0x6000))) is None


def test_other_programs_are_not_node() -> None:
    assert Node().recognise(os.getpid()) is None
    assert Node().recognise(1 << 21) is None
