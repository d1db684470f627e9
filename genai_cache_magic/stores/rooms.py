"""What one service holds of a namespace, in bytes: counted there, without reading a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Room:
    """What is taken of one service.

    Attributes
    ----------
    name
        Its address, fit to be shown.
    sizes
        What values take, by key [bytes].
    pointed
        By key, the names of large values that lie in another service.
    large
        What large values take, by name [bytes].
    beside_bytes
        What else the namespace has there: documents, ledger, runs [bytes].
    used_bytes, limit_bytes
        What all who use the service take, and what there is [bytes]; None: not known, or without a limit.
    """

    name: str
    sizes: Mapping[str, int] = field(repr=False)
    pointed: Mapping[str, str] = field(default_factory=dict, repr=False)
    large: Mapping[str, int] = field(default_factory=dict, repr=False)
    beside_bytes: int = 0
    used_bytes: int | None = None
    limit_bytes: int | None = None
