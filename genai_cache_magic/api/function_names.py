"""Under which name the results of a function are kept."""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMELESS = "<lambda>"


def function_name(function: Callable[..., Any], *, instead: str = "define it with def") -> str:
    """Return what a function is known by: module and qualified name, and of a wrapper what it wraps.

    All that one decorator or factory makes have one qualified name, so the functions that they hold are told too.

    Raises
    ------
    ConfigurationError
        It has no name of its own: a lambda, a partial, an object that can be called.
    """
    qualified = getattr(function, "__qualname__", "")
    if not qualified or qualified.endswith(_NAMELESS):
        raise ConfigurationError(f"a function is known by its name, and this one has none of its own: {instead}")
    name = f"{function.__module__}.{qualified}"
    held = sorted(set(_held(function)) - {name})
    return f"{name}({', '.join(held)})" if held else name


def _held(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the names of the functions that a function has taken from around it."""
    for cell in getattr(function, "__closure__", None) or ():
        try:
            held = cell.cell_contents
        except ValueError:  # it is not there yet
            continue
        if type(held) in {FunctionType, MethodType}:  # of anything else nothing is asked: it may be a proxy
            yield f"{held.__module__}.{held.__qualname__}"
