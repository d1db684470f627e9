"""How old the keys of a namespace are, and until when those that guard them are good."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from genai_cache_magic.api.team.custody import vault_wrapper
from genai_cache_magic.api.team.line import KEYSET, team_line
from genai_cache_magic.api.team.storage import home_of
from genai_cache_magic.entries.link import within
from genai_cache_magic.host import tilde
from genai_cache_magic.ops.audit_rules import found
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.settings.units import spell_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.ops.audit_rules import Found
    from genai_cache_magic.settings.model import Settings

SOON_S: Final = 30 * 86_400
"""What expires within so long is told of [s]."""
_DEADLINE_S: Final = 10.0
_DAY_S: Final = 86_400


def keyset_age(settings: Settings, namespace: str, longest_s: float) -> Iterator[Found]:
    """Tell of a keyset that was not changed for longer than `longest_s` [s], as far as this machine has seen."""
    if settings.encryption == "off":
        return
    with ExitStack() as each:
        line = team_line(settings, namespace)
        if line is not None:
            each.callback(line.tier.close)
        path = home_of(settings, namespace, line) / KEYSET
    if not path.exists():
        return
    age_s = time.time() - path.stat().st_mtime
    if age_s > longest_s:
        says = (
            f"the keyset of namespace {namespace} was last changed {age_s / _DAY_S:,.0f} days ago, and should be every "
            f"{spell_duration(int(longest_s))}: run `genai-cache keys rotate --namespace {namespace}`"
        )
        yield found("KeyRotationDue", says, where=str(path), settings=("namespace",))


def vault_keys(settings: Settings) -> Iterator[Found]:
    """Tell of keys of the vault that have expired, or will soon; raises ``KeyUnavailable`` if it can't be asked."""
    if settings.encryption != "key-vault":
        return
    late = f"{settings.key_vault_url} does not answer in time: is key_vault_url right, and can it be reached from here?"
    wrapper = vault_wrapper(settings)
    now_s = time.time()
    for key in within(_DEADLINE_S, wrapper.current, overdue=lambda: late):
        if key.expires is not None and key.expires - now_s < SOON_S:
            when = in_days(key.expires - now_s)
            says = (
                f"key {key.name} in {tilde(settings.key_vault_url)} {when}: make a new version there, then run "
                "`genai-cache keys rewrap`"
            )
            severity = Severity.ERROR if key.expires <= now_s else None
            yield found("KeyExpires", says, settings=("key_name", "signing_key_name"), severity=severity)


def in_days(left_s: float) -> str:
    """Return when something ends, in words."""
    return "has expired" if left_s <= 0 else f"expires in {left_s / _DAY_S:,.0f} days"
