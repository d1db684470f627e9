"""Sounds that a chat answers with: each has an id by which the next turn names it, for as long as it says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.base import Follows, Given
from genai_cache_magic.providers.fields import objects
from genai_cache_magic.providers.formats import streams
from genai_cache_magic.providers.reading import as_object, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response

_MARK: Final = b'"audio"'


def follows(messages: list[JsonObject]) -> Iterator[Follows]:
    """Yield the sounds of earlier answers that `messages` name by their ids."""
    for i, message in enumerate(messages):
        if "audio" in message:
            given = as_object(message["audio"]).get("id")
            if type(given) is str and given:
                yield Follows(f"/messages/{i}/audio/id", given)


def given(response: Response) -> tuple[Given, ...]:
    """Return the ids of the sounds in `response`, each with the sound and its text."""
    return tuple(Given(one.id, [place, one.data, one.transcript]) for place, one in _sounds(response) if one.id)


def dies_s(response: Response) -> float | None:
    """Return when the first of the sounds in `response` can't be named any more [s since the epoch]; None if none."""
    return min((one.dies_s for _, one in _sounds(response) if one.dies_s is not None), default=None)


class _Sound:
    """What has been said of one sound, which may come in pieces."""

    __slots__ = ("data", "dies_s", "id", "transcript")

    def __init__(self) -> None:
        self.id = self.data = self.transcript = ""
        self.dies_s: float | None = None

    def absorb(self, told: JsonValue) -> None:
        """Take in the whole, or one piece."""
        audio = as_object(told)
        self.id = as_text(audio.get("id")) or self.id
        self.data += as_text(audio.get("data"))
        self.transcript += as_text(audio.get("transcript"))
        dies = audio.get("expires_at")
        if isinstance(dies, int | float) and type(dies) is not bool and math.isfinite(dies):
            self.dies_s = float(dies)


def _sounds(response: Response) -> list[tuple[int, _Sound]]:
    if _MARK not in response.body:
        return []
    found: dict[int, _Sound] = {}
    for told in streams.objects(response):
        for place, choice in enumerate(objects(told.get("choices"))):
            index = choice.get("index")
            audio = as_object(choice.get("delta") or choice.get("message")).get("audio")
            if type(audio) is dict:
                found.setdefault(index if type(index) is int else place, _Sound()).absorb(audio)
    return sorted(found.items())
