"""``POST .../completions``: text completions of OpenAI and everything compatible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.providers import choices
from genai_cache_magic.providers.base import Answer, ModelCall, Wants
from genai_cache_magic.providers.fields import (
    drop_openai_hints,
    pop_form,
    pop_stream_options,
    positive,
    preview_of,
    wants_of,
)
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/completions"


@dataclass(frozen=True, slots=True)
class OpenAICompletions:
    """The text completions API."""

    vendor: str = ""
    asked: choices.Asked = choices.ONE
    surface: ClassVar[str] = "openai.completions"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended."""
        return choices.read(response, self.vendor, self.asked)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` as this caller wants it: with or without the usage event."""
        return choices.render(response, wants)


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has no prompt."""
    prompt = body.get("prompt")
    if type(prompt) not in {str, list} or not prompt:
        return None
    options = pop_stream_options(body)
    usage = options.get("include_usage") is True
    form = pop_form(body)
    drop_openai_hints(body)
    limit = positive(body.get("max_tokens"))
    answers = max(positive(body.get("n")) or 1, positive(body.get("best_of")) or 1)
    prompts = len(prompt) if type(prompt) is list and type(prompt[0]) is not int else 1
    asked = choices.asked_in(body, count=(positive(body.get("n")) or 1) * prompts, usage=usage)
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=OpenAICompletions(target.place.vendor, asked),
        request=target.request(OpenAICompletions.surface, body, form),
        wants=wants_of(form, options, usage=usage),
        preview=preview_of(prompt),
        max_output_tokens=limit and limit * answers * prompts,
    )
