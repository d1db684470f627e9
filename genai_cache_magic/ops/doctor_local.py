"""What is well and what is not of the cache on this machine: its directory, its room, what it holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from genai_cache_magic.api.factory import build_cache
from genai_cache_magic.api.team.storage import home_of
from genai_cache_magic.errors import (
    DecryptionError,
    GenaiCacheError,
    KeyUnavailable,
)
from genai_cache_magic.events import Trouble
from genai_cache_magic.host import tilde
from genai_cache_magic.ops.checks import L1, L2, Severity
from genai_cache_magic.ops.findings import FULL, Finding, found_by
from genai_cache_magic.settings.units import rounded_size, spell_size
from genai_cache_magic.stores.disk.directory import ensure_private_directory, is_writable
from genai_cache_magic.stores.disk.file_systems import file_system_of, is_shared, mount_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genai_cache_magic.api.team.line import TeamLine
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper
    from genai_cache_magic.events import Event
    from genai_cache_magic.settings.model import Settings

_LITTLE_ROOM_BYTES = 64 * 1024**2
_SOON_DAYS = 14


def of_machine(settings: Settings, namespace: str, key: KeyWrapper | None, line: TeamLine | None) -> Iterator[Finding]:
    """Look at the directory that a cell would use now: with `line` that of the team, else the machine's own."""
    place = tilde(str(settings.dir))
    try:
        is_used = home_of(settings, namespace, line).exists()
        if not is_used:
            yield _unused(settings)
            return
    except GenaiCacheError as exc:
        yield found_by("directory-unusable", str(exc), ("dir",))
        return
    except OSError as exc:
        says = f"{place} can't be looked at ({exc.strerror}): set dir to a directory of your own"
        yield found_by("directory-unusable", says, ("dir",))
        return
    if key is None and settings.encryption != "off":
        yield found_by("answers-closed", f"what {place} holds can't be opened without its key", ("dir",))
        return
    told: list[Event] = []
    try:
        used = settings if line else settings.model_copy(update={"l2": ()})
        with build_cache(used, namespace=namespace, on_event=told.append) as cache:
            found = cache.stats()
            grown = cache.insight.growth(found.size_bytes)
    except (KeyUnavailable, DecryptionError) as exc:
        yield found_by("keyset-unusable", str(exc), ("key_file", "namespace"))
        return
    except GenaiCacheError as exc:
        yield found_by("directory-unusable", str(exc), ("dir",))
        return
    for event in told:
        if isinstance(event, Trouble) and event.where != L2:
            yield found_by("something-lost", event.message, ("dir",))
    yield from _room(settings, found.size_bytes)
    if grown.full_in_days and grown.full_in_days <= _SOON_DAYS:
        added, days = rounded_size(grown.daily_bytes or 0), grown.full_in_days
        says = f"with {added} more a day it is full in {days} days, and what was stored first goes: raise size_limit"
        yield found_by("cache-fills", says, ("size_limit",))
    size = rounded_size(found.size_bytes)
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
            return found_by("directory-shared", says, ("dir",))
        if not _can_hold_a_directory(above):
            says = f"{place} can't be made in {tilde(str(above))}: set dir to a directory of your own"
            return found_by("directory-unusable", says, ("dir",))
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
        yield found_by("directory-read-only", says, ("dir",))
    if size_bytes > FULL * settings.size_limit:
        says = (
            f"it is nearly full ({spell_size(settings.size_limit)}), so what was stored first goes: "
            "raise size_limit, or run `genai-cache gc`"
        )
        yield found_by("cache-full", says, ("size_limit",))
    with suppress(OSError):
        free = shutil.disk_usage(settings.dir).free
        if free < _LITTLE_ROOM_BYTES:
            says = f"the disk of {place} has {rounded_size(free)} left: make room, or set dir to another"
            yield found_by("disk-full", says, ("dir",))
