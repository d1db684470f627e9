"""Where a team's tier may be reached, and from where: what the settings say of it, checked as text."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import NoDecode

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.kinds import reported

Range = ipaddress.IPv4Network | ipaddress.IPv6Network

_EXAMPLE = "10.0.0.0/24, or one address"


def parse_range(value: object) -> Range:
    """Return the addresses that a text such as ``10.0.0.0/24`` stands for; raises ``ConfigurationError``."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise ConfigurationError(f"{value!r} is no range of addresses: write texts such as {_EXAMPLE}")
    text = value.strip()
    try:
        found = ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigurationError(f"{value!r} is no range of addresses: {_instead(text)}") from exc
    mapped = found.network_address.ipv4_mapped if isinstance(found, ipaddress.IPv6Network) else None
    if mapped is not None or "%" in text:
        raise ConfigurationError(f"{value!r} is no range of addresses: write it without ::ffff: and %")
    if found.prefixlen == 0:
        raise ConfigurationError(f"{value!r} lets everybody in: leave it out, or name the addresses that are yours")
    return found


def _instead(text: str) -> str:
    """Return what to write in the place of what is no range."""
    address, _, prefix = text.partition("/")
    try:
        around = ipaddress.ip_network(text, strict=False)
    except ValueError:
        around = None
    if around is not None:
        return f"it has bits beyond its prefix; write {around} for all of them, or {address} for this one alone"
    try:
        longest = ipaddress.ip_address(address).max_prefixlen
    except ValueError:
        return f"write {_EXAMPLE}"
    return f"after / stands a number from 1 to {longest}" if prefix else f"write {_EXAMPLE}"


def _ranges(value: Any) -> Any:
    """Return ranges given as a list, or as one text that parts them by commas."""
    if isinstance(value, str):
        value = [part.strip(" []\"'") for part in value.split(",") if part.strip(" []\"'")]
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f'write a list, such as ["10.0.0.0/24"], not {value!r}')
    return tuple(dict.fromkeys(map(parse_range, value)))


class NetworkSettings(BaseModel):
    """Whether the tier has to be at a private address, and which addresses machines may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    private_endpoint: bool = False
    allowed_ips: Annotated[tuple[Range, ...], reported(_ranges), NoDecode] = Field(default=(), repr=False)


def spelled_network(value: NetworkSettings) -> str:
    """Return the settings as people read them; empty where nothing is asked for."""
    parts = ["private endpoint"] if value.private_endpoint else []
    parts += [f"from {', '.join(map(str, value.allowed_ips))}"] if value.allowed_ips else []
    return ", ".join(parts)
