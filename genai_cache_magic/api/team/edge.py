"""Wiring of the edge in front of the container: from its settings to a tier behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.settings.edges import CdnSettings
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.azure.connection import BlobConnection
    from genai_cache_magic.stores.edge.cdn import Edge, Rules
    from genai_cache_magic.stores.edge.fetching import Site

_AZURES = (".azurefd.net", ".azureedge.net")


def edge_of(
    settings: Settings, connection: BlobConnection, identity: Callable[[], Any], tell: Callable[[str], None]
) -> tuple[Edge, Rules] | None:
    """Return the edge that `settings` put in front of a container, and its rules; None if they name none.

    Raises
    ------
    ConfigurationError
        It can't be used as it is set.
    """
    cdn = settings.cdn
    if not cdn.endpoint:
        return None
    if settings.encryption == "off":
        # SECURITY: whoever reaches the edge may read what it has.
        raise ConfigurationError(
            "cdn.endpoint: an edge hands answers to whoever asks, so they have to be sealed, and encryption is off: "
            "set encryption to local, or take cdn.endpoint out"
        )
    from genai_cache_magic.stores.edge.cdn import Edge, Rule, Rules
    from genai_cache_magic.stores.edge.fetching import Site
    from genai_cache_magic.stores.private import PrivateOnly

    path = cdn.path or f"/{connection.target.container}"
    timeouts = settings.connect_timeout, settings.command_timeout
    private = PrivateOnly(cdn.endpoint, setting="cdn.endpoint") if settings.network.private_endpoint else None
    site = Site(cdn.endpoint + path.rstrip("/"), "cdn.endpoint", *timeouts, private)
    purge = _purge(cdn, site, identity, tell)
    edge = Edge(site, tell=tell) if purge is None else Edge(site, purge=purge, tell=tell)
    return edge, Rules(tuple(Rule(rule.match, rule.ttl) for rule in cdn.rules))


def _purge(cdn: CdnSettings, site: Site, identity: Callable[[], Any], tell: Callable[[str], None]) -> Any:
    from genai_cache_magic.stores.edge.purging import AzureProfile, Purger, by_azure, by_http

    if cdn.purge == "off":
        return None
    if cdn.purge == "http":
        return Purger(site.url, by_http(site), tell=tell)
    for name in ("subscription", "resource_group", "profile"):
        if not getattr(cdn, name):
            raise ConfigurationError(f"cdn.purge = azure needs cdn.{name}: the one of the Front Door or CDN profile")
    profile, _, endpoint = cdn.profile.partition("/")
    endpoint = endpoint or _endpoint_of(site.url)
    return Purger(
        site.url,
        by_azure(AzureProfile(cdn.subscription, cdn.resource_group, profile, endpoint, site, identity)),
        tell=tell,
    )


def _endpoint_of(url: str) -> str:
    """Return the name of the endpoint that Azure has made this host name of."""
    host = urlsplit(url).hostname or ""
    label = host.partition(".")[0]
    if not host.endswith(_AZURES):
        raise ConfigurationError("cdn.profile: write PROFILE/ENDPOINT, since this host name does not tell the endpoint")
    return label.rpartition("-")[0] if host.endswith(_AZURES[0]) and "-" in label else label
