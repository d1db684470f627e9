"""A page that holds one view, without a notebook around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsers import TIMEOUT_MS

import genai_cache_magic

STATIC = Path(genai_cache_magic.__file__).parent / "jupyter" / "static"
PLACE = "http://localhost/"  # nothing is there: each request is answered by `make_page`
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>view</title></head>
<body><main id="place"></main><script type="module">
import * as view from "/cell_status.js";
window.view = view;
window.executed = 0;
window.asked = [];
window.answers = {};
window.host = {
  canControl: true,
  post: async (path, body) => {
    window.asked.push([path, body]);
    const answer = window.answers[path];
    if (typeof answer === "string") throw new Error(answer);
    return answer ?? {};
  },
  fetchLive: () => null,
};
window.show = (report, more = {}) => {
  Object.assign(window.host, more);
  window.drawn = view.draw(document.getElementById("place"), report, window.host);
};
</script></body></html>"""


class Shown:
    """A page with a view in it."""

    def __init__(self, page):
        self.page = page
        self.errors = []
        self._heard = {"pageerror": self._note, "dialog": self._dismiss}
        for event, heard in self._heard.items():
            page.on(event, heard)

    def _note(self, error):
        self.errors.append(str(error))

    def _dismiss(self, dialog):
        self.errors.append("a dialog")
        dialog.dismiss()

    def close(self):
        """Listen no longer."""
        for event, heard in self._heard.items():
            self.page.remove_listener(event, heard)

    def show(self, report, **host):
        """Draw `report`, in place of what was there."""
        self.page.evaluate("([report, host]) => show(report, host)", [report, host])

    def answer(self, **answers):
        """Let the host answer so: an object, or the text of an error."""
        self.page.evaluate("(answers) => Object.assign(window.answers, answers)", answers)

    @property
    def asked(self):
        """What the view asked its host, in order."""
        return self.page.evaluate("() => window.asked")

    @property
    def words(self):
        """What can be read."""
        return self.page.locator(".gcm").inner_text()

    @property
    def summary(self):
        return self.page.locator(".gcm-summary").inner_text()

    @property
    def said(self):
        return self.page.locator(".gcm-said")

    def press(self, name, *, exact=True):
        """Press the first button of this name."""
        self.page.get_by_role("button", name=name, exact=exact).first.click()

    def open(self):
        """Show the calls."""
        self.page.locator("[data-does=toggle]").click()

    @property
    def rows(self):
        """The texts of the table's cells, by row."""
        return self.page.locator(".gcm tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('td[data-title]')].map(cell => cell.textContent))"
        )


def opened(context):
    """Open a page with the view's module in it."""
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()

    def serve(route):
        name = route.request.url.removeprefix(PLACE)
        if name.endswith(".js"):
            route.fulfill(path=STATIC / name, content_type="text/javascript")
        else:
            route.fulfill(body=PAGE if not name else "", content_type="text/html")

    page.route("**/*", serve)
    begin(page)
    return page


def begin(page):
    """Load the page anew."""
    page.goto(PLACE)
    page.wait_for_function("() => window.show !== undefined")


@pytest.fixture
def make_page(chromium):
    """Open pages; keywords as Playwright's contexts have them."""
    contexts = []

    def make(**how):
        contexts.append(chromium.new_context(**how))
        return Shown(opened(contexts[-1]))

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def _usual_page(chromium):
    context = chromium.new_context(viewport={"width": 1000, "height": 700}, color_scheme="light")
    yield opened(context)
    context.close()


@pytest.fixture
def shown(_usual_page):
    """A page of a common size, in light; it is loaded anew for each test."""
    begin(_usual_page)
    page = Shown(_usual_page)
    yield page
    page.close()
    assert page.errors == []
