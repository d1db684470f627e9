"""Wiring: from settings to a cache. The one place that knows which parts exist."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.cache import Cache, CacheParts
from genai_cache_magic.calls.desk import CallDesk
from genai_cache_magic.calls.explain import nearest_difference
from genai_cache_magic.calls.keeping import Limits
from genai_cache_magic.core.frame import MAX_BODY_BYTES
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.catalogue import Catalogue
from genai_cache_magic.entries.codec import Codec, Compression, Unsealed
from genai_cache_magic.entries.entries import Entries, Keys
from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.entries.highest import HighestDocument, highest_keyset, keep_keyset
from genai_cache_magic.entries.rows import SCHEMA, Rows
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import ConfigurationError, KeyUnavailable, StoreUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.providers.base import OriginRule, Origins
from genai_cache_magic.providers.origins import normalise_origin
from genai_cache_magic.settings.reading import ignored, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.crypto.keyring import Keyring
    from genai_cache_magic.entries.codec import Seal
    from genai_cache_magic.events import Event
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Document, Store
    from genai_cache_magic.stores.home import Home

_LATER = {
    "redis": "Redis",
    "azure_redis": "Azure Managed Redis",
    "azure_storage": "Azure Blob",
    "azure_cdn": "Azure Front Door",
}
_LAYOUT = "v1"
_ENTRIES = "l1"


def create_cache(kind: str = "disk", *, on_event: Callable[[Event], None] = lambda _: None, **settings: Any) -> Cache:
    """Make a cache.

    Parameters
    ----------
    kind
        ``disk`` or ``memory``.
    on_event
        Hears of trouble that look-ups turn into misses.
    settings
        As in configuration files, such as ``namespace="team-a"``, ``ttl="7d"``; they win over those.

    Raises
    ------
    ConfigurationError
        A setting is unknown or wrong, or the directory can't be used.
    KeyUnavailable
        Encryption is configured and its key can't be read.
    """
    if kind in _LATER:
        raise ConfigurationError(f"create_cache({kind!r}) needs {_LATER[kind]}, which this version does not have yet")
    if kind not in ("disk", "memory"):
        raise ConfigurationError(f"create_cache({kind!r}): there is no such kind; use 'disk' or 'memory'")
    loaded = load_settings(**settings)
    for sentence in ignored():
        on_event(Trouble("settings", "Ignored", sentence))
    return build_cache(loaded, in_memory=kind == "memory", on_event=on_event)


def build_cache(
    settings: Settings,
    *,
    namespace: str | None = None,
    in_memory: bool = False,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Cache:
    """Make the cache of one namespace; raises as `create_cache`."""
    name = namespace or settings.namespace

    def lost(sentence: str) -> None:
        on_event(Trouble("L1", StoreUnavailable.__name__, sentence))

    parts = _memory_parts(settings, name) if in_memory else _disk_parts(settings, name, on_event, lost)
    keys, home = parts.keys, parts.home
    compression = settings.compression
    codec = Codec(parts.seal, Compression(compression.algorithm, compression.threshold, compression.level))
    live = LiveGenerations(
        parts.generations,
        namespace=name,
        mac_key=keys.mac_key,
        random_bytes=os.urandom,
        remembers=HighestDocument(parts.state, namespace=name, mac_key=keys.mac_key),
        on_loss=lost,
    )
    rows = Rows(parts.state, ColumnSeal(keys.mac_key), tag=keys.tag)
    entries = Entries(parts.store, codec, live, rows=rows, recent_bytes=settings.memory)
    limits = Limits(settings.ttl, min(settings.max_response, MAX_BODY_BYTES))
    catalogue = Catalogue(entries, rows, keys, random_bytes=os.urandom, tell=on_event)
    made = CacheParts(
        entries=entries,
        keys=keys,
        calls=CallDesk(entries, keys, nearest=lambda own: nearest_difference(catalogue, own), limits=limits),
        catalogue=catalogue,
        origins=origins_of(settings),
        ttl_s=settings.ttl,
        state=parts.state,
        directory="" if home is None else str(home.path),
        is_superseded=lambda: home is not None and home.is_superseded,
    )
    return Cache(made, on_event=on_event)


def origins_of(settings: Settings) -> Origins:
    """Return what the settings say of origins; raises ``ConfigurationError`` for one that is no URL."""
    for origin in settings.origins:
        normalise_origin(origin)
    rules = {
        origin: OriginRule(o.provider, o.alias, o.models, o.circle, o.no_store == "ignore")
        for origin, o in settings.origins.items()
    }
    headers = frozenset(name.lower() for name in settings.extra_headers)
    return Origins(rules, settings.machine, headers, settings.key_include, settings.key_exclude)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What differs between a cache on disk and one in memory, which has no home."""

    store: Store
    generations: Document
    state: StateFile
    seal: Seal
    keys: Keys
    home: Home | None = field(default=None, repr=False)


