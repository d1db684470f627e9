"""LangChain's SQLite cache under its own client for `openai`, and a directory of its own for vectors."""

from __future__ import annotations

import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

from langchain_classic.embeddings import CacheBackedEmbeddings  # noqa: E402 - the next ones warn at import
from langchain_classic.storage import LocalFileStore  # noqa: E402 - as above
from langchain_community.cache import SQLiteCache  # noqa: E402 - as above
from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # noqa: E402 - as above
from protocol import serve  # noqa: E402 - as above

where: Any = {"api_key": "none", "base_url": sys.argv[1], "max_retries": 0}
model = ChatOpenAI(model="gpt-4.1-mini", cache=SQLiteCache(database_path="langchain.db"), **where)
embeddings = CacheBackedEmbeddings.from_bytes_store(
    # It would fetch a tokenizer from elsewhere to see whether a text is too long.
    OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False, **where),
    LocalFileStore("langchain-vectors"),
    key_encoder="sha256",
)


def ask(messages: Any) -> str:
    """Return the model's answer."""
    return str(model.invoke(messages).content)


serve(
    ask,
    *("langchain-community", "langchain-openai", "langchain-core", "openai"),
    embed=embeddings.embed_documents,
)
