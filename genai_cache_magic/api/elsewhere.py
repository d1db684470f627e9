"""What a worker of an executor does: it opens the cache that a part of the work is for, and asks that part."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.api.asking.clients import Clients
from genai_cache_magic.api.asking.parts import ask_part, at_hand
from genai_cache_magic.api.scopes.session import Session, current_session
from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from genai_cache_magic.api.asking.parts import Part, PartDone
    from genai_cache_magic.api.cache import Cache

_MADE_OF: Final = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
"""Variables of which clients are made."""


class _Opened:
    """What this process asks with for others: caches by their directories, and clients by their environment."""

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._sessions: dict[str, Session] = {}  # guarded by _lock, like the next
        self._clients: dict[tuple[int | str | None, ...], Clients] = {}

    def cache(self, part: Part) -> Cache:
        """Return the cache of `part`, by this process's own settings, else in the directory that the part names.

        Raises
        ------
        ConfigurationError
            Neither is the one that is meant.
        """
        namespace = part.options.namespace
        own = current_session().cache(namespace)
        if own.fingerprint and own.fingerprint == part.fingerprint:
            return own
        if part.root and Path(part.root).is_dir():  # nothing is made here for another's mistake
            with self._lock:
                session = self._sessions.setdefault(part.root, Session(dir=part.root))
            other = session.cache(namespace)
            if other.fingerprint and other.fingerprint == part.fingerprint:
                return other
        raise ConfigurationError(
            "a worker has another cache than the one to be warmed: give workers the same GENAI_CACHE_DIR, or, on "
            "other machines, the same team's tier and key"
            if part.fingerprint
            else "a cache in memory is this process's alone: warm one on disk or a team's, or use a pool of threads"
        )

    def clients(self) -> Clients:
        """Return the clients that this environment makes; a forked child has its own."""
        made_of = (os.getpid(), *(os.environ.get(name) for name in _MADE_OF))
        with self._lock:
            clients = self._clients.get(made_of)
            if clients is None:
                self._close()
                clients = Clients()
                self._clients = {made_of: clients}
            return clients

    def close(self) -> None:
        """Give up connections, as this process ends."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        """Close the clients of this process; those that it has a copy of, being forked, are its parent's."""
        for (pid, *_), clients in self._clients.items():
            if pid == os.getpid():
                clients.close()
        self._clients = {}


_opened = _Opened()
atexit.register(_opened.close)


def ask(part: Part) -> PartDone:
    """Ask `part`; raises ``ConfigurationError`` where its cache can't be found here."""
    if (here := at_hand.get(part)) is not None:
        return ask_part(*here, part)
    return ask_part(_opened.cache(part), _opened.clients(), part)
