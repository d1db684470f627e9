"""What the ledger says to people: a sentence, a table, a picture; nothing of others' making is ever markup."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from genai_cache_magic.jupyter.shown.plot import DayBar, bars
from genai_cache_magic.jupyter.shown.usage import usage_report
from genai_cache_magic.ledger.usage import UsageReport, UsageRow

TODAY = date(2026, 5, 31)
SVG = "{http://www.w3.org/2000/svg}"


def report(*rows, by=("day", "model"), total=None):
    return UsageReport("default", date(2026, 5, 1), TODAY, by, rows, total or UsageRow())


class Kept(HTMLParser):
    """What the sanitizer of JupyterLab leaves of HTML in an untrusted notebook, as far as it matters to a picture.

    No tag of SVG, and what stood in them as bare words; of an image the address, if it holds the data itself.
    """

    def __init__(self, html):
        super().__init__()
        self.words, self.images = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "img" and dict(attrs)["src"].startswith("data:image/"):
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.words.append(data)


def drawn_in(html):
    """Return the picture of the days in a piece of HTML."""
    (source,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    return ET.fromstring(b64decode(source))


def test_a_plot_of_spent_and_saved():
    """Each day with money has its bars, as high as it cost, and says its numbers; it is well-formed on its own."""
    days = [DayBar(TODAY - timedelta(days=n), Decimal(n), Decimal(2 * n)) for n in range(4)]
    drawn = ET.fromstring(bars(days, last=TODAY).svg)
    groups = drawn.findall(f"{SVG}g")
    assert len(groups) == 3  # one day came to nothing
    heights = [[float(bar.get("height")) for bar in group.findall(f"{SVG}rect")] for group in groups]
    assert heights[0] == [60.0, 120.0]
    assert "2026-05-28: spent $3.00, saved $6.00" in {group.findtext(f"{SVG}title") for group in groups}
    assert drawn.get("role") == "img"


def test_a_plot_is_seen_in_a_notebook_that_nobody_trusts():
    """The picture stays, in any theme, and beside it stands one sentence and no heap of what was written in it."""
    html = bars([DayBar(TODAY, Decimal(3), Decimal(6))], last=TODAY).as_image()
    shown = Kept(html)
    assert "currentColor" not in ET.tostring(drawn_in(html)).decode()  # an image has no text around it
    (image,) = shown.images
    assert image["alt"] == "Spent and saved by day, 2026-05-31; at most $6.00 on one day"
    assert shown.words == ["2026-05-31: \N{BLACK SQUARE} spent, \N{WHITE SQUARE} saved, at most $6.00 on one day"]


@pytest.mark.parametrize("amount", [Decimal(0), Decimal("-0.5")])
def test_no_plot_of_nothing(amount):
    """Free calls, and credits, make no picture."""
    assert bars([DayBar(TODAY, amount)], last=TODAY).as_image() == ""
    assert bars([], last=TODAY).svg == ""


def test_a_plot_of_years_stays_small():
    """Of a long time the last three months are drawn."""
    days = [DayBar(TODAY - timedelta(days=n), Decimal(1), Decimal(1)) for n in range(1000)]
    assert len(ET.fromstring(bars(days, last=TODAY).svg).findall(f"{SVG}g")) == 92


def test_the_report_has_both_forms():
    """The picture is for HTML, the table for both; names are escaped, unknown prices are called so."""
    row = UsageRow(TODAY, "<script>m", spent_usd=Decimal("1.5"), spent_unknown=1, misses=2, hits=1)
    shown = usage_report(report(row, total=row)).bundle()
    assert len(Kept(shown["text/html"]).images) == 1
    assert "<script>" not in shown["text/html"]
    assert "svg" not in shown["text/plain"]
    assert "img" not in shown["text/plain"]
    assert "spent at least $1.50 (price of 1 call unknown)" in shown["text/plain"]
    assert "saved $0, 1 hit, 2 misses" in shown["text/plain"]


def test_without_days_there_is_no_plot():
    """Grouped by something else there are no days to draw."""
    row = UsageRow(model="m", spent_usd=Decimal(1), misses=1)
    assert Kept(usage_report(report(row, by=("model",))).bundle()["text/html"]).images == []
