"""What a catalogue answers: listed entries, counts, and what an invalidation or a collection did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.core.model import EntryId, Header, Metadata


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as a listing shows it; `is_here` unless the team's tier alone has it."""

    entry_id: EntryId
    header: Header
    metadata: Metadata
    is_here: bool = True

    @property
    def name(self) -> str:
        """The key it was set under, else the model and the start of its id."""
        return self.metadata.key or f"{self.metadata.label}:{self.entry_id[:12]}"


@dataclass(frozen=True, slots=True)
class Stats:
    """What a namespace holds.

    Attributes
    ----------
    size_bytes
        Room taken on disk or in memory by entries and the database that holds them [bytes], as a size limit counts it.
    log_bytes
        What the log of that database takes beside it until it is closed [bytes].
    synced
        When what the team had was last seen, which is counted too; None without a team.
    """

    entries: int
    size_bytes: int
    by_model: Mapping[str, int]
    oldest: datetime | None
    newest: datetime | None
    directory: str = ""
    synced: datetime | None = None
    log_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        moments = {name: getattr(self, name) for name in ("oldest", "newest", "synced")}
        plain = {name: None if moment is None else moment.isoformat() for name, moment in moments.items()}
        sizes = {"size_bytes": self.size_bytes, "log_bytes": self.log_bytes}
        counts = {"entries": self.entries, **sizes, "by_model": dict(self.by_model)}
        return {**counts, "directory": self.directory, **plain}


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What an invalidation concerned: `count` of `known` entries, and how far the word has spread.

    `published` is ``local`` without a team tier, ``queued`` where that can't be reached now, else ``published``.
    """

    count: int
    known: int
    published: str = "local"
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Which entries a page of a listing shows: `text` stands in their names, in any case, and they carry all `tags`."""

    text: str = field(repr=False, default="")
    tags: tuple[tuple[TagKind, str], ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed: entries, and files that belonged to none; in a team, also there, and old records.

    `lowest` is the lowest birth of what is left here; None if nothing is.
    """

    entries: int
    orphan_files: int
    lowest: int | None = None
    shared_entries: int = 0
    records: int = 0
    shared_orphans: int = 0
