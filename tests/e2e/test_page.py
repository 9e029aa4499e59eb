"""The page in Chromium, on a real viewer that got its data by OTLP: the ways that a person goes through it."""

from __future__ import annotations

import re
import time
from itertools import product

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import PATIENCE_MS, tab
from tests.page_world import TRACES, Shop

PINNED = re.compile(r"start=\d{13}&end=\d{13}")


def details(page: Page) -> Locator:
    """The panel beside the map."""
    return page.get_by_role("complementary", name="Details")


def drawn(page: Page) -> None:
    """The map is on the screen."""
    page.locator("[data-drawn]").wait_for(state="attached")


def pin(page: Page) -> None:
    """Stop the window, so that what is looked at does not move."""
    page.get_by_role("button", name="Updating", exact=True).click()
    expect(page).to_have_url(PINNED)


def test_from_an_edge_of_the_map_to_the_span_that_failed_and_its_log(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/map")
        page.get_by_role("button", name=re.compile("^shop calls payment: ")).click()
        expect(page).to_have_url(re.compile(r"/map\?from=shop&to=payment$"))
        panel = details(page)
        expect(panel).to_contain_text("12.5")
        expect(panel.get_by_role("img", name=re.compile("^Calls per second"))).to_be_visible()
        panel.locator("section", has_text="Failing traces").get_by_role("link", name="POST").first.click()
        expect(page).to_have_url(re.compile(r"/trace/[0-9a-f]{32}\?span=[0-9a-f]{16}$"))
        tree = page.get_by_role("tree")
        expect(tree.get_by_role("treeitem")).to_have_count(11)
        tree.get_by_role("treeitem").filter(has_text="POST /pay").filter(has_text="payment").click()
        span = page.get_by_role("region", name="Span payment POST /pay")
        expect(span.get_by_text("Logs of the exchange (1)")).to_be_visible()
        expect(span.get_by_text("card declined")).to_be_visible()
        expect(span.locator("dl.attributes").first).to_contain_text("http.response.status_code")
        expect(span.locator("dl.attributes").first).to_contain_text("500")
        page.go_back()
        expect(details(page)).to_be_visible()


def test_from_a_node_to_its_service_and_from_the_heat_map_to_traces(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/map")
        drawn(page)
        pin(page)
        page.locator("[data-node=inventory]").click()
        expect(details(page).get_by_role("link", name=re.compile("^GET .stock"))).to_be_visible()
        details(page).get_by_role("link", name="Service page").click()
        expect(page).to_have_url(re.compile("/service/inventory"))
        click_on_requests(page, page.get_by_role("application", name=re.compile("^Durations over time")))
        expect(page).to_have_url(
            re.compile(r"/traces\?service=inventory&start=\d+&end=\d+&min_ms=[\d.]+&max_ms=[\d.]+")
        )
        expect(page.locator("a.result").first).to_contain_text("POST /checkout")


def click_on_requests(page: Page, heat: Locator) -> None:
    """Move over the heat map until the tooltip says that there were requests."""
    heat.scroll_into_view_if_needed()
    box = heat.bounding_box()
    assert box is not None
    for y, x in product(range(10, int(box["height"]), 9), range(70, int(box["width"]) - 20, 11)):
        page.mouse.move(box["x"] + x, box["y"] + y)
        tip = page.get_by_role("tooltip")
        if tip.count() and re.match("[1-9]", tip.inner_text()):
            page.mouse.click(box["x"] + x, box["y"] + y)
            return
    raise AssertionError("no request in the heat map")


def test_the_keyboard_alone_goes_from_the_map_to_a_service(browser: Browser, full: Shop) -> None:
    def focused() -> str:
        return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))

    with tab(browser, full.origin) as page:
        page.goto("/map")
        drawn(page)
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused().startswith("web, service"):
                break
        assert focused().startswith("web, service, failing")
        page.keyboard.press("ArrowRight")
        assert focused().startswith("web calls shop")
        page.keyboard.press("ArrowRight")
        assert focused().startswith("shop, service")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"/map\?node=shop"))
        expect(details(page)).to_be_focused()
        page.keyboard.press("Escape")
        expect(details(page)).to_have_count(0)
        assert focused().startswith("shop, service")
        page.keyboard.press("Enter")
        expect(details(page)).to_be_focused()
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Service page":
                break
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1, name="shop")).to_be_visible()


def test_the_keyboard_walks_the_waterfall(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto(f"/trace/{full.failed}")
        tree = page.get_by_role("tree")
        tree.focus()
        page.keyboard.press("ArrowDown")
        expect(page.get_by_role("region", name="Span web POST /checkout")).to_be_visible()
        page.keyboard.press("ArrowLeft")
        expect(tree.get_by_role("treeitem")).to_have_count(1)
        page.keyboard.press("ArrowRight")
        expect(tree.get_by_role("treeitem")).to_have_count(11)
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("region", name="Span web POST", exact=True)).to_be_visible()
        page.keyboard.press("z")
        expect(page).to_have_url(re.compile("from=.*to="))
        page.keyboard.press("Escape")
        expect(page).not_to_have_url(re.compile("to="))


