"""The system's Chromium for tests and benchmarks of the page, and what every test of it demands of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from tests.processes import program

PATIENCE_MS = 20_000
"""How long a condition may take to come true: generous, since the machine may be busy; nothing is asserted of times."""
WIDE = (1440, 900)
_NETWORK = re.compile(r"Failed to load resource|net::ERR_")
"""What the browser itself says on the console of an answer that is an error, or did not come."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. The sandbox is left out since tests run as root, where Chromium does not start with it."""
    expect.set_options(timeout=PATIENCE_MS)
    arguments = ["--no-sandbox", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def browser() -> Iterator[Page]:
    """A page by itself, of whatever is shown in it."""
    with chromium() as running:
        yield running.new_page(viewport={"width": WIDE[0], "height": WIDE[1]})


def watched(page: Page, origin: str) -> list[str]:
    """Filled with what a page must never do: fail in a script, complain, ask the user, ask another origin."""
    seen: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _NETWORK.search(message.text):
            seen.append(f"console: {message.text}")

    def asked(dialog: Dialog) -> None:
        seen.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def requested(request: Request) -> None:
        if not request.url.startswith((f"{origin}/", "data:")):
            seen.append(f"request: {request.url}")

    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("console", said)
    page.on("dialog", asked)
    page.on("request", requested)
    return seen


@contextmanager
def tab(
    running: Browser,
    origin: str,
    *,
    width: int = WIDE[0],
    scheme: Literal["light", "dark"] = "light",
    calm: bool = False,
) -> Iterator[Page]:
    """A page in a context of its own, which begins at nothing; on return it must have behaved (see `watched`).

    origin: "http://127.0.0.1:8890"; addresses are given relative to it: `page.goto("/map")`. calm: as for a user who
    wants reduced motion.
    """
    context = running.new_context(
        base_url=origin,
        viewport={"width": width, "height": WIDE[1]},
        color_scheme=scheme,
        reduced_motion="reduce" if calm else "no-preference",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    misdeeds = watched(page, origin)
    try:
        yield page
    finally:
        context.close()
    assert misdeeds == []
