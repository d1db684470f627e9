"""The caches of this server's user, opened when they are asked for, by the settings that a new kernel would read."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from genai_cache_magic.api.session import Session
from genai_cache_magic.errors import ConfigurationError, GenaiCacheError
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.jupyter.server.asked import Place

_AGAIN_S = 10.0
"""How often settings are read anew while what they lead to is not what is wanted [s]."""
_MAX_SEARCHED = 50
_MAX_TOLD = 20


class NotHere(GenaiCacheError):  # noqa: N818 - says where it is not
    """What is asked for is not in the cache any more."""


class OtherCache(GenaiCacheError):  # noqa: N818 - says which cache it is
    """The cache that a notebook names is none of this server's."""


class Unusable(GenaiCacheError):  # noqa: N818 - says what the cache is
    """The settings are wrong, or the cache can't be opened; the message names the fix."""


class Caches:
    """Opens caches and keeps them. Safe to share between threads.

    Nothing is read or opened before the first question, so a wrong setting is a sentence and never stops a server.
    Settings are read anew where they are wrong, or lead to another cache than the one that is asked for: kernels that
    were started since have read them too.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._session: Session | None = None  # guarded by _lock, like the next
        self._read_at = 0.0
        self._told: dict[str, deque[str]] = {}

    def unread(self) -> Session:
        """Return the session that holds the caches, whose settings may be wrong."""
        with self._lock:
            if self._session is None:
                self._session = Session()
                self._read_at = self._clock()
            return self._session

    def session(self) -> Session:
        """Return the session that holds the caches; raises `Unusable`."""
        session = self.unread()
        try:
            session.settings  # noqa: B018 - read, and refused, here
        except GenaiCacheError as exc:
            raise Unusable(str(exc)) from exc
        return session

    def cache(self, place: Place) -> Cache:
        """Return the cache that is meant.

        Raises
        ------
        OtherCache
            It is none of this server's.
        Unusable
            It can't be opened.
        """
        found = self._found(place)
        if not _is_meant(found, place) and self._forget_old():
            found = self._found(place)
        if found is None or not _is_meant(found, place):
            raise OtherCache(
                "this server has another cache than the one that the notebook was run with: nothing was changed. "
                "Start the Jupyter server with the settings of the kernel (directory, key, L2, namespace), or use "
                "%llm_cache in the kernel"
            )
        return found

    def told(self, namespace: str) -> list[str]:
        """Return what was heard of trouble lately, the newest first."""
        with self._lock:
            session = self._session
        if session is not None:
            for event in session.untold(namespace):
                if isinstance(event, Trouble):
                    self._told.setdefault(namespace, deque(maxlen=_MAX_TOLD)).appendleft(event.message)
        return list(dict.fromkeys(self._told.get(namespace, ())))

    def close(self) -> None:
        """Close every cache; may be called twice, and later questions open them anew."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _found(self, place: Place) -> Cache | None:
        """Return the cache that has the fingerprint asked for, else the likeliest; None if none can be opened."""
        session = self.session()
        likeliest = None
        for namespace in self._namespaces(session, place):
            try:
                cache = session.cache(namespace)
            except GenaiCacheError as exc:
                if likeliest is None and not place.store:
                    raise Unusable(str(exc)) from exc
                continue
            self.told(namespace)  # so that what nobody asks for does not pile up
            if not place.store or cache.fingerprint == place.store:
                return cache
            likeliest = likeliest or cache
        return likeliest

    def _namespaces(self, session: Session, place: Place) -> Iterator[str]:
        if place.namespace:
            try:
                yield session.options(namespace=place.namespace).namespace
            except ConfigurationError as exc:
                raise OtherCache(str(exc)) from exc
            return
        yield session.settings.namespace
        if place.store:
            inside = session.settings.dir / "v1"
            others = sorted(path.name for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else []
            yield from [name for name in others if name != session.settings.namespace][:_MAX_SEARCHED]

    def _forget_old(self) -> bool:
        """Forget what was read of settings, unless that was a moment ago; return whether it was forgotten."""
        with self._lock:
            if self._session is None or self._clock() - self._read_at < _AGAIN_S:
                return False
            session, self._session = self._session, None
        session.close()
        return True


def _is_meant(found: Cache | None, place: Place) -> bool:
    return found is not None and (not place.store or found.fingerprint == place.store)
