"""Where the tier and the vault are from here, and whether this machine is one that may reach them."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from genai_cache_magic.api.team.line import BLOB, host_of, kind_of
from genai_cache_magic.entries.link import within
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.private import addresses_of, is_private

if TYPE_CHECKING:
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.settings.network import Range

_PATIENCE_S: Final = 5.0
"""How long a name may take to be known [s]."""
_ANY_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Place:
    """One host that is asked: what it stands for here, and this machine's address on the way there.

    `is_wrong` tells that the settings want it otherwise, and `says` how.
    """

    host: str
    addresses: tuple[str, ...]
    own_address: str
    is_wrong: bool
    says: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "host": self.host,
            "addresses": list(self.addresses),
            "own_address": self.own_address,
            "is_wrong": self.is_wrong,
            "says": self.says,
        }


def look(settings: Settings) -> tuple[Place, ...]:
    """Look up each host that the settings name, and compare it with what they say of the network.

    Raises
    ------
    ConfigurationError
        An address can't be used, or there is none.
    """
    hosts = [(host_of(settings, url.get_secret_value()), True) for url in settings.l2]
    hosts += [(urlsplit(settings.cdn.endpoint).hostname or "", True)] if _has_edge(settings) else []
    vault = urlsplit(settings.key_vault_url).hostname if settings.encryption == "key-vault" else None
    hosts += [(vault, False)] if vault else []
    if not hosts:
        raise ConfigurationError("there is nothing to look up: name the team's tier as l2, or a vault as key_vault_url")
    return tuple(_look(settings, host, is_tier=is_tier) for host, is_tier in hosts)


def _has_edge(settings: Settings) -> bool:
    """Return whether an edge stands in front of a tier."""
    return bool(settings.cdn.endpoint) and any(kind_of(url.get_secret_value()) == BLOB for url in settings.l2)


def _look(settings: Settings, host: str, *, is_tier: bool) -> Place:
    late = f"what {host} stands for is not told in time: is there a network?"
    try:
        addresses = within(_PATIENCE_S, lambda: addresses_of(host), overdue=lambda: late)
    except StoreUnavailable as exc:
        return Place(host, (), "", is_wrong=True, says=str(exc))
    except OSError:
        says = f"the host name {host} is not known here: check its spelling, and the private DNS zone of its endpoint"
        return Place(host, (), "", is_wrong=True, says=says)
    own = _own_address(addresses[0]) if addresses else ""
    found = [*_endpoint(settings, addresses, is_tier=is_tier), *_admission(settings.network.allowed_ips, own)]
    return Place(host, addresses, own, any(wrong for wrong, _ in found), "; ".join(says for _, says in found))


def _endpoint(settings: Settings, addresses: tuple[str, ...], *, is_tier: bool) -> list[tuple[bool, str]]:
    public = [address for address in addresses if not is_private(address)]
    if not public:
        return [(False, "at a private address")]
    if settings.network.private_endpoint and is_tier:
        return [(True, "at a public address, and network.private_endpoint wants a private one: it is not used")]
    return [(False, "at a public address")]


def _admission(allowed: tuple[Range, ...], own: str) -> list[tuple[bool, str]]:
    """Say whether this machine's address is among those that may reach it."""
    if not allowed:
        return []
    if not own:
        return [(True, "there is no way there from this machine")]
    mine = ipaddress.ip_address(own.partition("%")[0])
    inside = next((one for one in allowed if mine.version == one.version and mine in one), None)
    if inside is not None:
        return [(False, f"this machine is {own} on the way there, in {inside} of network.allowed_ips")]
    if is_private(own) and any(not is_private(str(one.network_address)) for one in allowed):
        says = f"this machine is {own} on the way there; what address it has beyond its router can't be told from here"
        return [(False, says)]
    return [(True, f"this machine is {own} on the way there, in none of network.allowed_ips: ask for it to be added")]


def _own_address(address: str) -> str:
    """Return this machine's address on the way to `address`; nothing is sent. Empty where there is no way."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect((address, _ANY_PORT))
            return str(way.getsockname()[0])
    except OSError:
        return ""
