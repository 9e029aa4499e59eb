"""The matrix's quick subset: no wrong parent, no span twice, and as many right ones as the row is to have.

The whole of it is `make fidelity`.
"""

from __future__ import annotations

import pytest

from tests.fidelity.harness import AGENT_FIRST, APP_FIRST, Mode, run
from tests.fidelity.row import Row
from tests.fidelity.rows import ROWS
from tests.fidelity.table import cells, notes

SECONDS = 4.0
QUICK = [(row, calls) for row in ROWS for calls in row.quick]


@pytest.mark.parametrize("order", [AGENT_FIRST, APP_FIRST])
@pytest.mark.parametrize(("row", "calls"), QUICK, ids=[f"{row.name}-{calls}" for row, calls in QUICK])
def test_every_call_is_below_the_request_that_caused_it(row: Row, calls: str, order: str) -> None:
    outcome = run(row, Mode(order, calls), SECONDS)
    told = "\n".join(["  ".join(cells(outcome)), *notes(outcome)])
    assert not outcome.error, told
    assert outcome.done > 0, told
    assert outcome.wrong == 0, told
    assert outcome.duplicates == 0, told
    assert outcome.right >= row.target, told
    joined, joins = outcome.joins
    assert joined == joins, told
