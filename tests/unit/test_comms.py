"""Callbacks of widgets belong to the cell that made the widget."""

from __future__ import annotations

import comm
import comm.base_comm
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.intercept.active import active

CLICK = {"content": {"data": {"method": "custom", "content": {"event": "click"}}}, "buffers": []}


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own."""


def in_force():
    here = active.get()
    return None if here is None else here.scope


def test_callback_of_a_comm():
    """A message that comes after the cell is handled in its scope; one of a comm made elsewhere in none."""
    found = []
    with llm_cache() as cell:
        inside = comm.DummyComm()
        inside.on_msg(lambda _: found.append(in_force()))
    outside = comm.DummyComm()
    outside.on_msg(lambda _: found.append(in_force()))
    for one in (inside, outside, inside):
        one.handle_msg({})
    assert found == [cell, None, cell]
    inside.on_msg(None)
    inside.handle_msg({})
    assert len(found) == 3


def test_button(unique_server):
    """A click on a button after the cell is cached as the cell was, and a miss in a replay reaches no model."""
    widgets = pytest.importorskip("ipywidgets", reason="pip install ipywidgets")
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:

        def ask(_):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "clicked"}])

        with llm_cache() as cell:
            button = widgets.Button()
            button.on_click(ask)
        button.comm.handle_msg(CLICK)
        button.comm.handle_msg(CLICK)
        assert (cell.misses, cell.hits, unique_server.count) == (1, 1, 1)
        with llm_cache(mode="replay", salt="other"):
            replaying = widgets.Button()
            replaying.on_click(ask)
        with pytest.raises(ReplayMiss):
            replaying.comm.handle_msg(CLICK)
        assert unique_server.count == 1
