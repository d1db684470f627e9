"""What is well and what is not, in a line each: configuration, key, the cache on this machine, the team's tier.

A look changes nothing that would not be changed by the first cell, and makes no key: who is about to import the team's
must not find another in its place. Nothing is raised: what can't be looked at is a finding.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.custody import vault_wrapper
from genai_cache_magic.api.factory import build_cache, home_of
from genai_cache_magic.api.installed import ensure_installed
from genai_cache_magic.api.team_line import REDIS, kind_of, redis_at, team_line
from genai_cache_magic.core.options import Mode
from genai_cache_magic.entries.link import DEADLINE_S, within
from genai_cache_magic.entries.outbox import Outbox
from genai_cache_magic.errors import (
    ConfigurationError,
    DecryptionError,
    GenaiCacheError,
    KeyMissing,
    KeyUnavailable,
    PartUnavailable,
    StoreDenied,
    StoreUnavailable,
)
from genai_cache_magic.events import Trouble
from genai_cache_magic.host import tilde
from genai_cache_magic.intercept import stainless
from genai_cache_magic.ops.audit_tier import ways
from genai_cache_magic.ops.checks import CHECKS, CONFIGURATION, KEY, L1, L2, Severity
from genai_cache_magic.ops.surroundings import others, outdated_packages, outdated_processes, untrusted_notebook
from genai_cache_magic.settings.units import spell_size
from genai_cache_magic.stores.base import SupportsEdge
from genai_cache_magic.stores.by_size import LARGE_BYTES
from genai_cache_magic.stores.directory import ensure_private_directory, is_writable
from genai_cache_magic.stores.file_systems import file_system_of, is_shared, mount_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from genai_cache_magic.api.session import Session
    from genai_cache_magic.api.team_line import TeamLine
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper
    from genai_cache_magic.events import Event
    from genai_cache_magic.settings.model import Settings

_LITTLE_ROOM_BYTES = 64 * 1024**2
_FULL = 0.95
_SOON_DAYS = 14
_SAME_TIME_S = 300
_PROBE_LIFE_S = 60
_VAULT_DEADLINE_S = _EDGE_DEADLINE_S = 10.0
_OPENS = "unwrapKey"
"""The operation without which nothing can be read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, with what to do if it is no good news, and the settings that it is about.

    `check` names the one of `CHECKS` that found it; empty for what is well.
    """

    part: str
    severity: Severity
    says: str
    settings: tuple[str, ...] = field(default=())
    check: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        severity = self.severity.name.lower()
        about = {"part": self.part, "severity": severity, "says": self.says, "settings": list(self.settings)}
        return {**about, "check": self.check, "fix": CHECKS[self.check].fix if self.check else ""}


def _finding(check: str, says: str, settings: tuple[str, ...] = (), *, part: str = "") -> Finding:
    """Return what a check has found."""
    of = CHECKS[check]
    return Finding(part or of.part, of.severity, says, settings, check)


def worst(findings: tuple[Finding, ...]) -> Severity:
    """Return how bad it is."""
    return max((finding.severity for finding in findings), default=Severity.OK)


def examine(session: Session, namespace: str | None = None) -> tuple[Finding, ...]:
    """Return what is found of the cache of `namespace`, None for the configured one."""
    try:
        settings = session.settings
        name = session.options(namespace=namespace).namespace
    except ConfigurationError as exc:
        unseen = "not looked at, since the configuration can't be read"
        return (
            _finding("settings-unread", str(exc)),
            *(_finding("part-unseen", unseen, part=part) for part in (KEY, L1, L2)),
        )
    key, about_key = _key(settings)
    line, about_team = _team(settings, name, key)
    return (*_configuration(session, settings), *about_key, *_local(settings, name, key, line), *about_team)


def troubles(session: Session) -> tuple[str, ...]:
    """Return what is wrong with the key and the team's tier, in sentences: what stands beside the settings.

    Raises
    ------
    ConfigurationError
        The settings can't be read.
    """
    key, about_key = _key(session.settings)
    _, about_team = _team(session.settings, session.options().namespace, key)
    return tuple(f"{f.part}: {f.says}" for f in (*about_key, *about_team) if f.severity is not Severity.OK)


def _configuration(session: Session, settings: Settings) -> Iterator[Finding]:
    for sentence in session.ignored:
        yield _finding("setting-ignored", sentence)
    for sentence in stainless.slower():
        yield _finding("sdk-slower", sentence)
    if settings.encryption == "off":
        says = "answers are stored as plain text, since encryption is off: set encryption to local"
        yield _finding("encryption-off", says, ("encryption",))
    yield from _surroundings(settings)
    if settings.mode is not Mode.USE:
        yield Finding(CONFIGURATION, Severity.OK, f"mode {settings.mode.value} is in force everywhere", ("mode",))
    given = [line for line in session.describe().lines if line.source != "default"]
    yield Finding(CONFIGURATION, Severity.OK, f"read; settings that are not at their defaults: {len(given)}")


def _surroundings(settings: Settings) -> Iterator[Finding]:
    """Say what of this process, and of the kernels beside it, keeps the cache from working as it should."""
    for method, package, is_answering in others():
        if is_answering:
            says = (
                f"{package} answers in {method}, so no real answer is seen or stored: take it away where one is wanted"
            )
            yield _finding("http-answered", says)
        else:
            yield Finding(CONFIGURATION, Severity.OK, f"{package} has taken hold of {method} too")
    for name, there, wanted in outdated_packages():
        says = f"{name} {there} is installed, and genai-cache-magic needs {wanted}: run `pip install -U {name}`"
        yield _finding("package-outdated", says)
    for process in outdated_processes(settings.dir):
        says = f"process {process} uses this cache with code from before an update of it: restart that kernel"
        yield _finding("kernel-outdated", says)
    if notebook := untrusted_notebook():
        says = f"Jupyter does not trust {notebook}, so its status is drawn plain: run `jupyter trust` on it"
        yield _finding("notebook-untrusted", says)


def _key(settings: Settings) -> tuple[KeyWrapper | None, tuple[Finding, ...]]:
    """Return what guards the key, None if there is none to be used, and what is to be said of it; makes no key."""
    about = _GUARDS[settings.encryption]
    try:
        if settings.encryption == "off":
            return None, (Finding(KEY, Severity.OK, "none is needed, since encryption is off", about),)
        if settings.encryption == "key-vault":
            return _vault(settings, about)
        key, where = _own_key(settings)
    except KeyMissing as exc:
        if settings.l2:
            says = f"{exc} with the team's key, before one is made that opens nothing of your team's"
            return None, (_finding("key-elsewhere", says, about),)
        return None, (Finding(KEY, Severity.OK, f"{exc}; one is made at first use", about),)
    except (ConfigurationError, KeyUnavailable, StoreUnavailable) as exc:
        return None, (_finding("key-unusable", str(exc), about),)
    return key, (Finding(KEY, Severity.OK, f"{key.fingerprint} {where}", about),)


_GUARDS = {
    "off": ("encryption",),
    "local": ("key_file",),
    "keyring": ("encryption", "key_name"),
    "key-vault": ("key_vault_url", "key_name", "signing_key_name"),
}
"""Encryption -> the settings that say where its key is."""


def _own_key(settings: Settings) -> tuple[KeyWrapper, str]:
    """Return this machine's own key, and where it is; raises ``KeyMissing`` if there is none."""
    if settings.encryption == "keyring":
        from genai_cache_magic.crypto.wrappers.keyring import OsKeyring

        ensure_installed("encryption=keyring", "keyring", "keyring")
        return OsKeyring.load(settings.key_name), f"in this system's keyring, called {settings.key_name}"
    from genai_cache_magic.crypto.wrappers.local import LocalKeyFile

    path = settings.key_file
    try:
        is_there = path.exists()
    except OSError as exc:
        raise KeyUnavailable(f"{path} can't be looked at ({exc.strerror}): set key_file to a file of your own") from exc
    if not is_there:
        raise KeyMissing(f"there is none yet at {path}: run `genai-cache keys import`")
    return LocalKeyFile.load(path, cache_directory=settings.dir), f"at {tilde(str(path))}"


