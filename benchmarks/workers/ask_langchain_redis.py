"""LangChain's Redis cache under its own client for `openai`."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

import redis  # noqa: E402 - the next ones warn at import
from langchain_community.cache import RedisCache  # noqa: E402 - as above
from langchain_openai import ChatOpenAI  # noqa: E402 - as above
from protocol import serve  # noqa: E402 - as above

model = ChatOpenAI(
    model="gpt-4.1-mini",
    api_key="none",  # type: ignore[arg-type]  # pydantic makes a secret of it
    base_url=sys.argv[1],
    max_retries=0,
    cache=RedisCache(redis.Redis.from_url(os.environ["BENCH_REDIS"])),
)


def ask(messages: Any) -> str:
    """Return the model's answer."""
    return str(model.invoke(messages).content)


serve(ask, "langchain-community", "langchain-openai", "langchain-core", "redis")
