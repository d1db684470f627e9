"""The way to the team's tier, and what its service lets others see."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from genai_cache_magic.api.team.line import REDIS, container_at, kind_of, redis_at
from genai_cache_magic.errors import StoreDenied
from genai_cache_magic.ops.audit_keys import SOON_S, in_days
from genai_cache_magic.ops.audit_rules import answers, found
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.stores.certificates import examined
from genai_cache_magic.stores.connection import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genai_cache_magic.ops.audit_rules import Found
    from genai_cache_magic.settings.model import Settings


def connections(settings: Settings, namespace: str) -> Iterator[Found]:
    """Tell what is wrong with the vault's address and each of `l2`, and with what their services hold.

    Raises
    ------
    ConfigurationError, StoreUnavailable
        One can't be used, or asked now.
    """
    if settings.encryption == "key-vault":
        parts = urlsplit(settings.key_vault_url)
        yield from _certificate(parts.hostname or "", parts.port or 443, "key_vault_url", is_azure=True)
    yield from ways(settings)
    for url in (address.get_secret_value() for address in settings.l2):
        yield from _redis(settings, url, namespace) if kind_of(url) == REDIS else _container(settings, url)


def ways(settings: Settings) -> Iterator[Found]:
    """Tell what is wrong with the ways to the tier; raises as `connections`."""
    for url in (address.get_secret_value() for address in settings.l2):
        yield from _way_to_redis(settings, url) if kind_of(url) == REDIS else _way_to_container(settings, url)


def _way_to_redis(settings: Settings, url: str) -> Iterator[Found]:
    target = redis_at(settings, url).target
    host = target.parts.hostname or ""
    if target.is_tls:
        yield from _certificate(host, int(target.address.rpartition(":")[2]), "l2", ca_file=settings.l2_ca_file)
    elif not is_loopback(host):
        better = target.address.replace("redis", "rediss", 1)
        says = f"{target.address} is spoken to without TLS: write {better}, with the port that speaks it"
        yield found("TierWithoutTls", says, settings=("l2",))


def _way_to_container(settings: Settings, url: str) -> Iterator[Found]:
    target = container_at(settings, url).target
    parts = urlsplit(target.connect().url if target.is_by_name else target.account_url)
    if parts.scheme == "https":
        yield from _certificate(parts.hostname or "", parts.port or 443, "l2", is_azure=True)


def _redis(settings: Settings, url: str, namespace: str) -> Iterator[Found]:
    from genai_cache_magic.stores.redis.audit import count_endless

    connection = redis_at(settings, url)
    try:
        endless = count_endless(connection, namespace)
    finally:
        connection.close()
    if endless:
        says = (
            f"{answers(endless)} of namespace {namespace} in {connection.name} without a time to live: somebody took "
            "it from them; `genai-cache clear` makes them invalid, and `genai-cache gc` removes them"
        )
        yield found("KeyWithoutTtl", says, settings=("l2", "namespace"))


def _container(settings: Settings, url: str) -> Iterator[Found]:
    connection = container_at(settings, url)
    try:
        with connection.use() as container:
            shown = container.get_container_properties().public_access
    except StoreDenied:
        says = f"{connection.name}: this identity may not see whether it is public: look there"
        yield found("NotLookedAt", says, settings=("l2",), severity=Severity.OK)
        return
    finally:
        connection.close()
    if shown:
        says = (
            f"{connection.name} can be read by anyone ({shown}): set its access level to Private, and the account's "
            "allowBlobPublicAccess to false"
        )
        yield found("PublicContainer", says, settings=("l2",))


def _certificate(
    host: str, port: int, setting: str, *, ca_file: Path | None = None, is_azure: bool = False
) -> Iterator[Found]:
    seen = examined(host, port, ca_file=ca_file, is_azure=is_azure)
    if seen.trouble:
        yield found("CertificateRefused", f"{host}:{port}: {seen.trouble}", settings=(setting,))
    elif seen.expires_s is not None and seen.expires_s - time.time() < SOON_S:
        says = f"the certificate of {host}:{port} {in_days(seen.expires_s - time.time())}: let whoever runs it renew it"
        yield found("CertificateExpires", says, settings=(setting,))
