"""The report for a team in a real browser: wide and narrow, in light and dark, and how accessible it is."""

from __future__ import annotations

from decimal import Decimal

import pytest
from browsers import serious

from genai_cache_magic import create_cache
from genai_cache_magic.api.team_report import facts_of
from genai_cache_magic.events import CallRecord, Outcome, Tier
from genai_cache_magic.jupyter.shown.report_page import page as page_of

pytestmark = pytest.mark.service

LONG = "a-very-long-name-of-a-deployment-that-somebody-has-made-up-" * 3


@pytest.fixture
def written(isolated):
    """Two pages: of some calls, and of none."""
    with create_cache() as cache:
        empty = page_of(facts_of(cache, "30d", has_persons=True))
        for model in ("gpt-4.1-mini", LONG, "<b>m</b>"):
            price = None if model == LONG else Decimal("0.25")
            about = {"provider": "openai.chat", "model": model, "entry_id": "a" * 64, "latency_s": 0.2}
            for outcome, tier in ((Outcome.MISS, None), (Outcome.HIT, Tier.L1)):
                call = CallRecord(outcome, tier=tier, stored=True, spent_usd=price, saved_usd=price, **about)
                cache.ledger.books.note(call, run="sweep", person="anna")
        full = page_of(facts_of(cache, "30d", has_persons=True))
    for name, html in (("full", full), ("empty", empty)):
        (isolated / f"{name}.html").write_text(html)
    return {name: (isolated / f"{name}.html").as_uri() for name in ("full", "empty")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
def test_it_is_read_wide_and_narrow_in_light_and_dark(chromium, axe, written, width, scheme):
    """Nothing sticks out at the side, nothing is asked of anybody, its style is in force, and it is accessible."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    for address in written.values():
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(15, 18, 22)")
        assert serious(page, axe) == []
    context.close()


def test_its_policy_lets_its_own_style_in_and_nothing_else(chromium, written):
    """With its policy in force the style holds and no message is logged; a script that somebody adds does not run."""
    page = chromium.new_page(color_scheme="dark")
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written["full"])
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 18, 22)"
    assert (said, asked) == ([], [written["full"]])
    page.evaluate(
        """() => { const made = document.createElement('script'); made.textContent = 'window.ran = true';
        document.body.append(made) }"""
    )
    assert page.evaluate("window.ran") is None
    assert said
    page.close()
