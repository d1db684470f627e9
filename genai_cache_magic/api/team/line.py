"""Wiring of the team tier: from its address to a tier behind a breaker, and how its keyset is come by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from genai_cache_magic.api.team.edge import edge_of
from genai_cache_magic.api.team.installed import ensure_installed
from genai_cache_magic.entries.entries import Entries
from genai_cache_magic.entries.link import DEADLINE_S, within
from genai_cache_magic.entries.permits import Permits
from genai_cache_magic.entries.team.counting import TeamCounters
from genai_cache_magic.entries.team.drain import Retries
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.entries.team.pending import Pending
from genai_cache_magic.entries.team.tier import GENERATIONS, Team
from genai_cache_magic.errors import (
    ConfigurationError,
    GenaiCacheError,
    KeyUnavailable,
    StoreDenied,
    StoreUnavailable,
    WriteRefused,
)
from genai_cache_magic.events import Trouble
from genai_cache_magic.settings.roles import READER
from genai_cache_magic.settings.units import spell_size
from genai_cache_magic.stores.base import SupportsCounters, SupportsLeases, SupportsPages, SupportsSettling
from genai_cache_magic.stores.breaker import Breaker
from genai_cache_magic.stores.counters import DocumentCounters
from genai_cache_magic.stores.disk.locks import FileLock, KeyLocks
from genai_cache_magic.stores.guarded import GuardedDocument, GuardedLeases, GuardedPages, guard_store, guarded
from genai_cache_magic.stores.keys import KEY_DIGITS
from genai_cache_magic.stores.private import PrivateOnly
from genai_cache_magic.stores.rights import Rights
from genai_cache_magic.stores.snapshot import SnapshotDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.codec import Codec
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.entries.team.clock import TeamClock
    from genai_cache_magic.events import Event
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.azure.connection import BlobConnection
    from genai_cache_magic.stores.base import Counters, Document, Pages, SharedTier
    from genai_cache_magic.stores.redis.connection import RedisConnection
    from genai_cache_magic.stores.redis.store import RedisTier

_ADDRESSES = "redis://, rediss://, https://ACCOUNT.blob.core.windows.net/CONTAINER, azure-blob://CONTAINER, or none"
_MAX_STALE_REDIS_S = 5.0
_MAX_STALE_BLOB_S = 30.0
KEYSET = "keyset"
"""The name of the document that holds a name space's keys."""
REDIS, BLOB = "Redis", "Azure Blob"
_AZURES_REDIS = (".redis.cache.windows.net", ".redis.azure.net")


@dataclass(frozen=True, slots=True)
class TeamLine:
    """A tier, what keeps it from being asked while it fails, and how old what is known of it may be [s].

    `patience_s` is how long a command waits for it that looks into something, and that no cell waits for [s].
    """

    tier: SharedTier = field(repr=False)
    breaker: Breaker = field(repr=False)
    max_stale_s: float
    retries: Retries = field(default_factory=Retries)
    patience_s: float = DEADLINE_S

    @property
    def place(self) -> str:
        """The name of the directory for what is known of this tier: no two tiers of one name space are mixed."""
        return f"team-{hashlib.sha256(self.tier.name.encode()).hexdigest()[:12]}"

    def document(self, name: str) -> Document:
        """Return a document of the tier, behind the breaker."""
        return GuardedDocument(self.tier.document(name), self.breaker)

    def overdue(self) -> str:
        """Leave the tier alone for a while, since it takes longer than anyone should wait; return what to say."""
        error = StoreUnavailable(f"{self.tier.name} does not answer in time: check l2, and the way there")
        self.breaker.trip(error)
        return str(error)

    @property
    def counters(self) -> Counters:
        """The counters of the tier, or of its documents."""
        tier = self.tier
        inner = tier.counters if isinstance(tier, SupportsCounters) else DocumentCounters(tier.document)
        return TeamCounters(inner, self.breaker, overdue=self.overdue)

    @property
    def pages(self) -> Pages | None:
        """The pages of the tier, behind the breaker; None if it keeps none."""
        return GuardedPages(self.tier.pages, self.breaker) if isinstance(self.tier, SupportsPages) else None

    @property
    def bundles(self) -> Pages | None:
        """The pages of the tier for what is large, behind the breaker; None if it keeps none."""
        return GuardedPages(self.tier.bundles, self.breaker) if isinstance(self.tier, SupportsPages) else None

    def settle(self) -> tuple[str, ...]:
        """Set or compare the limits of the tier's server, and return what there is to say of them."""
        tier = self.tier
        if not isinstance(tier, SupportsSettling):
            return ()
        settle = guarded(self.breaker)(tier.settle)
        try:
            return within(DEADLINE_S, settle, overdue=self.overdue)
        except StoreUnavailable:
            return ()  # the first look-up says so


