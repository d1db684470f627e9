"""What the objects of an answer are made of, by which others like them are made faster than from JSON.

To read a union of a dozen models costs pydantic a try of each. What came of it once is known: which classes, with which
plain values. Nothing that could be changed is shared between what is made of a recipe.
"""

from __future__ import annotations

from operator import call, itemgetter, setitem
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.core.model import Response

_MOST: Final = 512
"""So many recipes are kept."""

_LARGEST: Final = 1 << 14
"""Of the objects of larger answers no recipe is kept [bytes]: a recipe takes as much room again."""

_DEEPEST: Final = 32

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

_SLOTS: Final = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")

_new: Final = object.__new__

_Part: TypeAlias = tuple[type, int]
"""A kind, ``dict``, ``list``, ``set`` or that of all models, and which one of that it is."""

_NOTHING: Final[_Part] = (type(None), 0)
_Put: TypeAlias = "Callable[[Any, Any], None]"
_Pick: TypeAlias = "Callable[[list[Any]], tuple[Any, ...]]"


class Recipe(NamedTuple):
    """What an object is made of, laid out so that built-in functions alone make another one.

    Attributes
    ----------
    makers, originals
        What makes each part, and of what: copies of what its models keep their values in and of all else in it that
        is neither a model nor plain, with nothing in the place of what is made anew; and models of their classes.
    puts, models, kept
        Put into a model what pydantic keeps of it: values, which were set, extra and private ones. The last two pick
        these models and that of the parts.
    holders, names, inner
        Where what is made anew belongs: pick its holders and it of the parts; and by which names or places.
    outer
        Which of the parts the object itself is.
    """

    makers: tuple[Callable[[Any], Any], ...]
    originals: tuple[Any, ...]
    puts: tuple[_Put, ...]
    models: _Pick
    kept: _Pick
    holders: _Pick
    names: tuple[Any, ...]
    inner: _Pick
    outer: int

    def __repr__(self) -> str:
        return "<a recipe>"


def made(recipe: Recipe) -> Any:
    """Return a new object."""
    makers, originals, puts, models, kept, holders, names, inner, outer = recipe
    parts = [None, *map(call, makers, originals)]
    # `any` runs through all of them, since what puts something somewhere returns nothing.
    any(map(call, puts, models(parts), kept(parts)))
    any(map(setitem, holders(parts), names, inner(parts)))
    return parts[outer]


def recipe_of(value: Any, model: type, depth: int = _DEEPEST) -> Recipe:
    """Return the recipe of `value`, a `model` of pydantic's or what such are made of.

    Raises
    ------
    TypeError
        There is none: something in it is of another kind.
    """
    plan = _Plan(model)
    outer = plan.noted(value, depth)
    made_of: tuple[tuple[type, Callable[[Any], Any], list[Any]], ...] = (
        (dict, dict.copy, plan.mappings),
        (list, list.copy, plan.lists),
        (set, set.copy, [one.fields_set for one in plan.models]),
        (model, _new, [one.kind for one in plan.models]),
    )
    # As `made` has them: nothing at the first place, then each kind behind the other.
    starts = {kind: 1 + sum(len(those) for _, _, those in made_of[:at]) for at, (kind, _, _) in enumerate(made_of)}

    def pick(parts: Iterable[_Part]) -> _Pick:
        places = [starts[kind] + number if kind in starts else 0 for kind, number in parts]
        # Of a single place not what is there would be picked, but that in a tuple: nobody takes the two at the end.
        return itemgetter(*places, 0, 0)

    puts = [vars(model)[name].__set__ for name in _SLOTS]
    kept = [(one.values, (set, number), one.extra, one.private) for number, one in enumerate(plan.models)]
    return Recipe(
        tuple(maker for _, maker, those in made_of for _ in those),
        tuple(original for _, _, those in made_of for original in those),
        tuple(puts * len(kept)),
        pick((model, number) for number in range(len(kept)) for _ in puts),
        pick(part for parts in kept for part in parts),
        pick(holder for holder, _, _ in plan.inner),
        tuple(name for _, name, _ in plan.inner),
        pick(part for _, _, part in plan.inner),
        starts[outer[0]] + outer[1],
    )


class _Model(NamedTuple):
    """What pydantic keeps of one model."""

    kind: type
    fields_set: set[str]
    values: _Part
    extra: _Part
    private: _Part

    def __repr__(self) -> str:
        return "<a model>"


class _Plan:
    """A recipe that is being written."""

    def __init__(self, model: type) -> None:
        self._model = model
        self.models: list[_Model] = []
        self.mappings: list[dict[str, Any]] = []
        self.lists: list[list[Any]] = []
        self.inner: list[tuple[_Part, Any, _Part]] = []

    def noted(self, value: Any, depth: int) -> _Part:
        """Note all of `value`, and return which part it is; raises ``TypeError`` if there is no recipe of it."""
        kind = type(value)
        if kind is list or kind is dict:
            return self._holder(kind, value, depth)
        whole = self._model.__mro__
        if not isinstance(value, self._model) or any("__slots__" in vars(part) for part in kind.__mro__[: -len(whole)]):
            raise TypeError(f"{kind.__name__} is no plain model")
        beside: Any = value
        values = self._holder(dict, vars(value), depth)
        extra, private = (
            _NOTHING if part is None else self._holder(dict, part, depth)
            for part in (beside.__pydantic_extra__, beside.__pydantic_private__)
        )
        self.models.append(_Model(kind, set(beside.__pydantic_fields_set__), values, extra, private))
        return self._model, len(self.models) - 1

    def _holder(self, kind: type, value: Any, depth: int) -> _Part:
        if not depth:
            raise TypeError("nested too deeply")
        held = value.copy()
        holders: list[Any] = self.lists if kind is list else self.mappings
        holder = kind, len(holders)
        holders.append(held)
        for name, part in list(enumerate(value)) if kind is list else value.items():
            if type(part) not in _SCALARS:
                held[name] = None
                self.inner.append((holder, name, self.noted(part, depth - 1)))
        return holder


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
        if kept is None:
            return None
        kept_for, kind, recipe = kept
        return made(recipe) if recipe is not None and kind is cast_to and kept_for() is response else None

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
