"""The table that says which edge stands in front of the container, and how its address is written."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.kinds import Duration, reported

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(rf"{_NAME.pattern}(?:\.{_NAME.pattern})+(?::[0-9]{{1,5}})?")
_PATH = re.compile(r"(?:/[A-Za-z0-9$._~-]+)*/?")
_EXAMPLE = "https://NAME-HASH.z01.azurefd.net"


def edge_url(value: Any) -> Any:
    """Return the address of an edge as a URL without anything after the host; a plain name is one of Azure CDN's.

    SECURITY: addresses are kept and shown by whoever stands in between, so no credential may be in one; and a value
    that is refused is not shown, since it may hold one.
    """
    if not isinstance(value, str) or not value:
        return value
    if _NAME.fullmatch(value) and value != "localhost":
        return f"https://{value.lower()}.azureedge.net"
    if _HOST.fullmatch(value):
        return f"https://{value.lower()}"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as exc:
        raise ConfigurationError(f"this is no address of an edge: write it like {_EXAMPLE}") from exc
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            "an edge keeps what it is asked for by its address, so no signature and no credential may stand there: "
            "write the address alone, and let the edge itself sign in at the container"
        )
    if parts.path.strip("/"):
        raise ConfigurationError("write the host alone; what addresses begin with after it is cdn.path")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise ConfigurationError(f"write https:// (http:// on loopback alone), such as {_EXAMPLE}")
    if not parts.hostname:
        raise ConfigurationError(f"this is no address of an edge: write it like {_EXAMPLE}")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def edge_path(value: Any) -> Any:
    """Return what all addresses at an edge begin with after the host: ``/`` or ``/CONTAINER``."""
    if not isinstance(value, str) or not value:
        return value
    if not _PATH.fullmatch(value) or ".." in value:
        raise ConfigurationError("write a path such as /llm-cache, or / where the edge itself names the container")
    return value.rstrip("/") or "/"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class CdnRule(BaseModel):
    """How long an edge keeps what is called so: `match` is a pattern, `ttl` in seconds once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: Annotated[str, Field(min_length=1, repr=False)]
    ttl: Duration

    @field_validator("ttl", mode="before")
    @classmethod
    def _in_seconds(cls, value: Any) -> Any:
        return f"{value}s" if type(value) is int else value  # as max-age has it


class CdnSettings(BaseModel):
    """The edge in front of the container: where it is, what it keeps, and who lets it forget."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Annotated[str, reported(edge_url)] = Field(default="", repr=False)
    path: Annotated[str, reported(edge_path)] = Field(default="", repr=False)
    rules: tuple[CdnRule, ...] = Field(default=(CdnRule(match="*", ttl=86_400),), repr=False)
    purge: Literal["off", "http", "azure"] = Field(default="off", repr=False)
    profile: str = Field(default="", repr=False)
    resource_group: str = Field(default="", repr=False)
    subscription: str = Field(default="", repr=False)
