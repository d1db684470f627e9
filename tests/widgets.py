"""Cells with a widget: records of their calls, the shell that runs them, what answers their views."""

from __future__ import annotations

from decimal import Decimal

import pytest

from genai_cache_magic.api.scopes.cells import llm_cache
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.jupyter import anywidget
from genai_cache_magic.jupyter.controls import CellControls

HIT = CallRecord(Outcome.HIT, spent_usd=Decimal(0))
MISS = CallRecord(Outcome.MISS, spent_usd=Decimal("0.002"))
OPEN = CallRecord(Outcome.OPEN)


class Kerneled:
    """Stands for the shell of a kernel."""

    kernel = object()

    def __init__(self, **user_ns):
        self.user_ns = user_ns
        self.display_pub = None


@pytest.fixture(name="asked")
def asked_cell(isolated, server):
    """Two calls of a cell: their scope, and what answers its view."""
    import openai

    with (
        openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client,
        llm_cache(tags=("t",)) as cell,
    ):
        for text in ("Say hello\nto Ann", "Say hello\nto Bob"):
            client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": text}])
    fresh = []
    return cell, CellControls(cell, lambda: fresh.append(1)), fresh


@pytest.fixture(name="made")
def make_widget(monkeypatch):
    """Make a widget, and take what it sends."""

    def make(answer):
        widget = anywidget.cell_status({"version": 3}, answer)
        sent = []
        monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append(content))
        return widget, sent

    return make
