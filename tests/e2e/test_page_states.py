"""The page when not all is well: no data, no viewer, no disk, wrong questions, losses, a token at the door."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import tab
from tests.page_world import LOST, Sender, Shop
from tests.viewer import Viewer, end, serving, start, viewer

ANSWERS_NOT = "The viewer does not answer. Is it still running?"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with viewer(tmp_path_factory.mktemp("empty")) as at:
        yield at


@pytest.mark.parametrize(
    ("view", "said", "to_do"),
    [
        ("/map", "No request seen in the last 15 minutes", "sudo otel-ebpf run --otlp-endpoint http://127.0.0.1:"),
        ("/services", "No request seen in the last 15 minutes", "Choose a longer window"),
        ("/traces", "No traces in this window", "The last 24 h"),
        ("/live", "Waiting for the first line", "as soon as an agent or an SDK sends"),
        ("/agent", "No agent reports in this window", "sudo otel-ebpf run --otlp-endpoint http://127.0.0.1:"),
        (f"/trace/{7:032x}", "This trace is not here", "Look again"),
        ("/service/nosuch", "Not found", "Try again"),
        ("/service/a%2Fb%3Fc", "Not found", "Try again"),
    ],
)
def test_without_data_each_view_says_what_to_do(
    browser: Browser, empty: Viewer, view: str, said: str, to_do: str
) -> None:
    with tab(browser, empty.page) as page:
        page.goto(view)
        expect(page.get_by_role("main")).to_contain_text(said)
        expect(page.get_by_role("main")).to_contain_text(to_do)


def test_a_search_that_finds_nothing_can_be_widened(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/traces?service=shop&min_ms=99999")
        expect(page.get_by_text("No trace fits this search")).to_be_visible()
        page.get_by_role("button", name="Without “at least 99999 ms”").click()
        expect(page.locator("a.result").first).to_be_visible()


@pytest.mark.parametrize("view", ["/map?as=table", "/services?", "/service/shop?", "/traces?"])
def test_what_the_api_refuses_is_said_in_its_words(browser: Browser, full: Shop, view: str) -> None:
    with tab(browser, full.origin) as page:
        page.goto(f"{view}&start=yesterday")
        expect(page.get_by_role("main").get_by_role("alert")).to_contain_text("yesterday")
        page.get_by_role("button", name="15 m", exact=True).click()
        expect(page.get_by_role("main").get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("main")).to_contain_text("shop")


def test_losses_are_said_in_every_view_whose_data_has_gaps(browser: Browser, full: Shop) -> None:
    for view in ("/map", "/services", "/service/shop", "/traces", f"/trace/{full.failed}", "/live", "/agent"):
        with tab(browser, full.origin) as page:
            page.goto(view)
            losses = page.get_by_role("status", name="Losses")
            expect(losses).to_have_count(1)
            # Of a trace it is known only what was lost between the two reports that it lies between.
            lost = "602" if view.startswith("/trace/") else "1\u202f203"
            expect(losses).to_contain_text(lost)
            expect(losses).to_contain_text("messages of requests are missing: the agent was too busy to read them")
            if view == "/agent":
                card = page.get_by_role("region", name="Agent on beta")
                assert LOST == 1203
                expect(card.get_by_role("row", name=re.compile("^kernel: the ring"))).to_contain_text("1\u202f203")
                expect(card).to_contain_text("uring_submit")


def test_a_viewer_that_dies_is_missed_and_one_that_comes_back_is_taken_up(browser: Browser, tmp_path: Path) -> None:
    process = start(tmp_path)
    at = serving(process)
    sender = Sender()
    sender.checkout(1, ago=5, took=100)
    sender.send(at)
    with tab(browser, at.page) as page:
        page.goto("/map")
        expect(page.locator("[data-node=shop]")).to_be_visible()
        page.goto("/live")
        page.goto("/services")
        expect(page.get_by_role("link", name=re.compile("shop"))).to_be_visible()
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.get_by_role("button", name="Refresh").click()
        expect(
            page.get_by_role("alert").filter(has_text=f"{ANSWERS_NOT} What is shown below may be old.")
        ).to_be_visible()
        expect(page.get_by_role("link", name=re.compile("shop"))).to_be_visible()
        page.get_by_role("link", name="Live").click()
        expect(page.get_by_text("Connection lost").first).to_be_visible()
        page.get_by_role("link", name="Traces").click()
        expect(page.get_by_role("main").get_by_role("alert")).to_contain_text(ANSWERS_NOT)
        again = start(tmp_path, "--listen", at.page.partition("//")[2])
        try:
            serving(again)
            page.get_by_role("button", name="Try again").click()
            expect(page.get_by_role("list", name="1 trace", exact=True)).to_be_visible()
            page.get_by_role("button", name="Refresh").click()
            expect(page.get_by_role("alert")).to_have_count(0)
        finally:
            end(again)


def test_a_live_view_comes_back_by_itself(browser: Browser, tmp_path: Path) -> None:
    process = start(tmp_path)
    at = serving(process)
    with tab(browser, at.page) as page:
        page.goto("/live")
        expect(page.get_by_role("status").filter(has_text="Connected")).to_be_visible()
        process.send_signal(signal.SIGKILL)
        process.wait()
        expect(page.get_by_text("The connection was lost")).to_be_visible()
        again = start(tmp_path, "--listen", at.page.partition("//")[2])
        try:
            back = serving(again)
            expect(page.get_by_role("status").filter(has_text=re.compile("^● Connected"))).to_be_visible()
            sender = Sender()
            sender.checkout(1, ago=0.1, took=50)
            sender.send(back)
            expect(page.get_by_role("table")).to_contain_text("GET /stock/1")
        finally:
            end(again)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, too small for what a viewer keeps free."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_on_every_view(browser: Browser, tmp_path: Path) -> None:
    with small_disk(tmp_path) as folder, viewer(folder) as at:
        at.wait("/api/v1/status", lambda answer: answer["problems"])
        for view in ("/map", "/services", "/traces", "/live", "/agent"):
            with tab(browser, at.page) as page:
                page.goto(view)
                expect(page.get_by_role("alert")).to_contain_text("New data is refused: the disk of the store is full")


def test_behind_a_token_the_page_is_opened_once_with_it(browser: Browser, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-enough-secret-of-the-house")
    options = ("--token-file", str(token), "--listen", "0.0.0.0:0")
    with viewer(tmp_path / "store", *options) as at:
        origin = f"http://127.0.0.1:{urlsplit(at.page).port}"
        with tab(browser, origin) as page:
            answer = page.goto("/map")
            assert answer is not None and answer.status == 401
            page.goto("/map?start=-1h")
            page.get_by_label("Token").fill("something else")
            page.get_by_role("button", name="Open").click()
            expect(page.get_by_role("alert")).to_contain_text("not the token of this viewer")
            page.get_by_label("Token").fill(token.read_text())
            page.keyboard.press("Enter")
            expect(page).to_have_url(f"{origin}/map?start=-1h")
            expect(page.get_by_text("No request seen in the last 1 hour")).to_be_visible()
            page.get_by_role("link", name="Live").click()
            expect(page.get_by_text("Waiting for the first line")).to_be_visible()
