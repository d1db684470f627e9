"""The codes with which the command ends. `docs/commands.md` has them by command, and a test compares the two."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DONE: Final = 0
FOUND: Final = 1
"""Done, and there is something to see to: runs that differ, a cache that could do more, a demonstration that failed,
requests that are left."""

CAN_NOT: Final = 2
"""It can't be done; one line on standard error says why, and what to do."""

INTERRUPTED: Final = 130

ALWAYS: Final = (DONE, CAN_NOT)
"""What every command may end with, beside `INTERRUPTED`."""

MORE: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    dict.fromkeys(
        (
            *("access check", "access network", "alerts list", "alerts test", "audit", "demo", "doctor", "explain"),
            *("runs diff", "runs replay", "warm"),
        ),
        (FOUND,),
    )
)
"""What some may end with beside: `runs replay` with whatever a script does, and 1 of a notebook that failed."""
