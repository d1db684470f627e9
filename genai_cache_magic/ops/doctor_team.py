"""What is well and what is not of the team's tier: its address, its rights, its limits, the edge before it."""

from __future__ import annotations

import secrets
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.storage import home_of
from genai_cache_magic.api.team_line import REDIS, kind_of, redis_at, team_line
from genai_cache_magic.entries.link import DEADLINE_S, within
from genai_cache_magic.entries.outbox import Outbox
from genai_cache_magic.errors import (
    ConfigurationError,
    DecryptionError,
    KeyUnavailable,
    PartUnavailable,
    StoreDenied,
    StoreUnavailable,
)
from genai_cache_magic.ops.audit_tier import ways
from genai_cache_magic.ops.checks import L2, Severity
from genai_cache_magic.ops.findings import FULL, Finding, found_by
from genai_cache_magic.settings.units import rounded_size
from genai_cache_magic.stores.base import SupportsEdge
from genai_cache_magic.stores.by_size import LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.api.team_line import TeamLine
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper
    from genai_cache_magic.settings.model import Settings

_SAME_TIME_S = 300
_PROBE_LIFE_S = 60
_EDGE_DEADLINE_S = 10.0


def of_team(settings: Settings, namespace: str, key: KeyWrapper | None) -> tuple[TeamLine | None, tuple[Finding, ...]]:
    """Return the way to the team's tier, None if there is none that can be used, and what is to be said of it."""
    # The limits of the server are looked at and not set: that is for the cells, which say so.
    asked = settings.model_copy(update={"maxmemory": None, "eviction_policy": None})
    try:
        line = team_line(asked, namespace)
    except ConfigurationError as exc:
        return None, (found_by("tier-address", str(exc), ("l2",)),)
    if line is None:
        alone = Finding(L2, Severity.OK, "none: answers stay on this machine; l2 would name one", ("l2",))
        edge = found_by("edge-idle", "cdn.endpoint has no effect, since l2 names no container", ("cdn", "l2"))
        return None, (alone, edge) if settings.cdn.endpoint else (alone,)
    try:
        found = tuple(_reached(line, settings, namespace, key))
    except StoreDenied as exc:
        failed = found_by("tier-refuses", str(exc), _credentials(settings))
    except (ConfigurationError, StoreUnavailable) as exc:
        failed = found_by("tier-away", str(exc), ("l2",))
    except (KeyUnavailable, DecryptionError) as exc:
        failed = found_by("tier-keyset", f"the team's keyset can't be used: {exc}", ("key_file", "namespace"))
    else:
        return line, (*found, *_queued(settings, line, namespace))
    finally:
        line.tier.close()
    return None, (failed, *_queued(settings, line, namespace))


def _credentials(settings: Settings) -> tuple[str, ...]:
    """Return the settings by which the tiers let us in."""
    is_redis = [address.get_secret_value().startswith("redis") for address in settings.l2]
    ours = ("l2_username", "l2_password") if any(is_redis) else ()
    return ("l2", *ours, *(() if all(is_redis) else ("l2_account_key", "l2_connection_string")))