def team_line(settings: Settings, namespace: str, tell: Callable[[Event], None] = lambda _: None) -> TeamLine | None:
    """Return the way to the team tier that `settings` name, or None if they name none; nothing is asked yet.

    `tell` hears of a part of it that can't be used.

    Raises
    ------
    ConfigurationError
        An address is none, or a package is missing; the message names the fix.
    """
    if not settings.l2:
        return None
    by_kind: dict[str, str] = {}
    for address in settings.l2:
        url = address.get_secret_value()
        kind = kind_of(url)
        if kind in by_kind:
            raise ConfigurationError(f"l2 names two addresses of {kind}: write one of Redis, of Azure Blob, or of each")
        by_kind[kind] = url
    tier, max_stale_s = _tier(settings, by_kind, namespace, tell)
    retry = settings.retry
    retries = Retries(
        retry.max_attempts, retry.first_pause, retry.longest_pause, is_exponential=retry.backoff == "exponential"
    )
    rights = _rights(settings, tier.name, tell, reads=lambda: tier.look_up(GENERATIONS, ()))
    patience_s = max(DEADLINE_S, settings.connect_timeout + settings.command_timeout)
    breaker = Breaker(tier.name, rights=rights)
    return TeamLine(tier, breaker, settings.max_stale or max_stale_s, retries, patience_s)


def _rights(settings: Settings, name: str, tell: Callable[[Event], None], *, reads: Callable[[], object]) -> Rights:
    """Return what a tier, or a part of it, lets us do, as far as the settings say, or else as it is found out."""
    return Rights(
        name,
        is_reader=settings.role == READER,
        reads=reads,
        tell=lambda sentence: tell(Trouble("L2", "ReadOnly", sentence)),
    )


def kind_of(url: str) -> str:
    """Return whose address `url` is: `REDIS` or `BLOB`; raises ``ConfigurationError``."""
    scheme, mark, _ = url.partition("://")  # without the mark it is a host, and one may well be called redis
    try:
        urlsplit(url)
    except ValueError:
        # SECURITY: the text of the error can hold all before the path, the password included.
        raise ConfigurationError(
            "an address in l2 can't be taken apart: write the number of a host as in redis://[::1]:6379, and signs "
            "in a password percent-encoded, such as %5B for [ and %2F for /, or set it as l2_password"
        ) from None
    if mark and scheme.startswith("redis"):
        return REDIS
    if mark and scheme.startswith(("http", "azure-blob")):
        return BLOB
    raise ConfigurationError(f"l2 is no address of a team tier: write one that begins with {_ADDRESSES}")


def _tier(
    settings: Settings, by_kind: Mapping[str, str], namespace: str, tell: Callable[[Event], None]
) -> tuple[SharedTier, float]:
    """Return the tier at these addresses, and how old what is known of it may be by default [s]."""
    if REDIS not in by_kind:
        return _blob(settings, by_kind[BLOB], namespace, tell), _MAX_STALE_BLOB_S
    redis = _redis(settings, by_kind[REDIS], namespace)
    if BLOB not in by_kind:
        if settings.cdn.endpoint:
            raise ConfigurationError(
                "cdn.endpoint stands in front of a container, and l2 names none: add its URL there, or take "
                "cdn.endpoint out"
            )
        return redis, _MAX_STALE_REDIS_S
    return _both(settings, redis, container_at(settings, by_kind[BLOB]), namespace, tell), _MAX_STALE_REDIS_S


