"""The live view: spans are shown as they are sent; they can be filtered, held, and followed to their traces."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import tab
from tests.page_world import Sender, Shop


def lines(page: Page) -> Locator:
    """The lines that are shown, newest first, without the heading."""
    return page.get_by_role("table").get_by_role("rowgroup").get_by_role("row")


def connected(page: Page) -> Locator:
    """Says that lines come."""
    return page.get_by_role("status").filter(has_text=re.compile("^● Connected$"))


def sell(full: Shop, trace: int, *, failed: bool = False) -> None:
    """One checkout, now."""
    sender = Sender()
    sender.checkout(trace, ago=0.2, took=100.0, failed=failed)
    sender.send(full.at)


def test_spans_are_shown_as_they_are_sent_and_lead_to_their_trace(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/live")
        expect(connected(page)).to_be_visible()
        expect(page.get_by_text("Waiting for the first line")).to_be_visible()
        sell(full, 2001)
        expect(lines(page)).to_have_count(11)
        line = lines(page).filter(has_text="GET /stock/2001").filter(has_text="inventory").first
        expect(line).to_contain_text("200")
        line.get_by_role("link").click()
        expect(page).to_have_url(re.compile(f"/trace/{2001:032x}"))
        expect(page.get_by_role("treeitem")).to_have_count(11)


def test_a_filter_lets_through_what_fits_and_is_in_the_address(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/live")
        page.get_by_role("searchbox", name="Filter").fill("service=payment error=true")
        with page.expect_response(re.compile("/api/v1/live.q=")):
            page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"q=service%3Dpayment\+error%3Dtrue"))
        sell(full, 2002)
        sell(full, 2003, failed=True)
        expect(lines(page)).to_have_count(2)
        expect(lines(page).get_by_role("img", name="failed")).to_have_count(2)
        expect(page.get_by_role("table")).not_to_contain_text("shop")


def test_a_wrong_filter_is_explained(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/live?q=colour%3Dred")
        expect(page.get_by_role("alert")).to_contain_text("colour")
        expect(page.get_by_text("Not connected")).to_be_visible()
        page.get_by_role("searchbox", name="Filter").fill("kind=server")
        page.get_by_role("button", name="Filter", exact=True).click()
        expect(connected(page)).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_what_comes_while_it_is_held_is_counted_and_shown_afterwards(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/live?q=kind%3Dserver")
        expect(connected(page)).to_be_visible()
        sell(full, 2004)
        expect(lines(page)).to_have_count(4)
        page.get_by_role("button", name="Pause").click()
        sell(full, 2005)
        expect(page.get_by_role("button", name=re.compile(r"Resume \(4 new\)"))).to_be_visible()
        expect(lines(page)).to_have_count(4)
        page.get_by_role("button", name="Resume").click()
        expect(lines(page)).to_have_count(8)
        page.get_by_role("button", name="Clear").click()
        expect(lines(page)).to_have_count(0)


def test_with_reduced_motion_lines_come_in_calm_steps(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin, calm=True) as page:
        page.goto("/live?q=kind%3Dserver")
        expect(page.get_by_text("in steps of 2 s (reduced motion)")).to_be_visible()
        sell(full, 2006)
        expect(lines(page)).to_have_count(4)
        moving = "document.getAnimations().filter(one => one.playState === 'running').length"
        assert page.evaluate(moving) == 0
