"""The page in the docs: one table for each generation of SDKs, and the reasons for each cell that is not "yes"."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from matrix.cells import COLUMNS, Form
from matrix.forms import WAYS
from matrix.generations import GENERATIONS, pins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

YES, ABSENT = "yes", "-"
TITLES = {
    "current": "The current SDKs",
    "httpx": "The SDKs before, and what holds them back",
}
INTRODUCTION = """\
# Which calls are cached, by SDK

Every cell is a test with the real package against a simulated provider: the first run asks, the second run is all hits,
asks nobody, and gives the same answer, field by field. `make matrix` runs them all and writes this page.

*sync* and *async* are an SDK's two kinds of client, *stream* is an answer that comes in pieces, *tools* offers the
model a tool, which it calls. `-`: it has no such form.

Where two rows say *above HTTP* and *by HTTP*, the second run was answered where the SDK asks, and a third one by HTTP,
as a call is that has to go there: with the same answer, of the same entry ([decision
16](../design/0016-above-http.md)). All others are answered by the HTTP client.
"""
WORDS = {
    "current": "OpenAI's, Anthropic's, Google's and Mistral's SDKs are on `httpx2` here.",
    "httpx": """\
LiteLLM and DSPy want `openai` 2, which is on `httpx`: so an environment of its own, with the last releases on `httpx`
of the others.""",
}
HEAD = (
    "| SDK | call | sync | sync, tools | sync stream | sync stream, tools "
    "| async | async, tools | async stream | async stream, tools |\n"
    f"|{'---|' * (2 + len(COLUMNS))}"
)


def promised(_: str, form: Form) -> bool:
    """Whether the list says that a cell is cached."""
    return form.exception is None


def page(is_cached: Callable[[str, Form], bool] = promised) -> str:
    """Return the page; `is_cached` tells of a generation's cell what came of it."""
    parts = [INTRODUCTION]
    for generation in GENERATIONS:
        parts += [f"## {TITLES[generation]}", "", WORDS[generation], "", *_table(generation, is_cached), ""]
    return "\n".join(parts)


def _table(generation: str, is_cached: Callable[[str, Form], bool]) -> Iterator[str]:
    notes: dict[str, int] = {}
    yield HEAD
    rows = [way for way in WAYS if way.package in pins(generation)]
    for package, ways in itertools.groupby(rows, key=lambda way: way.package):
        name = f"`{package}` {pins(generation)[package]}"
        for way in ways:
            forms = {(form.colour, form.delivery, form.has_tools): form for form in way.forms()}
            told = " | ".join(_cell(forms.get(column), generation, is_cached, notes) for column in COLUMNS)
            for call in (f"{way.name}, above HTTP", "the same, by HTTP") if way.is_above else (way.name,):
                yield f"| {name} | {call} | {told} |"
                name = ""
    for why, number in notes.items():
        yield f"\n[{number}] {why}."


def _cell(form: Form | None, generation: str, is_cached: Callable[[str, Form], bool], notes: dict[str, int]) -> str:
    if form is None:
        return ABSENT
    if is_cached(generation, form):
        return YES
    why = form.exception or "a test failed"
    return f"no [{notes.setdefault(why, len(notes) + 1)}]"