def _both(
    settings: Settings, redis: RedisTier, connection: BlobConnection, namespace: str, tell: Callable[[Event], None]
) -> SharedTier:
    """Return a Redis that rules, with what is large in a container, behind an edge if there is one."""
    from genai_cache_magic.stores.azure.blob import BlobStore
    from genai_cache_magic.stores.azure.pages import BlobPages
    from genai_cache_magic.stores.redis.by_size import SizedTier

    edged = edge_of(settings, connection, _identity(settings), _says("edge", tell))
    cache_control = None if edged is None else partial(edged[1].cache_control, namespace)
    large = BlobStore(connection, namespace, "l", cache_control=cache_control)
    rights = _rights(settings, connection.name, tell, reads=lambda: large.get("0" * KEY_DIGITS))
    breaker, bundles = Breaker(connection.name, rights=rights), BlobPages(connection, namespace)
    say = _says("L2", tell)
    if edged is None:
        return SizedTier(redis, large, breaker, bundles=bundles, tell=say)
    from genai_cache_magic.stores.edge.cdn import EdgeSizedTier

    return EdgeSizedTier(redis, large, breaker, edge=edged[0], namespace=namespace, bundles=bundles, tell=say)


def _says(where: str, tell: Callable[[Event], None]) -> Callable[[str], None]:
    return lambda sentence: tell(Trouble(where, StoreUnavailable.__name__, sentence))


class Waiting:
    """The queue of what is still to be told, in a file of this machine.

    Parameters
    ----------
    path
        ``outbox.db``.
    tell
        Hears of a file that was lost or damaged.
    """

    def __init__(self, path: Path, tell: Callable[[Event], None]) -> None:
        self.outbox = Outbox(path, tell=tell)
        self.pending = Pending(self.outbox)
        self.lock = FileLock(path.with_suffix(".lock"))


def make_team(  # noqa: PLR0913, PLR0917 - its parts
    line: TeamLine,
    waiting: Waiting,
    generations: Document,
    live: LiveGenerations,
    codec: Codec,
    clock: TeamClock,
    emptied: Callable[[], None],
) -> Team:
    """Return the team at the other end of `line`; `generations` is the snapshot that `live` rules by.

    `emptied` is called when the tier has lost what it had.
    """
    assert isinstance(generations, SnapshotDocument)
    return Team(
        line.tier,
        line.breaker,
        snapshot=generations,
        generations=live,
        shared=Entries(guard_store(line.tier.store, line.breaker), codec, live, clock=clock),
        outbox=waiting.outbox,
        pending=waiting.pending,
        clock=clock,
        max_stale_s=line.max_stale_s,
        lock=waiting.lock,
        retries=line.retries,
        emptied=emptied,
    )


def make_permits(directory: Path, line: TeamLine | None, team: Team | None) -> Permits:
    """Return the permits of a name space whose locks lie in `directory`, with the team's leases if it has any."""
    locks = KeyLocks(directory / "locks")
    if line is None or team is None or team.is_reader or not isinstance(line.tier, SupportsLeases):
        return Permits(locks)
    inner = line.tier.leases
    leases = GuardedLeases(inner, line.breaker)

    def returns(entry_id: EntryId, token: bytes) -> None:
        team.tell_past_breaker(entry_id)  # or who gets the lease would ask the model once more
        inner.release(entry_id, token)

    return Permits(locks, leases, is_told=team.is_told, is_away=team.is_away, returns=returns)


def may_join_later(error: GenaiCacheError) -> bool:
    """Return whether a tier that could not be used for `error` may be of use to this process later."""
    # Where nothing is yet, who may only read waits for who may begin.
    return isinstance(error, WriteRefused) or (
        isinstance(error, StoreUnavailable) and not isinstance(error, StoreDenied)
    )


