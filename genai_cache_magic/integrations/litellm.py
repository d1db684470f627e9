"""LiteLLM's cache interface over a ``Cache``.

LiteLLM decides what is asked and under which key; this adapter keeps its values, sealed, with a time to live
and tags. LiteLLM's key leaves out the endpoint (``api_base``) and fields of the provider's own, such as
``extra_body``: two endpoints want two namespaces.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from litellm.caching.base_cache import BaseCache

from genai_cache_magic.core.options import checked_tags
from genai_cache_magic.integrations.admission import is_whole, stands_aside
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.api.cache import Cache

TAG: Final = "integration:litellm"
"""Tag of everything that is stored here, so that ``flush_cache`` reaches nothing else."""


class LiteLLMCache(BaseCache):
    """Values of LiteLLM's cache, kept in `cache`. Safe to share between threads.

    Put it in as ``litellm.cache = litellm.Cache(); litellm.cache.cache = LiteLLMCache(cache)``. Inside a scope
    it stands aside.

    Parameters
    ----------
    cache
        Where values are kept. It stays open: who made it closes it.
    ttl, tags
        As for ``Cache.set``; a ``ttl`` that LiteLLM passes for a call wins. 15 tags at most.

    Raises
    ------
    ConfigurationError
        `ttl` or `tags` can't be used.
    """

    def __init__(self, cache: Cache, *, ttl: str | float | None = None, tags: Iterable[str] = ()) -> None:
        # LiteLLM's own default of 60 s is never used: `get_ttl` is not called here.
        super().__init__()
        self._cache = cache
        self._ttl_s = None if ttl is None else parse_seconds(ttl, name="ttl")
        self._tags = checked_tags((TAG, *checked_tags(tags)))

    def __repr__(self) -> str:
        return f"<LiteLLMCache in {self._cache!r}>"

    def get_cache(self, key: str, **_: Any) -> Any:
        """Return what was last set under `key`, or None."""
        value = None if stands_aside() else self._cache.get(_key(key))
        # LiteLLM evaluates a text that is not JSON as Python: nothing but its own records is handed over.
        return value if _is_record(value) else None

    def set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """Keep `value`, a record of LiteLLM's, unless its answer is truncated, filtered or no JSON."""
        if stands_aside() or not _is_record(value) or not _ended_well(value["response"]):
            return
        ttl = kwargs.get("ttl")
        self._cache.try_set(_key(key), value, ttl=self._ttl_s if ttl is None else ttl, tags=self._tags)

    async def async_get_cache(self, key: str, **_: Any) -> Any:
        """As `get_cache`, without holding up the event loop."""
        return await asyncio.to_thread(self.get_cache, key)

    async def async_set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """As `set_cache`, without holding up the event loop."""
        await asyncio.to_thread(self.set_cache, key, value, ttl=kwargs.get("ttl"))

    async def async_set_cache_pipeline(self, cache_list: Iterable[tuple[str, Any]], **kwargs: Any) -> None:
        """Keep many values, such as the single vectors of one embedding call."""
        for key, value in cache_list:
            await self.async_set_cache(key, value, **kwargs)

    def delete_cache(self, key: str) -> None:
        """Remove `key`; raises ``StoreUnavailable``."""
        self._cache.delete(_key(key))

    def flush_cache(self) -> None:
        """Invalidate what LiteLLM has stored in this namespace, and nothing else; raises ``StoreUnavailable``."""
        self._cache.invalidate_tag(TAG)

    async def disconnect(self) -> None:
        """Nothing: the cache may have other users."""


def _key(key: str) -> str:
    return f"litellm:{key}"


def _is_record(value: Any) -> bool:
    """Return whether `value` is ``{"timestamp": seconds, "response": object or its JSON text}``."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("timestamp"), int | float)
        and _answer(value.get("response")) is not None
    )


def _answer(response: object) -> dict[str, Any] | None:
    if isinstance(response, str):
        try:
            response = json.loads(response)
        except (ValueError, RecursionError):
            return None
    return response if isinstance(response, dict) else None


def _ended_well(response: object) -> bool:
    answer = _answer(response) or {}
    choices = answer.get("choices") or ()
    reasons = (choice.get("finish_reason") for choice in choices if isinstance(choice, dict))
    return is_whole(answer.get("status")) and all(map(is_whole, reasons))
