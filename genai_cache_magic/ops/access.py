"""What this identity may really do, found out by trying: at the team's tier, and with the vault's keys.

Each trial has a name of its own, changes nothing that anybody uses, and is cleaned up; where that is refused, what is
left has a fixed name, so that there is one of it at most, and it is said.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.team.custody import vault_wrapper
from genai_cache_magic.api.team.line import team_line
from genai_cache_magic.entries.link import within
from genai_cache_magic.entries.team.tier import GENERATIONS
from genai_cache_magic.errors import ConfigurationError, KeyUnavailable, StoreDenied, StoreUnavailable
from genai_cache_magic.ops.roles import DELETE, MEANS, PUBLISH, READ, RIGHTS, SIGN, UNWRAP, WRITE
from genai_cache_magic.settings.roles import ROLES
from genai_cache_magic.stores.base import SupportsLeases, SupportsRemove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.api.team.line import TeamLine
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.settings.roles import Role
    from genai_cache_magic.stores.base import SharedTier

PROBE: Final = "access-check"
"""The name of the document that is tried."""
_PROBE_KEY: Final = hashlib.sha256(b"genai-cache access check 1").hexdigest()
_PROBE_LIFE_S: Final = 60.0
_VAULT_DEADLINE_S: Final = 10.0
_OPERATIONS: Final = {UNWRAP: "unwrapKey", SIGN: "sign"}


class State(enum.StrEnum):
    """Whether something may be done."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trying one right at one place, and why it was refused, or can't be told."""

    place: str
    right: str
    state: State
    says: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """What this identity may do, and what that is too little or too much for `role`; None: no role was named."""

    role: Role | None
    tried: tuple[Tried, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> Role | None:
        """The highest of the roles for which nothing is missing; None if not even a reader's rights are there."""
        return next((role for role in reversed(ROLES) if not self._lacking(role)), None)

    @property
    def missing(self) -> tuple[Tried, ...]:
        """What is refused, or can't be told, and the role needs; without a role, a reader's rights."""
        return self._lacking(self.role or ROLES[0])

    @property
    def too_much(self) -> tuple[Tried, ...]:
        """What is allowed, and the role does not need."""
        if self.role is None:
            return ()
        return tuple(one for one in self.tried if one.state is State.ALLOWED and one.right not in RIGHTS[self.role])

    def _lacking(self, role: Role) -> tuple[Tried, ...]:
        return tuple(one for one in self.tried if one.state is not State.ALLOWED and one.right in RIGHTS[role])

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""

        def plain(found: tuple[Tried, ...]) -> list[dict[str, str]]:
            return [{"place": o.place, "right": o.right, "state": o.state.value, "says": o.says} for o in found]

        return {
            "role": self.role,
            "fits": self.fits,
            "tried": plain(self.tried),
            "missing": plain(self.missing),
            "too_much": plain(self.too_much),
            "notes": list(self.notes),
        }


def examine(settings: Settings, namespace: str, role: Role | None) -> Access:
    """Try what this identity may do with the tier and the vault that `settings` name.

    Raises
    ------
    ConfigurationError
        They name neither, or an address can't be used.
    """
    tried: list[Tried] = []
    notes: list[str] = []
    for address in settings.l2:
        # Each of two by itself, as what it is; trials are made whatever the role, and the server's limits left alone.
        alone = {"l2": (address,), "role": None, "maxmemory": None, "eviction_policy": None}
        line = team_line(settings.model_copy(update=alone), namespace)
        if line is not None:
            try:
                tried += _of_tier(line, notes)
            finally:
                line.tier.close()
    if settings.encryption == "key-vault":
        tried += _of_vault(settings)
    elif settings.encryption != "off":
        notes.append(f"{UNWRAP} and {SIGN}: whoever has the key ({settings.encryption}) may do both")
    if not tried:
        raise ConfigurationError("there is nothing to try: name the team's tier as l2, or a vault as key_vault_url")
    return Access(role, tuple(tried), tuple(notes))


def _of_tier(line: TeamLine, notes: list[str]) -> Iterator[Tried]:
    tier = line.tier
    read = _tried(line, READ, lambda: tier.look_up(GENERATIONS, (_PROBE_KEY,)))
    yield read
    if read.state is State.UNKNOWN:  # nothing answers: each trial would take as long, and tell no more
        yield from (Tried(tier.name, right, State.UNKNOWN, read.says) for right in (WRITE, DELETE, PUBLISH))
        return
    # A name under which nothing is: whether it may be removed is told all the same, and nothing has to be written.
    delete = _tried(line, DELETE, lambda: _remove(tier))
    write = _tried(line, WRITE, lambda: _write(tier))
    publish = _tried(line, PUBLISH, lambda: _publish(tier))
    yield from (write, delete, publish)
    if not _is_cleaned(line) and State.ALLOWED in {write.state, publish.state}:
        notes.append(
            f"{tier.name}: what was written to try it can't be removed by this identity: one value and the document "
            f"{PROBE}, a few bytes each, under names of their own; the next check by one who may removes them"
        )


def _write(tier: SharedTier) -> None:
    for blob in (b"genai-cache access check", b"genai-cache access check, again"):  # anew, and over what is there
        tier.store.put(_PROBE_KEY, blob, ttl_s=_PROBE_LIFE_S)
    if isinstance(tier, SupportsLeases):
        token = tier.leases.try_take(_PROBE_KEY, life_s=_PROBE_LIFE_S)
        if token is not None:
            tier.leases.release(_PROBE_KEY, token)


def _publish(tier: SharedTier) -> None:
    """Change a document of our own as the one is changed that says what is invalid."""
    document = tier.document(PROBE)
    before = document.load()
    document.replace(b"1" if before != b"1" else b"2", expected=before)


def _remove(tier: SharedTier) -> None:
    document = tier.document(PROBE)
    if isinstance(document, SupportsRemove):
        document.remove()
    tier.store.delete(_PROBE_KEY)


def _is_cleaned(line: TeamLine) -> bool:
    return _tried(line, DELETE, lambda: _remove(line.tier)).state is State.ALLOWED


def _tried(line: TeamLine, right: str, work: Callable[[], object]) -> Tried:
    name = line.tier.name
    try:
        within(line.patience_s, work, overdue=line.overdue)
    except StoreDenied as exc:
        return Tried(name, right, State.REFUSED, str(exc))
    except StoreUnavailable as exc:
        return Tried(name, right, State.UNKNOWN, str(exc))
    return Tried(name, right, State.ALLOWED)


def _of_vault(settings: Settings) -> Iterator[Tried]:
    wrapper = vault_wrapper(settings)
    place = settings.key_vault_url
    late = f"{place} does not answer in time: is key_vault_url right, and can it be reached from here?"
    for right, operation in _OPERATIONS.items():
        try:
            refusal = within(_VAULT_DEADLINE_S, partial(wrapper.refusal_to, operation), overdue=lambda: late)
        except (KeyUnavailable, StoreUnavailable) as exc:
            yield Tried(place, right, State.UNKNOWN, str(exc))
        else:
            yield Tried(place, right, State.REFUSED if refusal else State.ALLOWED, str(refusal or ""))


def in_words(access: Access) -> Iterator[str]:
    """Yield what people read of it beside the table."""
    role = access.role
    wanted = role or ROLES[0]
    refused = [one for one in access.missing if one.state is State.REFUSED]
    untold = [one for one in access.missing if one.state is State.UNKNOWN]
    for one in refused:
        yield f"missing for {wanted}: {one.right} ({MEANS[one.right]}) at {one.place}"
    for one in untold:
        yield f"not known, and needed by {wanted}: {one.right} ({MEANS[one.right]}) at {one.place}"
    for one in access.too_much:
        yield f"too much for {role}: {one.right} ({MEANS[one.right]}) at {one.place}"
    yield from access.notes
    if role is None and (access.fits or not untold):
        yield (
            f"these are the rights of a {access.fits}"
            if access.fits
            else f"these are not even the rights of a {ROLES[0]}"
        )
    elif role is not None and not access.missing and not access.too_much:
        yield f"these are the rights of a {role}, no less and no more"
    if refused:
        yield f"`genai-cache access grant --role {wanted} --principal WHO --scope WHERE --print` prints what gives it"
    if untold:
        yield "what could not be tried tells nothing of the rights: see why, and try again"
