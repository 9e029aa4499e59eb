"""Specification of the last rung: parents from times alone, in services that behave in several ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from otel_ebpf.tracing.statistics import NONE, assign_all
from tests.unit.statistics_world import (
    Handler,
    World,
    cached,
    in_parallel,
    in_sequence,
    mixed,
    repeated,
    retried,
    world,
)

_SURE = 0.95


def _judged(given: World) -> tuple[float, float, float]:
    """Share of calls that are right; share that is sure; of these, the share that is right."""
    found = assign_all(given.columns)
    right = found.parent == given.truth
    sure = found.confidence >= _SURE
    return float(right.mean()), float(sure.mean()), float(right[sure].mean())


@pytest.mark.parametrize(
    ("handle", "in_flight", "right", "sure"),
    [
        (in_sequence, 2, 0.995, 0.98),
        (in_sequence, 10, 0.97, 0.94),
        (in_sequence, 30, 0.95, 0.85),
        (in_parallel, 2, 0.99, 0.98),
        (in_parallel, 10, 0.97, 0.95),
        (cached, 10, 0.98, 0.94),
        (retried, 10, 0.97, 0.9),
        (mixed, 10, 0.98, 0.9),
    ],
)
def test_nearly_all_calls_find_their_request_and_hardly_one_is_sure_and_wrong(
    handle: Callable[[Handler], None], in_flight: float, right: float, sure: float
) -> None:
    is_right, is_sure, precise = _judged(world(handle, in_flight=in_flight))
    assert is_right >= right
    assert is_sure >= sure
    assert precise >= 0.99


@pytest.mark.parametrize("handle", [in_sequence, in_parallel, cached])
def test_given_requests_in_bursts_when_they_cannot_be_told_apart_then_that_is_said(
    handle: Callable[[Handler], None],
) -> None:
    _, _, precise = _judged(world(handle, burst=5))
    assert precise >= 0.95


def test_given_calls_that_belong_to_no_request_then_hardly_one_is_surely_given_to_one() -> None:
    given = world(in_sequence, background=0.1)
    found = assign_all(given.columns)
    stray = given.truth == NONE
    assert (found.confidence[stray] >= _SURE).mean() < 0.05


def test_given_several_processes_then_a_call_belongs_to_a_request_of_its_own() -> None:
    given = world(mixed, in_flight=30, places=4)
    found = assign_all(given.columns)
    placed = found.parent != NONE
    columns = given.columns
    assert (columns.request_place[found.parent[placed]] == columns.call_place[placed]).all()
    assert (found.parent == given.truth).mean() >= 0.98


def test_given_some_calls_whose_request_is_known_then_they_stay_and_the_others_are_found_more_often() -> None:
    given = world(repeated, in_flight=5)
    known = np.where(np.arange(len(given.truth)) % 10 < 7, given.truth, NONE)
    sought = known == NONE
    without = assign_all(given.columns)
    found = assign_all(replace(given.columns, known=known))
    assert (found.parent[~sought] == given.truth[~sought]).all()
    assert (found.confidence[~sought] == 1).all()
    right = found.parent == given.truth
    assert right[sought].mean() > (without.parent == given.truth)[sought].mean()


def test_given_more_requests_than_a_window_has_then_those_at_its_edges_are_found_as_well() -> None:
    given = world(in_sequence, requests=4500, in_flight=10)
    found = assign_all(given.columns)
    right = found.parent == given.truth
    assert right.mean() >= 0.97
    edge = given.columns.request_start[2000]
    near = np.argsort(np.abs(given.columns.call_start - edge))[:200]
    assert right[near].mean() >= 0.95


def test_every_parent_contains_its_call_in_time() -> None:
    given = world(mixed, in_flight=20, burst=3, background=0.05)
    found = assign_all(given.columns)
    placed = (found.parent != NONE).nonzero()[0]
    columns, parent = given.columns, found.parent[placed]
    assert (columns.request_start[parent] <= columns.call_start[placed]).all()
    assert (columns.call_end[placed] <= columns.request_end[parent]).all()
    assert (found.candidates[placed] > 0).all()


@pytest.mark.parametrize(("requests", "calls"), [(0, 0), (0, 3), (3, 0), (1, 1)])
def test_of_next_to_nothing_little_is_said(requests: int, calls: int) -> None:
    def column(n: int, value: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.full(n, value, np.int64)

    columns = replace(
        world(cached, requests=5).columns,
        request_start=column(requests, 10),
        request_end=column(requests, 100),
        request_kind=column(requests),
        request_place=column(requests),
        call_start=column(calls, 20),
        call_end=column(calls, 30),
        call_kind=column(calls),
        call_place=column(calls),
        work=column(calls, 10),
        known=column(calls, NONE),
    )
    found = assign_all(columns)
    assert len(found.parent) == calls
    assert (found.confidence < _SURE).all() or requests == calls == 1


def test_all_at_the_same_time_is_undecided() -> None:
    given = world(in_sequence, requests=50)
    columns = given.columns
    same = replace(
        columns,
        request_start=np.full(50, 10),
        request_end=np.full(50, 10),
        call_start=np.full(len(given.truth), 10),
        call_end=np.full(len(given.truth), 10),
    )
    assert (assign_all(same).confidence < _SURE).all()
