"""Fixtures of the tests that look at the kernel side by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.capture import Capture, watching


@pytest.fixture(scope="module", params=["storage", "hash"])
def front(request: pytest.FixtureRequest) -> Iterator[Capture]:
    """Capture by each of the two fronts: what kernels from 6.3 on have, and what older ones have."""
    with watching(storage=request.param == "storage") as running:
        yield running


@pytest.fixture
def capture(front: Capture) -> Capture:
    """The same, for one test."""
    front.begin()
    return front
