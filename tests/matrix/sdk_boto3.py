"""The forms of Bedrock in `boto3`, and in `aiobotocore`, its asynchronous twin. Streams are operations of their own."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from matrix.cells import FUNCTION, QUESTION, WEATHER, Asked, Way, aio, sync

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = {"modelId": "anthropic.claude-3-5-sonnet-20240620-v1:0"}
MESSAGES = [{"role": "user", "content": [{"text": QUESTION}]}]
SPECIFIED = {"toolSpec": {"name": FUNCTION["name"], "inputSchema": {"json": WEATHER}}}
TOOLS = {"toolConfig": {"tools": [SPECIFIED]}}
IN_ITS_OWN_WORDS = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": QUESTION}],
}
OWN_TOOLS = {"tools": [{"name": FUNCTION["name"], "input_schema": WEATHER}]}


KEYS = {"aws_access_key_id": "simulated", "aws_secret_access_key": "simulated", "region_name": "us-east-1"}


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    import boto3

    made = boto3.client("bedrock-runtime", endpoint_url=url, **KEYS)
    yield made
    made.close()


def async_client(url: str) -> Any:
    from aiobotocore.session import get_session

    return get_session().create_client("bedrock-runtime", endpoint_url=url, **KEYS)


def converse(sdk: Any, asked: Asked) -> Any:
    operation = sdk.converse_stream if asked.is_streamed else sdk.converse
    return operation(**MODEL, messages=MESSAGES, **asked.only_with_tools(TOOLS))


def invoke(sdk: Any, asked: Asked) -> Any:
    operation = sdk.invoke_model_with_response_stream if asked.is_streamed else sdk.invoke_model
    return operation(**MODEL, body=json.dumps({**IN_ITS_OWN_WORDS, **asked.only_with_tools(OWN_TOOLS)}))


def told(answer: dict[str, Any], asked: Asked) -> Any:
    """What was answered, without the headers of HTTP: those of a hit say that it is one."""
    if not asked.is_streamed:
        return {n: v.read() if n == "body" else v for n, v in answer.items() if n != "ResponseMetadata"}
    return list(answer["stream"] if "stream" in answer else answer["body"])


async def told_async(answer: dict[str, Any], asked: Asked) -> Any:
    """The same of what is read asynchronously."""
    if asked.is_streamed:
        return [event async for event in (answer["stream"] if "stream" in answer else answer["body"])]
    return {n: await v.read() if n == "body" else v for n, v in answer.items() if n != "ResponseMetadata"}


WAYS = (
    Way("boto3", "converse, converse_stream", sync(client, converse, told)),
    Way("boto3", "invoke_model, ..._with_response_stream", sync(client, invoke, told)),
    Way("aiobotocore", "converse, converse_stream", None, aio(async_client, converse, told_async)),
    Way("aiobotocore", "invoke_model, ..._with_response_stream", None, aio(async_client, invoke, told_async)),
)
