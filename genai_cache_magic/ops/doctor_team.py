"""What is well and what is not of the team's tier: its address, its rights, its limits, the edge before it."""

from __future__ import annotations

import secrets
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.team.line import KEYSET, REDIS, kind_of, redis_at, team_line
from genai_cache_magic.api.team.storage import home_of, public_keys
from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.entries.link import within
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.entries.team.tier import GENERATIONS
from genai_cache_magic.errors import (
    ConfigurationError,
    DecryptionError,
    KeyUnavailable,
    PartUnavailable,
    StoreDenied,
    StoreUnavailable,
    WritesUnavailable,
)
from genai_cache_magic.ops.audit_tier import ways
from genai_cache_magic.ops.checks import L2, Severity
from genai_cache_magic.ops.findings import FULL, Finding, found_by
from genai_cache_magic.settings.units import rounded_size
from genai_cache_magic.stores.base import SupportsEdge
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.stores.redis.by_size import LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.api.team.line import TeamLine
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
        return within(line.patience_s, work, overdue=line.overdue)

    keyset, record = (bounded(line.document(name).load) for name in (KEYSET, GENERATIONS))
    looked = bounded(lambda: line.tier.look_up(GENERATIONS, ()))
    refused = None if line.breaker.rights.is_reader else bounded(lambda: _refused_write(line, settings))
    if refused:
        yield refused
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
            f"its clock and this machine's differ by {_span(abs(apart_s))}: set this machine's, though nothing depends "
            "on it while the tier can be asked"
        )
        yield found_by("clocks-apart", says)
    mac_key = _opened(settings, namespace, key, keyset)
    may = "can be read and written" if is_writer else "can be read"
    opened = "" if key is None and settings.encryption != "off" else ", and its keyset is opened by this key"
    if newer := _newer(namespace, mac_key, record):
        yield found_by("tier-newer", newer)
    elif keyset is None:
        yield Finding(L2, Severity.OK, f"{line.tier.name} answers, and is empty for namespace {namespace}", ("l2",))
    else:
        yield Finding(L2, Severity.OK, f"{line.tier.name} answers, {may}{opened}", ("l2",))


def _opened(settings: Settings, namespace: str, key: KeyWrapper | None, keyset: bytes | None) -> bytes | None:
    """Return the secret by which records there are known for the team's, None if it is not at hand.

    Raises as `open_manifest`.
    """
    if settings.encryption == "off":
        return public_keys(namespace).mac_key
    if key is None or keyset is None:
        return None
    from genai_cache_magic.crypto.keyset import open_manifest

    return open_manifest(keyset, namespace, key).mac_key


def _newer(namespace: str, mac_key: bytes | None, record: bytes | None) -> str:
    """Return what to say of a record of what is invalid that a newer version wrote; empty for any other."""
    if mac_key is None:
        return ""  # without the key nobody knows who wrote it
    try:
        LiveGenerations(
            MemoryDocument(), namespace=namespace, mac_key=mac_key, random_bytes=secrets.token_bytes
        ).authentic(record)
    except StoreUnavailable as exc:
        return str(exc)
    return ""


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
    from genai_cache_magic.stores.redis.limits import memory_of

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


def _refused_write(line: TeamLine, settings: Settings) -> Finding | None:
    """Return what is to be said where what can be read can't be written; None where it can."""
    try:
        _probe(line, b"doctor")
    except StoreDenied as exc:
        says = (
            f"not all may be done there that a Cache.Writer does ({exc}): `genai-cache access check` says what; "
            "who shall only read sets role to Cache.Reader"
        )
        return found_by("tier-writes-refused", says, ("role", *_credentials(settings)))
    except WritesUnavailable as exc:
        return found_by("tier-stores-nothing", str(exc), ("l2", "maxmemory", "eviction_policy"))
    return None


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


def _span(seconds: float) -> str:
    """Return a length of time in the unit that a reader can judge it by."""
    for unit, size_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:,.0f} {unit}"
    return f"{seconds:.0f} s"
