"""``POST .../images/generations``, ``.../images/edits``, ``.../images/variations``: answered by images.

Edits and variations are forms with files; edits may be JSON too, with data URLs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.base import Answer, Bill, End, ModelCall, Wants
from genai_cache_magic.providers.billing import stated_usd
from genai_cache_magic.providers.fields import drop_openai_hints, objects, pop_form, preview_of
from genai_cache_magic.providers.formats import multipart, sse
from genai_cache_magic.providers.formats.media import fold
from genai_cache_magic.providers.openai.audio import is_error
from genai_cache_magic.providers.reading import (
    as_list,
    as_object,
    as_text,
    is_success,
    load_answer,
    load_object,
)
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

GENERATIONS: Final = "/images/generations"
EDITS: Final = "/images/edits"
VARIATIONS: Final = "/images/variations"

_SURFACES: Final = {
    GENERATIONS: "openai.images.generations",
    EDITS: "openai.images.edits",
    VARIATIONS: "openai.images.variations",
}
_DIGITS: Final = re.compile(r"[0-9]{1,3}")
_LAST_EVENTS: Final = frozenset({"image_generation.completed", "image_edit.completed"})
"""Each of them brings one image; what came before it were sketches."""


@dataclass(frozen=True, slots=True)
class OpenAIImages:
    """The three APIs; `asked` is how many images a call wants.

    Tokens are left unknown: those of images have prices of their own, which a plain count would get wrong. What an
    origin's own bill says is read.
    """

    surface: str
    vendor: str = ""
    asked: int = 1

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; an address of an image is of no use tomorrow."""
        if response.form is Form.STREAM:
            return Answer(self._end_of_stream(response))
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        images = answer.get("data")
        if type(images) is not list or not all(type(image) is dict for image in images):
            return Answer(End.UNREADABLE)
        kept = [_is_kept(as_object(image)) for image in images]
        bill = Bill(stated_usd=stated_usd(as_object(answer.get("usage")), self.vendor))
        if not kept or None in kept:
            return Answer(End.EMPTY, bill=bill)
        return Answer(End.COMPLETE if all(kept) else End.EXPIRING, bill=bill)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`: the form asked for is in the key."""
        del wants
        return response

    def _end_of_stream(self, response: Response) -> End:
        if not is_success(response):
            return End.ERROR
        images = 0
        for event in sse.events(response.body):
            if event.data == sse.DONE:
                break
            fields = load_object(event.data)
            if fields is None:
                return End.UNREADABLE
            if is_error(event, fields):
                return End.ERROR
            if as_text(fields.get("type")) in _LAST_EVENTS:
                if not fields.get("b64_json"):
                    return End.EMPTY
                images += 1
        return End.COMPLETE if images >= self.asked else End.CUT


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if it lacks the prompt or the image that its path needs."""
    path = call.path.rstrip("/")
    suffix = next(suffix for suffix in _SURFACES if path.endswith(suffix))
    is_form = multipart.is_form(call.headers)
    prompt = body.get("prompt")
    media = multipart.files(call, body)
    if suffix != VARIATIONS and (type(prompt) is not str or not prompt):
        return None
    if suffix != GENERATIONS and not media and not objects(body.get("images")):
        return None
    drop_openai_hints(body)
    form = multipart.pop_form(body) if is_form else pop_form(body)
    if not is_form:
        media = _fold_images(body)
    target = find_target(call, body, origins, suffix)
    provider = OpenAIImages(_SURFACES[suffix], target.place.vendor, _number_of(body.get("n")))
    return ModelCall(
        provider=provider,
        request=target.request(provider.surface, body, form, media),
        wants=Wants(form),
        preview=preview_of(prompt),
    )


def _fold_images(body: JsonObject) -> list[str]:
    """Replace the data URLs of a JSON body by digests, in place, and return where."""
    folded: list[str] = []
    for i, image in enumerate(as_list(body.get("images"))):
        fold(as_object(image), "image_url", f"/images/{i}", folded)
    fold(as_object(body.get("mask")), "image_url", "/mask", folded)
    return folded


def _number_of(n: JsonValue) -> int:
    """Return how many images are asked for; a form says it in digits."""
    text = str(n) if type(n) is int else as_text(n)
    return max(1, int(text)) if _DIGITS.fullmatch(text) else 1


def _is_kept(image: JsonObject) -> bool | None:
    """Tell whether an answer holds `image` itself; False for an address of it, None if there is neither."""
    if image.get("b64_json"):
        return True
    url = as_text(image.get("url"))
    return url.startswith("data:") if url else None
