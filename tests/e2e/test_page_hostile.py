"""Texts of strangers are shown as text: markup in a service, a path, a span's name, an attribute, a peer, a log."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import tab
from tests.page_world import HOSTILE_PATH, HOSTILE_PEER, HOSTILE_SERVICE, HOSTILE_SPAN, Sender, Shop
from tests.unit.viewer_requests import SERVER

MARKUP = "main script, main img, main b, main [onload], main i:not([class])"
"""The strangers' elements, none of which the page has itself."""
HERE = quote(HOSTILE_SERVICE, safe="")


@pytest.mark.parametrize(
    ("view", "text"),
    [
        ("/map?as=table", HOSTILE_SERVICE),
        (f"/map?node={HERE}", HOSTILE_SERVICE),
        (f"/map?from={HERE}&to={quote(HOSTILE_PEER)}", HOSTILE_PEER),
        (f"/map?node={HERE}&group={quote('<img src=x onerror=alert(1)>')}", HOSTILE_SERVICE),
        ("/services", HOSTILE_SERVICE),
        (f"/services?q={quote('<script>')}", HOSTILE_SERVICE),
        (f"/service/{HERE}", HOSTILE_SPAN),
        (f"/service/{HERE}?tab=peers", HOSTILE_PEER),
        (f"/service/{HERE}?op={quote(HOSTILE_SPAN, safe='')}", HOSTILE_SPAN),
        (f"/traces?service={HERE}", HOSTILE_SPAN),
        (f"/traces?attr={quote('<b>key</b>=' + '<script>alert(1)</script>')}", "<b>key</b> = <script>"),
        (f"/live?q={quote('text~<script>')}", "text~<script>"),
        (f"/live?q={quote('<script>alert(1)</script>')}", "script>alert(1)</script>"),
        (f"/trace/{quote('<img src=x onerror=alert(1)>', safe='')}", "<img src=x"),
        ("/agent", "Agent"),
    ],
)
def test_markup_is_text_wherever_it_stands(browser: Browser, full: Shop, view: str, text: str) -> None:
    with tab(browser, full.origin) as page:
        page.goto(view)
        expect(page.get_by_role("main")).to_contain_text(text)
        expect(page.locator(MARKUP)).to_have_count(0)


def test_markup_in_a_span_is_text_with_all_that_is_known_of_it(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto(f"/trace/{full.hostile}")
        page.get_by_role("treeitem").first.click()
        span = page.get_by_role("complementary", name="Span")
        for text in (HOSTILE_SERVICE, HOSTILE_SPAN, HOSTILE_PATH, "<b>key</b>", "<script>alert('value')</script>"):
            expect(span).to_contain_text(text)
        span.get_by_text("Raw").click()
        expect(span.locator("pre").last).to_contain_text(HOSTILE_PATH)
        expect(page.locator(MARKUP)).to_have_count(0)


def test_markup_in_a_log_is_text(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto(f"/trace/{full.failed}")
        page.get_by_role("treeitem").filter(has_text="POST /pay").filter(has_text="payment").click()
        page.get_by_text("1 attribute").click()
        expect(page.get_by_text("<b>debit</b>")).to_be_visible()


def test_markup_in_a_live_line_is_text(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/live")
        expect(page.get_by_role("status").filter(has_text="Connected")).to_be_visible()
        sender = Sender()
        markup = {"http.request.method": "GET", "url.path": HOSTILE_PATH}
        sender.span(HOSTILE_SERVICE, HOSTILE_SPAN, SERVER, markup, trace=3001, ago=0.1, took=5)
        sender.send(full.at)
        expect(page.get_by_role("table")).to_contain_text(HOSTILE_SERVICE)
        expect(page.get_by_role("table")).to_contain_text(HOSTILE_PATH)


def test_no_answer_lets_scripts_of_others_in(browser: Browser, full: Shop) -> None:
    """What strangers write could not run even if it came to be markup."""
    with tab(browser, full.origin) as page:
        answer = page.goto("/map")
        assert answer is not None
        policy = answer.header_value("content-security-policy") or ""
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
