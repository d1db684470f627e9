"""DSPy's cache interface over a ``Cache``: ``dspy.cache = DSPyCache(cache)``.

Nothing is pickled: what DSPy keeps is either plain data already, or an answer of LiteLLM's, which is kept as its
fields. DSPy's own key leaves the endpoint out and holds sync and async apart; this one does neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from dspy.clients.cache import Cache as DSPyBaseCache
from pydantic import BaseModel, ValidationError

from genai_cache_magic.core.options import checked_tags
from genai_cache_magic.errors import EntryUndecodable, UncacheableRequest
from genai_cache_magic.events import trouble
from genai_cache_magic.integrations.admission import is_whole, stands_aside
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.events import Event

TAG: Final = "integration:dspy"
"""Tag of everything that is stored here, so that ``clear`` reaches nothing else."""

_ENDPOINT: Final = frozenset({"api_base", "base_url"})
"""What DSPy wants left out of the key, and what tells one model from another."""

# SECURITY: these classes hold data and do nothing when they are made; no other is ever made of an entry.
_ANSWERS: Final = {
    "ModelResponse": "litellm",
    "TextCompletionResponse": "litellm",
    "ResponsesAPIResponse": "litellm.types.llms.openai",
}
"""LiteLLM's kinds of answers -> where they are. Found by name, since importing LiteLLM takes seconds."""


class DSPyCache(DSPyBaseCache):
    """Answers of DSPy's models and embedders, kept in `cache`. Safe to share between threads.

    Trouble of the cache's own never reaches a program: a look-up misses, an answer is not kept, and `on_event`
    hears why. Inside a scope this cache stands aside.

    Parameters
    ----------
    cache
        Where answers are kept. It stays open: who made it closes it.
    ttl, tags
        As for ``Cache.set``; 15 tags at most, since one is this adapter's own.

    Raises
    ------
    ConfigurationError
        `ttl` or `tags` can't be used.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        ttl: str | float | None = None,
        tags: Iterable[str] = (),
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        # Both of DSPy's tiers stay off: one would serve what was invalidated, the other unpickles.
        super().__init__(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)
        self._cache = cache
        self._ttl_s = None if ttl is None else parse_seconds(ttl, name="ttl")
        self._tags = checked_tags((TAG, *checked_tags(tags)))
        self._on_event = on_event

    def __repr__(self) -> str:
        return f"<DSPyCache in {self._cache!r}>"

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:
        """Return the answer to `request`, a fresh copy that DSPy marks as a hit, or None."""
        key = self._try_key(request, ignored_args_for_cache_key)
        kept = None if key is None else self._cache.get(key)
        if kept is None:
            return None
        try:
            return _marked(_loaded(kept))
        except EntryUndecodable as exc:
            # Left for the next fill to replace: a colleague's newer release may well read it.
            self._on_event(trouble("dspy", exc))
            return None

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,  # noqa: ARG002, FBT001, FBT002 - DSPy's interface; there is no such tier
    ) -> None:
        """Keep the answer `value`, unless it is truncated, filtered, or would not come back."""
        key = self._try_key(request, ignored_args_for_cache_key)
        if key is None:
            return
        try:
            kept = _dumped(value)
        except UncacheableRequest as exc:
            self._on_event(trouble("dspy", exc))
            return
        if _ended_well(kept["value"]):
            self._cache.try_set(key, kept, ttl=self._ttl_s, tags=self._tags)

    def clear(self) -> None:
        """Invalidate what DSPy has stored in this namespace, and nothing else; raises ``StoreUnavailable``."""
        self._cache.invalidate_tag(TAG)

    def _try_key(self, request: dict[str, Any], ignored: list[str] | None) -> str | None:
        """Return the key, or None where this cache takes no part."""
        if stands_aside():
            return None
        left_out = set(ignored or ()) - _ENDPOINT
        try:
            return f"dspy:{self._cache.key_for({n: _told(n, v) for n, v in request.items() if n not in left_out})}"
        except UncacheableRequest as exc:
            self._on_event(trouble("dspy", exc))
            return None


def _told(name: str, value: Any) -> Any:
    """Return one part of a request for the key. A function stays what it is, which has no key: it is no name."""
    if name == "_fn_identifier" and isinstance(value, str):
        # The asynchronous twin of each of DSPy's functions asks the same.
        twin = value.removesuffix(".async").replace(".alitellm_", ".litellm_")
        return twin.replace("._cached_acompute_", "._cached_compute_")
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {inner: _told("", item) for inner, item in value.items()}
    return [_told("", item) for item in value] if isinstance(value, list | tuple) else value


def _dumped(value: Any) -> dict[str, Any]:
    """Return what to keep of an answer; raises ``UncacheableRequest`` if it would not come back as it is."""
    kind = type(value).__name__
    if not (isinstance(value, BaseModel) and type(value).__module__.startswith("litellm.") and kind in _ANSWERS):
        return {"kind": "data", "value": value}
    fields = value.model_dump(mode="json", warnings=False)
    kept = {"kind": kind, "value": fields, "cost": _cost(value)}
    try:
        again = _loaded(kept)
    except EntryUndecodable as exc:
        raise UncacheableRequest(f"a DSPy answer is not kept: LiteLLM's {kind} can't be made of its fields") from exc
    if again.model_dump(mode="json", warnings=False) != fields:
        raise UncacheableRequest(f"a DSPy answer is not kept: LiteLLM's {kind} does not survive being stored")
    return kept


def _loaded(kept: object) -> Any:
    """Return the answer in `kept`; raises ``EntryUndecodable``, with no detail, since details quote content."""
    match kept:
        case {"kind": "data", "value": value}:
            return value
        case {"kind": str(kind), "value": dict(fields), "cost": cost} if kind in _ANSWERS and _has_output(fields):
            try:
                answer = getattr(importlib.import_module(_ANSWERS[kind]), kind)(**fields)
            except (ImportError, AttributeError, TypeError, ValueError, ValidationError) as exc:
                raise EntryUndecodable(f"an entry is no {kind} that this LiteLLM can read: asking the model") from exc
            answer._hidden_params = {"response_cost": cost}  # noqa: SLF001 - where DSPy looks for it
            return answer
    raise EntryUndecodable("an entry is no DSPy answer: something else was set under its key")


def _has_output(fields: dict[str, Any]) -> bool:
    """Tell whether these are the fields of an answer: LiteLLM would make an empty one of anything."""
    output = fields.get("choices", fields.get("output"))
    return isinstance(output, list) and bool(output) and all(isinstance(one, dict) for one in output)


def _cost(answer: BaseModel) -> float | None:
    """Return what LiteLLM says that an answer has cost [USD]."""
    cost = getattr(answer, "_hidden_params", {}).get("response_cost")
    return cost if isinstance(cost, int | float) else None


def _marked(answer: Any) -> Any:
    """Return `answer` as DSPy tells a hit: without usage, since no model was asked."""
    if isinstance(answer, BaseModel):
        # Around the check of fields, which LiteLLM's stricter kinds have.
        vars(answer).update(usage={}, cache_hit=True)
    return answer


def _ended_well(value: Any) -> bool:
    """Tell whether no part of an answer, in DSPy's own record or in LiteLLM's, says that it is not whole."""
    if not isinstance(value, dict):
        return True
    parts = [value, *(value.get("responses") or ()), *(value.get("choices") or ())]
    told = (part.get(name) for part in parts if isinstance(part, dict) for name in ("finish_reason", "status"))
    return all(map(is_whole, told))