def apart(error: GenaiCacheError) -> str:
    """Return the sentence that says that this machine works without its team, and why."""
    return f"L2 is not used, answers stay on this machine: {error}"


def host_of(settings: Settings, url: str) -> str:
    """Return the host that an address of a tier names; nothing is asked. Raises ``ConfigurationError``."""
    if kind_of(url) == REDIS:
        return redis_at(settings, url).target.host_and_port()[0]
    return container_at(settings, url).target.host


def _redis(settings: Settings, url: str, namespace: str) -> RedisTier:
    connection = redis_at(settings, url)
    from genai_cache_magic.stores.redis.limits import RedisLimits
    from genai_cache_magic.stores.redis.store import RedisTier

    limits = RedisLimits(settings.maxmemory, settings.eviction_policy, spell_size)
    return RedisTier(connection, namespace, limits)


def redis_at(settings: Settings, url: str) -> RedisConnection:
    """Return the way to a Redis; raises ``ConfigurationError`` as `team_line`."""
    ensure_installed("l2", "redis", "redis")
    if _is_by_identity(settings, url):
        ensure_installed("l2_credential", "entra", "azure.identity", "redis_entraid")
    from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget

    target = RedisTarget(
        url,
        username=settings.l2_username,
        password=settings.l2_password.get_secret_value(),
        identity=_identity(settings) if _is_by_identity(settings, url) else None,
        ca_file=settings.l2_ca_file,
        connect_timeout_s=settings.connect_timeout,
        command_timeout_s=settings.command_timeout,
    )
    target.check()
    return RedisConnection(target, _private(settings, target.address))


def _private(settings: Settings, name: str) -> PrivateOnly | None:
    return PrivateOnly(name) if settings.network.private_endpoint else None


def _is_by_identity(settings: Settings, url: str) -> bool:
    """Return whether an Azure identity signs in to a Redis: one is named, or it is Azure's and there is no password."""
    if settings.l2_credential != "auto":
        return True
    parts = urlsplit(url)
    has_password = bool(settings.l2_password.get_secret_value() or parts.password)
    return not has_password and (parts.hostname or "").endswith(_AZURES_REDIS)


def _identity(settings: Settings) -> Callable[[], Any]:
    """Return what makes the credential of the Azure identity that is named, once it is needed."""
    named = "default" if settings.l2_credential == "auto" else settings.l2_credential

    def make() -> Any:
        from genai_cache_magic.crypto.wrappers.azure_vault_client import credential_of

        try:
            return credential_of(named)
        except KeyUnavailable as exc:
            raise StoreDenied(
                f"the Azure identity {named!r} is not at hand here: its variables are not set; "
                "choose another l2_credential"
            ) from exc

    return make


def _blob(settings: Settings, url: str, namespace: str, tell: Callable[[Event], None]) -> SharedTier:
    connection = container_at(settings, url)
    edged = edge_of(settings, connection, _identity(settings), _says("edge", tell))
    if edged is None:
        from genai_cache_magic.stores.azure.blob import BlobTier

        return BlobTier(connection, namespace)
    from genai_cache_magic.stores.edge.cdn import EdgeTier

    return EdgeTier(connection, namespace, *edged)


def container_at(settings: Settings, url: str) -> BlobConnection:
    """Return the way to a container of Azure Blob Storage; raises ``ConfigurationError`` as `team_line`."""
    ensure_installed("l2", "azure", "azure.storage.blob", "azure.identity")
    from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget

    by_name = url.partition("azure-blob://")[2]
    if by_name and settings.l2_account and not settings.l2_connection_string.get_secret_value():
        url, by_name = f"https://{settings.l2_account}.blob.core.windows.net/{by_name}", ""
    target = BlobTarget(
        url,
        connection_string=settings.l2_connection_string.get_secret_value() if by_name else "",
        account_key=settings.l2_account_key.get_secret_value(),
        identity=_identity(settings),
        create_container=settings.l2_create_container,
        connect_timeout_s=settings.connect_timeout,
        command_timeout_s=settings.command_timeout,
    )
    target.check()
    return BlobConnection(target, _private(settings, target.address))
