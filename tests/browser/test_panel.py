"""The panel in a real browser, as `%llm_cache panel` shows it: what it says, asks for, and does not execute."""

from __future__ import annotations

import re

import pytest
from browsers import serious

pytestmark = pytest.mark.service

COUNTS = {"hits": 3, "misses": 1, "bypassed": 0, "errors": 0, "unrecognised": 0}
MONEY = {"spent_usd": "0.0041", "saved_usd": "0.0163", "spent_unknown": 0, "saved_unknown": 0}
ROW = {**COUNTS, **MONEY}
NAMES = {"model": "gpt-4.1-mini", "name": "baseline"}
DRAW = """async ([names, report]) => {
  const {drawPanel} = await import("/panel.js");
  const row = ROW;
  const entry = {id: "00112233445566aa", name: names.model, tags: [names.name], stored: "2026-05-01T10:00:00+00:00",
                 input_tokens: 10, output_tokens: null, cost_usd: null};
  const dear = {...row, model: "dear", spent_usd: "2", spent_unknown: 1};
  const dark = {...row, model: "of unknown price", spent_usd: "0", spent_unknown: 1};
  const given = {
    usage: {total: row, rows: [{...row, model: names.model}, dear, dark]},
    stats: {tags: [{name: names.name, count: 2}]},
    entries: {total: 41, entries: [entry]},
    invalidate: {count: 2, known: 41, sentence: `2 of 41 known answers would be invalid ${names.model}`},
  };
  window.asked = [];
  const post = async (path, body) => { window.asked.push([path, body]); return structuredClone(given[path]); };
  drawPanel(document.getElementById("place"), report, {post, canControl: true});
}"""


def draw(shown, names=NAMES, report=None):
    import json

    shown.page.evaluate(DRAW.replace("ROW", json.dumps(ROW)), [names, report or {}])
    shown.page.get_by_text("1 to 1 of 41 answers").wait_for()


def test_the_essentials_are_there(shown):
    """Today, models with the dearest first, tags, answers."""
    draw(shown)
    words = shown.words
    assert "spent $0.0041, saved $0.0163, 3 hits, 1 miss, 75% hits" in words
    assert words.index("dear") < words.index("gpt-4.1-mini")
    assert "at least $2.00" in words
    assert "2026-05-01 10:00" in words
    assert "10 / ?" in words
    assert "at least $0" not in words
    assert shown.page.get_by_role("row", name="of unknown price").get_by_role("cell").nth(3).inner_text() == "unknown"


def test_in_a_narrow_place_numbers_say_what_they_are(shown):
    """Where no heading has room, each number has its own; the last cell's table beside it keeps its way to sort."""
    shown.page.set_viewport_size({"width": 320, "height": 800})
    draw(shown)
    row = shown.page.get_by_role("region", name="models by cost").locator("tbody tr").first
    labels = row.locator("td").evaluate_all("cells => cells.map(cell => getComputedStyle(cell, '::before').content)")
    assert [re.sub(r'[" ]', "", label) for label in labels] == ["none", "calls", "hits", "spent", "saved"]
    assert not shown.page.get_by_role("region", name="models by cost").locator("thead").is_visible()


def test_a_tag_is_counted_before_it_is_invalidated(shown):
    """And a search asks for what is typed."""
    draw(shown)
    shown.press("Invalidate tag baseline")
    shown.page.get_by_text("tag baseline: 2 of 41 known answers would be invalid").wait_for()
    shown.press("Invalidate 2 answers")
    shown.page.wait_for_function("() => window.asked.some(([path, body]) => body.dry_run === false)")
    changes = [body for path, body in shown.asked if path == "invalidate"]
    assert changes == [{"tag": "baseline", "dry_run": True}, {"tag": "baseline", "dry_run": False}]
    shown.page.get_by_label("Search").fill("mini")
    shown.page.wait_for_function("() => window.asked.at(-1)[1].search === 'mini'")
    shown.press("Next")
    shown.page.wait_for_function("() => window.asked.at(-1)[1].offset === 20")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_anybodys_way(make_page, axe, scheme):
    """By axe-core's rules, and at 320 pixels."""
    shown = make_page(color_scheme=scheme, viewport={"width": 320, "height": 640})
    shown.page.add_style_tag(content="body { background: Canvas } :root { color-scheme: light dark }")
    draw(shown)
    shown.press("Invalidate tag baseline")
    shown.page.get_by_role("button", name="Cancel").wait_for()
    assert serious(shown.page, axe) == []
    assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= 320


def test_names_are_text(shown):
    """Of models and of tags."""
    payload = "<img src=x onerror=window.executed++>"
    draw(shown, {"model": payload, "name": payload})
    shown.press(f"Invalidate tag {payload}")
    shown.page.get_by_role("button", name="Cancel").wait_for()
    assert shown.page.locator("img").count() == 0
    assert shown.page.evaluate("() => window.executed") == 0
    assert payload in shown.words
