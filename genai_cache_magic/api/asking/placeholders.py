"""In mode ``replay`` nobody needs a key: SDKs that ask for one at construction get a placeholder."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from genai_cache_magic import host

PLACEHOLDER = "genai-cache-replay-needs-no-key"

VARIABLES = (
    "OPENAI_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "MISTRAL_API_KEY",
    "CO_API_KEY",
    "COHERE_API_KEY",
    "GROQ_API_KEY",
)
"""Where SDKs look for a key. Only absent and empty ones are filled, and only while something replays.

CI systems set a secret that they don't give away, such as to a fork, to an empty text.
"""


class Placeholders:
    """Fills absent key variables while at least one scope replays."""

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._users = 0  # guarded by _lock, like the next
        self._filled: dict[str, str | None] = {}  # name -> what was there before

    def fill(self) -> None:
        """Begin to use placeholders."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._filled = {name: os.environ.get(name) for name in VARIABLES if not os.environ.get(name)}
                os.environ.update(dict.fromkeys(self._filled, PLACEHOLDER))

    def take_back(self) -> None:
        """End one use; the last one puts back what was there, where a placeholder still is."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for name, before in self._filled.items():
                if os.environ.get(name) == PLACEHOLDER:
                    del os.environ[name]
                    os.environ.update({} if before is None else {name: before})


placeholders = Placeholders()
"""One per process, since the environment is."""


class AccessToken(NamedTuple):
    """As `azure.core.credentials.AccessToken`: a token, and when it expires [s since the epoch]."""

    token: str
    expires_on: int


class ReplayCredential:
    """An Azure credential for replays: it gives a token that no service would accept."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a placeholder token, for any scope."""
        del scopes, options
        return AccessToken(PLACEHOLDER, int(time.time()) + 3600)

    def __call__(self) -> str:
        """As a token provider (``azure_ad_token_provider``): return the placeholder."""
        return PLACEHOLDER

    def close(self) -> None:
        """Nothing to give up."""


def replay_credential() -> ReplayCredential:
    """Return a credential for notebooks whose calls are replayed, where Entra would be asked otherwise."""
    return ReplayCredential()
