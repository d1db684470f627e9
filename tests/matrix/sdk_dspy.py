"""The forms of DSPy: a language model called as it is, and by a module, on LiteLLM and on its own engine."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from matrix.cells import OPENAI_TOOLS, QUESTION, Asked, Way, drained

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = {"tools": OPENAI_TOOLS}


@contextlib.contextmanager
def model(engine: str, url: str) -> Iterator[Any]:
    """A model whose calls DSPy's own cache does not answer."""
    import dspy

    made = dspy.LM("openai/gpt-4.1-mini", api_base=f"{url}/v1", api_key="simulated", cache=False, engine=engine)
    with dspy.context(lm=made):
        yield made
    made.close()


def call(engine: str, asked: Asked) -> Any:
    with model(engine, asked.url) as lm:
        return lm(QUESTION, **asked.only_with_tools(TOOLS))


async def acall(engine: str, asked: Asked) -> Any:
    with model(engine, asked.url) as lm:
        return await lm.acall(QUESTION, **asked.only_with_tools(TOOLS))


def predict(engine: str, asked: Asked) -> Any:
    import dspy

    with model(engine, asked.url):
        return dict(dspy.Predict("question -> answer")(question=QUESTION))


async def apredict(engine: str, asked: Asked) -> Any:
    import dspy

    with model(engine, asked.url):
        return dict(await dspy.Predict("question -> answer").acall(question=QUESTION))


async def streamified(engine: str, asked: Asked) -> Any:
    """The pieces of what a module says as it comes, and then its prediction."""
    import dspy

    listeners = [dspy.streaming.StreamListener(signature_field_name="answer")]
    # The simulated model knows JSON, and not the marks that DSPy wants by default.
    with model(engine, asked.url), dspy.context(adapter=dspy.JSONAdapter()):
        streamed = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=listeners)
        pieces = await drained(streamed(question=QUESTION))
    return [piece.chunk if hasattr(piece, "chunk") else dict(piece) for piece in pieces]


def _ways(engine: str) -> tuple[Way, ...]:
    call_model, call_module = (call, acall), (predict, apredict)
    plain, bare = {"delivery": ("plain",)}, {"tools": (False,)}
    return (
        Way("dspy", f"LM on {engine}", *(partial(one, engine) for one in call_model), **plain),
        Way("dspy", f"Predict on {engine}", *(partial(one, engine) for one in call_module), **plain, **bare),
        Way(
            "dspy", f"streamify(Predict) on {engine}", None, partial(streamified, engine), delivery=("stream",), **bare
        ),
    )


WAYS = (*_ways("litellm"), *_ways("lm15"))
