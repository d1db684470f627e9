"""Scopes that answer from one plain run file, for tests: in ``replay`` from it alone."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from genai_cache_magic.api.asking.held import held_to_budget
from genai_cache_magic.api.scopes.opened import OpenCell
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.core.options import Mode
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.intercept.active import Active
from genai_cache_magic.runs.run_file import RunFile
from genai_cache_magic.runs.shelf import ShelvedAnswers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Step
    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.providers.base import ModelCall, Origins


def plain_file(path: Path, *, label: str, recorded_by: str) -> RunFile:
    """Return the run file at `path`, which is or will be one that people can read."""
    return RunFile(path.absolute(), label=label, seal_key=bytes, is_sealed=False, recorded_by=recorded_by)


@contextmanager
def answering_from(
    file: RunFile, *, mode: str, on_miss: Callable[[JsonObject, JsonObject | None], None]
) -> Iterator[CellScope]:
    """Put a scope in force that `file` answers; it need not be there.

    Parameters
    ----------
    mode
        ``replay``: nothing else answers. ``record``, ``use``: then the cache, then the model.
    on_miss
        Told what was asked in mode ``replay`` and is not there, and the nearest request that is.

    Raises
    ------
    ConfigurationError
        The file can't be used.
    ReplayMiss
        On leaving: a call was missing in a thread, task or worker, where nobody saw it.
    """
    file.load(may_be_missing=True)
    session = current_session()
    options = session.options(mode=Mode.USE)
    scope = session.scope(options.in_mode(Mode(mode)))
    inner = _Nothing(session.origins) if scope.options.mode is Mode.REPLAY else session.answers_of_cache(scope)
    scope.recording = file if scope.options.mode is Mode.RECORD else None
    answers = ShelvedAnswers(inner, file, now_ms=lambda: time.time_ns() // 1_000_000, on_miss=on_miss)
    opened = OpenCell(session, scope, Active(held_to_budget(answers, scope), scope))
    try:
        opened.begin()
        yield scope
    finally:
        opened.close()
    if (lost := scope.outstanding()) is not None:
        raise lost


class _Nothing:
    """What answers no call."""

    def __init__(self, origins: Origins) -> None:
        self.origins = origins
        self.calls = self

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Raise ``ReplayMiss``."""
        del scope, is_async
        raise ReplayMiss(f"{call.request.model or call.request.surface}: this call was not recorded")
