"""The map in Chromium: how soon 200 services and 1,000 edges are drawn, and how smoothly they are moved by hand."""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path

from playwright.sync_api import CDPSession, Page

from bench.table import Row, Spread
from bench.viewer import EDGES, SERVICES, SPANS, store_of
from tests.browser import browser
from tests.viewer import viewer

TIMES = 7
HELD_S = 3.0
REACH = 120
"""How far the hand moves, px."""
NODE = "[data-node=service-7]"
_DRAWN = "performance.getEntriesByName('map-drawn')[0].startTime"
_COUNT_FRAMES = """
() => {
  window.frames = [];
  const frame = time => { window.frames.push(time); window.next = requestAnimationFrame(frame); };
  window.next = requestAnimationFrame(frame);
}
"""
_TOLD = "() => { cancelAnimationFrame(window.next); return window.frames; }"


def rows(quick: bool) -> list[Row]:
    """All of them."""
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder), SPANS // 10 if quick else SPANS)
        with viewer(Path(folder), "--size", "16GiB") as at, browser() as page:
            drawn = [_drawn(page, f"{at.page}/map?start=-20m") for _ in range(TIMES)]
            # Pinned, so that no new answer comes while the hand moves.
            page.get_by_role("button", name="Live", exact=True).click()
            page.wait_for_url("**/map?start=*&end=*")
            page.wait_for_load_state("networkidle")
            what = f"map of {SERVICES} services, {EDGES:,} edges: from navigation to drawn in Chromium"
            return [
                Row(what, Spread.of(drawn), " ms", 0, 1000),
                *_by_hand(page, "dragging a node on it", _node(page)),
                *_by_hand(page, "panning it", _gap(page)),
            ]


def _drawn(page: Page, address: str) -> float:
    """ms from navigation until the map's first frame is painted; the browser's cache is empty each time."""
    context = page.context.new_cdp_session(page)
    context.send("Network.enable")
    context.send("Network.clearBrowserCache")
    page.goto(address)
    page.wait_for_selector("[data-drawn]", state="attached")
    assert page.locator("[data-drawn]").get_attribute("data-drawn") == str(SERVICES)
    found: float = page.evaluate(_DRAWN)
    return found


def _node(page: Page) -> tuple[float, float]:
    """The middle of a node that many others call."""
    box = page.locator(NODE).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _gap(page: Page) -> tuple[float, float]:
    """A point of the map without node."""
    box = page.locator(".map-canvas").bounding_box()
    assert box is not None
    nodes = [one for node in page.locator("[data-node]").all() if (one := node.bounding_box()) is not None]
    for step in range(20, int(box["height"]) - 20, 3):
        x, y = box["x"] + box["width"] / 2, box["y"] + step
        if not any(-4 < x - one["x"] < one["width"] + 4 and -4 < y - one["y"] < one["height"] + 4 for one in nodes):
            return x, y
    raise AssertionError("the map has no free place")


def _by_hand(page: Page, what: str, at: tuple[float, float]) -> list[Row]:
    """Hold the mouse there and move it to and fro; frames that were shown, and what each cost the main thread."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    still = page.locator(NODE).bounding_box()
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(at[0] + 8, at[1] + 8)  # past the distance from which on it is no click
    busy = _busy_s(session)
    page.evaluate(_COUNT_FRAMES)
    end, turn = time.monotonic() + HELD_S, 0
    while time.monotonic() < end:
        turn += 1
        page.mouse.move(at[0] + abs(turn * 4 % (2 * REACH) - REACH), at[1] + 8)
    times: list[float] = page.evaluate(_TOLD)
    busy = _busy_s(session) - busy
    page.mouse.up()
    steps = [after - before for before, after in pairwise(times)]
    assert page.locator(NODE).bounding_box() != still, f"{what}: nothing moved"
    detail: dict[str, object] = {"movements": turn, "frame_ms": steps}
    # Whole frames: the clock that frames are told by is coarse, and 59.98 is what 60 Hz gives.
    shown = round(len(steps) / (times[-1] - times[0]) * 1000)
    return [
        Row(f"{what}: frames per second", Spread.of([shown]), "/s", 0, 60, at_least=True, detail=detail),
        Row(f"{what}: between two frames", Spread.of(steps), " ms", 1),
        Row(f"{what}: main thread per frame", Spread.of([busy / len(steps) * 1000]), " ms", 1),
    ]


def _busy_s(session: CDPSession) -> float:
    """Seconds of tasks that the page's main thread has done (DevTools protocol, Performance.getMetrics)."""
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])
