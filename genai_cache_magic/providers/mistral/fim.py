"""``POST .../fim/completions``: Mistral's fill-in-the-middle. Its chat and embeddings are OpenAI's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.providers import choices
from genai_cache_magic.providers.base import Answer, ModelCall, Wants
from genai_cache_magic.providers.fields import pop_form, positive, preview_of
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/fim/completions"


@dataclass(frozen=True, slots=True)
class MistralFim:
    """The fill-in-the-middle API: asked by a prompt, it answers like a chat."""

    vendor: str = ""
    surface: ClassVar[str] = "mistral.fim"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended."""
        return choices.read(response, self.vendor)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` if it has the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has no prompt."""
    prompt = body.get("prompt")
    if type(prompt) is not str or not prompt:
        return None
    form = pop_form(body)
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=MistralFim(target.place.vendor),
        request=target.request(MistralFim.surface, body, form),
        wants=Wants(form),
        preview=preview_of(prompt),
        max_output_tokens=positive(body.get("max_tokens")),
    )
