"""The roles of a cache that a team shares: their names."""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["Cache.Reader", "Cache.Writer", "Cache.Admin"]

READER: Final[Role] = "Cache.Reader"
WRITER: Final[Role] = "Cache.Writer"
ADMIN: Final[Role] = "Cache.Admin"
ROLES: Final[tuple[Role, ...]] = (READER, WRITER, ADMIN)
"""Each may do what those before it may, and more."""
