"""``POST .../{model}:embedContent``, ``:batchEmbedContents`` and Vertex AI's ``:predict``: Google's embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.batches import Parts
from genai_cache_magic.providers.fields import is_conversation, objects, preview_of
from genai_cache_magic.providers.formats.media import fold_either_alphabet
from genai_cache_magic.providers.gemini.generate import MEDIA
from genai_cache_magic.providers.named_by_path import target_named_by_path
from genai_cache_magic.providers.reading import as_list, as_object, count, load_answer
from genai_cache_magic.providers.vectors import end_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

ONE: Final = ":embedContent"
BATCH: Final = ":batchEmbedContents"
PREDICT: Final = ":predict"

_SURFACES: Final = {
    ONE: "google.embeddings",
    BATCH: "google.embeddings.batch",
    PREDICT: "google.embeddings.predict",
}
"""Each path has a surface of its own: one body, sent to two of them, gets two answers."""

_PARTS: Final = {
    _SURFACES[BATCH]: Parts("requests", (("embeddings",),), (("usageMetadata",),)),
    _SURFACES[PREDICT]: Parts("instances", (("predictions",),), (("metadata",),), same=("model", "deployedModelId")),
}
_ALONE: Final = frozenset({"autoTruncate", "outputDimensionality"})
"""Parameters that say the same of every text."""

_PUBLISHED: Final = "/publishers/google/models/"


@dataclass(frozen=True, slots=True)
class GeminiEmbeddings:
    """The embeddings APIs, told apart by `surface`; `asked` is how many vectors there must be."""

    surface: str
    vendor: str = ""
    asked: int | None = None

    def read(self, response: Response) -> Answer:
        """Read how `response` ended: a vector for each text, or it is of no use."""
        if response.form is not Form.JSON:
            return Answer(End.UNREADABLE)
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        found = list(_embeddings(answer))
        if not found:
            return Answer(End.UNREADABLE)
        end = end_of((embedding.get("values") for embedding in found), self.asked)
        return Answer(end, Usage(_tokens(answer, found), 0))

    def parts(self, body: JsonObject) -> Parts | None:
        """Return where the texts are; None for the API of one text, and for fields that are not known."""
        known = _PARTS.get(self.surface)
        parameters = as_object(body.get("parameters"))
        is_known = known is not None and body.keys() <= {known.name, "parameters"} and parameters.keys() <= _ALONE
        return known if is_known else None

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`; these APIs have one form."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has nothing to embed."""
    path, _, last = call.path.rstrip("/").rpartition(":")
    base, _, model = path.rpartition("/")
    verb = f":{last}"
    media: list[str] = []
    if verb == PREDICT:
        preview = _read_instances(body) if _PUBLISHED in path else None
    else:
        preview = _read_contents(body, model, media, is_batch=verb == BATCH)
    if preview is None:
        return None
    items = {BATCH: body.get("requests"), PREDICT: body.get("instances")}.get(verb)
    target = target_named_by_path(call, base, model, origins)
    return ModelCall(
        provider=GeminiEmbeddings(_SURFACES[verb], target.place.vendor, len(as_list(items)) or 1),
        request=target.request(_SURFACES[verb], body, Form.JSON, media),
        wants=Wants(Form.JSON),
        preview=preview,
        max_output_tokens=0,
    )


def _read_instances(body: JsonObject) -> str | None:
    """Return the preview of what Vertex AI shall embed; None for what another model may be asked by this path."""
    texts = [item.get("content") for item in objects(body.get("instances"))]
    return preview_of(texts) if texts and all(type(text) is str for text in texts) else None


def _read_contents(body: JsonObject, model: str, media: list[str], *, is_batch: bool) -> str | None:
    """Fold the media of what shall be embedded, in place, and return its preview; None if there is nothing."""
    items: JsonValue = body.get("requests") if is_batch else [body]
    if not is_conversation(items):
        return None
    contents = [as_object(item.get("content")) for item in objects(items)]
    if not all(content.get("parts") for content in contents):
        return None
    preview = preview_of(contents[-1].get("parts"))
    for i, (item, content) in enumerate(zip(objects(items), contents, strict=True)):
        if item.get("model") == f"models/{unquote(model)}":
            del item["model"]  # says what the path says; some clients leave it out
        path = f"/requests/{i}/content/parts" if is_batch else "/content/parts"
        for j, part in enumerate(objects(content.get("parts"))):
            for name in MEDIA:
                fold_either_alphabet(as_object(part.get(name)), "data", f"{path}/{j}/{name}", media)
    return preview


def _embeddings(answer: JsonObject) -> Iterator[JsonObject]:
    yield from (as_object(answer[name]) for name in ("embedding",) if name in answer)
    yield from objects(answer.get("embeddings"))
    yield from (as_object(item.get("embeddings")) for item in objects(answer.get("predictions")))


def _tokens(answer: JsonObject, embeddings: list[JsonObject]) -> int | None:
    """Return what was read, where it is told: once, or with every embedding."""
    told = count(as_object(answer.get("usageMetadata")).get("promptTokenCount"))
    if told is not None:
        return told
    each = [count(as_object(embedding.get("statistics")).get("token_count")) for embedding in embeddings]
    known = [n for n in each if n is not None]
    return sum(known) if len(known) == len(each) else None