def _memory_parts(settings: Settings, namespace: str) -> _Parts:
    from genai_cache_magic.stores.documents import MemoryDocument
    from genai_cache_magic.stores.memory import MemoryStore

    # Nothing is at rest: what could read this memory could read the key beside it.
    store = MemoryStore(settings.size_limit)
    return _Parts(store, MemoryDocument(), StateFile(None, SCHEMA), Unsealed(), _public_keys(namespace))


def _disk_parts(
    settings: Settings, namespace: str, tell: Callable[[Event], None], on_loss: Callable[[str], None]
) -> _Parts:
    from genai_cache_magic.stores.database import DATABASE_NAME
    from genai_cache_magic.stores.disk import DiskConfig, DiskStore
    from genai_cache_magic.stores.documents import FileDocument
    from genai_cache_magic.stores.home import Home, Losses

    # Plain entries have a directory of their own: a cache that was sealed is never filled with them.
    inside = [(_LAYOUT, namespace), *([("plain",)] if settings.encryption == "off" else [])]
    home = Home(settings.dir, *inside, losses=Losses(on_loss))
    has_entries = (home.path / _ENTRIES / DATABASE_NAME).exists()
    generations = FileDocument(home.path / "generations", ensure=home.ensure)
    if has_entries and generations.version() is None:
        home.losses.add(f"what was invalidated in {home.path} is not known any more: the answers there are misses")
    with contextlib.ExitStack() as undo:
        state = StateFile(home.path / "state.db", SCHEMA, ensure=home.ensure, tell=tell)
        undo.callback(state.close)
        if settings.encryption == "off":
            seal: Seal = Unsealed()
            keys = _public_keys(namespace)
        else:
            keyring = _local_keyring(settings, home, namespace, state, has_entries=has_entries)
            seal, keys = _sealed(keyring, namespace)
        store = DiskStore(home.path / _ENTRIES, DiskConfig(size_limit_bytes=settings.size_limit), home=home)
        undo.pop_all()
    home.losses.tell()
    return _Parts(store, generations, state, seal, keys, home)


def _local_keyring(settings: Settings, home: Home, namespace: str, state: StateFile, *, has_entries: bool) -> Keyring:
    from genai_cache_magic.crypto.keyset import create_manifest, open_manifest
    from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
    from genai_cache_magic.stores.documents import FileDocument

    manifest = FileDocument(home.path / "keyset")
    wrapper = LocalKeyFile.load_or_create(settings.key_file, cache_directory=settings.dir)
    # Whoever is first wins: the manifest that is there afterwards counts.
    if manifest.load() is None and manifest.replace(create_manifest(namespace, wrapper), expected=None) and has_entries:
        home.losses.add(
            f"the keyset in {home.path} was gone, and a new one was made: "
            "the answers that the old one sealed are misses"
        )
    blob = manifest.load()
    if blob is None:
        raise KeyUnavailable(f"the keyset of namespace {namespace!r} vanished while it was read: try again")
    keyring = open_manifest(blob, namespace, wrapper, lowest_version=highest_keyset(state, namespace))
    keep_keyset(state, namespace, keyring.manifest_version)
    home.keep(manifest, blob)
    return keyring


def _sealed(keyring: Keyring, namespace: str) -> tuple[Seal, Keys]:
    from genai_cache_magic.crypto.envelope import Sealer

    return Sealer(keyring, namespace), Keys(namespace, keyring.id_key, keyring.mac_key)


def _public_keys(namespace: str) -> Keys:
    """Without encryption ids still need a key; anyone can compute this one, as the documentation says."""
    name = namespace.encode()
    return Keys(
        namespace,
        hashlib.sha256(b"genai-cache public id key 1\0" + name).digest(),
        hashlib.sha256(b"genai-cache public mac key 1\0" + name).digest(),
    )
