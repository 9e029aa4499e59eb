"""The last rows of an event loop's tables are found, with what was written into them, and no older ones."""

from __future__ import annotations

import numpy as np
import pytest

import otel_ebpf.tracing.assemble  # noqa: F401 - the ladder first: its rungs need each other
from otel_ebpf.tracing.rungs.base import NONE
from otel_ebpf.tracing.tables import ROWS, CallTable, Recent, empty


@pytest.mark.parametrize("most", [1000, 5000, 3 * ROWS])
def test_what_was_added_last_is_found_whatever_the_batches(most: int) -> None:
    random = np.random.default_rng(most)
    recent, ids, starts = Recent(CallTable), np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    while len(ids) < 5 * ROWS:
        new = empty(CallTable, int(random.integers(0, most)))
        new.span_id = random.integers(1, 2**63, len(new), dtype=np.uint64)
        new.start = random.integers(1, 2**63, len(new), dtype=np.uint64)
        ids, starts = np.concatenate([ids, new.span_id]), np.concatenate([starts, new.start])
        asked = random.choice(np.append(ids[-2 * ROWS :], 1), 500)

        recent.add(new)
        recent.rows.turn[::3] = recent.rows.start[::3]
        at = recent.find(asked)

        assert np.array_equal(recent.rows.span_id, ids[-ROWS:])
        assert np.array_equal(recent.rows.start, starts[-ROWS:])
        assert np.array_equal(at != NONE, np.isin(asked, ids[-ROWS:]))
        assert np.array_equal(recent.rows.span_id[at[at != NONE]], asked[at != NONE])
        written = recent.rows.turn != 0
        assert written.any() and np.array_equal(recent.rows.turn[written], recent.rows.start[written])


def test_an_empty_table_finds_nothing() -> None:
    recent = Recent(CallTable)

    assert len(recent.rows) == 0
    assert recent.find(np.array([0, 7], np.uint64)).tolist() == [NONE, NONE]
