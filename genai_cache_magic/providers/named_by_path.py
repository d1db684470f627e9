"""Who is asked, of wire APIs whose path names the model: Google's and Amazon's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlencode

from genai_cache_magic.providers.headers import semantic_headers
from genai_cache_magic.providers.origins import locate
from genai_cache_magic.providers.target import Target

if TYPE_CHECKING:
    from genai_cache_magic.providers.base import HttpCall, Origins


def target_named_by_path(call: HttpCall, base: str, model: str, origins: Origins) -> Target:
    """Return who is asked by `call`.

    Parameters
    ----------
    base
        The path without what names the wire API and the model.
    model
        The model as it stands in the path. It is decoded, since clients differ in what they escape.
    origins
        What is known of origins; its `extra_headers` may be widened by what the wire API knows.
    """
    name = unquote(model)
    place = locate(call, base, origins)
    return Target(place, place.models.get(name, name), semantic_headers(call, origins.extra_headers))


def take_from_query(call: HttpCall, *names: str) -> tuple[HttpCall, str]:
    """Return `call` without the parameters `names` of its query, and the value of the last that was there."""
    if not call.query:
        return call, ""
    pairs = parse_qsl(call.query, keep_blank_values=True)
    found = [value for name, value in pairs if name in names]
    if not found:
        return call, ""
    rest = urlencode([(name, value) for name, value in pairs if name not in names])
    return replace(call, query=rest), found[-1]
