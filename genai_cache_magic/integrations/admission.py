"""What the adapters have in common: when they take part, and which answers they never keep."""

from __future__ import annotations

from typing import Final

from genai_cache_magic.intercept.active import active

# Frameworks hand on the words of every provider, and none at all for many models. So this is a list of what
# is known to be no whole answer, where the interceptors demand a word that is known to be one.
_NOT_WHOLE: Final = frozenset({
    # truncated
    "length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded", "incomplete",
    # filtered
    "content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii",
    "guardrail_intervened", "refusal",
    # broken off
    "error", "failed", "cancelled", "abort", "insufficient_system_resource", "malformed_function_call",
})  # fmt: skip


def stands_aside() -> bool:
    """Return whether a scope is open here, whose modes, tags and counts must hold for every model call."""
    return active.get() is not None


def is_whole(reason: object) -> bool:
    """Return whether an answer that ended for `reason`, a provider's word or None, may be kept."""
    return not (isinstance(reason, str) and reason.lower() in _NOT_WHOLE)
