"""What must not be shown of what people wrote: the credentials in an address."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^\s'\"?#]*)[?#][^\s'\"]*")


def without_credentials(text: str) -> str:
    """Return `text` with the user, the query and the fragment taken out of every address in it."""
    return _QUERY.sub(r"\1", _USER.sub("", text))
