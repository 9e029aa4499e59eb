"""The map and the services in a real browser, against the page's own stand-in for the API (made-up, equal numbers)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browsing import opened, stand_in

EDGE = re.compile("^shop calls checkout: [^ ]+ .* errors, p99 ")


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with stand_in("shop") as address:
        yield address


def drawn(page: Page) -> int:
    """How many nodes are on the canvas, once it is painted."""
    page.wait_for_selector("[data-drawn]", state="attached")
    return int(page.locator("[data-drawn]").get_attribute("data-drawn") or 0)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))


def test_an_edge_opens_its_numbers_and_its_traces_and_escape_closes_them(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/map") as page:
        assert drawn(page) == 11
        page.get_by_role("button", name=EDGE).click()
        expect(page).to_have_url(f"{shop}/map?from=shop&to=checkout")
        details = page.get_by_role("complementary", name="Details")
        expect(details.get_by_role("img", name=re.compile("^Calls per second"))).to_be_visible()
        expect(details.get_by_role("link", name="Traces", exact=True)).to_have_attribute(
            "href", "/traces?client=shop&server=checkout"
        )
        page.keyboard.press("Escape")
        expect(details).to_have_count(0)


def test_a_trace_of_an_edge_is_opened_from_the_map(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/map?from=shop&to=checkout") as page:
        slowest = page.get_by_role("complementary").locator("section", has_text="Slowest traces")
        slowest.locator("a.line").first.click()
        expect(page).to_have_url(re.compile(r"/trace/[0-9a-f]{32}\?span=[0-9a-f]{16}$"))
        page.go_back()
        expect(page).to_have_url(f"{shop}/map?from=shop&to=checkout")


def test_the_map_is_walked_with_the_keyboard_alone(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/map") as page:
        drawn(page)
        page.get_by_role("button", name="Table").focus()
        page.keyboard.press("Tab")
        assert focused(page).startswith("10.0.3.17, outside peer")
        page.keyboard.press("Tab")
        assert focused(page).startswith("gateway, service, some errors")
        page.keyboard.press("ArrowRight")
        assert focused(page).startswith("gateway calls shop")
        page.keyboard.press("ArrowRight")
        assert focused(page).startswith("shop, service")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{shop}/map?node=shop")
        page.keyboard.press("Escape")
        expect(page).to_have_url(f"{shop}/map")
        assert focused(page).startswith("shop, service")


def test_a_dragged_node_stays_where_it_was_put_when_new_numbers_come(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/map") as page:
        drawn(page)
        redis = page.locator("[data-node=redis]")
        before = redis.bounding_box()
        assert before is not None
        page.mouse.move(before["x"] + 20, before["y"] + 10)
        page.mouse.down()
        page.mouse.move(before["x"] + 80, before["y"] + 100, steps=5)
        page.mouse.up()
        with page.expect_response(lambda answer: "/api/v1/map" in answer.url):
            page.get_by_role("button", name="Refresh").click()
        after = redis.bounding_box()
        assert after is not None
        assert round(after["x"] - before["x"]) == 60
        assert round(after["y"] - before["y"]) == 90


def test_the_same_view_comes_back_from_its_address(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/map") as page:
        drawn(page)
        page.mouse.move(300, 700)
        page.mouse.down()
        page.mouse.move(380, 640, steps=4)
        page.mouse.up()
        expect(page).to_have_url(re.compile("at="))
        seen, address = page.locator("[data-node=shop]").bounding_box(), page.url
    with opened(browser, address) as again:
        drawn(again)
        there = again.locator("[data-node=shop]").bounding_box()
        assert seen is not None and there is not None
        assert abs(seen["x"] - there["x"]) < 2
        assert abs(seen["y"] - there["y"]) < 2


def test_groups_are_boxes_that_fold_to_one_node_and_unfold(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/map") as page:
        page.get_by_label("Group by").select_option("host.name")
        page.get_by_role("button", name="Fold all").click()
        expect(page.locator("[data-node]")).to_have_count(7)
        page.locator("[data-node][aria-label^='db-1 (3), group']").click()
        page.get_by_role("button", name="Unfold", exact=True).click()
        expect(page.locator("[data-node]")).to_have_count(9)


def test_the_table_has_what_the_map_has(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/map?as=table", width=390) as page:
        table = page.get_by_role("table", name="Edges of the service map")
        expect(table.get_by_role("row")).to_have_count(13)
        table.get_by_role("link", name="Open shop calls checkout").click()
        expect(page).to_have_url(re.compile("from=shop&to=checkout"))


def test_two_hundred_nodes_are_drawn(browser: Browser) -> None:
    with stand_in("large") as address, opened(browser, f"{address}/map") as page:
        assert drawn(page) == 200
        page.get_by_label("Find a node").fill("search-44")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("node=search-44"))


def test_without_data_the_page_says_what_to_do(browser: Browser) -> None:
    with stand_in("empty") as address, opened(browser, f"{address}/map?start=-1h") as page:
        expect(page.get_by_text("No request seen in the last 1 hour")).to_be_visible()
        expect(page.get_by_text("otel-ebpf run --otlp-endpoint").first).to_be_visible()


def test_losses_and_a_full_disk_are_said_on_every_view(browser: Browser) -> None:
    with stand_in("gaps") as address:
        for view in ("map", "services", "service/shop", "traces", "live", "agent"):
            with opened(browser, f"{address}/{view}") as page:
                expect(page.get_by_text("The disk is full: new data is refused.")).to_be_visible()
                expect(page.get_by_text("exchanges lost").first).to_be_visible()


def test_names_are_text_whatever_is_in_them(browser: Browser) -> None:
    with stand_in("hostile") as address:
        for view in ("map", "map?as=table", "map?group=host.name", "services", "traces", "live"):
            with opened(browser, f"{address}/{view}") as page:
                page.wait_for_load_state("load")
                expect(page.get_by_role("main")).not_to_be_empty()
                assert page.evaluate("window.hacked") is None
        with opened(browser, f"{address}/services") as page:
            page.get_by_role("link", name="<script>").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("<script>window.hacked = 1</script>")
            assert page.evaluate("window.hacked") is None


def test_a_service_that_is_not_there_is_said_to_be_not_there(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/service/nosuch") as page:
        expect(page.get_by_role("alert")).to_contain_text("Not found")


def test_a_cell_of_the_heat_map_leads_to_its_traces(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/service/shop") as page:
        page.get_by_role("application", name=re.compile("^Durations over time")).click(position={"x": 600, "y": 110})
        expect(page).to_have_url(re.compile(r"/traces\?service=shop&start=\d+&end=\d+&min_ms=[\d.]+&max_ms=[\d.]+$"))


def test_pausing_pins_the_window_in_the_address(browser: Browser, shop: str) -> None:
    with opened(browser, f"{shop}/services?start=-1h") as page:
        page.get_by_role("button", name="Updating").click()
        expect(page).to_have_url(re.compile(r"start=\d{13}&end=\d{13}$"))
        page.get_by_role("button", name="Paused").click()
        expect(page).to_have_url(f"{shop}/services?start=-1h")
