"""The page in the docs is what the list of forms says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from matrix.forms import FORMS
from matrix.page import page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_list_says():
    """Whoever changes the list of forms, or a pinned release, runs `make matrix` and commits the page."""
    assert (ROOT / "docs" / "matrix.md").read_text(encoding="utf-8") == page()


def test_every_cell_has_a_name_of_its_own():
    """No cell hides another one: the page finds what came of a cell by its name."""
    assert [name for name, times in Counter(form.id for form in FORMS).items() if times > 1] == []


def test_an_exception_says_what_was_tried():
    """No cell is excused without a cause and an attempt."""
    assert all("Tried:" in form.exception for form in FORMS if form.exception)