def test_the_table_says_what_the_map_shows(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/map")
        page.get_by_role("button", name="Table").click()
        edges = page.get_by_role("table", name="Edges of the service map")
        row = edges.get_by_role("row").filter(has=page.get_by_role("link", name="Open shop calls payment"))
        expect(row).to_contain_text("12.5")
        row.get_by_role("link", name="Open shop calls payment").click()
        expect(page).to_have_url(re.compile("as=table&from=shop&to=payment"))
        expect(details(page)).to_be_visible()


def test_hosts_are_groups_that_fold(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/map")
        page.get_by_label("Group by").select_option("host.name")
        expect(page).to_have_url(re.compile("group=host.name"))
        page.get_by_role("button", name="Fold all").click()
        folded = page.locator("[data-node][aria-label^='beta (2), group']")
        expect(folded).to_be_visible()
        expect(page.locator("[data-node=payment]")).to_have_count(0)
        folded.click()
        details(page).get_by_role("button", name="Unfold", exact=True).click()
        expect(page.locator("[data-node=payment]")).to_be_visible()


def test_traces_are_found_by_an_attribute_and_by_duration(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/traces")
        expect(page.get_by_role("list", name=f"{TRACES + 1} traces")).to_be_visible()
        page.get_by_role("combobox", name="Attribute", exact=True).fill("user.id")
        page.keyboard.press("Enter")
        page.get_by_role("combobox", name="Value of the attribute").fill("user-3")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"attr=user\.id%3Duser-3"))
        expect(page.get_by_role("list", name="10 traces")).to_be_visible()
        page.get_by_role("textbox", name="At least").fill("0.5 s")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("min_ms=500"))
        expect(page.get_by_role("list", name="1 trace", exact=True)).to_be_visible()
        page.get_by_role("button", name="Remove user.id = user-3").click()
        expect(page.get_by_role("list", name="3 traces")).to_be_visible()
        page.get_by_role("textbox", name="At least").fill("a while")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("A duration is like 250 ms")


def test_a_brush_over_points_narrows_the_search(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        page.goto("/traces?service=web")
        expect(page.get_by_role("list", name=f"{TRACES} traces")).to_be_visible()
        pin(page)
        box = page.get_by_role("img", name=re.compile("^Duration of ")).bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5, steps=6)
        page.mouse.up()
        expect(page).to_have_url(re.compile(r"start=\d{13}.*min_ms=[\d.]+&max_ms=[\d.]+"))
        expect(page.get_by_role("list", name=f"{TRACES} traces")).to_have_count(0)
        page.go_back()
        expect(page.get_by_role("list", name=f"{TRACES} traces")).to_be_visible()


def test_a_copied_address_shows_the_same_view(browser: Browser, full: Shop) -> None:
    """Every view, each with something chosen in it."""
    views = {
        "/map?from=shop&to=payment": "Failing traces",
        "/map?as=table&node=shop": "Service page",
        "/map?group=host.name&fold=beta": "Unfold all",
        "/services?sort=name&kind=database": "orders-db",
        "/service/payment": "Top routes",
        "/service/shop?tab=peers&callees=name": "Who calls it",
        "/traces?service=payment&status=error&order=slowest": "12 traces",
        f"/trace/{full.failed}?find=pay&view=table": "Time by service",
        f"/trace/{full.failed}": "Waterfall",
        "/live?q=error%3Dtrue": "error=true",
        "/agent": "uring_submit",
    }
    shown = {}
    with tab(browser, full.origin) as page:
        for address, said in views.items():
            page.goto(address)
            expect(page.get_by_role("main")).to_contain_text(said)
            if not address.startswith(("/trace/", "/live")):
                pin(page)
            if not address.startswith("/live"):
                page.wait_for_load_state("networkidle")
            expect(page.get_by_role("progressbar")).to_have_count(0)
            shown[page.url] = said, at_rest(page)
    for address, (said, seen) in shown.items():
        with tab(browser, full.origin) as again:
            again.goto(address)
            expect(again.get_by_role("main")).to_contain_text(said)
            becomes(again, seen)
            assert again.url == address


def at_rest(page: Page) -> str:
    """What the view says when nothing comes in any more."""
    seen, before = settled(page), ""
    while seen != before:
        page.wait_for_timeout(700)
        seen, before = settled(page), seen
    return seen


def becomes(page: Page, seen: str) -> None:
    """Parts of a view come in one by one."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while settled(page) != seen and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert settled(page) == seen, page.url


def settled(page: Page) -> str:
    """What the view says to a screen reader, but for what goes on by itself: the viewer's state, and "3 m ago"."""
    agent = page.get_by_role("region", name="Agent on beta")
    said = (agent if agent.count() else page.get_by_role("main")).aria_snapshot()
    return re.sub(r"((\d+\s[smhd]\s)+ago|now)\b", "…", said)
