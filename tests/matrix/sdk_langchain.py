"""The forms of LangChain's chat models: invoke, stream, batch, structured output, and with tools bound."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from matrix.cells import FUNCTION, OPENAI_TOOLS, QUESTION, Asked, Verdict, Way

if TYPE_CHECKING:
    from collections.abc import Callable

INVENTED = ("lc_run-", "run-")
"""How ids begin that LangChain makes up for each run, whatever was answered."""


def openai(url: str, **options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4.1-mini", base_url=f"{url}/v1", api_key="simulated", **options)


def azure(url: str) -> Any:
    from langchain_openai import AzureChatOpenAI

    version = "2025-03-01-preview"
    return AzureChatOpenAI(model="gpt-4.1-mini", azure_endpoint=url, api_version=version, api_key="simulated")


def anthropic(url: str) -> Any:
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(model="claude-sonnet-5", base_url=url, api_key="simulated")


def embeddings(url: str) -> Any:
    from langchain_openai import OpenAIEmbeddings

    # Counting tokens would fetch a vocabulary.
    return OpenAIEmbeddings(base_url=f"{url}/v1", api_key="simulated", check_embedding_ctx_length=False)


def bound(chat: Any, asked: Asked) -> Any:
    return chat.bind_tools(OPENAI_TOOLS) if asked.has_tools else chat


def bound_for_anthropic(chat: Any, asked: Asked) -> Any:
    named = {"name": FUNCTION["name"], "input_schema": FUNCTION["parameters"]}
    return chat.bind_tools([named]) if asked.has_tools else chat


def structured(chat: Any, _: Asked) -> Any:
    return chat.with_structured_output(Verdict)


def told(answer: Any) -> Any:
    """`answer` without the ids that LangChain invents."""
    if isinstance(answer, list):
        return [told(item) for item in answer]
    data = answer.model_dump()
    return {**data, "id": None} if str(data.get("id")).startswith(INVENTED) else data


def ask(make: Callable[[str], Any], bind: Callable[[Any, Asked], Any], asked: Asked) -> Any:
    """``invoke`` or ``stream``."""
    chat = bind(make(asked.url), asked)
    return told(list(chat.stream(QUESTION)) if asked.is_streamed else chat.invoke(QUESTION))


async def ask_async(make: Callable[[str], Any], bind: Callable[[Any, Asked], Any], asked: Asked) -> Any:
    """``ainvoke`` or ``astream``."""
    chat = bind(make(asked.url), asked)
    if asked.is_streamed:
        return told([chunk async for chunk in chat.astream(QUESTION)])
    return told(await chat.ainvoke(QUESTION))


def batch(make: Callable[[str], Any], bind: Callable[[Any, Asked], Any], asked: Asked) -> Any:
    return told(bind(make(asked.url), asked).batch([QUESTION, f"{QUESTION} Now?"]))


async def batch_async(make: Callable[[str], Any], bind: Callable[[Any, Asked], Any], asked: Asked) -> Any:
    return told(await bind(make(asked.url), asked).abatch([QUESTION, f"{QUESTION} Now?"]))


def embed(asked: Asked) -> Any:
    return embeddings(asked.url).embed_documents(["a", "b"])


async def embed_async(asked: Asked) -> Any:
    return await embeddings(asked.url).aembed_documents(["a", "b"])


def _ways(package: str, model: str, make: Callable[[str], Any], bind: Callable[[Any, Asked], Any]) -> tuple[Way, ...]:
    asking = partial(ask, make, bind), partial(ask_async, make, bind)
    in_batches = partial(batch, make, bind), partial(batch_async, make, bind)
    return (
        Way(package, f"{model}: invoke, stream", *asking),
        Way(package, f"{model}: batch", *in_batches, delivery=("plain",)),
        Way(
            package,
            f"{model}: with_structured_output",
            partial(ask, make, structured),
            partial(ask_async, make, structured),
            delivery=("plain",),
            tools=(False,),
        ),
    )


WAYS = (
    *_ways("langchain-openai", "ChatOpenAI", openai, bound),
    *_ways("langchain-openai", "ChatOpenAI, responses", partial(openai, use_responses_api=True), bound),
    *_ways("langchain-openai", "AzureChatOpenAI", azure, bound),
    Way("langchain-openai", "OpenAIEmbeddings", embed, embed_async, delivery=("plain",), tools=(False,)),
    *_ways("langchain-anthropic", "ChatAnthropic", anthropic, bound_for_anthropic),
)
