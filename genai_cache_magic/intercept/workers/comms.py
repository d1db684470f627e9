"""What a widget's front end asks for after the cell: it is handled in the scope of the cell that made the widget."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.workers.threads import carried

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.intercept.points import Group

MODULES: Final = ("comm.base_comm",)


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `comm`, by which all widgets hear of their front end.

    Raises
    ------
    AttributeError
        It is built differently.
    """
    return [(Point(module.BaseComm, "on_msg", _on_msg),)]


def _on_msg(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def on_msg(self: Any, callback: Callable[..., Any] | None) -> Any:
        is_carried = callback is not None and active.own() is not None
        return original(self, carried(callback) if is_carried and callback is not None else callback)

    return on_msg
