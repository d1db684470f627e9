"""The caches of this server's user, opened when they are asked for, by the settings that a new kernel would read."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from genai_cache_magic.api.scopes.session import Session
from genai_cache_magic.api.team.custody import layout_directory
from genai_cache_magic.errors import GenaiCacheError
from genai_cache_magic.events import Trouble
from genai_cache_magic.stores.keys import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.jupyter.server.asked import Place

_AGAIN_S = 10.0
"""How often settings are read anew while what they lead to is not what is wanted [s]."""
_MAX_SEARCHED = 16
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
        self._session: Session | None = None  # guarded by _lock, like all below
        self._read_at = 0.0
        self._earlier: list[Session] = []  # with other settings; who is in the middle of a question still uses them
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
        return _readable(self.unread())

    def cache(self, place: Place) -> Cache:
        """Return the cache that is meant.

        Raises
        ------
        ConfigurationError
            The name space has no name that one could have.
        OtherCache
            It is none of this server's.
        Unusable
            It can't be opened.
        """
        found = self._found(self.session(), place) or self._found_anew(place)
        if found is None:
            raise OtherCache(
                "this server has another cache than the one that the notebook was run with: nothing was changed. "
                "Start the Jupyter server with the settings of the kernel (directory, key, L2, namespace), or use "
                "%llm_cache in the kernel"
            )
        return found

    def told(self, namespace: str) -> list[str]:
        """Return what was heard of trouble lately, the newest first."""
        with self._lock:
            told = self._told.setdefault(namespace, deque(maxlen=_MAX_TOLD))
            events = self._session.untold(namespace) if self._session is not None else ()
            told.extendleft(event.message for event in events if isinstance(event, Trouble))
            return list(dict.fromkeys(told))

    def close(self) -> None:
        """Close every cache; may be called twice, and later questions open them anew."""
        with self._lock:
            sessions, self._earlier = self._earlier, []
            if self._session is not None:
                sessions.append(self._session)
                self._session = None
        for session in sessions:
            session.close()

    def _found(self, session: Session, place: Place) -> Cache | None:
        """Return the cache that is meant, None if it is not among those of `session`; raises `Unusable`."""
        for namespace in self._namespaces(session, place):
            try:
                cache = session.cache(namespace)
            except GenaiCacheError as exc:
                if not place.store:
                    raise Unusable(str(exc)) from exc
                continue
            self.told(namespace)  # so that what nobody asks for does not pile up
            if not place.store or cache.fingerprint == place.store:
                return cache
        return None

    def _found_anew(self, place: Place) -> Cache | None:
        """Return the cache that is meant by settings as they are read now, unless they were a moment ago."""
        with self._lock:
            if self._clock() - self._read_at < _AGAIN_S:
                return None
            self._read_at = self._clock()
        session = Session()
        found = self._found(_readable(session), place)
        if found is None:
            session.close()
            return None
        with self._lock:
            if self._session is not None:
                self._earlier.append(self._session)
            self._session = session
        return found

    def _namespaces(self, session: Session, place: Place) -> Iterator[str]:
        if place.namespace:
            yield session.options(namespace=place.namespace).namespace
            return
        yield session.settings.namespace
        if place.store:
            inside = session.settings.dir / layout_directory(LAYOUT)
            others = sorted(path.name for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else []
            yield from [name for name in others if name != session.settings.namespace][:_MAX_SEARCHED]


def _readable(session: Session) -> Session:
    """Return `session` if its settings can be read; raises `Unusable`."""
    try:
        session.settings  # noqa: B018 - read, and refused, here
    except GenaiCacheError as exc:
        raise Unusable(str(exc)) from exc
    return session
