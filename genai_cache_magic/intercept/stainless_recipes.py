"""What the objects of an answer are made of, by which others like them are made faster than from JSON.

To read a union of a dozen models costs pydantic a try of each. What came of it once is known: which classes, with which
plain values. Nothing that could be changed is shared between what is made of a recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import Response

_MOST: Final = 512
"""So many recipes are kept."""

_LARGEST: Final = 1 << 14
"""Of the objects of larger answers no recipe is kept [bytes]: a recipe takes as much room again."""

_DEEPEST: Final = 32

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

_put: Final = object.__setattr__
_new: Final = object.__new__


class Recipe(NamedTuple):
    """What one object is made of.

    Attributes
    ----------
    kind
        A class of models; ``list`` and ``dict`` are not among them.
    held
        Its values, with nothing in the place of those that have a recipe themselves.
    inner
        These, by their names or places.
    fields_set, extra, private
        As pydantic keeps them beside a model's values; None for a list and for a dict.
    """

    kind: type
    held: Any
    inner: tuple[tuple[Any, Recipe], ...]
    fields_set: set[str] | None = None
    extra: Recipe | None = None
    private: Recipe | None = None

    def __repr__(self) -> str:
        return "<a recipe>"


def made(recipe: Recipe) -> Any:
    """Return a new object."""
    kind, held, inner, fields_set, extra, private = recipe
    held = held.copy()
    for name, part in inner:
        held[name] = made(part)
    if fields_set is None:
        return held
    model: Any = _new(kind)
    _put(model, "__dict__", held)
    _put(model, "__pydantic_fields_set__", fields_set.copy())
    _put(model, "__pydantic_extra__", None if extra is None else made(extra))
    _put(model, "__pydantic_private__", None if private is None else made(private))
    return model


def recipe_of(value: Any, model: type, depth: int = _DEEPEST) -> Recipe:
    """Return the recipe of `value`, a `model` of pydantic's or what such are made of.

    Raises
    ------
    TypeError
        There is none: something in it is of another kind.
    """
    kind = type(value)
    if kind is list or kind is dict:
        return _parts(kind, value, model, depth)
    if not isinstance(value, model) or any("__slots__" in vars(part) for part in kind.__mro__[: -len(model.__mro__)]):
        raise TypeError(f"{kind.__name__} is no plain model")
    held = _parts(dict, vars(value), model, depth)
    beside: Any = value
    extra, private = (
        None if part is None else _parts(dict, part, model, depth)
        for part in (beside.__pydantic_extra__, beside.__pydantic_private__)
    )
    return Recipe(kind, held.held, held.inner, set(beside.__pydantic_fields_set__), extra, private)


def _parts(kind: type, value: Any, model: type, depth: int) -> Recipe:
    if not depth:
        raise TypeError("nested too deeply")
    held = value.copy()
    inner = []
    for name, part in list(enumerate(value)) if kind is list else value.items():
        if type(part) not in _SCALARS:
            held[name] = None
            inner.append((name, recipe_of(part, model, depth - 1)))
    return Recipe(kind, held, tuple(inner))


class Recipes:
    """The recipes of the answers that are in this process's memory; each goes when its answer does.

    Parameters
    ----------
    model
        The class of pydantic's that all models are of.
    are_alike
        Tells whether two objects can't be told apart.
    """

    def __init__(self, model: type, are_alike: Callable[[Any, Any], bool]) -> None:
        self._model = model
        self._are_alike = are_alike
        # By the id of an answer, as long as it lives; each operation on it is atomic.
        self._kept: dict[int, tuple[ref[Response], Any, Recipe | None]] = {}
        self._met: dict[int, ref[Response]] = {}  # those of which nothing was kept yet; likewise

    def meets_again(self, response: Response) -> bool:
        """Tell whether this very `response` was asked about before, and nothing was kept of it.

        So it stays in memory: a recipe of it is of use to whoever comes next.
        """
        number = id(response)
        met = self._met.get(number)
        if met is not None and met() is response:
            return number not in self._kept
        if len(response.body) <= _LARGEST:
            if len(self._met) >= _MOST:
                self._met.clear()
            self._met[number] = ref(response, self._forgetting(number))
        return False

    def make(self, response: Response, cast_to: Any) -> Any:
        """Return a new object like the one that was kept for `response` as `cast_to`; None if none was."""
        kept = self._kept.get(id(response))
        if kept is None or kept[0]() is not response or kept[1] is not cast_to or kept[2] is None:
            return None
        return made(kept[2])

    def keep(self, response: Response, cast_to: Any, value: Any) -> None:
        """Keep the recipe of `value`, which `response` is as `cast_to`, if it has one."""
        number = id(response)
        if len(response.body) > _LARGEST or number in self._kept:
            return
        try:
            recipe = recipe_of(value, self._model)
            is_right = self._are_alike(made(recipe), value)
        except (AttributeError, TypeError):
            is_right = False  # not asked again
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[number] = (ref(response, self._forgetting(number)), cast_to, recipe if is_right else None)

    def _forgetting(self, number: int) -> Callable[[object], None]:
        kept, met = self._kept, self._met

        def forget(_: object) -> None:
            kept.pop(number, None)
            met.pop(number, None)

        return forget
