"""The bodies that SDKs are about to send, as plain JSON, before the SDK has rendered them.

What is not of JSON's own types is for the SDK to render: of such a body nothing is foretold.
"""

from __future__ import annotations

import inspect
import itertools
import marshal
import math
import operator
import sys
import time
from typing import TYPE_CHECKING, Any, Final, ForwardRef, Literal, get_args, get_origin
from weakref import ref

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import ModuleType

_SPELLED: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_WITHOUT_REFERENCES: Final = 2
"""A version of marshal's format that looks for no objects that come by twice."""

_NULL: Final = b"null"

_MAX_DEPTH: Final = 200

_LONGEST_WAY_S: Final = 1.0
_GLANCE_S: Final = 0.001

_SCALARS: Final = frozenset({str, int, bool, type(None)})
_NAMES: Final = frozenset({str})
_MAPPINGS: Final = frozenset({dict})


def merged(data: Any, extra: Any, absent: frozenset[type]) -> dict[str, Any] | None:
    """Return the body that is made of `data` and of what its caller adds, without what is not given.

    None if they are no plain mappings, or if it takes the SDK to tell what is made of them: whether what is added takes
    away what was given, or leaves it, and which of two models the call's path names.

    Parameters
    ----------
    absent
        The types by which the SDK says that a parameter is not given.
    """
    if type(data) is not dict or (extra is not None and type(extra) is not dict):
        return None
    if extra and ("model" in extra or not absent.isdisjoint(map(type, extra.values()))):
        return None
    whole: Mapping[str, Any] = data if extra is None else {**data, **extra}
    # Without a step of the interpreter for each of some forty parameters, of which few are given.
    is_given = map(operator.not_, map(absent.__contains__, map(type, whole.values())))
    return dict(itertools.compress(whole.items(), is_given))


def spelled(body: dict[str, Any]) -> bytes | None:
    """Return `body` as JSON that reads as what the SDK would send; None if it is not plain, or that is not certain."""
    try:
        raw = orjson.dumps(body, option=_SPELLED)
        # Beside JSON's own types orjson writes some others, such as enumerations; this writes built-in ones alone. Each
        # looks through the whole body without a step of the interpreter.
        marshal.dumps(body, _WITHOUT_REFERENCES)
    except (orjson.JSONEncodeError, ValueError):
        return None  # another type, an integer beyond 64 bits, half a surrogate pair, nested too deeply
    return raw if _NULL not in raw or is_plain(body) else None  # what is no number is written as null


def is_plain(value: Any, depth: int = _MAX_DEPTH) -> bool:
    """Tell whether `value` is made of JSON's own types alone, not of any derived from them."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict and depth:
        # Loops, and strings passed over at once: this is asked of each message of each call.
        for name, item in value.items():
            if type(name) is not str or (type(item) is not str and not is_plain(item, depth - 1)):
                return False
        return True
    if (kind is list or kind is tuple) and depth:
        return _are_plain(value, depth)
    return kind is float and math.isfinite(value)


def _are_plain(items: Sequence[Any], depth: int) -> bool:
    """Tell whether what stands in a list is plain."""
    every = itertools.chain.from_iterable
    if (  # dictionaries that hold no others, as most messages are: without a step of the interpreter for each of them
        depth > 1
        and _MAPPINGS.issuperset(map(type, items))
        and _NAMES.issuperset(map(type, every(items)))
        and _SCALARS.issuperset(map(type, every(map(dict.values, items))))
    ):
        return True
    for item in items:  # noqa: SIM110 - as above
        if type(item) is not str and not is_plain(item, depth - 1):
            return False
    return True


class Deferred:
    """A body that is not rendered yet, since it may never be sent.

    Parameters
    ----------
    plain
        What its rendering is equal to.
    raw
        The same as JSON.
    render
        Renders it as the SDK does, or returns what is to be awaited for that.
    client
        What is about to be asked for it, and is known to be foretold.
    """

    __slots__ = ("__weakref__", "client", "on_its_way", "plain", "raw", "render")

    on_its_way: ref[Deferred]

    def __init__(self, plain: dict[str, Any], raw: bytes, render: Callable[[], Any], client: Any) -> None:
        self.plain = plain
        self.raw = raw
        self.render = render
        self.client = client


async def rendered(deferred: Deferred) -> Any:
    """Return the rendering of an asynchronous client's body: some of their methods render without awaiting."""
    made = deferred.render()
    return await made if inspect.isawaitable(made) else made


