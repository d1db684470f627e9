"""The line commands: each takes the rest of its line and returns what is to be shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.core.ignoring import NOTHING
from genai_cache_magic.core.ignoring import in_words as rules_in_words
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import tilde
from genai_cache_magic.jupyter.arguments import (
    parse_clear,
    parse_explain,
    parse_insight,
    parse_invalidate,
    parse_nothing,
    parse_requests,
    parse_runs,
    parse_usage,
)
from genai_cache_magic.jupyter.cell import current
from genai_cache_magic.jupyter.shown.explaining import explained
from genai_cache_magic.jupyter.shown.insight import (
    advice_report,
    growth_note,
    hit_line,
    holdings_note,
    log_note,
    room_notes,
    tables,
)
from genai_cache_magic.jupyter.shown.report import Report, Table
from genai_cache_magic.jupyter.shown.runs import described, differences, left_out, listed, written
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.jupyter.shown.usage import SINCE, usage_report
from genai_cache_magic.jupyter.shown.warming import (
    batch_report,
    collected_report,
    foreseen_for,
    foreseen_report,
    submitted_from,
    warmed_from,
    warmed_report,
)
from genai_cache_magic.jupyter.shown.words import counted, in_words, outcome_in_words
from genai_cache_magic.settings.units import rounded_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.entries.listing.results import Invalidation
    from genai_cache_magic.jupyter.arguments import Selection
    from genai_cache_magic.jupyter.cell import CellScopes
    from genai_cache_magic.jupyter.panel import Panel
    from genai_cache_magic.runs.summaries import Written


@dataclass(frozen=True, slots=True)
class Commands:
    """What ``%llm_cache WORD`` does.

    Attributes
    ----------
    confirm
        Asks a question; None where nobody can answer, so that ``--yes`` must be given.
    """

    scopes: CellScopes
    confirm: Callable[[str], bool] | None

    def run(self, command: str, rest: str) -> Report | Panel:
        """Do `command`, one of `arguments.COMMANDS`.

        Raises
        ------
        ConfigurationError
            Its arguments are wrong, or it wants ``--yes``.
        """
        by_name: dict[str, Callable[[str], Report]] = {
            "on": self._on,
            "invalidate": self._invalidate,
            "clear": self._clear,
            "explain": _explain,
            "usage": _usage,
            "runs": _runs,
            "optimize": _optimize,
            "stats": _stats,
            "estimate": _estimate,
            "warm": _warm,
        }
        if command in by_name:
            return by_name[command](rest)
        parse_nothing(command, rest)
        alone: dict[str, Callable[[], Report | Panel]] = {
            "status": _status,
            "off": self._off,
            "config": _config,
            "doctor": _doctor,
            "panel": self._panel,
        }
        return alone[command]()

    def _on(self, line: str) -> Report:
        options = self.scopes.turn_on(line)
        return Report(f"llm_cache is on for the whole notebook ({_in_force(options)}); %llm_cache off ends it")

    def _off(self) -> Report:
        self.scopes.turn_off()
        return Report("llm_cache is off for the notebook; %%llm_cache opens it for a cell")

    def _panel(self) -> Panel:
        from genai_cache_magic.jupyter.panel import panel

        return panel(current(), self.scopes.views, has_front_end=self.scopes.has_front_end)

    def _invalidate(self, line: str) -> Report:
        return Report(outcome_in_words(_apply(parse_invalidate(line))))

    def _clear(self, line: str) -> Report:
        selection = parse_clear(line)
        session = current()
        namespace = session.options().namespace
        if not (selection.dry_run or selection.yes) and not self._agreed(namespace):
            return Report(f"nothing was cleared in namespace {namespace}")
        return Report(outcome_in_words(_apply(selection)))

    def _agreed(self, namespace: str) -> bool:
        if self.confirm is None:
            raise ConfigurationError(
                f"%llm_cache clear makes every answer in namespace {namespace} invalid, for everyone who shares it: "
                "write %llm_cache clear --yes, or --dry-run to count them first",
            )
        return self.confirm(f"Make every answer in namespace {namespace} invalid, for everyone who shares it?")


def _status() -> Report:
    session = current()
    options = session.options()
    where = "the whole notebook" if session.enabled else "cells that begin with %%llm_cache"
    last = session.last
    notes = () if last is None else (f"last cell: {in_words(summarise(last))}",)
    return Report(f"llm_cache is on for {where} ({_in_force(options)})", notes=(*notes, *session.notices))


def _config() -> Report:
    from genai_cache_magic.ops.doctor import troubles

    found = current().describe()
    rows = tuple((line.name, line.value, line.source) for line in found.lines)
    notes = (*found.notes, *troubles(current()))
    return Report("settings, the strongest source of each", Table(rows, ("setting", "value", "from")), notes)


def _stats(line: str) -> Report:
    from genai_cache_magic.ops.rooms import FEW, rooms_of

    given = parse_insight("stats", line)
    session = current()
    namespace = session.options().namespace
    cache = session.cache(namespace)
    stats = cache.stats()
    title = f"namespace {namespace}: {counted(stats.entries, 'answer')}, {rounded_size(stats.size_bytes)}"
    used = cache.insight.statistics(given.since or "30d", has_holdings=given.holdings or None)
    notes = [*growth_note(cache.insight.growth(stats.size_bytes)), hit_line(used), f"kept in {tilde(stats.directory)}"]
    notes += log_note(stats)
    if given.holdings or stats.entries <= FEW:
        rooms, untold = rooms_of(cache, session.settings)
        notes += [*room_notes(rooms), *([untold] if untold else [])]
    if stats.synced is not None:
        notes.append(f"with what the team had at {stats.synced:%Y-%m-%d %H:%M}")
    if stats.oldest is not None and stats.newest is not None:
        notes.insert(0, f"stored between {stats.oldest:%Y-%m-%d %H:%M} and {stats.newest:%Y-%m-%d %H:%M}")
    return Report(title, notes=(*notes, *holdings_note(used)), more=tables(used))


def _optimize(line: str) -> Report:
    session = current()
    cache = session.cache(session.options().namespace)
    return advice_report(cache.insight.optimize(parse_insight("optimize", line).since or "30d"))


def _runs(line: str) -> Report:
    words = parse_runs(line)
    session = current()
    runs = session.cache(session.options().namespace).runs
    match words:
        case ["list"]:
            return _noted(listed(runs.list()), runs.notes)
        case ["show", name]:
            return _noted(described(runs.show(name)), runs.notes)
        case ["diff", one, other]:
            return _noted(differences(one, other, runs.diff(one, other)), runs.notes)
        case ["pin", name]:
            return _written("pinned", name, runs.pin(name))
        case ["export", name, file, *flags]:
            return _written(f"written to {file}", name, runs.export(name, Path(file), plaintext=bool(flags)))
        case ["import", file, name, source, log]:
            rules = (NOTHING, *session.options().ignore)
            done = runs.import_(Path(file), name, source=source, log=Path(log) if log else None, ignore=rules)
            return _written("imported", name, done)
    raise ConfigurationError(f"%llm_cache runs {line}: see %llm_cache help")


def _written(what: str, name: str, done: Written) -> Report:
    return Report(written(what, name, done), notes=left_out(done))


def _noted(report: Report, notes: Iterable[str]) -> Report:
    return replace(report, notes=(*report.notes, *notes))


def _doctor() -> Report:
    from genai_cache_magic.ops.checks import Severity
    from genai_cache_magic.ops.doctor import examine
    from genai_cache_magic.ops.findings import worst

    found = examine(current())
    titles = {
        Severity.OK: "all is well",
        Severity.WARNING: "the cache works, with less than it could",
        Severity.ERROR: "something can't be used as it is set; cells go on without it",
    }
    rows = tuple((f.part, f.severity.name.lower(), f.says, ", ".join(f.settings)) for f in found)
    return Report(titles[worst(found)], Table(rows, ("part", "", "finding", "settings")))


def _usage(line: str) -> Report:
    session = current()
    cache = session.cache(session.options().namespace)
    return usage_report(cache.usage(**{"since": SINCE, **parse_usage(line)}))


def _estimate(line: str) -> Report:
    asked = parse_requests("estimate", line)
    cache, key = _asked_with(asked)
    return foreseen_report(foreseen_for(cache, asked["what"], endpoint=asked.get("endpoint", ""), **key))


def _warm(line: str) -> Report:
    asked = parse_requests("warm", line)
    cache, key = _asked_with(asked)
    what, collects, in_batch = asked.pop("what", ""), asked.pop("collect", False), asked.pop("batch", False)
    if collects:
        return collected_report(cache.collect_batches(what))
    if not what:
        raise ConfigurationError("name what is to be asked: %llm_cache warm FILE")
    if asked.pop("dry_run", False):
        return foreseen_report(foreseen_for(cache, what, endpoint=asked.get("endpoint", ""), **key))
    if in_batch:
        return batch_report(submitted_from(cache, what, **{**asked, **key}))
    return warmed_report(warmed_from(cache, what, **{**asked, **key}))


def _asked_with(asked: dict[str, Any]) -> tuple[Cache, dict[str, Any]]:
    """Return the cache, and what decides keys: as in a cell with the options that `asked` has."""
    session = current()
    options = session.options(ignore=asked.get("ignore"), salt=asked.get("salt"))
    return session.cache(options.namespace), {"ignore": (NOTHING, *options.ignore), "salt": options.salt}


def _explain(line: str) -> Report:
    session = current()
    call, run, shows_text = parse_explain(line)
    last = session.last if run or call else _last(session.last)
    namespace = session.options().namespace if run or last is None else last.options.namespace
    found = session.cache(namespace).explain(last, call=call, run=run)
    if run:
        return explained(f"how the calls of run {run} stand now", found, shows_text=shows_text)
    if call:
        title = f"call {call}" if found else f"nothing is known of a call {call}: name it by 6 digits of its entry id"
        return explained(title, found, shows_text=shows_text)
    if not found:
        return Report(
            "every call of the last cell was a hit" if last and last.calls else "the last cell called no model"
        )
    return explained("why calls of the last cell were no hits", found, shows_text=shows_text)


def _apply(selection: Selection) -> Invalidation:
    session = current()
    last = _last(session.last) if selection.by == "cell" else None
    cache = session.cache((last.options if last else session.options()).namespace)
    value, dry_run = selection.value, selection.dry_run
    by_name: dict[str, Callable[[], Invalidation]] = {
        "all": lambda: cache.clear(dry_run=dry_run),
        "pattern": lambda: cache.invalidate(value, dry_run=dry_run),
        "entry": lambda: cache.invalidate_entry(value, dry_run=dry_run),
        "older_than": lambda: cache.invalidate_older_than(value, dry_run=dry_run),
        "cell": lambda: _forget(_last(last), cache, dry_run=dry_run),
        "tag": lambda: cache.invalidate_tag(value, dry_run=dry_run),
        "run": lambda: cache.invalidate_tag(value, kind="run", dry_run=dry_run),
        "model": lambda: cache.invalidate_tag(value, kind="model", dry_run=dry_run),
        "person": lambda: cache.invalidate_tag(value, kind="person", dry_run=dry_run),
    }
    return by_name[selection.by]()


def _forget(scope: CellScope, cache: Cache, *, dry_run: bool) -> Invalidation:
    """Invalidate what a cell was answered with, whoever stored it, and what is still on its way from it."""
    used = {EntryId(call.answer_id) for call in scope.calls if call.answer_id}
    return cache.catalogue.invalidate_cell(scope.cell, used, dry_run=dry_run)


def _last(scope: CellScope | None) -> CellScope:
    if scope is None:
        raise ConfigurationError("no cell has used the cache yet: run one that begins with %%llm_cache first")
    return scope


def _in_force(options: Options) -> str:
    parts = [f"mode {options.mode.value}", f"namespace {options.namespace}"]
    if options.run:
        parts.append(f"run {options.run}")
    if options.tags:
        parts.append(f"tags {', '.join(options.tags)}")
    if options.ignore:
        parts.append(f"ignoring {rules_in_words(options.ignore)}")
    return ", ".join(parts)
