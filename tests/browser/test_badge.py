"""The badge in a real browser, as a page shows it that knows nothing of us: narrow, in light and dark."""

from __future__ import annotations

from decimal import Decimal

import pytest
from browsers import serious

from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Options
from genai_cache_magic.events import CallRecord, Outcome, Tier, Trouble
from genai_cache_magic.jupyter.shown.badge import bundle
from genai_cache_magic.jupyter.shown.progress import Progress
from genai_cache_magic.jupyter.shown.report import Report, Table
from genai_cache_magic.jupyter.shown.summary import summarise

pytestmark = pytest.mark.service

WIDTH = 340
LONG = "a_very_long_name_of_a_deployment_that_somebody_has_made_up" * 2
HOST = f"{'a' * 63}.example.com"
SETTING = "GENAI_CACHE_A_SETTING_WITH_A_NAME_THAT_GOES_ON_AND_ON__CONNECT_TIMEOUT"
PAGE = (
    '<!doctype html><html lang="en"><head><title>badge</title><style>:root { color-scheme: light dark } '
    "body { background: Canvas }</style></head><body><main>{}</main></body></html>"
)


def call(outcome, model="gpt-4.1-mini", **more):
    cost = Decimal("0.0012")
    told = {"model": model, "provider": "openai.chat", "input_tokens": 1034, "output_tokens": 267}
    money = {"spent_usd": cost, "saved_usd": cost, "cached_input_tokens": 512}
    return CallRecord(outcome, tier=Tier.L1 if outcome is Outcome.HIT else None, **{**told, **money, **more})


def summary_of(*events):
    scope = CellScope(Options())
    for event in events:
        scope.emit(event)
    return summarise(scope)


USUAL = summary_of(*[call(Outcome.HIT)] * 3, call(Outcome.MISS), call(Outcome.STALE, reason="expired on 2026-05-01"))
ODD = summary_of(
    call(Outcome.HIT, LONG),
    call(Outcome.UNRECOGNISED, "", provider=HOST, reason=f"POST /v1/{LONG}"),
    Trouble("L2", "StoreUnavailable", f"the tier does not answer: set {SETTING}=10s"),
)
SHOWN = {
    "no call": bundle(summary_of()),
    "usual": bundle(USUAL),
    "odd": bundle(ODD),
    "running": bundle(USUAL, Progress(1, 2, 300, Decimal(1), None)),
    "a report": Report(LONG, Table(((LONG, "1"),), (LONG, "n")), (LONG,)).bundle(),
}


@pytest.fixture
def shown(chromium, request):
    """Shows a bundle on a narrow page, its calls folded open, and returns the page."""
    context = chromium.new_context(viewport={"width": WIDTH, "height": 640}, color_scheme=request.param)
    page = context.new_page()

    def show(found):
        page.set_content(PAGE.replace("{}", found["text/html"].replace("<details>", "<details open>")))
        return page

    yield show
    context.close()


@pytest.mark.parametrize("shown", ["light", "dark"], indirect=True)
@pytest.mark.parametrize("name", SHOWN)
def test_a_narrow_page_is_wide_enough(shown, name):
    """Nothing widens the page: words wrap, and a table that is too wide is scrolled by itself."""
    page = shown(SHOWN[name])
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("shown", ["light", "dark"], indirect=True)
def test_nothing_serious_stands_in_anybodys_way(shown, axe):
    """By axe-core's rules: what is scrolled is scrolled by keyboard too."""
    found = {name: serious(shown(one), axe) for name, one in SHOWN.items()}
    assert {name: grave for name, grave in found.items() if grave} == {}


@pytest.mark.parametrize("shown", ["light"], indirect=True)
def test_a_word_is_whole_wherever_it_wraps(shown):
    """Who copies it gets what was meant; and no style is needed for it to wrap."""
    page = shown(SHOWN["odd"])
    text = page.inner_text("main")
    assert all(word in text for word in (LONG, HOST, f"{SETTING}=10s"))
    page.evaluate("document.querySelectorAll('[style]').forEach(one => one.remove())")
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTH
