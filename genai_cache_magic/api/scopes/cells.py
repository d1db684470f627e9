"""Scopes for code: ``with llm_cache(...)``, the decorator, and what the magic opens for a cell."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

from genai_cache_magic.api.scopes.following import Passport
from genai_cache_magic.api.scopes.opened import OpenCell, scope_to_open
from genai_cache_magic.api.scopes.session import checked_options, current_session
from genai_cache_magic.core.options import checked_tags
from genai_cache_magic.errors import CellInterrupt, ConfigurationError, NotSent, make_ordinary
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import Guarded
from genai_cache_magic.intercept.patching import patcher
from genai_cache_magic.intercept.workers.threads import wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.events import EventHook

F = TypeVar("F", bound="Callable[..., Any]")


def open_cell(
    session: Session,
    options: Options,
    *,
    cell: str = "",
    hooks: Iterable[EventHook] = (),
    keep: Callable[[OpenCell], None] = lambda _: None,
) -> OpenCell:
    """Put a new scope in force for this context and what it starts; `keep` gets what closes it before it is."""
    outer = active.get()
    if outer is not None and outer.scope.options.estimate:
        options = options.dry()  # within an estimate nothing is sent, whatever is opened there
    scope = session.scope(options, cell=cell, hooks=hooks)
    opened = scope_to_open(session, scope)
    budgets = () if scope.budgets is None else scope.budgets.terms
    scope.passport = Passport(options, cell, session.settings, scope.reports.directory, budgets)
    keep(opened)
    opened.begin()
    return opened


class llm_cache:  # noqa: N801 - used as a verb: ``with llm_cache(ttl="7d"):``
    """Answer the model calls of a block, or of a function, from the cache.

    ``with llm_cache(tags=("a",), ttl="7d") as cell:`` gives the cell's record; ``@llm_cache(...)`` wraps a
    function, synchronous or not, so that each of its runs is a scope.

    Parameters
    ----------
    tags, ttl, mode, run, samples, store, namespace, salt, ignore, budget, budget_unknown
        As the options of ``%%llm_cache``.
    estimate
        Whether calls are only looked up: the block ends where it needs an answer that is not in the cache, and what
        its calls would cost is `foreseen` of the record. A function raises ``NotSent`` there.

    Raises
    ------
    ConfigurationError
        At once: an option is wrong. On entry: a setting is.
    ReplayMiss, BudgetExceeded
        On leaving: a call was missing in a thread, task or worker, where nobody saw it.
    """

    def __init__(self, **options: Any) -> None:
        self._given = {name: value for name, value in options.items() if value is not None}
        if "tags" in self._given:
            self._given["tags"] = checked_tags(self._given["tags"])  # each run reads them anew, an iterator but once
        checked_options(self._given)
        self._open: list[OpenCell] = []
        self._is_block = True

    def __enter__(self) -> CellScope:
        session = current_session()
        opened = open_cell(session, session.options(**self._given))
        self._open.append(opened)
        return opened.scope

    def __exit__(self, kind: object, raised: object = None, *_: object) -> bool | None:
        # One object may be entered by several threads or tasks at once: each leaves its own scope.
        opened = tuple(self._open)
        mine = next((cell for cell in reversed(opened) if cell.is_in_force), opened[-1])
        self._open.remove(mine)
        mine.close()
        shows = current_session().shows
        if shows is not None and self._is_block and active.own() is None:
            with Guarded(mine.here):
                shows(mine.scope)
        if isinstance(raised, CellInterrupt) and active.own() is None and _is_a_worker():
            make_ordinary(raised)
        ends_here = self._is_block and mine.scope.options.estimate and not self._is_within_estimate()
        lost = mine.scope.outstanding() if kind is None else None
        if lost is not None and not (ends_here and isinstance(lost, NotSent)):
            raise lost
        return True if ends_here and isinstance(raised, NotSent) else None

    @staticmethod
    def _is_within_estimate() -> bool:
        outer = active.get()
        return outer is not None and outer.scope.options.estimate

    async def __aenter__(self) -> CellScope:
        return self.__enter__()

    async def __aexit__(self, *raised: object) -> bool | None:
        return self.__exit__(*raised)

    def __call__(self, function: F) -> F:
        """Return `function` with each of its runs in a scope of its own.

        Raises
        ------
        ConfigurationError
            It is a generator: its body runs in pieces, in the midst of whatever its consumer does.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"@llm_cache can't wrap the generator {function.__qualname__}(): write 'with llm_cache(...):' "
                "around the loop that consumes it",
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return cast("F", run_async)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return cast("F", run)

    def _again(self) -> llm_cache:
        """Return what puts a run of a function in force, which may be one of a thousand: it is shown nowhere."""
        scope = llm_cache(**self._given)
        scope._is_block = False
        return scope

    @staticmethod
    def wrap(function: F) -> F:
        """Return `function` so that it runs in the present scope, in whatever thread or pool."""
        return cast("F", wrapped(function))


def _is_a_worker() -> bool:
    """Whether this thread, or its process, works for another, which may wait for ever if it dies of no `Exception`."""
    parent = sys.modules.get("multiprocessing.process")
    is_child = parent is not None and parent.parent_process() is not None
    return is_child or threading.current_thread() is not threading.main_thread()


def last_cell() -> CellScope | None:
    """Return the record of the last finished cell of this process, None if there was none."""
    return current_session().last


def uninstall() -> None:
    """Undo every patch."""
    patcher.uninstall()
