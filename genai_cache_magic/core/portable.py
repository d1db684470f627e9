"""A request as a run file knows it: the same wherever it is asked, and readable (`spec/run-file.md` §3).

Neither the name space nor the machine is part of it: whoever names a file has chosen whose answers it holds.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.credentials import readable, readable_address, readable_header

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Request

SCHEMA: Final = "genai-cache/portable/1"


def portable_form(request: Request, salt: str = "") -> JsonObject:
    """Return what tells `request` from others, as JSON. What is private to a machine, or secret, is a digest.

    Parameters
    ----------
    salt
        The text that the user made part of the key.
    """
    form: JsonObject = {
        "schema": SCHEMA,
        "surface": request.surface,
        "origin": readable_address(request.origin),
        "model": request.model,
        "body": readable(request.body),
    }
    more: JsonObject = {
        "api_version": request.api_version,
        "form": request.form,
        "headers": [[name, readable_header(name, text)] for name, text in request.headers],
        "ignored": list(request.ignored),
        "media": list(request.media),
        "rules": list(request.rules),
        "salt": _digest(salt) if salt else "",
        "via": [[kind, _digest(value)] for kind, value in request.via],
    }
    return {**form, **{name: value for name, value in more.items() if value}}


def portable_digest(form: JsonObject) -> str:
    """Return the name of a request in a run file, 64 lowercase hex characters; raises ``UncacheableRequest``."""
    return hashlib.sha256(dumps(form)).hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
