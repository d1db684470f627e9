"""What the settings say of the origins that calls go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.base import OriginRule, Origins
from genai_cache_magic.providers.origins import normalise_origin
from genai_cache_magic.providers.remembered import Remembered

if TYPE_CHECKING:
    from genai_cache_magic.settings.model import Settings

_REMEMBERED: Final = 4
"""Beside the room for opened answers, a part of so much of it is for the requests that they answer."""


def origins_of(settings: Settings) -> Origins:
    """Return what the settings say of origins; raises ``ConfigurationError`` for one that is no URL."""
    for origin in settings.origins:
        normalise_origin(origin)
    rules = {
        origin: OriginRule(o.provider, o.alias, o.models, o.circle, o.no_store == "ignore")
        for origin, o in settings.origins.items()
    }
    headers = frozenset(name.lower() for name in settings.extra_headers)
    return Origins(
        rules,
        settings.machine,
        headers,
        settings.key_include,
        settings.key_exclude,
        remembered=Remembered(settings.memory // _REMEMBERED),
    )
