"""What the requests of a class have always done."""

from __future__ import annotations

import numpy as np

from otel_ebpf.tracing.shares import ENOUGH, LIMIT, UNKNOWN, Shares

ONE, OTHER = 4711, 4712


def seen(shares: Shares, key: int, share: int, times: int = 1, pid: int = 17) -> None:
    for _ in range(times):
        shares.seen(np.array([pid], np.uint32), np.array([key], np.uint64), np.array([share], np.int64))


def of(shares: Shares, *keys: int) -> list[int]:
    found: list[int] = shares.of(np.array(keys, np.uint64)).tolist()
    return found


def test_a_number_is_known_once_it_was_the_same_often_enough() -> None:
    shares = Shares()
    seen(shares, ONE, 2, ENOUGH - 1)
    assert of(shares, ONE) == [UNKNOWN]
    seen(shares, ONE, 2)
    assert of(shares, OTHER, ONE) == [UNKNOWN, 2]


def test_a_class_that_has_several_numbers_has_none() -> None:
    shares = Shares()
    for n in range(200):
        seen(shares, ONE, 1 + n % 8 // 7)
    assert of(shares, ONE) == [UNKNOWN]


def test_a_class_may_change() -> None:
    shares = Shares()
    seen(shares, ONE, 2, 20)
    seen(shares, ONE, 3, 400)
    assert of(shares, ONE) == [3]


def test_many_at_once_are_as_one_after_the_other() -> None:
    at_once, singly = Shares(), Shares()
    keys = np.array([ONE, OTHER, ONE, ONE, OTHER] * 8, np.uint64)
    share = np.where(keys == ONE, 2, 0).astype(np.int64)
    at_once.seen(np.full(len(keys), 17, np.uint32), keys, share)
    for key, number in zip(keys.tolist(), share.tolist(), strict=True):
        seen(singly, key, number)
    assert of(at_once, ONE, OTHER) == of(singly, ONE, OTHER) == [2, 0]


def test_what_cannot_be_told_apart_is_no_class() -> None:
    shares = Shares()
    seen(shares, 0, 2, 50)
    assert of(shares, 0) == [UNKNOWN]
    assert len(shares) == 0


def test_a_process_that_is_gone_takes_its_classes_with_it() -> None:
    shares = Shares()
    seen(shares, ONE, 1, ENOUGH, pid=17)
    seen(shares, OTHER, 1, ENOUGH, pid=18)
    shares.forget(np.array([17], np.uint32))
    assert of(shares, ONE, OTHER) == [UNKNOWN, 1]


def test_the_classes_that_were_not_seen_for_longest_are_forgotten() -> None:
    shares = Shares()
    seen(shares, ONE, 1, ENOUGH)
    for first in range(1, LIMIT, 100):
        keys = np.arange(10_000 + first, 10_000 + first + 100, dtype=np.uint64)
        shares.seen(np.full(100, 17, np.uint32), keys, np.ones(100, np.int64))
        seen(shares, OTHER, 1)
    assert len(shares) <= LIMIT
    assert of(shares, ONE, OTHER) == [UNKNOWN, 1]
