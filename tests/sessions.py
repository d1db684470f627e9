"""A session whose settings are those of the environment."""

from __future__ import annotations

import contextlib

from genai_cache_magic.api.scopes.session import Session


@contextlib.contextmanager
def session_of(monkeypatch, **settings):
    """Set these settings in the environment, and be in a session that has read them."""
    for name, value in settings.items():
        monkeypatch.setenv(f"GENAI_CACHE_{name.upper()}", value)
    with contextlib.closing(Session()) as session:
        yield session