class Deferrals:
    """The bodies of this process that are on their way from where they were deferred to where they are taken.

    That way is short and waits for nothing. Who takes the patch at its end away has to let them arrive: an SDK can't
    send them.
    """

    def __init__(self) -> None:
        self._there: set[ref[Deferred]] = set()  # each operation on it is atomic; who is lost leaves it, too
        self._are_over = False

    def begin(self) -> None:
        """Let bodies be deferred."""
        self._are_over = False

    def may_go(self, deferred: Deferred) -> bool:
        """Note that `deferred` is on its way; False if it has to be rendered."""
        there = self._there
        deferred.on_its_way = way = ref(deferred, there.discard)
        there.add(way)
        if self._are_over:  # looked at afterwards: who ends them sees this one, or this sees that they are over
            there.discard(way)
        return not self._are_over

    def arrived(self, deferred: Deferred) -> None:
        """Note that `deferred` was taken."""
        self._there.discard(deferred.on_its_way)

    def end(self) -> None:
        """Let no more bodies be deferred, and wait for those on their way, for a moment at most."""
        self._are_over = True
        give_up_at = time.monotonic() + _LONGEST_WAY_S
        while self._there and time.monotonic() < give_up_at:
            time.sleep(_GLANCE_S)


deferrals = Deferrals()
"""One per process, as the patches are."""


class Renderings:
    """Which parameters an SDK's ``transform`` leaves as they are, where they are plain JSON.

    It renames fields and formats dates and files where an annotation, a ``PropertyInfo``, says so. Where none can be
    reached from a type of parameters, all that it does to plain JSON is to leave out what is not given.

    Parameters
    ----------
    module
        The SDK's that holds ``transform``.
    whole
        Modules of the types of parameters that are all of a body.
    needs
        The module without which nothing may wait, since what takes it is there.
    """

    def __init__(self, module: ModuleType, whole: Collection[str] = (), *, needs: str = "") -> None:
        self._whole = whole
        self._needs = needs
        self._may_wait: dict[Any, bool] = {}  # each operation on it is atomic
        self._info = module.PropertyInfo
        self._hints = module.get_type_hints
        self._is_typeddict = module.is_typeddict
        self._is_plain: dict[Any, bool] = {}  # each operation on it is atomic

    def may_wait(self, kind: Any) -> bool:
        """Tell whether parameters of `kind` are all of a body, and left as they are."""
        found = self._may_wait.get(kind)
        if found is None:
            if self._needs not in sys.modules:
                return False  # so far
            first = next(iter(get_args(kind)), kind)  # of a union, which says of no module that it is from there
            found = str(getattr(first, "__module__", "")) in self._whole and self.leaves(kind)
            self._may_wait[kind] = found
        return found

    def leaves(self, kind: Any) -> bool:
        """Tell whether parameters of `kind` are left as they are; looked up once for each kind."""
        found = self._is_plain.get(kind)
        if found is None:
            try:
                found = not self._reaches_info(kind)
            except (AttributeError, NameError, TypeError):
                found = False  # annotations that can't be read as they are written
            self._is_plain[kind] = found
        return found

    def _reaches_info(self, kind: Any) -> bool:
        pending, seen = [kind], set[int]()
        kept: list[Any] = []  # so that no other object gets the id of one that was seen
        while pending:
            part = pending.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            kept.append(part)
            if isinstance(part, self._info | str | ForwardRef):
                return True  # or what nobody has resolved
            if get_origin(part) is Literal:
                continue
            if self._is_typeddict(part):
                pending += self._hints(part, include_extras=True).values()
            pending += getattr(part, "__metadata__", ())
            pending += get_args(part)
            pending += [value for value in (getattr(part, "__value__", None),) if value is not None]
        return False
