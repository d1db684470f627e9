"""``POST .../ocr``: Mistral's reading of documents. It bills pages, and no list of prices counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.base import Answer, Bill, End, ModelCall, Wants
from genai_cache_magic.providers.formats.media import fold_part
from genai_cache_magic.providers.reading import as_object, as_text, load_answer
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/ocr"

_KINDS: Final = frozenset({"document_url", "file_id", "image_url"})
MEDIA: Final = {"document_url": ("document_url", ""), "image_url": ("image_url", "url")}
"""Type of document -> where its bytes lie, if it has them with it."""


@dataclass(frozen=True, slots=True)
class MistralOcr:
    """The API for documents."""

    vendor: str = ""
    surface: ClassVar[str] = "mistral.ocr"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a page without its text is not understood."""
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        pages = answer.get("pages")
        if type(pages) is not list or not all(type(as_object(page).get("markdown")) is str for page in pages):
            return Answer(End.UNREADABLE)
        return Answer(
            End.COMPLETE if pages else End.EMPTY, model=as_text(answer.get("model")), bill=Bill(unclear="pages")
        )

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`; this API has one form."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has no document."""
    document = body.get("document")
    if type(document) is not dict or _KINDS.isdisjoint(document):
        return None
    media: list[str] = []
    fold_part(document, "/document", MEDIA, media)
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=MistralOcr(target.place.vendor),
        request=target.request(MistralOcr.surface, body, Form.JSON, media),
        wants=Wants(Form.JSON),
        preview=as_text(document.get("document_name")) or as_text(body.get("document_annotation_prompt")),
    )
