"""What is kept of which model, tag and run, and the room that it takes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.rows import Rows


@dataclass(frozen=True, slots=True)
class Holding:
    """How many entries there are of a ``model``, ``tag`` or ``run``, and the room that they take here [bytes]."""

    kind: str
    name: str
    entries: int
    size_bytes: int


def holdings(
    rows: Rows,
    entries: Mapping[int, tuple[EntryId, bytes]],
    tags: Iterable[tuple[int, bytes]],
    sizes: Mapping[str, int],
) -> tuple[Holding, ...]:
    """Return what is kept, the largest first.

    Parameters
    ----------
    entries
        By the numbers of their rows, with the keyed tags of their models.
    tags
        Each keyed tag that a row carries.
    sizes
        The room that entries take [bytes].
    """
    rooms = {n: sizes.get(entry_id, 0) for n, (entry_id, _) in entries.items()}
    added: dict[tuple[str, bytes], list[int]] = {}
    models = ((n, ("model", label)) for n, (_, label) in entries.items())
    for n, key in itertools.chain(models, ((n, ("tag", tag)) for n, tag in tags)):
        so_far = added.setdefault(key, [0, 0])
        so_far[0] += 1
        so_far[1] += rooms.get(n, 0)
    found = []
    for (kind, tag), (count, size_bytes) in added.items():
        if kind == "model":
            found.append(Holding(kind, rows.label(tag), count, size_bytes))
        elif (named := rows.name(tag)) is not None and named.kind in {"user", "run"}:
            found.append(Holding("tag" if named.kind == "user" else named.kind, named.name, count, size_bytes))
    return tuple(sorted(found, key=lambda one: (-one.size_bytes, -one.entries, one.name)))
