"""``%llm_cache panel``: the last cell, what today cost, what the cache holds; a widget, or the same in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from genai_cache_magic.jupyter import anywidget
from genai_cache_magic.jupyter.controls import CellControls, PanelControls
from genai_cache_magic.jupyter.shown.call_report import as_json
from genai_cache_magic.jupyter.shown.report import Report, Table
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.jupyter.shown.usage import came_to, headline
from genai_cache_magic.jupyter.shown.words import counted, in_words

if TYPE_CHECKING:
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.jupyter.views import CellViews

_MAX_TAGS = 20


@dataclass(frozen=True, slots=True)
class Panel:
    """What is shown: `report` by a front end without widgets."""

    report: Report = field(repr=False)
    widget: Any = field(default=None, repr=False)

    def bundle(self) -> dict[str, Any]:
        """Return the forms of it."""
        forms = self.report.bundle()
        if self.widget is None:
            return dict(forms)
        model = {"model_id": self.widget.model_id, "version_major": 2, "version_minor": 0}
        return {anywidget.VIEW_MIME: model, **forms}


def panel(session: Session, views: CellViews, *, has_front_end: bool) -> Panel:
    """Return the panel of `session`; a widget where there is a front end to draw it.

    Raises
    ------
    ConfigurationError, KeyUnavailable, StoreUnavailable
        The cache can't be opened or read.
    """
    is_installed = anywidget.is_installed()
    hint = f"with buttons and a search, once this is installed: {anywidget.HOW_TO_INSTALL}"
    said = in_words_of(session, (hint,) if has_front_end and not is_installed else ())
    if not (is_installed and has_front_end):
        return Panel(said)
    last = session.last
    cell = None if last is None else CellControls(last, partial(views.ask_fresh, last.cell))
    return Panel(said, anywidget.panel(PanelControls(cell), {} if last is None else as_json(summarise(last))))


def in_words_of(session: Session, notes: tuple[str, ...]) -> Report:
    """Return the essentials as a title, a table and notes."""
    cache = session.cache(session.options().namespace)
    stats = cache.stats()
    tags = list(cache.catalogue.tags().get("user", {}).items())
    costs = sorted(
        cache.usage("30d", by="model", team=False).rows, key=lambda row: (-row.spent_usd, -row.saved_usd, row.model)
    )
    rows = [("model, 30 days", row.model, came_to(row)) for row in costs]
    rows += [("tag", name, counted(count, "answer")) for name, count in tags[:_MAX_TAGS]]
    last = () if session.last is None else (f"last cell: {in_words(summarise(session.last))}",)
    held = f"{counted(stats.entries, 'answer')} in the cache"
    title = f"{headline(cache.usage('today', by='model', team=False))}; {held}"
    return Report(title, Table(tuple(rows), ("what", "name", "")), (*last, *notes))
