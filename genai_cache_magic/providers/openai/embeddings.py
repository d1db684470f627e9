"""``POST .../embeddings``: OpenAI and everything compatible."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.batches import Parts, are_alone
from genai_cache_magic.providers.billing import read_openai
from genai_cache_magic.providers.fields import drop_openai_hints, preview_of
from genai_cache_magic.providers.reading import as_object, as_text, count, load_answer
from genai_cache_magic.providers.target import find_target
from genai_cache_magic.providers.vectors import asked_for, end_of_items, holds_floats

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/embeddings"

ALONE: Final = frozenset(
    {
        "add_special_tokens",
        "dimensions",
        "embedding_type",
        "encoding_format",
        "input",
        "input_type",
        "metadata",
        "normalized",
        "output_dimension",
        "output_dtype",
        "task",
        "truncate",
        "truncate_prompt_tokens",
        "truncation",
        "user",
    }
)
"""Fields of which it is known that they say the same of every text, and of no text something about others.

Jina's ``late_chunking`` makes a text's vector depend on the texts beside it, so what is not here divides no batch.
"""

PARTS: Final = Parts("input", (("data",),), (("usage",),), is_indexed=True)


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddings:
    """The embeddings API; `asked` is how many vectors there must be, `is_float` whether base64 holds floats."""

    vendor: str = ""
    asked: int | None = None
    is_float: bool = True
    surface: ClassVar[str] = "openai.embeddings"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended: a vector for each text, at its place, or it is of no use."""
        if response.form is not Form.JSON:
            return Answer(End.UNREADABLE)
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        vectors = answer.get("data")
        if type(vectors) is not list:
            return Answer(End.UNREADABLE)
        end = end_of_items(vectors, self.asked, is_float=self.is_float)
        told = as_object(answer.get("usage"))
        usage, bill = read_openai(told, self.vendor, tier=answer.get("service_tier"), headers=response.headers)
        # An embedding has no output, which some servers don't count; some tell the total alone.
        asked = count(told.get("total_tokens")) if usage.input_tokens is None else usage.input_tokens
        counted = replace(usage, input_tokens=asked, output_tokens=0)
        return Answer(end, counted, as_text(answer.get("model")), bill)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`; this API has one form."""
        return response if response.form is wants.form else None

    def parts(self, body: JsonObject) -> Parts | None:
        """Return where the texts are; None for a request with objects, or with fields that may relate its texts."""
        return PARTS if body.keys() <= ALONE and are_alone(body.get("input")) else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has no input."""
    inputs = body.get("input")
    if type(inputs) not in {str, list} or not inputs:
        return None
    drop_openai_hints(body)
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=OpenAIEmbeddings(target.place.vendor, asked_for(inputs), holds_floats(body)),
        request=target.request(OpenAIEmbeddings.surface, body, Form.JSON),
        wants=Wants(Form.JSON),
        preview=preview_of(inputs),
        max_output_tokens=0,
    )