def _vault(settings: Settings, about: tuple[str, ...]) -> tuple[KeyWrapper | None, tuple[Finding, ...]]:
    """Ask the vault for all that this identity needs; who may open and not make is well, and told so."""
    wrapper = vault_wrapper(settings)
    late = f"{settings.key_vault_url} does not answer in time: is key_vault_url right, and can it be reached from here?"
    refused = within(_VAULT_DEADLINE_S, wrapper.refusals, overdue=lambda: late)
    closed = [str(refusal) for refusal in refused if refusal.right == _OPENS]
    if closed:
        return None, tuple(_finding("key-unusable", says, about) for says in closed)
    says = f"{wrapper.fingerprint} in {settings.key_vault_url}, which lets this identity use it"
    if refused:
        says = f"this identity can make and change no keyset: {'; '.join(map(str, refused))}"
    return wrapper, (Finding(KEY, Severity.OK, says, about),)


def _local(settings: Settings, namespace: str, key: KeyWrapper | None, line: TeamLine | None) -> Iterator[Finding]:
    """Look at the directory that a cell would use now: with `line` that of the team, else the machine's own."""
    place = tilde(str(settings.dir))
    try:
        is_used = home_of(settings, namespace, line).exists()
        if not is_used:
            yield _unused(settings)
            return
    except GenaiCacheError as exc:
        yield _finding("directory-unusable", str(exc), ("dir",))
        return
    except OSError as exc:
        says = f"{place} can't be looked at ({exc.strerror}): set dir to a directory of your own"
        yield _finding("directory-unusable", says, ("dir",))
        return
    if key is None and settings.encryption != "off":
        yield _finding("answers-closed", f"{place} holds answers that can't be opened without their key", ("dir",))
        return
    told: list[Event] = []
    try:
        used = settings if line else settings.model_copy(update={"l2": ()})
        with build_cache(used, namespace=namespace, on_event=told.append) as cache:
            found = cache.stats()
            grown = cache.insight.growth(found.size_bytes)
    except (KeyUnavailable, DecryptionError) as exc:
        yield _finding("keyset-unusable", str(exc), ("key_file", "namespace"))
        return
    except GenaiCacheError as exc:
        yield _finding("directory-unusable", str(exc), ("dir",))
        return
    for event in told:
        if isinstance(event, Trouble) and event.where != L2:
            yield _finding("something-lost", event.message, ("dir",))
    yield from _room(settings, found.size_bytes)
    if grown.full_in_days and grown.full_in_days <= _SOON_DAYS:
        added, days = megabytes(grown.daily_bytes or 0), grown.full_in_days
        says = f"with {added} more a day it is full in {days} days, and what was stored first goes: raise size_limit"
        yield _finding("cache-fills", says, ("size_limit",))
    size = megabytes(found.size_bytes)
    answers = "1 answer" if found.entries == 1 else f"{found.entries:,} answers"
    yield Finding(L1, Severity.OK, f"{answers}, {size}, in {place}, namespace {namespace}", ("dir",))


