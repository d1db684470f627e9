"""The forms of `openai`: for OpenAI, and for Azure with a key and with an identity's token."""

from __future__ import annotations

from functools import partial
from typing import Any

from matrix.cells import FUNCTION, MESSAGES, OPENAI_TOOLS, QUESTION, WEATHER, Asked, Verdict, Way, aio, sync

CHAT = {"model": "gpt-4.1-mini", "messages": MESSAGES}
CHAT_TOOLS = {"tools": OPENAI_TOOLS}
# The helpers that parse take strict tools only.
STRICT_TOOLS = {"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]}
RESPONSES = {"model": "gpt-4.1-mini", "input": QUESTION}
RESPONSES_TOOLS = {"tools": [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}]}
PROMPT = {"model": "gpt-3.5-turbo-instruct", "prompt": QUESTION}
VECTORS = {"model": "text-embedding-3-small", "input": ["a", "b"]}

AZURE_API_VERSION = "2025-03-01-preview"


def client(url: str, kind: str = "OpenAI") -> Any:
    import openai

    return getattr(openai, kind)(base_url=f"{url}/v1", api_key="simulated")


def azure(url: str, kind: str = "AzureOpenAI") -> Any:
    import openai

    return getattr(openai, kind)(azure_endpoint=url, api_version=AZURE_API_VERSION, api_key="simulated")


def azure_with_token(url: str) -> Any:
    import openai

    return openai.AzureOpenAI(
        azure_endpoint=url, api_version=AZURE_API_VERSION, azure_ad_token_provider=lambda: "simulated"
    )


def async_azure_with_token(url: str) -> Any:
    import openai

    async def token() -> str:
        return "simulated"

    return openai.AsyncAzureOpenAI(azure_endpoint=url, api_version=AZURE_API_VERSION, azure_ad_token_provider=token)


def parsed(response: Any, _: Asked) -> Any:
    return response.parse()


def lines_or_parsed(response: Any, asked: Asked) -> Any:
    return response.iter_lines() if asked.is_streamed else response.parse()


def chat(sdk: Any, asked: Asked) -> Any:
    return sdk.chat.completions.create(**CHAT, **asked.options(CHAT_TOOLS))


def chat_raw(sdk: Any, asked: Asked) -> Any:
    return sdk.chat.completions.with_raw_response.create(**CHAT, **asked.options(CHAT_TOOLS))


def chat_streaming(sdk: Any, asked: Asked) -> Any:
    return sdk.chat.completions.with_streaming_response.create(**CHAT, **asked.options(CHAT_TOOLS))


def chat_parse(sdk: Any, asked: Asked) -> Any:
    return sdk.chat.completions.parse(**CHAT, response_format=Verdict, **asked.only_with_tools(STRICT_TOOLS))


def chat_events(sdk: Any, asked: Asked) -> Any:
    return sdk.chat.completions.stream(**CHAT, **asked.only_with_tools(STRICT_TOOLS))


def chat_with_usage(sdk: Any, asked: Asked) -> Any:
    asked_for = {"include_usage": True}
    return sdk.chat.completions.create(**CHAT, stream_options=asked_for, **asked.options(CHAT_TOOLS))


def responses(sdk: Any, asked: Asked) -> Any:
    return sdk.responses.create(**RESPONSES, **asked.options(RESPONSES_TOOLS))


def responses_raw(sdk: Any, asked: Asked) -> Any:
    return sdk.responses.with_raw_response.create(**RESPONSES, **asked.options(RESPONSES_TOOLS))


def responses_streaming(sdk: Any, asked: Asked) -> Any:
    return sdk.responses.with_streaming_response.create(**RESPONSES, **asked.options(RESPONSES_TOOLS))


def responses_parse(sdk: Any, asked: Asked) -> Any:
    return sdk.responses.parse(**RESPONSES, text_format=Verdict, **asked.only_with_tools(RESPONSES_TOOLS))


def responses_events(sdk: Any, asked: Asked) -> Any:
    return sdk.responses.stream(**RESPONSES, **asked.only_with_tools(RESPONSES_TOOLS))


def legacy(sdk: Any, asked: Asked) -> Any:
    return sdk.completions.create(**PROMPT, **asked.options())


def embeddings(sdk: Any, _: Asked) -> Any:
    return sdk.embeddings.create(**VECTORS)


def transcribe(sdk: Any, asked: Asked) -> Any:
    sound = ("speech.mp3", b"ID3 simulated", "audio/mpeg")
    return sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound, **asked.options())


def draw(sdk: Any, _: Asked) -> Any:
    return sdk.images.generate(model="gpt-image-1", prompt="a cache")


def _both(name: str, call: Any, then: Any = lambda answer, _: answer, **options: Any) -> Way:
    make, make_async = client, partial(client, kind="AsyncOpenAI")
    return Way("openai", name, sync(make, call, then), aio(make_async, call, then), **options)


def _azure(name: str, call: Any) -> tuple[Way, Way]:
    keyed = sync(azure, call), aio(partial(azure, kind="AsyncAzureOpenAI"), call)
    with_token = sync(azure_with_token, call), aio(async_azure_with_token, call)
    return Way("openai", f"Azure, key: {name}", *keyed), Way("openai", f"Azure, Entra token: {name}", *with_token)


WAYS = (
    _both("chat.completions.create", chat),
    _both("chat.completions.create, stream_options", chat_with_usage, delivery=("stream",)),
    _both("chat.completions.with_raw_response", chat_raw, parsed),
    _both("chat.completions.with_streaming_response", chat_streaming, lines_or_parsed),
    _both("chat.completions.parse", chat_parse, delivery=("plain",)),
    _both("chat.completions.stream", chat_events, delivery=("stream",)),
    _both("responses.create", responses),
    _both("responses.with_raw_response", responses_raw, parsed),
    _both("responses.with_streaming_response", responses_streaming, lines_or_parsed),
    _both("responses.parse", responses_parse, delivery=("plain",)),
    _both("responses.stream", responses_events, delivery=("stream",)),
    _both("completions.create", legacy, tools=(False,)),
    _both("embeddings.create", embeddings, delivery=("plain",), tools=(False,)),
    _both("audio.transcriptions.create", transcribe, tools=(False,)),
    _both("images.generate", draw, delivery=("plain",), tools=(False,)),
    *_azure("chat.completions.create", chat),
    *_azure("responses.create", responses),
)
