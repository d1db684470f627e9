"""Every form of every SDK: the second run is all hits and gives the same answer; no model is asked again."""

from __future__ import annotations

from typing import Any

import pytest
from matrix.forms import FORMS
from matrix.generations import here, need, pins

from genai_cache_magic import llm_cache
from genai_cache_magic.intercept.clients import httpx
from genai_cache_magic.intercept.stainless.kit import Kit


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


@pytest.fixture
def by_http(monkeypatch):
    """What was carried out by an HTTP client of the httpx family: one item for each request."""
    carried, turn_for = [], httpx.turn_for

    def noted(here, request, *args, **options):
        carried.append(request)
        return turn_for(here, request, *args, **options)

    monkeypatch.setattr(httpx, "turn_for", noted)
    return carried


@pytest.mark.filterwarnings("ignore")  # what other packages deprecate, or leave open, is not ours to fail on
@pytest.mark.parametrize("form", cells())
def test_the_second_run_is_all_hits(lone, unique_server, by_http, monkeypatch, form):
    """Nothing is asked twice, nothing bypasses the cache, nothing of ours goes wrong, and the answers are equal.

    What is answered above HTTP is answered by HTTP, too, where it has to be.
    """
    need(form.way.package)
    with llm_cache() as first:
        answer = form.made(unique_server.url)
    asked = unique_server.count
    assert asked == first.misses == len(first.calls) > 0
    by_http.clear()
    with llm_cache() as second:
        again = form.made(unique_server.url)
    scopes = [first, second]
    if form.way.is_above:
        assert by_http == []
        monkeypatch.setattr(Kit, "begin", lambda *_, **__: None)
        with llm_cache() as third:
            assert form.made(unique_server.url) == answer
        assert len(by_http) == asked
        scopes.append(third)
    assert unique_server.count == asked
    assert [(scope.hits, scope.misses, scope.bypassed) for scope in scopes[1:]] == [(asked, 0, 0)] * len(scopes[1:])
    assert [scope.troubles for scope in scopes] == [()] * len(scopes)
    assert again == answer
    # Where a tool is offered, it is called: with the one argument that its schema has and no text says.
    assert ("city" in repr(answer)) == form.has_tools
