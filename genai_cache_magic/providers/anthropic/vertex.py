"""``POST .../publishers/anthropic/models/{model}:rawPredict`` and ``:streamRawPredict``: Anthropic on Vertex AI.

The body is Anthropic's, but for the model, which the path names. Whether it streams is said twice, by the path and in
the body; the model goes by the body, and so does the form that this caller gets. Neither is in the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.anthropic.messages import model_call, tidy
from genai_cache_magic.providers.named_by_path import target_named_by_path

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.providers.base import HttpCall, ModelCall, Origins

WHOLE: Final = ":rawPredict"
STREAMED: Final = ":streamRawPredict"

_PUBLISHER: Final = "/publishers/anthropic"
_MODELS: Final = f"{_PUBLISHER}/models/"


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if it asks another publisher's model or no model, such as to count tokens."""
    path, _, _verb = call.path.rstrip("/").rpartition(":")
    base, is_anthropics, model = path.partition(_MODELS)
    asked = tidy(body) if is_anthropics and model and "/" not in model else None
    if asked is None:
        return None
    return model_call(call, asked, body, target_named_by_path(call, base + _PUBLISHER, model, origins))
