"""What the tests of recordings and of replays through httpx and httpx2 share."""

from __future__ import annotations

import httpx
import httpx2
import pytest

BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
CHOICE = {"message": {"content": "x"}, "finish_reason": "stop"}
ANSWER = {"object": "chat.completion", "model": "m", "choices": [CHOICE]}
MODEL_URL = "https://api.openai.com/v1/chat/completions"
MARKS = {"x-genai-cache": "hit", "x-genai-cache-tier": "L1"}
NOT_REPLAYED = {"set-cookie", "content-encoding", "transfer-encoding", "connection"}

both = pytest.mark.parametrize("module", [httpx, httpx2])


async def post(module, colour, url, *, times=2, stream=False, read=True, **options):
    """Ask `times` times by one client, and return the responses."""
    send = options.pop("send", {})
    body = options.pop("body", BODY)
    headers = options.pop("headers", {})
    responses = []
    if colour == "sync":
        with module.Client(**options) as client:
            for _ in range(times):
                request = client.build_request("POST", url, json=body, headers=headers)
                response = client.send(request, stream=stream, **send)
                if stream and read:
                    response.read()
                responses.append(response)
        return responses
    async with module.AsyncClient(**options) as client:
        for _ in range(times):
            request = client.build_request("POST", url, json=body, headers=headers)
            response = await client.send(request, stream=stream, **send)
            if stream and read:
                await response.aread()
            responses.append(response)
    return responses


def answering(module, **answer):
    """A transport for either colour that counts its calls."""

    def handle(request):
        handle.calls.append(request)
        response = module.Response(200, **(answer or {"json": ANSWER}))
        response.extensions["http_version"] = b"HTTP/1.1"
        return response

    handle.calls = []
    handle.transport = module.MockTransport(handle)
    return handle


def kept(response):
    """The headers that a replay must have: what the original had but for the wire's and the first caller's."""
    return [(n, v) for n, v in response.headers.multi_items() if n not in NOT_REPLAYED | {"content-length"}]