def _reached(line: TeamLine, settings: Settings, namespace: str, key: KeyWrapper | None) -> Iterator[Finding]:
    """Ask, read and write, each within the deadline."""

    def bounded(work: Callable[[], Any]) -> Any:
        return within(DEADLINE_S, work, overdue=line.overdue)

    keyset = bounded(lambda: line.document("keyset").load())
    looked = bounded(lambda: line.tier.look_up("generations", ()))
    refused = "" if line.breaker.rights.is_reader else bounded(lambda: _refused_write(line))
    if refused:
        yield found_by("tier-writes-refused", refused, ("role", *_credentials(settings)))
    is_writer = not refused and not line.breaker.rights.is_reader
    if is_writer and len(settings.l2) > 1:
        try:
            bounded(lambda: _probe(line, bytes(LARGE_BYTES + 1)))
        except PartUnavailable as exc:
            yield found_by("tier-part-away", str(exc), ("l2", "l2_account_key", "l2_connection_string"))
    if is_writer:  # it is tried with a value of our own
        yield from _edge(line)
    for sentence in line.settle():
        yield found_by("tier-evicts", sentence, ("eviction_policy",))
    yield from _server(settings)
    apart_s = looked.now_s - time.time()
    if abs(apart_s) > _SAME_TIME_S:
        says = (
            f"its clock and this machine's differ by {abs(apart_s):,.0f} s: set this machine's, though nothing depends "
            "on it while the tier can be asked"
        )
        yield found_by("clocks-apart", says)
    if keyset is None:
        yield Finding(L2, Severity.OK, f"{line.tier.name} answers, and is empty for namespace {namespace}", ("l2",))
        return
    if key is not None:
        from genai_cache_magic.crypto.keyset import open_manifest

        open_manifest(keyset, namespace, key)
    opened = "" if key is None and settings.encryption != "off" else ", and its keyset is opened by this key"
    may = "can be read and written" if is_writer else "can be read"
    yield Finding(L2, Severity.OK, f"{line.tier.name} answers, {may}{opened}", ("l2",))


def _edge(line: TeamLine) -> Iterator[Finding]:
    """Say how the edge in front of the container is, if there is one: without it the container answers."""
    tier = line.tier
    if isinstance(tier, SupportsEdge):
        wrong = within(_EDGE_DEADLINE_S, tier.try_edge, overdue=line.overdue)
        well = Finding(L2, Severity.OK, "the edge in front of it hands out what it holds, and keeps it", ("cdn",))
        yield found_by("edge-lame", wrong, ("cdn",)) if wrong else well


def _server(settings: Settings) -> Iterator[Finding]:
    """Say how full the servers are, and whether the way to them is as safe as it could be."""
    for url in (address.get_secret_value() for address in settings.l2):
        if kind_of(url) == REDIS:
            yield from _memory(settings, url)
    with suppress(StoreUnavailable):  # it was reached a moment ago
        for one in ways(settings):
            yield found_by(_WAYS[one.rule.name], one.says, one.settings)


_WAYS = {
    "TierWithoutTls": "tier-plain",
    "CertificateExpires": "tier-certificate",
    "CertificateRefused": "tier-certificate",
}
"""An audit's rules -> the checks of a doctor."""


def _memory(settings: Settings, url: str) -> Iterator[Finding]:
    from genai_cache_magic.stores.redis_limits import memory_of

    with closing(redis_at(settings, url)) as connection:
        used, most = memory_of(connection)
        if most and used > FULL * most:
            size = f"{rounded_size(used)} of {rounded_size(most)}"
            says = f"{connection.name} holds {size}: raise its maxmemory, or run `genai-cache gc`"
            yield found_by("tier-full", says, ("maxmemory", "eviction_policy"))


def _probe(line: TeamLine, blob: bytes) -> None:
    """Write what nobody reads, and take it back: a credential may be good for reading alone."""
    name = secrets.token_hex(32)
    line.tier.store.put(name, blob, ttl_s=_PROBE_LIFE_S)
    line.tier.store.delete(name)


def _refused_write(line: TeamLine) -> str:
    """Return what to say where what can be read can't be written; empty where it can."""
    try:
        _probe(line, b"doctor")
    except StoreDenied as exc:
        return (
            f"not all may be done there that a Cache.Writer does ({exc}): `genai-cache access check` says what; "
            "who shall only read sets role to Cache.Reader"
        )
    return ""


def _queued(settings: Settings, line: TeamLine, namespace: str) -> Iterator[Finding]:
    """Say what waits to be told to the team."""
    path = home_of(settings, namespace, line) / "outbox.db"
    try:
        if not path.exists():
            return
        with closing(Outbox(path)) as outbox:
            changes, entries = outbox.count()
    except (OSError, StoreUnavailable):
        return
    if changes or entries:
        says = (
            f"what waits in the queue to be told (invalidations: {changes:,}, answers: {entries:,}) is told as soon as "
            "a kernel with this cache reaches the tier: run one, or leave it open"
        )
        yield found_by("queue-waiting", says)
