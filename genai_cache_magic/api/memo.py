"""``@cached``: the results of a function, kept under its name and arguments."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from genai_cache_magic.api.function_names import function_name
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.api.values import as_it_comes_back
from genai_cache_magic.calls.coalesce import Caller, Flight, Flights, Landed, Released
from genai_cache_magic.calls.tasks import Waiter
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.options import checked_tags
from genai_cache_magic.errors import GenaiCacheError, UncacheableRequest
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.core.model import Stamp

F = TypeVar("F", bound="Callable[..., Any]")

_MISSING = object()


@overload
def cached(function: F, /) -> F: ...


@overload
def cached(
    *,
    ttl: str | float | None = None,
    tags: Iterable[str] = (),
    namespace: str | None = None,
    cache: Cache | None = None,
) -> Callable[[F], F]: ...


def cached(
    function: F | None = None,
    /,
    *,
    ttl: str | float | None = None,
    tags: Iterable[str] = (),
    namespace: str | None = None,
    cache: Cache | None = None,
) -> F | Callable[[F], F]:
    """Keep what a function returns, synchronous or not, and compute each different call once.

    Arguments must be JSON; results bytes, text or JSON, in which a tuple is a list, the first time too. A
    call whose arguments are not JSON is computed each time. The function is known by its qualified name and
    by the texts, numbers and functions that it holds of a function around it: a changed body wants a new
    name or an invalidation, and a lambda is refused. Errors are not kept.

    Parameters
    ----------
    ttl, tags
        As for ``Cache.set``.
    namespace, cache
        Where to keep results: a namespace of this process's session (default: the configured one), or a
        cache of your own.
    """
    named = checked_tags(tags)

    def decorate(function: F) -> F:
        function_name(function)  # one that has none is an error here
        kept = _Results(function, ttl, named, lambda: cache or _session_cache(namespace))
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                return await kept.call_async(args, kwargs)

            return cast("F", run_async)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return kept.call(args, kwargs)

        return cast("F", run)

    return decorate if function is None else decorate(function)


def _session_cache(namespace: str | None) -> Cache:
    session = current_session()
    return session.cache(namespace or session.settings.namespace)


class _Results:
    """What one decorated function shares between its calls."""

    def __init__(
        self,
        function: Callable[..., Any],
        ttl: str | float | None,
        tags: tuple[str, ...],
        cache: Callable[[], Cache],
    ) -> None:
        self._function = function
        self._signature = inspect.signature(function)
        self._ttl_s = None if ttl is None else parse_seconds(ttl, name="ttl")
        self._tags = tags
        self._cache = cache
        self._flights = Flights()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache, key = self._key(args, kwargs)
        if cache is None:
            return self._function(*args, **kwargs)
        value = cache.get(key, _MISSING)
        while value is _MISSING:
            joined = self._flights.join(EntryId(key), Caller.current(is_async=False))
            if joined is None:
                return self._function(*args, **kwargs)
            if isinstance(joined, Flight):
                try:
                    # Between the look-up and the join another leader may have stored the result.
                    value = cache.get(key, _MISSING)
                    if value is _MISSING:
                        birth = cache.birth()
                        value = as_it_comes_back(self._function(*args, **kwargs))
                        self._keep(cache, key, value, joined, birth)
                finally:
                    self._flights.land(joined, Released())
            else:
                landing = joined.result()
                value = cache.get(key, landing.value) if isinstance(landing, Landed) else _MISSING
        return value

    async def call_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache, key = self._key(args, kwargs)
        if cache is None:
            return await self._function(*args, **kwargs)
        value = cache.get(key, _MISSING)
        while value is _MISSING:
            joined = self._flights.join(EntryId(key), Caller.current(is_async=True))
            if joined is None:
                return await self._function(*args, **kwargs)
            if isinstance(joined, Flight):
                try:
                    value = cache.get(key, _MISSING)
                    if value is _MISSING:
                        birth = cache.birth()
                        value = as_it_comes_back(await self._function(*args, **kwargs))
                        self._keep(cache, key, value, joined, birth)
                finally:
                    self._flights.land(joined, Released())
            else:
                try:
                    await Waiter(joined).wait(None)
                finally:
                    joined.cancel()  # nothing, if it has come
                landing = joined.result()
                value = cache.get(key, landing.value) if isinstance(landing, Landed) else _MISSING
        return value

    def _keep(self, cache: Cache, key: str, value: Any, flight: Flight, birth: Stamp | None) -> None:
        cache.fill(key, value, birth=birth, ttl=self._ttl_s, tags=self._tags)
        self._flights.land(flight, Landed(value))

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Cache | None, str]:
        """Return the cache and the key for a call, or (None, "") where the call must be computed."""
        function = self._function
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            cache = self._cache()
            digest = cache.key_for(dict(bound.arguments))
        except UncacheableRequest:
            return None, ""
        except GenaiCacheError as exc:
            # Said once by Python's own filter: the call goes on, and the user sees why it is not kept.
            warnings.warn(f"results of {function.__qualname__} are not cached: {exc}", stacklevel=4)
            return None, ""
        return cache, f"call:{function_name(function)}:{digest}"
