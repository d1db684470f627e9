"""Chats whose streams another server cut, however it likes, are put together as what they were."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.base import Wants
from genai_cache_magic.providers.openai.chat import OpenAIChat

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

SPOKEN = ("reasoning_content", "refusal", "content")

texts = st.text(st.characters(exclude_categories=["Cs"]))
texts |= st.sampled_from(["\U0001f469\u200d\U0001f467" * 5, "e\u0301" * 9])
names = st.text("abc_0123456789", min_size=1)
counts = st.integers(0, 2**70)
calls = st.fixed_dictionaries(
    {
        "id": names,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": names, "arguments": texts}),
    }
)
usages = st.fixed_dictionaries({"prompt_tokens": counts, "completion_tokens": counts})
spoken = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts},
    optional={"reasoning_content": texts, "refusal": texts, "tool_calls": st.lists(calls, min_size=1, max_size=3)},
).map(lambda message: {name: value for name, value in message.items() if value})


def cut(text: str, chance: random.Random) -> list[str]:
    """`text` in pieces that may end at any of its UTF-16 units."""
    units = text.encode("utf-16-le")
    ends = sorted({2 * place for place in chance.choices(range(len(units) // 2 + 1), k=5)} | {len(units)})
    pieces = [units[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [piece.decode("utf-16-le", "surrogatepass") for piece in pieces if piece]


def deltas(message: dict, chance: random.Random) -> Iterator[dict]:
    """What the chunks say of one message."""
    yield {name: [] if name == "tool_calls" else "" for name in message}
    for name in SPOKEN:
        yield from ({name: piece} for piece in cut(message.get(name, ""), chance))
    for place, call in enumerate(message.get("tool_calls", ())):
        function = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{**call, "index": place, "function": function}]}
        for piece in cut(call["function"]["arguments"], chance):
            yield {"tool_calls": [{"index": place, "id": "", "function": {"arguments": piece}}]}


def chunks(answer: dict, chance: random.Random) -> Iterator[dict]:
    """Chunks of `answer`: roles repeated, paddings, usage beside the end."""
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 7, "model": answer["model"]}
    for choice in answer["choices"]:
        for delta in deltas(choice["message"], chance):
            part = {"index": choice["index"], "delta": {**delta, "role": "assistant"}, "finish_reason": None}
            yield {**head, "choices": [part], "obfuscation": "x" * chance.randrange(5)}
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield {**head, "choices": [last], "usage": answer["usage"]}


@given(st.lists(spoken, min_size=1, max_size=3), usages, st.randoms(use_true_random=False))
def test_chat_that_another_server_cut(said, usage, chance):
    """Pieces that end within a character, roles and ids that are repeated, usage beside the end: one answer."""
    choices = [{"index": i, "message": message, "finish_reason": "stop"} for i, message in enumerate(said)]
    answer = {"id": "c", "object": "chat.completion", "created": 7, "model": "m", "choices": choices, "usage": usage}
    raw = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks(answer, chance))
    stream = Response(200, (), raw + b"data: [DONE]\n\n", Form.STREAM)
    rendered = OpenAIChat().render(stream, Wants(Form.JSON))
    assert rendered is not None
    assert dumps(json.loads(rendered.body)) == dumps(answer)
