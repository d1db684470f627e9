"""The local key wrapper: a KEK in a file of the user's own (``key_file.py``)."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

from genai_cache_magic.crypto.aead import KEY_BYTES
from genai_cache_magic.crypto.wrappers.key_file import (
    parse_key,
    publish_key,
    read_key,
    remove_drafts,
    replace_key,
    require_outside,
    translated,
)
from genai_cache_magic.crypto.wrappers.local_key import LocalKey
from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class LocalKeyFile(LocalKey):
    """A local key in a file; made by `load_or_create`, `load` or `import_text`."""

    __slots__ = ()

    @classmethod
    def load_or_create(cls, path: Path, *, cache_directory: Path, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Return the key at `path`, making it (and its directory, 0700) if there is none.

        Of several processes that make it at once, the first wins and all get its key. A file that is
        there is never replaced, whatever is wrong with it.

        Raises
        ------
        ConfigurationError
            If `path` lies inside `cache_directory`.
        KeyUnavailable
            If the file can't be read or made, is not a key, or can be read by others.
        """
        require_outside(path, cache_directory)
        remove_drafts(path)
        with translated("read", path), contextlib.suppress(FileNotFoundError):
            return cls(read_key(path), random=random)
        with translated("make", path):
            publish_key(path, random(KEY_BYTES))
        return cls.load(path, cache_directory=cache_directory, random=random)

    @classmethod
    def load(cls, path: Path, *, cache_directory: Path, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Return the key at `path`. Raises as `load_or_create` does, and KeyUnavailable if there is none."""
        require_outside(path, cache_directory)
        with translated("read", path):
            return cls(read_key(path), random=random)

    @classmethod
    def import_text(
        cls,
        path: Path,
        text: str,
        *,
        cache_directory: Path,
        replaces: bool = False,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """Put a key that `export_text` gave elsewhere at `path`, and return it; harmless if it is there already.

        If it `replaces` a different one, that is kept beside it, with its fingerprint at the end of its name.

        Raises
        ------
        ConfigurationError
            If `text` is not a key, or `path` holds a different one that it shall not replace, or lies inside
            `cache_directory`.
        KeyUnavailable
            If the file can't be read or made.
        """
        require_outside(path, cache_directory)
        kek = parse_key(text.strip())
        if kek is None:
            raise ConfigurationError("this is not a key: paste the whole line that `genai-cache keys export` prints")
        with translated("make", path):
            publish_key(path, kek)
        there = cls.load(path, cache_directory=cache_directory, random=random)
        if there.is_same(kek):
            return there
        if not replaces:
            raise ConfigurationError(
                f"{path} holds another key ({there.fingerprint}), which is never overwritten: "
                "`genai-cache keys import --replace` puts this one in its place, and keeps that one beside it"
            )
        with translated("replace", path):
            replace_key(path, kek, kept=path.with_name(f"{path.name}.{there.fingerprint}"))
        return cls.load(path, cache_directory=cache_directory, random=random)
