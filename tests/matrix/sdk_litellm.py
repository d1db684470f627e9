"""The forms of LiteLLM, by OpenAI's SDK for OpenAI's and Azure's models, and by its own HTTP client for others."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from matrix.cells import MESSAGES, OPENAI_TOOLS, QUESTION, Asked, Way, drained
from matrix.sdk_openai import RESPONSES_TOOLS

TOOLS = {"tools": OPENAI_TOOLS}


def litellm() -> Any:
    return importlib.import_module("litellm")


def endpoint(model: str, url: str) -> dict[str, Any]:
    """Model and endpoint as LiteLLM wants them, by the provider that stands before the model's name."""
    bases = {"openai": f"{url}/v1", "text-completion-openai": f"{url}/v1", "gemini": f"{url}/v1beta"}
    provider = model.partition("/")[0]
    extra = {"api_version": "2025-03-01-preview"} if provider == "azure" else {}
    return {"model": model, "api_base": bases.get(provider, url), "api_key": "simulated", **extra}


def completion(model: str, asked: Asked) -> Any:
    answer = litellm().completion(**endpoint(model, asked.url), messages=MESSAGES, **asked.options(TOOLS))
    return told(list(answer) if asked.is_streamed else answer)


async def acompletion(model: str, asked: Asked) -> Any:
    answer = await litellm().acompletion(**endpoint(model, asked.url), messages=MESSAGES, **asked.options(TOOLS))
    return told(await drained(answer) if asked.is_streamed else answer)


def responses(asked: Asked) -> Any:
    given = {**endpoint("openai/gpt-4.1-mini", asked.url), "input": QUESTION, **asked.options(RESPONSES_TOOLS)}
    answer = litellm().responses(**given)
    return told(list(answer) if asked.is_streamed else answer)


async def aresponses(asked: Asked) -> Any:
    given = {**endpoint("openai/gpt-4.1-mini", asked.url), "input": QUESTION, **asked.options(RESPONSES_TOOLS)}
    answer = await litellm().aresponses(**given)
    return told(await drained(answer) if asked.is_streamed else answer)


def embedding(asked: Asked) -> Any:
    return litellm().embedding(**endpoint("openai/text-embedding-3-small", asked.url), input=["a", "b"])


async def aembedding(asked: Asked) -> Any:
    return await litellm().aembedding(**endpoint("openai/text-embedding-3-small", asked.url), input=["a", "b"])


def told(answer: Any) -> Any:
    """`answer` without what LiteLLM makes up each time where the provider's own is not taken over: ids and times."""
    if isinstance(answer, list):
        return [told(item) for item in answer]
    if hasattr(answer, "model_dump"):
        return told(answer.model_dump(warnings=False))
    if not isinstance(answer, dict):
        return answer
    return {n: told(v) for n, v in answer.items() if n != "created" and not (n == "id" and "sim" not in str(v))}


LEFT_EARLY = (
    "LiteLLM's synchronous stream of Anthropic's messages is left before its last event, and closed by nobody, so "
    "nothing proves that the answer was whole: it is not stored. Tried: to store as soon as the last event has passed, "
    "which serves LiteLLM's other streams, and this one where that event comes along with the one before; and to take "
    "the reason of the end for the end, which would store what was not received to its end. The asynchronous stream "
    "and the plain call are cached, and what they store answers this one"
)


def _ways(*models: str) -> tuple[Way, ...]:
    return tuple(
        Way(
            "litellm",
            f"completion, acompletion: {model}",
            partial(completion, model),
            partial(acompletion, model),
            exceptions={("sync", "stream"): LEFT_EARLY} if model.startswith("anthropic/") else {},
        )
        for model in models
    )


WAYS = (
    *_ways(
        "openai/gpt-4.1-mini",
        "azure/gpt-4.1-mini",
        "anthropic/claude-sonnet-5",
        "gemini/gemini-2.5-flash",
        "mistral/mistral-small-latest",
        "ollama_chat/llama3.2",
        "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0",
    ),
    Way("litellm", "responses, aresponses", responses, aresponses),
    Way("litellm", "embedding, aembedding", embedding, aembedding, delivery=("plain",), tools=(False,)),
)
