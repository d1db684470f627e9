"""HTTP clients without an SDK above them, which send what OpenAI's SDK would send."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from matrix.cells import Asked, Way
from matrix.sdk_openai import CHAT, CHAT_TOOLS


def requests(asked: Asked) -> Any:
    import requests as http

    body = {**CHAT, **asked.options(CHAT_TOOLS)}
    with http.post(f"{asked.url}/v1/chat/completions", json=body, stream=asked.is_streamed, timeout=10) as response:
        return list(response.iter_lines()) if asked.is_streamed else response.json()


def httpx(module: str, asked: Asked) -> Any:
    body = {**CHAT, **asked.options(CHAT_TOOLS)}
    with (
        importlib.import_module(module).Client() as client,
        client.stream("POST", f"{asked.url}/v1/chat/completions", json=body) as response,
    ):
        return list(response.iter_lines()) if asked.is_streamed else response.read()


async def httpx_async(module: str, asked: Asked) -> Any:
    body = {**CHAT, **asked.options(CHAT_TOOLS)}
    async with (
        importlib.import_module(module).AsyncClient() as client,
        client.stream("POST", f"{asked.url}/v1/chat/completions", json=body) as response,
    ):
        return [line async for line in response.aiter_lines()] if asked.is_streamed else await response.aread()


async def aiohttp(asked: Asked) -> Any:
    from aiohttp import ClientSession

    body = {**CHAT, **asked.options(CHAT_TOOLS)}
    async with (
        ClientSession() as session,
        session.post(f"{asked.url}/v1/chat/completions", json=body) as response,
    ):
        return [line async for line in response.content] if asked.is_streamed else await response.json()


WAYS = (
    Way("requests", "post", requests),
    Way("httpx", "Client, AsyncClient", partial(httpx, "httpx"), partial(httpx_async, "httpx")),
    Way("httpx2", "Client, AsyncClient", partial(httpx, "httpx2"), partial(httpx_async, "httpx2")),
    Way("aiohttp", "ClientSession", None, aiohttp),
)
