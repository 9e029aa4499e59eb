"""Combinations: the same groups as a dictionary of tuples would give."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.combinations import Combinations
from otel_ebpf.model import Kind, Link, Spans

_IDS = st.one_of(st.integers(-2, 3), st.integers(-2, 2**31 - 1))
_ROWS = st.lists(
    st.tuples(_IDS, st.sampled_from([int(kind) for kind in Kind]), _IDS, _IDS, st.sampled_from([int(k) for k in Link])),
    max_size=40,
)


def spans_of(rows: list[tuple[int, int, int, int, int]]) -> Spans:
    spans = Spans.empty(len(rows))
    names = ("shape", "kind", "endpoint", "resource", "link")
    for i, name in enumerate(names):
        getattr(spans, name)[:] = [row[i] for row in rows]
    return spans


@given(_ROWS)
def test_rows_share_a_combination_exactly_if_they_agree_in_everything(
    rows: list[tuple[int, int, int, int, int]],
) -> None:
    found = Combinations.among(spans_of(rows))
    told = [(found.side[i], found.endpoint[i], found.resource[i], found.link[i]) for i in found.of.tolist()]
    assert told == [
        (shape * 2 + (kind == Kind.CLIENT), endpoint, resource, link) for shape, kind, endpoint, resource, link in rows
    ]
    assert len(found) == len(set(told))


def test_given_some_of_the_rows_then_their_combinations_keep_their_numbers() -> None:
    found = Combinations.among(spans_of([(1, 2, 0, 0, 0), (2, 2, 0, 0, 0), (1, 2, 0, 0, 0)]))
    some = found.take(np.array([False, True, False]))
    assert [some.side[i] for i in some.of.tolist()] == [4]
    assert len(some) == len(found) == 2
