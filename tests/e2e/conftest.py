"""Fixtures of the tests that look at the kernel side by itself, and of those that look at the page in a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import chromium
from tests.e2e.capture import Capture, watching
from tests.page_world import Shop, shop


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; each test opens tabs of its own (`tests.browser.tab`)."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A viewer that holds the shop's traces; tests may add to them."""
    with shop(tmp_path_factory.mktemp("shop")) as filled:
        yield filled