def _unused(settings: Settings) -> Finding:
    """Return what is to be said of a namespace in which nothing was stored."""
    place = tilde(str(settings.dir))
    if settings.dir.exists():
        ensure_private_directory(settings.dir)
    else:
        above = next(path for path in settings.dir.parents if path.exists())
        kind, options = file_system_of(above.resolve(), mount_table())
        if is_shared(kind, options):
            says = f"{place} would lie on a file system ({kind}) that other machines may share: set dir to a local disk"
            return _finding("directory-shared", says, ("dir",))
        if not _can_hold_a_directory(above):
            says = f"{place} can't be made in {tilde(str(above))}: set dir to a directory of your own"
            return _finding("directory-unusable", says, ("dir",))
    return Finding(L1, Severity.OK, f"nothing is stored in {place} yet: it is made at first use", ("dir",))


def _can_hold_a_directory(path: Path) -> bool:
    """Return whether a directory can be made in `path`, by making one: root may write where nothing can be made."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".genai-cache-", dir=path))  # noqa: PTH106 - as it was made
    except OSError:
        return False
    return True


def _room(settings: Settings, size_bytes: int) -> Iterator[Finding]:
    place = tilde(str(settings.dir))
    if not is_writable(settings.dir):
        says = f"{place} can only be read, so nothing is stored: run `chmod u+rwx` on it, or set dir to another"
        yield _finding("directory-read-only", says, ("dir",))
    if size_bytes > _FULL * settings.size_limit:
        says = (
            f"it is nearly full ({spell_size(settings.size_limit)}), so what was stored first goes: "
            "raise size_limit, or run `genai-cache gc`"
        )
        yield _finding("cache-full", says, ("size_limit",))
    with suppress(OSError):
        free = shutil.disk_usage(settings.dir).free
        if free < _LITTLE_ROOM_BYTES:
            says = f"the disk of {place} has {megabytes(free)} left: make room, or set dir to another"
            yield _finding("disk-full", says, ("dir",))


def _team(settings: Settings, namespace: str, key: KeyWrapper | None) -> tuple[TeamLine | None, tuple[Finding, ...]]:
    """Return the way to the team's tier, None if there is none that can be used, and what is to be said of it."""
    # The limits of the server are looked at and not set: that is for the cells, which say so.
    asked = settings.model_copy(update={"maxmemory": None, "eviction_policy": None})
    try:
        line = team_line(asked, namespace)
    except ConfigurationError as exc:
        return None, (_finding("tier-address", str(exc), ("l2",)),)
    if line is None:
        alone = Finding(L2, Severity.OK, "none: answers stay on this machine; l2 would name one", ("l2",))
        edge = _finding("edge-idle", "cdn.endpoint has no effect, since l2 names no container", ("cdn", "l2"))
        return None, (alone, edge) if settings.cdn.endpoint else (alone,)
    try:
        found = tuple(_reached(line, settings, namespace, key))
    except StoreDenied as exc:
        failed = _finding("tier-refuses", str(exc), _credentials(settings))
    except (ConfigurationError, StoreUnavailable) as exc:
        failed = _finding("tier-away", str(exc), ("l2",))
    except (KeyUnavailable, DecryptionError) as exc:
        failed = _finding("tier-keyset", f"the team's keyset can't be used: {exc}", ("key_file", "namespace"))
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
        yield _finding("tier-writes-refused", refused, ("role", *_credentials(settings)))
    is_writer = not refused and not line.breaker.rights.is_reader
    if is_writer and len(settings.l2) > 1:
        try:
            bounded(lambda: _probe(line, bytes(LARGE_BYTES + 1)))
        except PartUnavailable as exc:
            yield _finding("tier-part-away", str(exc), ("l2", "l2_account_key", "l2_connection_string"))
    if is_writer:  # it is tried with a value of our own
        yield from _edge(line)
    for sentence in line.settle():
        yield _finding("tier-evicts", sentence, ("eviction_policy",))
    yield from _server(settings)
    apart_s = looked.now_s - time.time()
    if abs(apart_s) > _SAME_TIME_S:
        says = (
            f"its clock and this machine's differ by {abs(apart_s):,.0f} s: set this machine's, though nothing depends "
            "on it while the tier can be asked"
        )
        yield _finding("clocks-apart", says)
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
        yield _finding("edge-lame", wrong, ("cdn",)) if wrong else well


def _server(settings: Settings) -> Iterator[Finding]:
    """Say how full the servers are, and whether the way to them is as safe as it could be."""
    for url in (address.get_secret_value() for address in settings.l2):
        if kind_of(url) == REDIS:
            yield from _memory(settings, url)
    with suppress(StoreUnavailable):  # it was reached a moment ago
        for one in ways(settings):
            yield _finding(_WAYS[one.rule.name], one.says, one.settings)


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
        if most and used > _FULL * most:
            size = f"{spell_size(used)} of {spell_size(most)}"
            says = f"{connection.name} holds {size}: raise its maxmemory, or run `genai-cache gc`"
            yield _finding("tier-full", says, ("maxmemory", "eviction_policy"))


def megabytes(size_bytes: int) -> str:
    """Return a size [bytes] for people, to a megabyte."""
    return f"{size_bytes / 1024**2:,.1f} MB"


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
        yield _finding("queue-waiting", says)
