"""The kinds of cache that ``create_cache`` makes, and the settings that each of them means."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.team.line import BLOB, REDIS, kind_of
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.model import AZURES_OWN
from genai_cache_magic.settings.reading import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.settings.model import Settings

_SHARED = {"redis": REDIS, "azure_redis": REDIS, "azure_storage": BLOB, "azure_cdn": BLOB}
"""Kinds that a team shares, and whose address each needs."""
_EXAMPLES = {
    "redis": "connection={'endpoint': 'HOST:6379'}, l2='redis://HOST:6379'",
    "azure_redis": "connection={'endpoint': 'NAME.REGION.redis.azure.net', 'key': ...}, AZURE_REDIS_HOST",
    "azure_cdn": "endpoint='https://NAME-HASH.z01.azurefd.net', account='ACCOUNT', container='CONTAINER'",
    "azure_storage": "account='ACCOUNT', container='CONTAINER', AZURE_STORAGE_ACCOUNT",
}
KINDS = ("disk", "memory", *_SHARED)
_CONNECTION = ("endpoint", "key", "ssl", "username")
_EDGE = ("endpoint", "path", "profile", "rules", "purge")
_CONTAINER = "llm-cache"
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")  # learn.microsoft.com/azure/storage/common/storage-account-overview


def settings_of(kind: str, given: Mapping[str, Any]) -> Settings:
    """Return the settings of a cache of `kind`; `given` are settings, and what says where the kind's own tier is.

    Raises
    ------
    ConfigurationError
        There is no such kind, a setting is wrong, or nothing names the tier.
    """
    if kind not in KINDS:
        close = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"create_cache({kind!r}): there is no such kind; use {', '.join(KINDS)}{hint}")
    settings = dict(given)
    if type(settings.get("ttl")) is int:
        settings["ttl"] = f"{settings['ttl']}s"  # code that says a number says seconds, as everywhere in Python
    if kind not in _SHARED:
        return load_settings(**settings)
    if kind == "azure_cdn":
        _name_edge(settings)
    named = _named_redis(kind, settings) if _SHARED[kind] == REDIS else _named_blob(settings)
    if named:
        return load_settings(**{**settings, "l2": named})
    loaded = load_settings(**settings)
    if _SHARED[kind] in {kind_of(url.get_secret_value()) for url in loaded.l2}:
        return loaded
    fallback = _azures_own(kind, loaded)
    if not fallback:
        raise ConfigurationError(f"create_cache({kind!r}) needs an address: {_EXAMPLES[kind]}, or GENAI_CACHE_L2")
    return load_settings(**{**settings, "l2": fallback})


def _named_redis(kind: str, settings: dict[str, Any]) -> str:
    """Take what names a Redis out of `settings`, and return its address; empty if nothing does."""
    connection = settings.pop("connection", {})
    if not isinstance(connection, dict):
        raise ConfigurationError("connection is a table: write connection={'endpoint': HOST, 'key': KEY, 'ssl': True}")
    connection = {**connection, **{name: settings.pop(name) for name in _CONNECTION if name in settings}}
    for name in connection:
        if name not in _CONNECTION:
            close = ["key"] if name == "password" else difflib.get_close_matches(str(name), _CONNECTION, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(_CONNECTION)}"
            raise ConfigurationError(f"connection.{name} is no part of a connection: {hint}")
    for name, setting in (("key", "l2_password"), ("username", "l2_username")):
        if connection.get(name):
            settings[setting] = connection[name]
    endpoint, ssl = str(connection.get("endpoint") or ""), connection.get("ssl")
    is_url = "://" in endpoint
    if is_url and ssl is not None and bool(ssl) != endpoint.startswith("rediss"):
        raise ConfigurationError(
            "connection.ssl and the scheme of connection.endpoint contradict each other: "
            f"write {'rediss' if ssl else 'redis'}://, or leave ssl out"
        )
    if is_url or not endpoint:
        return endpoint
    is_tls = kind == "azure_redis" if ssl is None else bool(ssl)
    return f"{'rediss' if is_tls else 'redis'}://{endpoint}"


def _name_edge(settings: dict[str, Any]) -> None:
    """Put what names an edge to where settings have it; raises ``ConfigurationError`` if nothing does."""
    cdn = settings.get("cdn", {})
    if not isinstance(cdn, dict):
        raise ConfigurationError(f"cdn is a table: write create_cache('azure_cdn', {_EXAMPLES['azure_cdn']})")
    settings["cdn"] = {**cdn, **{name: settings.pop(name) for name in _EDGE if name in settings}}
    if not settings["cdn"].get("endpoint") and not load_settings(cdn=settings["cdn"]).cdn.endpoint:
        raise ConfigurationError(
            f"create_cache('azure_cdn') needs an address: {_EXAMPLES['azure_cdn']}, or GENAI_CACHE_CDN__ENDPOINT"
        )


def _named_blob(settings: dict[str, Any]) -> str:
    """Take what names a container out of `settings`, and return its address; empty if nothing does."""
    account, container = settings.pop("account", ""), settings.pop("container", "")
    if key := settings.pop("key", ""):
        settings["l2_account_key"] = key
    if account:
        return _container_url(str(account), container)
    return f"azure-blob://{container}" if container else ""


def _container_url(account: str, container: str) -> str:
    container = container or _CONTAINER
    if "://" in account:
        return f"{account.rstrip('/')}/{container}"
    if not _ACCOUNT.fullmatch(account):
        # SECURITY: not shown: who mixes the two up writes a key here.
        raise ConfigurationError("account is no name of a storage account: write 3 to 24 lowercase letters and digits")
    return f"https://{account}.blob.core.windows.net/{container}"


def _azures_own(kind: str, settings: Settings) -> str:
    """Return the address that Azure's own variables name."""
    if _SHARED[kind] == BLOB:
        return _container_url(settings.l2_account, "") if settings.l2_account else ""
    host = os.environ.get(AZURES_OWN["l2"], "") if kind == "azure_redis" else ""
    return f"rediss://{host}" if host else ""
