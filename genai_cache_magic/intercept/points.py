"""Where other libraries are taken hold of: places found where they are today, and what a replacement must fit."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_TAKES_ANYTHING: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Point(NamedTuple):
    """A method to replace.

    Attributes
    ----------
    owner
        The class under the name that its users know; or a module. It may be someone's subclass by now, put in place of
        the library's.
    name
        Of the method.
    wrap
        Returns the replacement for the original.
    is_exact
        Whether it is the owner's own method, though the owner be someone's subclass.
    """

    owner: Any
    name: str
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
    is_exact: bool = False


class Callback(NamedTuple):
    """What a library calls by itself, once it has been given to it; both ways may be gone more than once."""

    add: Callable[[], object]
    remove: Callable[[], object]


Group: TypeAlias = "tuple[Point | Callback, ...]"
"""What is of use together only: all of it is done, or none."""


def home_of(point: Point, library: str) -> Any:
    """Return what has the method of `point` itself: the class of `library`, where one of several has.

    Who puts a subclass in the place of a library's class is served by the library's own method, and so are all who
    hold the library's class since before.

    Raises
    ------
    TypeError
        Nothing has such a method.
    """
    if point.is_exact:
        return point.owner
    owners = [kind for kind in _lineage(point.owner) if point.name in vars(kind)]
    own = [kind for kind in owners if _library_of(kind) == library]
    if not owners:
        raise TypeError(f"{_name_of(point.owner)} has no {point.name}")
    return (own or owners)[0]


def layers(
    owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]], library: str
) -> list[Point]:
    """Return a point for each class that has the method, from the one in place down to the library's own.

    For a replacement that may run several times for one call: who overrides the method need not call the one below.
    """
    home = home_of(Point(owner, name, wrap), library)
    kinds = _lineage(owner)
    return [Point(kind, name, wrap, is_exact=True) for kind in kinds[: kinds.index(home) + 1] if name in vars(kind)]


def _lineage(owner: Any) -> tuple[Any, ...]:
    return getattr(owner, "__mro__", (owner,))


def _library_of(kind: Any) -> str:
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _name_of(owner: Any) -> str:
    return getattr(owner, "__name__", None) or type(owner).__name__


def require_fit(point: Point, home: Any, replacement: Callable[..., Any]) -> None:
    """Raise ``TypeError`` if the method at `home` may be called in a way in which `replacement` can't."""
    if not _can_replace(replacement, vars(home)[point.name]):
        raise TypeError(f"{_name_of(home)}.{point.name} takes other arguments")


def _can_replace(replacement: Callable[..., Any], original: Callable[..., Any]) -> bool:
    """Tell whether `replacement` can be called in every way in which `original` can, and means the same by it."""
    try:
        theirs = inspect.signature(original).parameters.values()
    except ValueError:
        return True  # compiled, and it doesn't say
    ours = inspect.signature(replacement, follow_wrapped=False)
    # What someone has put around the method and takes anything doesn't say what it is called with.
    bind = ours.bind_partial if any(p.kind in _TAKES_ANYTHING for p in theirs) else ours.bind
    by_place = [p for p in theirs if p.kind in _BY_PLACE]
    places = {p.name: place for place, p in enumerate(by_place)}
    only_named = {p.name: None for p in theirs if p.kind is p.KEYWORD_ONLY}
    # `self` comes by its place, and so do the rest that have no name to be called by.
    unnamed = [p.name for place, p in enumerate(by_place) if place == 0 or p.kind is p.POSITIONAL_ONLY]
    required = [p.name for p in by_place if p.default is p.empty]
    try:
        bound = bind(*places.values(), **only_named)
        bind(*unnamed, **{name: None for name in places if name not in unnamed}, **only_named)
        bind(*required, **{p.name: None for p in theirs if p.name in only_named and p.default is p.empty})
    except TypeError:
        return False
    return all(bound.arguments.get(name, place) == place for name, place in places.items())
