"""Every form of every SDK: the second run is all hits and gives the same answer; no model is asked again."""

from __future__ import annotations

from typing import Any

import pytest
from matrix.forms import FORMS
from matrix.generations import here, need, pins

from genai_cache_magic import llm_cache


def cells() -> list[Any]:
    """The cells of this generation.

    One that is known not to be cached may be now and then: what its client leaves unread can come with what it read.
    """
    return [
        pytest.param(
            form, id=form.id, marks=[pytest.mark.xfail(reason=why, strict=False)] if (why := form.exception) else []
        )
        for form in FORMS
        if form.way.package in pins(here())
    ]


@pytest.mark.filterwarnings("ignore")  # what other packages deprecate, or leave open, is not ours to fail on
@pytest.mark.parametrize("form", cells())
def test_the_second_run_is_all_hits(lone, unique_server, form):
    """Nothing is asked twice, nothing bypasses the cache, nothing of ours goes wrong, and the answers are equal."""
    need(form.way.package)
    with llm_cache() as first:
        answer = form.made(unique_server.url)
    asked = unique_server.count
    assert asked == first.misses == len(first.calls) > 0
    with llm_cache() as second:
        again = form.made(unique_server.url)
    assert unique_server.count == asked
    assert (second.hits, second.misses, second.bypassed) == (asked, 0, 0)
    assert first.troubles == second.troubles == ()
    assert again == answer
    # Where a tool is offered, it is called: with the one argument that its schema has and no text says.
    assert ("city" in repr(answer)) == form.has_tools
