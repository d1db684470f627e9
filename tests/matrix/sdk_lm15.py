"""The forms of `lm15`, which speaks HTTP by itself; DSPy carries a copy of it along."""

from __future__ import annotations

from functools import partial
from typing import Any

from matrix.cells import FUNCTION, QUESTION, Asked, Way, aio, sync


def router(url: str, kind: str = "LMRouter") -> Any:
    import lm15

    keys = dict.fromkeys(("openai", "anthropic", "gemini"), "simulated")
    urls = {"openai": f"{url}/v1", "openai-chat": f"{url}/v1", "anthropic": f"{url}/v1", "gemini": f"{url}/v1beta"}
    return getattr(lm15, kind)(lm15.RouterConfig(api_keys=keys, base_urls=urls, env={}))


def ask(model: str, made: Any, asked: Asked) -> Any:
    import lm15

    tools = (lm15.FunctionTool(**FUNCTION),) if asked.has_tools else ()
    request = lm15.Request(model=model, messages=(lm15.Message.user(QUESTION),), tools=tools)
    return made.stream(request) if asked.is_streamed else made.complete(request)


def told(answer: Any, asked: Asked) -> Any:
    """The answer, or each event of it, as plain data."""
    from lm15 import serde

    if not asked.is_streamed:
        return serde.response_to_dict(answer, include_provider_data=True)
    if hasattr(answer, "__anext__"):
        return (serde.stream_event_to_dict(event) async for event in answer)
    return (serde.stream_event_to_dict(event) for event in answer)


def _way(model: str) -> Way:
    call = partial(ask, model)
    return Way(
        "lm15",
        f"complete, stream: {model}",
        sync(router, call, told),
        aio(partial(router, kind="AsyncLMRouter"), call, told),
    )


WAYS = tuple(
    map(
        _way,
        ("openai-chat:gpt-4.1-mini", "openai:gpt-4.1-mini", "anthropic:claude-sonnet-5", "gemini:gemini-2.5-flash"),
    )
)
