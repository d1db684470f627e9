"""The view for everybody: read aloud, by keyboard, in 320 pixels, light and dark."""

from __future__ import annotations

import pytest
from browsers import serious
from reports import REPORTS, USUAL, many

pytestmark = pytest.mark.service


STATES = {
    "usual": USUAL,
    "empty": REPORTS["no call"],
    "everything": REPORTS["everything else"],
    "newer": REPORTS["a newer version"],
    "lacking": REPORTS["members missing"],
    "running": {**USUAL, "progress": {"done": 1, "in_flight": 4}, "troubles": ["L2: refused"], "hints": ["more"]},
    "many": many(),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_anybodys_way(make_page, axe, scheme):
    """By axe-core's rules, closed and open, in both colours of the page and in those of a host."""
    shown = make_page(color_scheme=scheme)
    shown.page.add_style_tag(content="body { background: Canvas } :root { color-scheme: light dark }")
    found = {}
    shown.answer(invalidate={"count": 3, "known": 41}, explain={"differs": ["messages"]})
    for name, report in STATES.items():
        shown.show(report)
        found[name] = serious(shown.page, axe)
        if shown.page.locator("[data-does=toggle]").count():
            shown.open()
            found[f"{name}, open"] = serious(shown.page, axe)
    shown.show(USUAL)
    shown.open()
    shown.press("Explain call 1")
    shown.press("Invalidate this cell")
    shown.page.locator("[data-does=yes]").wait_for()
    found["asking"] = serious(shown.page, axe)
    assert {name: grave for name, grave in found.items() if grave} == {}


def test_the_keyboard_reaches_everything(shown):
    """Tab by Tab: each control is met once, in the order in which it is read, and Enter does what a click does."""
    shown.show(USUAL)
    met = []
    for _ in range(3):
        shown.page.keyboard.press("Tab")
        met.append(shown.page.evaluate("() => document.activeElement.dataset.does"))
    assert met == ["toggle", "rerun", "invalidate"]
    shown.page.locator("[data-does=toggle]").focus()
    shown.page.keyboard.press("Enter")
    assert shown.page.evaluate("() => document.activeElement.dataset.does") == "toggle"
    shown.page.locator("[data-does=invalidate]").focus()
    wanted = shown.page.locator(".gcm-details :is(button, input, select):not(:disabled)").evaluate_all(
        "all => all.map(one => one.dataset.does)"
    )
    met = []
    for _ in range(len(wanted) + 1):  # and the place that scrolls
        shown.page.keyboard.press("Tab")
        met.append(shown.page.evaluate("() => document.activeElement.dataset.does ?? 'scroll'"))
    assert [one for one in met if one != "scroll"] == wanted
    shown.page.locator("[data-does=sort-saved]").focus()
    shown.page.keyboard.press("Space")
    assert shown.page.evaluate("() => document.activeElement.dataset.does") == "sort-saved"
    assert shown.page.locator("th[aria-sort=descending]").count() == 1


def test_320_pixels_are_enough(make_page):
    """Nothing is cut off, and nobody scrolls to the side."""
    shown = make_page(viewport={"width": 320, "height": 640})
    for name, report in STATES.items():
        shown.show(report)
        if shown.page.locator("[data-does=toggle]").count():
            shown.open()
        assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= 320, name
        wide = "all => all.filter(one => one.getBoundingClientRect().right > 320).map(one => one.outerHTML)"
        assert shown.page.locator(".gcm *:visible").evaluate_all(wide) == [], name


@pytest.mark.parametrize(("scheme", "theme"), [("light", "dark"), ("dark", "light")])
def test_the_theme_of_the_notebook_wins_over_that_of_the_machine(make_page, scheme, theme):
    """JupyterLab's, VS Code's, or what the host says; also when it changes."""
    shown = make_page(color_scheme=scheme)
    told = shown.page.locator(".gcm")
    shown.show(USUAL)
    assert told.get_attribute("data-theme") is None
    body = "([name, value]) => document.body.setAttribute(name, value)"
    shown.page.evaluate(body, ["data-jp-theme-light", str(theme == "light").lower()])
    shown.page.locator(f".gcm[data-theme={theme}]").wait_for()
    shown.page.evaluate("() => document.body.removeAttribute('data-jp-theme-light')")
    shown.page.evaluate(body, ["data-vscode-theme-kind", f"vscode-{theme}"])
    shown.page.locator(f".gcm[data-theme={theme}]").wait_for()
    shown.show(USUAL, theme=scheme)
    assert told.get_attribute("data-theme") == scheme
