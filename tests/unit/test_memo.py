"""Hashes of bytes and the bounded map from them to numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.protocols.memo import Memo, gather, hash_rows, hash_texts, words_at


def hashes(texts: list[bytes]) -> list[int]:
    flat = np.frombuffer(b"".join(texts) + bytes(16), np.uint8)
    length = np.array([len(text) for text in texts], np.intp)
    return [int(found) for found in hash_texts(words_at(flat), np.cumsum(length) - length, length)]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=50))
def test_texts_share_a_hash_exactly_if_they_are_equal(texts: list[bytes]) -> None:
    found = hashes(texts)
    assert len(set(found)) == len(set(texts))
    assert found == [hashes([text])[0] for text in texts]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20))
def test_few_and_many_texts_are_hashed_alike(texts: list[bytes]) -> None:
    many = texts * (600 // len(texts) + 1)
    assert hashes(many)[: len(texts)] == hashes(texts)


@given(st.lists(st.binary(max_size=24), min_size=1, max_size=20), st.integers(0, 24))
def test_rows_are_compared_up_to_their_length(rows: list[bytes], size: int) -> None:
    matrix = np.zeros((len(rows), 24), np.uint8)
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = np.frombuffer(row, np.uint8)
    length = np.full(len(rows), size, np.intp)
    found = hash_rows(matrix.view("<u8"), length).tolist()
    assert len(set(found)) == len({matrix[i, :size].tobytes() for i in range(len(rows))})


def test_words_that_differ_in_their_last_bytes_do_not_cancel_out() -> None:
    """A sum of products would give one hash for about 1 of 256 such pairs."""
    words = np.zeros((65536, 2), np.uint64)
    words[:, 0] = (np.arange(65536) // 256 << 56).astype(np.uint64)
    words[:, 1] = (np.arange(65536) % 256 << 56).astype(np.uint64)
    assert len(np.unique(hash_rows(words))) == 65536


def test_hashes_differ_from_process_to_process() -> None:
    script = (
        "import numpy as np; from otel_ebpf.protocols.memo import hash_rows; print(hash_rows(np.ones((1, 2), 'u8')))"
    )
    said = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(said) == 2


@given(st.lists(st.binary(max_size=20), max_size=30))
def test_gathered_texts_lie_one_behind_the_other(texts: list[bytes]) -> None:
    flat = np.frombuffer(b"-" + b"-".join(texts) + b"-", np.uint8)
    length = np.array([len(text) for text in texts], np.intp)
    joined, begins = gather(flat, 1 + np.cumsum(length + 1) - length - 1, length)
    assert joined.tobytes() == b"".join(texts) + bytes(8)
    assert begins.tolist() == (np.cumsum(length) - length).tolist()


def test_a_memo_finds_what_was_added_and_forgets_what_it_was_told_to() -> None:
    memo = Memo(100)
    keys = np.array([5, 1, 9], np.uint64)
    assert memo.find(keys).tolist() == [-1, -1, -1]
    memo.add(keys, np.array([50, 10, 90]))
    assert memo.find(np.array([9, 2, 1, 5, 9], np.uint64)).tolist() == [90, -1, 10, 50, 90]
    assert sorted(memo.recent().tolist()) == [10, 50, 90]
    memo.forget(10)
    assert memo.find(keys).tolist() == [50, -1, 90]


def test_a_full_memo_keeps_what_was_asked_for_last() -> None:
    memo = Memo(8)
    for i in range(100):
        memo.find(np.array([0, i], np.uint64))
        if memo.find(np.array([i], np.uint64))[0] < 0:
            memo.add(np.array([i], np.uint64), np.array([i]))
        assert len(memo) <= 8
    assert memo.find(np.array([0, 99], np.uint64)).tolist() == [0, 99]
