"""Everybody can read and use the page: contrast, names for screen readers, focus that is seen, narrow windows."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import tab
from tests.page_world import Shop

CONTRAST = 4.5
"""WCAG 2.2, 1.4.3 "Contrast (Minimum)": normal text on its background."""
# Elements with text of their own, the colours that they have in the end, and the contrast of these by WCAG's formula.
_POOR = """
least => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith("color(") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const back = element => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.unshift(getComputedStyle(one).backgroundColor);
    return layers.reduce((below, top) => over(parse(top), below), [255, 255, 255]);
  };
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = colour => colour.reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(c / 255), 0);
  const poor = new Set();
  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest("[aria-hidden=true], :disabled, noscript, svg, .visually-hidden, .skip")) continue;
    const text = [...element.childNodes].filter(one => one.nodeType === 3).map(one => one.data).join("").trim();
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const below = back(element);
    const colours = [over(parse(getComputedStyle(element).color), below), below].map(luminance);
    const contrast = (Math.max(...colours) + 0.05) / (Math.min(...colours) + 0.05);
    if (contrast < least) poor.add(`${element.tagName} "${element.className}": ${contrast.toFixed(2)}`);
  }
  return [...poor];
}
"""
# What can be used but has no name that a screen reader could say.
_NAMELESS = """
() => [...document.querySelectorAll("a, button, input, select, textarea, summary, [role], [tabindex='0']")]
  .filter(one => !one.closest("[aria-hidden=true]") && one.checkVisibility())
  .filter(one => !/^(presentation|alert|status|row|rowgroup|tabpanel)$/.test(one.getAttribute("role") ?? ""))
  .filter(one => {
    const ids = (one.getAttribute("aria-labelledby") ?? "").split(" ");
    const by = ids.map(id => document.getElementById(id)?.textContent);
    const names = [one.getAttribute("aria-label"), ...by, one.labels?.[0]?.textContent, one.alt, one.textContent];
    return !names.some(name => name?.trim());
  })
  .map(one => one.outerHTML.slice(0, 160))
"""
# The same by Chromium's own accessibility tree.
_NO_NAME = re.compile(r"^\s*- (?:button|link|textbox|combobox|searchbox|img|application)(?: \[.*\])?:?$", re.M)
# What has the focus, and its ring.
_FOCUSED = """
() => {
  const one = document.activeElement, style = getComputedStyle(one);
  return [one.outerHTML.slice(0, 120), style.outlineStyle, parseFloat(style.outlineWidth)];
}
"""
# Animations that go on.
_MOVING = "document.getAnimations().filter(one => one.playState === 'running').length"


def views(full: Shop) -> dict[str, str]:
    """Each view with a text that is there when it is whole."""
    return {
        "/map?from=shop&to=payment": "Failing traces",
        "/map?as=table": "Who calls whom",
        "/services": "orders-db",
        "/service/payment": "Top routes",
        "/service/payment?tab=peers": "Who calls it",
        "/traces?service=web&attr=http.route=/checkout": "POST /checkout",
        f"/trace/{full.failed}?span=000000000000041e": "Waterfall",
        "/live": "Connected",
        "/agent": "uring_submit",
    }


def opened(page: Page, view: str, said: str) -> None:
    page.goto(view)
    expect(page.get_by_role("main")).to_contain_text(said)
    expect(page.get_by_role("progressbar")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(browser: Browser, full: Shop, scheme: Literal["light", "dark"]) -> None:
    with tab(browser, full.origin, scheme=scheme) as page:
        found = {}
        for view, said in views(full).items():
            opened(page, view, said)
            if poor := page.evaluate(_POOR, CONTRAST):
                found[view] = poor
        assert found == {}


@pytest.mark.parametrize("width", [800, 390])
def test_no_view_is_wider_than_its_window(browser: Browser, full: Shop, width: int) -> None:
    with tab(browser, full.origin, width=width) as page:
        found = {}
        for view, said in views(full).items():
            opened(page, view, said)
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found[view] = wide
        assert found == {}


def test_whatever_can_be_used_has_a_name(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        for view, said in views(full).items():
            opened(page, view, said)
            assert page.evaluate(_NAMELESS) == [], view
            assert _NO_NAME.findall(page.locator("body").aria_snapshot()) == [], view
            expect(page.get_by_role("heading", level=1)).to_have_count(1)


def test_what_has_the_focus_is_seen(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        for view, said in views(full).items():
            opened(page, view, said)
            for _ in range(25):
                page.keyboard.press("Tab")
                where, style, width = page.evaluate(_FOCUSED)
                if where.startswith("<body"):
                    break
                assert style != "none" and width >= 1, f"{view}: {where}"


def test_the_first_tab_stop_skips_to_the_content(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        opened(page, "/services", "orders-db")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()


def test_who_wants_no_motion_gets_none(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin, calm=True) as page:
        for view, said in views(full).items():
            opened(page, view, said)
            assert page.evaluate(_MOVING) == 0, view


def test_light_and_dark_can_be_chosen_and_are_remembered(browser: Browser, full: Shop) -> None:
    with tab(browser, full.origin) as page:
        opened(page, "/services", "orders-db")
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.get_by_role("button", name="Theme: auto. Change to light").click()
        page.get_by_role("button", name="Theme: light. Change to dark").click()
        assert page.evaluate(background) != light
        page.reload()
        expect(page.get_by_role("button", name="Theme: dark. Change to auto")).to_be_visible()
        assert page.evaluate(background) != light
