"""Wire APIs that other packages bring, by the entry point group `genai_cache_magic.providers`.

The name of an entry point is the end of the paths that it is asked about, and its object a `Recogniser`. So nothing of
a package is imported before a call goes to such a path, and one that can't be imported costs no other call anything.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.providers.base import ModelCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.metadata import EntryPoint

    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.providers.base import HttpCall, Origins, Recogniser

GROUP: Final = "genai_cache_magic.providers"


class Custom:
    """A recogniser that is imported when it is first asked."""

    __slots__ = ("_entry_point", "suffix")

    def __init__(self, entry_point: EntryPoint) -> None:
        self._entry_point = entry_point
        self.suffix = f"/{entry_point.name.strip('/')}"

    def recognise(self, call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
        """Ask the package; what it raises goes on to the interceptor, which reports it and lets the call pass.

        Raises
        ------
        ConfigurationError
            There is no such object, it is no recogniser, or it returned something else than it should.
        """
        found = self._load().recognise(call, body, origins)
        if found is not None and not isinstance(found, ModelCall):
            raise ConfigurationError(f"{self}: recognise() returned {type(found).__name__}; return a ModelCall or None")
        return found

    def __str__(self) -> str:
        return f"provider {self._entry_point.name!r} = {self._entry_point.value!r}"

    def _load(self) -> Recogniser:
        # Not kept: Python keeps the module, and finding an object in it costs a microsecond.
        try:
            loaded = self._entry_point.load()
        except (ImportError, AttributeError) as exc:
            raise ConfigurationError(f"{self} can't be loaded; reinstall or remove its package") from exc
        if not callable(getattr(loaded, "recognise", None)):
            raise ConfigurationError(f"{self} has no function recognise(call, body, origins); add one")
        recogniser: Recogniser = loaded
        return recogniser


def _entry_points() -> Iterator[EntryPoint]:
    """Yield what the packages of this environment bring.

    As ``entry_points(group=GROUP)`` does, which parses what hundreds of packages say of other things.
    """
    from importlib.metadata import distribution, distributions

    found = (one.name for one in distributions() if GROUP in (one.read_text("entry_points.txt") or ""))
    for name in sorted({name for name in found if name}):
        # Of two of a name the first on the path counts, whatever the other one brings.
        yield from distribution(name).entry_points.select(group=GROUP)


@functools.cache
def installed() -> Mapping[str, tuple[Custom, ...]]:
    """Return what is installed, by the last segment of its paths; the longest path comes first.

    Read once a process, like the modules of a package: it takes milliseconds, and is asked of every call.
    """
    known: dict[str, list[Custom]] = {}
    for entry_point in _entry_points():
        custom = Custom(entry_point)
        known.setdefault(custom.suffix.rpartition("/")[2], []).append(custom)
    return {last: tuple(sorted(found, key=lambda one: -len(one.suffix))) for last, found in known.items()}
