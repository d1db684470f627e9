"""``POST .../v1/embed`` and ``.../v2/embed``: Cohere's embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.anatomy import ANY_NAME
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.batches import Parts
from genai_cache_magic.providers.cohere.chat import MEDIA, read_usage
from genai_cache_magic.providers.fields import objects, preview_of
from genai_cache_magic.providers.formats.media import URL, fold_parts, fold_texts
from genai_cache_magic.providers.reading import as_list, as_object, count, load_answer
from genai_cache_magic.providers.target import find_target
from genai_cache_magic.providers.vectors import end_by_type

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

PATHS: Final = ("/v1/embed", "/v2/embed")

_SUFFIX: Final = "/embed"  # the version stays in the origin: their answers differ

_INPUTS: Final = ("texts", "images", "inputs")


_ALONE: Final = frozenset(
    {"embedding_types", "input_type", "inputs", "max_tokens", "output_dimension", "priority", "texts", "truncate"}
)
_LISTS: Final = (("embeddings",), ("embeddings", ANY_NAME), ("texts",))
_COUNTS: Final = (("meta", "billed_units"), ("meta", "tokens"))


def parts_of(body: JsonObject) -> Parts | None:
    """Return where a `body` of this API, whoever serves it, has its texts; None if they may not count alone."""
    given = [name for name in _INPUTS if body.get(name)]
    if len(given) != 1 or not body.keys() <= _ALONE:
        return None
    items = body[given[0]]
    is_known = type(items) is list and all(type(item) in {str, dict} for item in items)
    return Parts(given[0], _LISTS, _COUNTS, same=("response_type",)) if is_known else None


@dataclass(frozen=True, slots=True)
class CohereEmbeddings:
    """The embeddings API, both versions; `asked` is how many vectors of each type there must be."""

    vendor: str = ""
    asked: int | None = None
    surface: ClassVar[str] = "cohere.embeddings"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended: of each type a vector for each text, or it is of no use."""
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        embeddings = answer.get("embeddings")
        if type(embeddings) not in {dict, list}:
            return Answer(End.UNREADABLE)
        # A list of vectors, or such a list per type.
        end = end_by_type(embeddings if type(embeddings) is dict else {"float": embeddings}, self.asked)
        counted, bill = read_usage(answer.get("meta"))
        billed = as_object(as_object(answer.get("meta")).get("billed_units"))
        known = [n for n in (counted.input_tokens, count(billed.get("image_tokens"))) if n is not None]
        return Answer(end, Usage(sum(known) if known else None, 0), bill=bill)

    def parts(self, body: JsonObject) -> Parts | None:
        """Return where the texts are; None for images, and for fields that are not known."""
        return parts_of(body)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`; this API has one form."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has nothing to embed."""
    inputs = next((body[name] for name in _INPUTS if type(body.get(name)) is list and body[name]), None)
    if inputs is None:
        return None
    preview = preview_of(inputs)
    media: list[str] = []
    fold_texts(body.get("images"), URL, "/images", media)
    for i, item in enumerate(objects(body.get("inputs"))):
        fold_parts(item.get("content"), f"/inputs/{i}/content", MEDIA, media)
    target = find_target(call, body, origins, _SUFFIX)
    return ModelCall(
        provider=CohereEmbeddings(target.place.vendor, len(as_list(inputs))),
        request=target.request(CohereEmbeddings.surface, body, Form.JSON, media),
        wants=Wants(Form.JSON),
        preview=preview,
        max_output_tokens=0,
    )
