"""The forms of `anthropic`."""

from __future__ import annotations

from functools import partial
from typing import Any

from matrix.cells import MESSAGES, WEATHER, Asked, Verdict, Way, aio, sync
from matrix.sdk_openai import lines_or_parsed, parsed

ASKED = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": MESSAGES}
TOOLS = {"tools": [{"name": "get_weather", "input_schema": WEATHER}]}


def client(url: str, kind: str = "Anthropic") -> Any:
    import anthropic

    return getattr(anthropic, kind)(base_url=url, api_key="simulated")


def bedrock(url: str, kind: str = "AnthropicBedrock") -> Any:
    import anthropic

    keys = {"aws_access_key": "simulated", "aws_secret_key": "simulated", "aws_region": "us-east-1"}
    return getattr(anthropic, kind)(base_url=url, **keys)


def vertex(url: str, kind: str = "AnthropicVertex") -> Any:
    import anthropic

    identity = {"access_token": "simulated", "project_id": "simulated", "region": "us-east5"}
    return getattr(anthropic, kind)(base_url=f"{url}/v1", **identity)


def create(sdk: Any, asked: Asked) -> Any:
    return sdk.messages.create(**ASKED, **asked.options(TOOLS))


def raw(sdk: Any, asked: Asked) -> Any:
    return sdk.messages.with_raw_response.create(**ASKED, **asked.options(TOOLS))


def streaming(sdk: Any, asked: Asked) -> Any:
    return sdk.messages.with_streaming_response.create(**ASKED, **asked.options(TOOLS))


def parse(sdk: Any, asked: Asked) -> Any:
    return sdk.messages.parse(**ASKED, output_format=Verdict, **asked.only_with_tools(TOOLS))


def events(sdk: Any, asked: Asked) -> Any:
    return sdk.messages.stream(**ASKED, **asked.only_with_tools(TOOLS))


def final_message(stream: Any, _: Asked) -> Any:
    return stream.get_final_message()


def beta(sdk: Any, asked: Asked) -> Any:
    return sdk.beta.messages.create(**ASKED, betas=["a-beta"], **asked.options(TOOLS))


def _both(name: str, call: Any, then: Any = lambda answer, _: answer, **options: Any) -> Way:
    make, make_async = client, partial(client, kind="AsyncAnthropic")
    return Way("anthropic", name, sync(make, call, then), aio(make_async, call, then), **options)


def _elsewhere(make: Any, kind: str) -> Way:
    name = f"{kind}: messages.create"
    return Way(
        "anthropic", name, sync(partial(make, kind=kind), create), aio(partial(make, kind=f"Async{kind}"), create)
    )


WAYS = (
    _both("messages.create", create),
    _both("messages.with_raw_response", raw, parsed),
    _both("messages.with_streaming_response", streaming, lines_or_parsed),
    _both("messages.parse", parse, delivery=("plain",)),
    _both("messages.stream", events, delivery=("stream",)),
    _both("messages.stream, get_final_message", events, final_message, delivery=("stream",)),
    _both("beta.messages.create", beta),
    _elsewhere(bedrock, "AnthropicBedrock"),
    _elsewhere(vertex, "AnthropicVertex"),
)
