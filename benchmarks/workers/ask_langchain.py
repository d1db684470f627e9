"""LangChain's SQLite cache under its own client for `openai`."""

from __future__ import annotations

import sys
import warnings

warnings.simplefilter("ignore")

from langchain_community.cache import SQLiteCache  # noqa: E402 - it warns at import
from langchain_openai import ChatOpenAI  # noqa: E402 - as above
from protocol import serve  # noqa: E402 - as above

model = ChatOpenAI(
    model="gpt-4.1-mini",
    api_key="none",  # type: ignore[arg-type]  # pydantic makes a secret of it
    base_url=sys.argv[1],
    max_retries=0,
    cache=SQLiteCache(database_path="langchain.db"),
)


def ask(prompt: str) -> str:
    """Return the model's answer."""
    return str(model.invoke(prompt).content)


serve(ask, "langchain-community", "langchain-openai", "langchain-core", "openai")
