"""A run file in front of a cache: it answers first, and in mode ``record`` gets what the cache and the model answer.

It is in front of whatever answers otherwise, also of a cache that can't be opened. What it answers with is served to
its caller and goes nowhere else: a file may come from anybody, and answers only where it was named.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from genai_cache_magic.calls.explain import advice_on
from genai_cache_magic.calls.pricing import cost_usd
from genai_cache_magic.calls.steps import Answered
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.noise import joining
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.core.policy import Store, admissible
from genai_cache_magic.errors import GenaiCacheError, ReplayMiss, UncacheableRequest
from genai_cache_magic.events import CallRecord, Outcome, Tier, Trouble, trouble
from genai_cache_magic.providers.reading import as_object
from genai_cache_magic.runs.differences import in_words, nearest
from genai_cache_magic.runs.lines import CallName, RecordedCall
from genai_cache_magic.runs.watching import Asked, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Step
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.intercept.active import Answers
    from genai_cache_magic.providers.base import ModelCall, Origins
    from genai_cache_magic.runs.run_file import RunFile
    from genai_cache_magic.runs.watching import Witnessed

OnMiss: TypeAlias = "Callable[[JsonObject, JsonObject | None], None]"
"""Is told of a request that nothing answers in mode ``replay``, and of the nearest that is recorded."""

_READS: Final = frozenset({Mode.USE, Mode.READ, Mode.RECORD, Mode.REPLAY})
_PART: Final = "run file"


class ShelvedAnswers:
    """The answers of a scope that names a run file: those of the file, then those of `inner`."""

    def __init__(
        self, inner: Answers, file: RunFile, *, now_ms: Callable[[], int], on_miss: OnMiss = lambda _, __: None
    ) -> None:
        self._inner = inner
        self._file = file
        self._now_ms = now_ms
        self._on_miss = on_miss

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        return ShelfDesk(self._inner.calls, self._file, now_ms=self._now_ms, on_miss=self._on_miss)

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        return self._inner.origins


class ShelfDesk:
    """Answers from a run file, and passes every other call on to `inner`."""

    def __init__(self, inner: Begins, file: RunFile, *, now_ms: Callable[[], int], on_miss: OnMiss) -> None:
        self._inner = inner
        self._file = file
        self._now_ms = now_ms
        self._on_miss = on_miss

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the first step of `call`; raises ``ReplayMiss``."""
        started = time.perf_counter()
        asked = Asked.of(call, scope)
        if scope.options.mode in _READS and (answered := self._answer(asked, started)) is not None:
            return answered
        try:
            step = self._inner.begin(asked.call, scope, is_async=is_async)
        except ReplayMiss as miss:
            near = nearest(asked.form, self._file.calls())
            self._on_miss(asked.form, near and near[1])
            by = self._file.recorded_by
            said = (
                f"{self._file.label}{in_words(near and near[0])}{f'; {by} adds it' if by else ''}{_advice(asked, near)}"
            )
            raise ReplayMiss(f"{miss}. Nor is it in {said}") from miss
        return watched(step, asked, self._keep) if scope.options.mode is Mode.RECORD else step

    def _answer(self, asked: Asked, started: float) -> Answered | None:
        scope, call = asked.scope, asked.call
        number, give_back = self._sample(asked)
        recorded = self._file.find(CallName(asked.digest, number))
        if recorded is not None and recorded.is_similar and scope.options.mode is not Mode.REPLAY:
            recorded = None  # what another question was answered is what that run got; who asks now asks for its own
        response = None if recorded is None else _suited(call, recorded)
        if recorded is None or response is None:
            give_back()
            return None
        answer = call.provider.read(recorded.response)
        saved = cost_usd(call, answer, now_ms=self._now_ms())
        is_similar, source = recorded.is_similar, f"from {self._file.label}"
        scope.emit(
            CallRecord(
                Outcome.SIMILAR if is_similar else Outcome.HIT,
                tier=Tier.FILE,
                reason=f"similar, {source}" if is_similar else source,
                provider=call.provider.surface,
                model=answer.model or recorded.model or call.request.model,
                input_tokens=answer.usage.input_tokens,
                cached_input_tokens=answer.usage.cached_input_tokens,
                output_tokens=answer.usage.output_tokens,
                spent_usd=Decimal(0),
                saved_usd=saved,
                latency_s=time.perf_counter() - started,
                sample=number,
                entry_id=asked.digest,
            )
        )
        entry_id = EntryId(asked.digest)
        return Answered(response, Tier.FILE, number, entry_id, is_similar=is_similar, not_stored=source)

    def _sample(self, asked: Asked) -> tuple[int, Callable[[], None]]:
        """Return which sample `asked` is to have, and what gives that number back."""
        scope = asked.scope
        if scope.options.samples is not Samples.DISTINCT:
            return 0, lambda: None
        # Numbered as the cache numbers them: what the file lacks is asked there, under the next number.
        own_id = getattr(self._inner, "request_id", None)
        name = asked.digest if own_id is None else own_id(asked.call, scope)
        number = scope.sample_numbers.take(name)
        return number, lambda: scope.sample_numbers.give_back(name, number)

    def _keep(self, seen: Witnessed) -> None:
        """Record an answer, if it may be stored at all."""
        call, scope = seen.asked.call, seen.asked.scope
        answer = call.provider.read(seen.response)
        refused = (*seen.refused, *answer.refused)
        is_known = seen.outcome is Outcome.HIT  # somebody has stored it
        if not is_known and not isinstance(admissible(answer.end, refused, scope.options.store), Store):
            return
        name = CallName(seen.asked.digest, seen.sample)
        model = answer.model or call.request.model
        surface = call.provider.surface
        recorded = RecordedCall(name, surface, model, seen.response, call.wants.asked, seen.asked.form)
        there = self._file.find(name)
        is_unfit = there is not None and (there.is_similar or _suited(call, there) is None)
        try:
            self._file.keep(recorded, instead=is_unfit)
        except UncacheableRequest as exc:
            said = f"an answer of {model} is not recorded in {self._file.label}: {exc}"
            scope.emit(Trouble(_PART, type(exc).__name__, said))
        if scope.is_over or self._file.is_due():
            flush(self._file, scope)


def flush(file: RunFile, scope: CellScope) -> None:
    """Write what was recorded; trouble is told to `scope`."""
    try:
        file.flush()
    except GenaiCacheError as exc:
        scope.emit(trouble(_PART, exc))


def _advice(asked: Asked, near: tuple[tuple[str, ...], JsonObject] | None) -> str:
    """Return the end of a sentence that says under which rules the nearest recorded call would be the one asked."""
    if near is None or not all(part.startswith("body.") for part in near[0]):
        return ""
    bodies = as_object(near[1].get("body")), as_object(asked.form.get("body"))
    advice = advice_on(joining(*bodies, asked.scope.options.ignore))
    return f"; {advice.replace('an answer is stored', 'it is recorded')}" if advice else ""


def _suited(call: ModelCall, recorded: RecordedCall) -> Response | None:
    """Return the recorded answer as this caller wants it, None where that can't be made of it."""
    if recorded.asked == call.wants.asked:
        return recorded.response
    return call.provider.render(recorded.response, call.wants)
