"""Search, waterfall, live lines and agents in a real browser, against the page's own stand-in for the API."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browsing import opened, stand_in

TRACE = re.compile(r"/trace/[0-9a-f]{32}(\?span=[0-9a-f]{16})?$")


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with stand_in("shop") as address:
        yield address


def span(page: Page, name: str) -> None:
    """Choose the first span of this name in the waterfall."""
    page.get_by_role("treeitem", name=re.compile(re.escape(name))).first.click()


def test_a_search_is_written_into_the_address_and_taken_back(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/traces") as page:
        page.get_by_role("combobox", name="Service").fill("checko")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.get_by_role("textbox", name=re.compile("^At least")).fill("0.05 s")
        page.keyboard.press("Enter")
        page.get_by_role("combobox", name="Attribute", exact=True).fill("http.route")
        page.keyboard.press("Enter")
        page.get_by_role("combobox", name="Value of the attribute").fill("/orders")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{shop}/traces?service=checkout&min_ms=50&attr=http.route%3D%2Forders")
        expect(page.get_by_role("combobox", name="Value of the attribute")).to_have_value("")
        expect(page.locator("a.result").first).to_contain_text("checkout")
        page.get_by_role("button", name="Clear all").click()
        expect(page).to_have_url(f"{shop}/traces")


def test_results_are_walked_with_the_keyboard_alone(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/traces") as page:
        first = page.locator("a.result").first
        expect(first).to_be_visible()
        for _ in range(30):  # keys are heard a moment after it is drawn
            page.keyboard.press("j")
            page.wait_for_timeout(300)
            if first.evaluate("link => link === document.activeElement"):
                break
        page.keyboard.press("j")
        expect(page.locator("a.result").nth(1)).to_be_focused()
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        expect(page).to_have_url(TRACE)
        page.get_by_role("link", name="← Traces").click()
        expect(page).to_have_url(f"{shop}/traces")


def test_brushing_the_scatter_narrows_time_and_duration_and_back_undoes_it(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/traces") as page:
        scatter = page.get_by_role("img", name=re.compile("^Duration of"))
        box = scatter.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 110, steps=4)
        page.mouse.up()
        expect(page).to_have_url(re.compile(r"/traces\?start=\d{13}&end=\d{13}&min_ms=[\d.]+&max_ms=[\d.]+$"))
        page.go_back()
        expect(page).to_have_url(f"{shop}/traces")


def test_a_search_without_results_says_what_to_take_away(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/traces?service=nobody&status=error") as page:
        expect(page.get_by_text("No trace fits this search")).to_be_visible()
        page.get_by_role("button", name="Without “service nobody”").click()
        expect(page).to_have_url(f"{shop}/traces?status=error")
        expect(page.locator("a.result").first).to_be_visible()


def test_what_the_search_left_out_is_said(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/traces?limit=10") as page:
        expect(page.get_by_text("Not complete: more than 10 match.")).to_be_visible()


def test_an_api_that_fails_is_told_and_asked_again(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/services") as page:
        full = '{"error": "The disk is on fire."}'
        page.route("**/api/v1/traces?*", lambda route: route.fulfill(status=500, body=full), times=1)
        page.get_by_role("link", name="Traces", exact=True).first.click()
        expect(page.get_by_role("alert").filter(has_text="The disk is on fire.")).to_be_visible()
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("a.result").first).to_be_visible()


def test_a_waterfall_shows_hops_links_and_the_span_that_was_chosen(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/trace/checkout") as page:
        expect(page.get_by_role("treeitem")).to_have_count(19)
        hop = page.get_by_role("treeitem", name=re.compile("shop calls GET .items.")).first
        expect(hop).to_contain_text("between ends 180")
        expect(hop.get_by_text("alone", exact=True)).to_have_attribute(
            "title", re.compile("^Parent found by thread-alone")
        )
        span(page, "SELECT items")
        expect(page).to_have_url(re.compile(r"\?span=[0-9a-f]{16}$"))
        details = page.get_by_role("complementary", name="Span")
        expect(details).to_contain_text("confidence 93")
        expect(details).to_contain_text("WHERE i.id = ANY($1)\n  AND i.hidden = false", use_inner_text=True)
        address = page.url
    with opened(browser, address, width=800) as again:
        expect(again.get_by_role("complementary", name="Span")).to_contain_text("SELECT items")


def test_a_failed_span_has_its_exception_its_logs_and_its_links(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/trace/checkout") as page:
        page.get_by_role("treeitem", name=re.compile("payments serves POST .charges")).click()
        details = page.get_by_role("complementary", name="Span")
        for text in ("Failed: the payment took too long", "TimeoutError", "will be tried again by the nightly run"):
            expect(details).to_contain_text(text)
        expect(details.get_by_role("link", name=re.compile("^7468"))).to_have_attribute(
            "href", re.compile("^/trace/7468")
        )


def test_the_tree_is_walked_folded_and_zoomed_with_the_keyboard(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/trace/checkout") as page:
        page.get_by_role("tree").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("treeitem")).to_have_count(2)
        expect(page).to_have_url(re.compile("closed="))
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("treeitem")).to_have_count(19)
        page.keyboard.press("End")
        page.keyboard.press("z")
        expect(page).to_have_url(re.compile("from=301&to=309.2"))
        page.get_by_role("button", name="Show all").click()
        expect(page).not_to_have_url(re.compile("from="))


def test_of_a_thousand_spans_only_those_in_sight_are_in_the_document(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/trace/thousand") as page:
        expect(page.get_by_role("treeitem").first).to_be_visible()
        assert page.get_by_role("treeitem").count() < 80
        page.get_by_role("tree").focus()
        page.keyboard.press("End")
        expect(page.get_by_role("treeitem", selected=True)).to_have_attribute("aria-posinset", "1000")
        expect(page.get_by_role("treeitem", selected=True)).to_be_in_viewport()


def test_missing_parents_and_clocks_that_differ_are_said(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/trace/orphan") as page:
        expect(page.get_by_text("is not here (sampled out, not yet arrived, or lost)").first).to_be_visible()
        expect(page.get_by_role("treeitem", level=1)).to_have_count(2)
    with opened(browser, f"{shop}/trace/skew") as page:
        expect(page.get_by_text("Clocks differ:")).to_be_visible()


def test_a_trace_that_is_not_there_is_said_to_be_not_there(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/trace/ffffffffffffffffffffffffffffffff") as page:
        expect(page.get_by_text("This trace is not here")).to_be_visible()


def test_scripts_in_names_and_values_are_text(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/trace/hostile") as page:
        page.get_by_role("treeitem", name=re.compile("ordinary")).click()
        details = page.get_by_role("complementary", name="Span")
        details.get_by_role("button", name=re.compile("^Show all 200.000 characters")).click()
        details.get_by_role("button", name=re.compile("attributes$")).click()
        expect(details).to_contain_text("</pre><b>x</b>")
        expect(page.get_by_role("heading", level=1)).to_contain_text("<script>")


def test_live_lines_are_held_let_go_and_lead_to_their_trace(browser: Browser) -> None:
    with stand_in("busy") as address, opened(browser, f"{address}/live") as page:
        expect(page.get_by_text("not shown: more came than fits")).to_be_visible()
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name=re.compile(r"Resume \(.* new\)"))).to_be_visible()
        assert page.get_by_role("row").count() < 80
        page.get_by_role("row").nth(1).get_by_role("link").click()
        expect(page).to_have_url(TRACE)


def test_a_filter_that_is_wrong_is_explained_below_it(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/live") as page:
        page.get_by_role("searchbox", name="Filter").fill("shop or not")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("'shop' is not KEY OPERATOR VALUE")
        page.get_by_role("searchbox", name="Filter").fill("service=shop")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Connected")).to_be_visible()
        expect(page).to_have_url(f"{shop}/live?q=service%3Dshop")


def test_an_agent_tells_what_it_lost_and_that_it_lost_nothing(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/agent") as page:
        expect(page.get_by_text("Nothing lost in this window.").first).to_be_visible()
    with stand_in("gaps") as address, opened(browser, f"{address}/agent") as page:
        agent = page.get_by_role("region", name="Agent on app-1")
        expect(agent.get_by_role("row", name=re.compile("the ring of exchanges was full"))).to_contain_text("203")
        expect(agent).to_contain_text("the file has no symbol SSL_read_ex")


def test_without_an_agent_the_page_says_how_to_start_one(browser: Browser) -> None:
    with stand_in("empty") as address, opened(browser, f"{address}/agent") as page:
        expect(page.get_by_text("No agent reports in this window")).to_be_visible()
        expect(page.get_by_text("otel-ebpf run --otlp-endpoint http://127.0.0.1:4317")).to_be_visible()
