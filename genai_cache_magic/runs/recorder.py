"""The record of a named run: each answered call of a scope, noted for the ledger."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.pricing import cost_usd
from genai_cache_magic.events import SERVED
from genai_cache_magic.ledger.accounts import DAY_MS
from genai_cache_magic.ledger.run_rows import RunCall, RunNote

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.runs.watching import Witnessed

_LIBRARIES: Final = (
    *("anthropic", "boto3", "cohere", "dspy", "google-genai", "groq", "langchain-core", "litellm", "mistralai"),
    *("ollama", "openai"),
)
"""Packages whose version may change what is asked."""

_NOTEBOOK: Final = ("JPY_SESSION_NAME", "PAPERMILL_INPUT_PATH")
"""Variables by which front ends tell a kernel which notebook it runs."""


class RunRecorder:
    """Notes the calls of one scope, which belongs to a run."""

    def __init__(self, scope: CellScope, *, now_ms: Callable[[], int]) -> None:
        self._scope = scope
        self._now_ms = now_ms
        self._passing = Path(scope.reports.directory).name  # the same in the scope's other processes

    def __call__(self, seen: Witnessed) -> None:
        """Note an answered call."""
        from genai_cache_magic.ledger.books import Books

        books = self._scope.books
        if not isinstance(books, Books):
            return  # the cache can't be opened, and its books lie in it
        call, scope, now_ms = seen.asked.call, self._scope, self._now_ms()
        answer = call.provider.read(seen.response)
        cost = cost_usd(call, answer, now_ms=now_ms)
        is_hit = seen.outcome in SERVED
        noted = RunCall(
            run=scope.options.run,
            cell=scope.cell,
            passing=self._passing,
            digest=seen.asked.digest,
            sample=seen.sample,
            entry_id=seen.entry_id,
            surface=call.provider.surface,
            model=answer.model or call.request.model,
            outcome=seen.outcome.value,
            asked=call.wants.asked,
            content="",
            day=now_ms // DAY_MS,
            input_tokens=answer.usage.input_tokens,
            cached_input_tokens=answer.usage.cached_input_tokens,
            output_tokens=answer.usage.output_tokens,
            spent_usd=None if is_hit else cost,
            saved_usd=cost if is_hit else None,
            person=scope.person,
            surroundings={**surroundings(), **_semantic(scope)},
            at_ms=books.now_ms(),
            not_stored=seen.not_stored,
        )
        books.note_run(RunNote(noted, seen.asked.form, seen.response))


def surroundings() -> dict[str, str]:
    """Return the versions of what is used here, and the notebook's name, where they are known."""
    notebook = next((PurePath(os.environ[name]).name for name in _NOTEBOOK if os.environ.get(name)), "")
    used = {name for name in _LIBRARIES if name.replace("-", "_").partition("_")[0] in sys.modules}
    versions = {name: _version(name) for name in ("genai-cache-magic", *sorted(used))}
    return {name: text for name, text in {**versions, "notebook": notebook}.items() if text}


def _semantic(scope: CellScope) -> dict[str, str]:
    """Return how alike questions had to be that shared an answer, if any did."""
    least = scope.options.semantic
    return {} if least is None else {"semantic": f"{least:g}"}


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
