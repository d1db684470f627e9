"""marimo, which runs Python alone and no magics: the view of a block stands under the cell that ran it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.jupyter import anywidget
from genai_cache_magic.jupyter.controls import CellControls
from genai_cache_magic.jupyter.shown.badge import as_html
from genai_cache_magic.jupyter.shown.call_report import as_json
from genai_cache_magic.jupyter.shown.report import paragraphs
from genai_cache_magic.jupyter.shown.summary import summarise

if TYPE_CHECKING:
    from genai_cache_magic.calls.scope import CellScope


def show_blocks() -> None:
    """Let ``with llm_cache(...)`` show what it did, from now on."""
    current_session().shows = show


def show(scope: CellScope) -> None:
    """Show `scope` under the running cell, and let it be drawn where it is the last expression of a cell.

    Who runs the file as a script, or uses it as an app, is shown nothing.
    """
    import marimo

    status = current_session().settings.status
    if status == "off" or not marimo.running_in_notebook() or marimo.app_meta().mode != "edit":
        return
    scope.view = _widget(scope) if status != "static" and anywidget.is_installed() else _static(scope, status)
    marimo.output.append(scope.view)


def _widget(scope: CellScope) -> Any:
    return anywidget.cell_status(as_json(summarise(scope)), CellControls(scope, partial(_forget, scope)))


def _static(scope: CellScope, status: str) -> Any:
    import marimo

    hint = () if status == "static" else (f"with buttons, once this is installed: {anywidget.HOW_TO_INSTALL}",)
    return marimo.Html(as_html(summarise(scope)) + paragraphs(hint))


def _forget(scope: CellScope) -> None:
    """Make the answers of a block invalid, so that its next run asks the models anew."""
    used = {EntryId(call.answer_id) for call in scope.calls if call.answer_id}
    current_session().cache(scope.options.namespace).catalogue.invalidate_ids(used, dry_run=False)
