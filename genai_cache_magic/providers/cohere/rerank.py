"""``POST .../v1/rerank`` and ``.../v2/rerank``: Cohere's ranking of documents, and that of those who took it over.

Jina, Together and vLLM answer alike; Voyage calls its ``results`` ``data``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.cohere.chat import read_usage
from genai_cache_magic.providers.fields import preview_of
from genai_cache_magic.providers.reading import as_object, as_text, count, load_answer
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

PATHS: Final = ("/v1/rerank", "/v2/rerank")

_SUFFIX: Final = "/rerank"  # the version stays in the origin: their answers differ


@dataclass(frozen=True, slots=True)
class CohereRerank:
    """The rerank API, both versions."""

    vendor: str = ""
    surface: ClassVar[str] = "cohere.rerank"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a result without its score is not understood."""
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        results = answer.get("results", answer.get("data"))
        if type(results) is not list or not all("relevance_score" in as_object(result) for result in results):
            return Answer(End.UNREADABLE)
        # Cohere bills searches and tells no tokens; others do.
        usage = Usage(count(as_object(answer.get("usage")).get("total_tokens")), 0)
        billed = read_usage(answer.get("meta")).bill
        return Answer(End.COMPLETE if results else End.EMPTY, usage, as_text(answer.get("model")), billed)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`; this API has one form."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has nothing to rank."""
    query, documents = body.get("query"), body.get("documents")
    if type(query) is not str or not query or type(documents) is not list or not documents:
        return None
    target = find_target(call, body, origins, _SUFFIX)
    return ModelCall(
        provider=CohereRerank(target.place.vendor),
        request=target.request(CohereRerank.surface, body, Form.JSON),
        wants=Wants(Form.JSON),
        preview=preview_of(query),
        max_output_tokens=0,
    )
