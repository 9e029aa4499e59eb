"""A real browser on the page, and the page's own stand-in for the API (made-up, equal numbers)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from scripts import build_page


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


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
def opened(browser: Browser, address: str, width: int = 1440) -> Iterator[Page]:
    """A page on which any error of a script, and any script that came as data, fails the test."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page
    ran = page.evaluate("window.hacked")
    page.close()
    assert errors == []
    assert ran is None
