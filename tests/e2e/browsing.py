"""The page on its own stand-in for the API (page/mock: made-up, equal numbers), for what a real store cannot be made to
hold quickly: large maps, thousands of spans, a busy stream, markup everywhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from scripts import build_page
from tests.browser import WIDE, tab


@contextmanager
def stand_in(scenario: str) -> Iterator[str]:
    """Address of a viewer whose data is `scenario` of page/mock/api.mjs."""
    build_page.build()
    npm, environment = build_page.find_node()
    node = str(Path(npm).parent / "node")
    command = [node, "mock/server.mjs", "--port", "0", "--scenario", scenario, "--page", str(build_page.IN_PLACE)]
    with subprocess.Popen(command, cwd=build_page.PAGE, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split("/map")[0]
        finally:
            server.terminate()


@contextmanager
def opened(running: Browser, address: str, width: int = WIDE[0]) -> Iterator[Page]:
    """A page in a tab of its own (`tests.browser.tab`), in which no script that came as data may have run."""
    at = urlsplit(address)
    with tab(running, f"{at.scheme}://{at.netloc}", width=width) as page:
        page.goto(address)
        yield page
        assert page.evaluate("window.hacked") is None
