"""What of a cache is less safe than it could be: keys, rights, what lies around, the way to the team, git.

Nothing is made, changed or removed by looking, and nothing is raised: what can't be looked at is a finding.
"""

from __future__ import annotations

from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING, Final

from genai_cache_magic.api.factory import build_cache
from genai_cache_magic.api.team.custody import key_wrapper
from genai_cache_magic.api.team.line import team_line
from genai_cache_magic.api.team.storage import home_of
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.crypto.envelope import MAGIC
from genai_cache_magic.errors import ConfigurationError, DecryptionError, EntryUndecodable, GenaiCacheError
from genai_cache_magic.host import tilde
from genai_cache_magic.ops.audit_files import projects, rights, runs_in_git
from genai_cache_magic.ops.audit_keys import keyset_age, vault_keys
from genai_cache_magic.ops.audit_rules import answers, found
from genai_cache_magic.ops.audit_tier import connections
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.stores.base import SupportsHeads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.entries.placing import Places
    from genai_cache_magic.ops.audit_rules import Found
    from genai_cache_magic.settings.model import Settings

_HEAD_BYTES: Final = 1024
_AT_ONCE: Final = 64


def audit(
    session: Session, namespace: str | None = None, *, longest_key_age_s: float, project: Path | None = None
) -> tuple[Found, ...]:
    """Return what is found of the cache of `namespace`, None for the configured one, the worst first.

    Parameters
    ----------
    longest_key_age_s
        After so long without a rotation one is due [s].
    project
        Whose git is looked at; the working directory by default.
    """
    parts: list[Callable[[], Iterable[Found]]] = [projects, lambda: runs_in_git(project)]
    try:
        settings, name = session.settings, session.options(namespace=namespace).namespace
    except ConfigurationError as exc:
        unread = found("NotLookedAt", str(exc), severity=Severity.ERROR)
        parts.append(lambda: [unread])
    else:
        parts += [
            lambda: _encryption(settings),
            lambda: rights(settings),
            lambda: keyset_age(settings, name, longest_key_age_s),
            lambda: vault_keys(settings),
            lambda: connections(settings, name),
            lambda: _entries(settings, name),
        ]
    findings = [one for look in parts for one in _looked(look)]
    return tuple(sorted(findings, key=lambda one: (-one.severity, one.rule.id, one.where)))


def _looked(look: Callable[[], Iterable[Found]]) -> list[Found]:
    try:
        return list(look())
    except GenaiCacheError as exc:
        return [found("NotLookedAt", str(exc))]
    except OSError as exc:
        return [found("NotLookedAt", f"{tilde(str(exc.filename or 'a file'))} can't be read: {exc.strerror}")]


def _encryption(settings: Settings) -> Iterator[Found]:
    if settings.encryption == "off":
        says = "encryption is off, so answers are plain text: set GENAI_CACHE_ENCRYPTION to local, keyring or key-vault"
        yield found("EncryptionOff", says, settings=("encryption",))
        return
    for path in sorted(settings.dir.glob("v1/*/plain")):
        if path.is_dir() and not path.is_symlink():
            says = (
                f"plain answers lie in {tilde(path)} from when encryption was off: remove them with "
                f"`GENAI_CACHE_ENCRYPTION=off genai-cache clear --namespace {quote(path.parent.name)}`"
            )
            yield found("UnsealedLeftover", says, where=str(path), settings=("encryption",))


def _entries(settings: Settings, namespace: str) -> Iterator[Found]:
    """Look at how each answer begins, here and in the team's tier: whether it is sealed, and can be opened."""
    if settings.encryption == "off" or not _is_used(settings, namespace):
        return
    key_wrapper(settings, make=False)  # who has no key makes none by looking
    with build_cache(settings, namespace=namespace) as cache:
        entries = cache.parts.entries
        yield from _judged("this machine", entries.places, cache)
        if cache.team is not None:
            yield from _judged(cache.team.name, cache.team.places, cache)


def _is_used(settings: Settings, namespace: str) -> bool:
    with ExitStack() as each:
        line = team_line(settings, namespace)
        if line is not None:
            each.callback(line.tier.close)
        return home_of(settings, namespace, line).exists()


def _judged(where: str, places: Places, cache: Cache) -> Iterator[Found]:
    plain = closed = 0
    store = places.store
    keys = list(store.scan())
    for at in range(0, len(keys), _AT_ONCE):
        batch = keys[at : at + _AT_ONCE]
        heads = store.get_heads(batch, size_bytes=_HEAD_BYTES) if isinstance(store, SupportsHeads) else {}
        for key in batch:
            head = heads.get(key) or store.get(key) or b""
            plain += bool(head) and not head.startswith(MAGIC)
            closed += head.startswith(MAGIC) and not _opens(places, EntryId(key), head)
    if plain:
        says = (
            f"{answers(plain)} of namespace {cache.namespace} on {where}, not sealed: a machine of the team has "
            "encryption off, or something else writes there; `genai-cache gc` removes what can't be opened"
        )
        yield found("UnsealedLeftover", says, settings=("encryption", "l2"))
    if closed:
        says = (
            f"{answers(closed)} of namespace {cache.namespace} on {where} can't be opened by who has its keyset: "
            "if no epoch was revoked, find out who changed them; `genai-cache gc` gives their room back"
        )
        yield found("UnopenableEntry", says, settings=("namespace",))


def _opens(places: Places, entry_id: EntryId, head: bytes) -> bool:
    try:
        if places.missing_of_head(entry_id, head):
            whole = places.store.get(entry_id)
            return whole is None or not places.missing_of_head(entry_id, whole)
    except (DecryptionError, EntryUndecodable):
        return False
    return True
