"""LangChain's cache interface over a ``Cache``: ``set_llm_cache(LangChainCache(cache))``.

Answers are kept as JSON in LangChain's own notation. The asynchronous methods are those of ``BaseCache``:
they run the synchronous ones in the event loop's executor, within the caller's context.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Final

from langchain_core._api import LangChainBetaWarning
from langchain_core.caches import BaseCache
from langchain_core.load import dumps, loads
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from genai_cache_magic.core.options import checked_tags
from genai_cache_magic.errors import EntryUndecodable, UncacheableRequest
from genai_cache_magic.events import trouble
from genai_cache_magic.integrations.admission import is_whole, stands_aside
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langchain_core.load.serializable import Serializable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.events import Event

TAG: Final = "integration:langchain"
"""Tag of everything that is stored here, so that ``clear`` reaches nothing else."""

# SECURITY: these classes hold data and do nothing when they are made. A model, a prompt or a tool among them
# would let whoever can write an entry choose addresses that this process connects to.
_ALLOWED: Final[tuple[type[Serializable], ...]] = (
    Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk,
    AIMessage, AIMessageChunk, ChatMessage, ChatMessageChunk, FunctionMessage, FunctionMessageChunk,
    HumanMessage, HumanMessageChunk, SystemMessage, SystemMessageChunk, ToolMessage, ToolMessageChunk,
)  # fmt: skip

# What LangChain writes for an object that it can't spell. Another object may have the same address tomorrow.
# Inside a text of the prompt the quotes of the first form would be escaped.
_FOREIGN_IN_PROMPT: Final = re.compile(r'(?<!\\)"type": "not_implemented"')
_FOREIGN_IN_MODEL: Final = re.compile(r"\bat 0x[0-9a-fA-F]+>")

# How the providers' packages call the reason for which an answer ended.
_REASONS: Final = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")


class LangChainCache(BaseCache):
    """Answers of LangChain's models, kept in `cache`. Safe to share between threads.

    Trouble of the cache's own never reaches a chain: a look-up misses, an answer is not kept, and `on_event`
    hears why (give the same to ``create_cache``, for what happens there). Inside a scope this cache stands aside.

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
        self._cache = cache
        self._ttl_s = None if ttl is None else parse_seconds(ttl, name="ttl")
        self._tags = checked_tags((TAG, *checked_tags(tags)))
        self._on_event = on_event
        _accept_beta()

    def __repr__(self) -> str:
        return f"<LangChainCache in {self._cache!r}>"

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the answer to `prompt` by the model that `llm_string` describes, a fresh copy, or None."""
        key = self._try_key(prompt, llm_string)
        kept = None if key is None else self._cache.get(key)
        if kept is None:
            return None
        try:
            return _loaded(kept)
        except EntryUndecodable as exc:
            # Left for the next fill to replace: a colleague's newer release may well read it.
            self._on_event(trouble("langchain", exc))
            return None

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep the answer `return_val`, unless it is empty, truncated, filtered, or would not come back."""
        key = self._try_key(prompt, llm_string)
        if key is None or not _is_admissible(return_val):
            return
        try:
            text = _dumped(return_val)
        except UncacheableRequest as exc:
            self._on_event(trouble("langchain", exc))
            return
        self._cache.try_set(key, text, ttl=self._ttl_s, tags=self._tags)

    def clear(self, **_: Any) -> None:
        """Invalidate what LangChain has stored in this namespace, and nothing else.

        Raises
        ------
        StoreUnavailable
            It could not be invalidated.
        """
        self._cache.invalidate_tag(TAG)

    def _try_key(self, prompt: str, llm_string: str) -> str | None:
        """Return the key, or None where this cache takes no part."""
        if stands_aside():
            return None
        try:
            _check_spelling(prompt, llm_string)
            return f"langchain:{self._cache.key_for([prompt, llm_string])}"
        except UncacheableRequest as exc:
            self._on_event(trouble("langchain", exc))
            return None


def _check_spelling(prompt: str, llm_string: str) -> None:
    """Raise ``UncacheableRequest`` if LangChain spelled an object by its address, which is no name of it."""
    if _FOREIGN_IN_PROMPT.search(prompt) or _FOREIGN_IN_MODEL.search(llm_string):
        raise UncacheableRequest(
            "a LangChain call is not cached: its prompt or its model's settings hold an object that LangChain knows "
            "by its address only; pass plain values"
        )


def _accept_beta() -> None:
    """Take the one warning that LangChain gives on the first use of ``loads``: it is for us, not for users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        loads("null", allowed_objects=_ALLOWED)


def _dumped(answer: Sequence[Generation]) -> str:
    """Return `answer` as a JSON array; raises ``UncacheableRequest`` if it would not come back as it is."""
    try:
        # One by one: LangChain turns a parsed pydantic model into JSON only at the top of what it dumps.
        text = f"[{','.join(dumps(generation) for generation in answer)}]"
        again = f"[{','.join(dumps(generation) for generation in _loaded(text))}]"
    except (EntryUndecodable, TypeError, ValueError, RecursionError) as exc:
        raise UncacheableRequest("a LangChain answer is not kept: it holds objects that are no JSON") from exc
    if again != text:
        raise UncacheableRequest("a LangChain answer is not kept: it does not survive being stored")
    return text


def _loaded(kept: object) -> list[Generation]:
    """Return the answer in `kept`; raises ``EntryUndecodable``, with no detail, since details quote content."""
    if not isinstance(kept, str):
        raise EntryUndecodable("an entry is no LangChain answer: something else was set under its key")
    try:
        # SECURITY: an explicit list of classes, and no variable of the environment is ever read.
        answer = loads(kept, allowed_objects=_ALLOWED, secrets_from_env=False)
    except (
        ValueError,  # no JSON, a class that is not allowed, arguments that pydantic refuses
        TypeError,
        LookupError,
        AttributeError,
        ImportError,
        NotImplementedError,  # an object that LangChain could not write
        RecursionError,
    ) as exc:
        raise EntryUndecodable("an entry is no LangChain answer that this release can read: asking the model") from exc
    if not isinstance(answer, list) or not answer or not all(isinstance(item, Generation) for item in answer):
        raise EntryUndecodable("an entry is no LangChain answer: it holds something else")
    return answer


def _is_admissible(answer: Sequence[Generation]) -> bool:
    return bool(answer) and all(_has_output(item) and _ended_well(item) for item in answer)


def _has_output(item: Generation) -> bool:
    if not isinstance(item, ChatGeneration):
        return bool(item.text)
    message = item.message
    return bool(message.content or message.additional_kwargs or getattr(message, "tool_calls", None))


def _ended_well(item: Generation) -> bool:
    told = dict(item.generation_info or {})
    if isinstance(item, ChatGeneration):
        if item.message.additional_kwargs.get("refusal"):
            return False
        told |= item.message.response_metadata
    return all(is_whole(told.get(name)) for name in _REASONS)
