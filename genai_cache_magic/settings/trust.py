"""Whose word counts: which settings decide trust, which files may be read at all, and which projects the user trusts.

Where answers lie, which key seals them and whether any does decides who can answer model calls. A project's
files come from whoever wrote the project, so of those settings they are heard only once the user has said so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import (
    create_private,
    flush_directory,
    is_foreign,
    make_private_directories,
    move,
    open_to_read,
    rights_of_others,
    tilde,
)
from genai_cache_magic.settings.places import own_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

_DECIDING: Final = frozenset(
    {
        "dir",
        "encryption",
        "ignore",  # which questions count as one, and so get one answer
        "eviction_policy",  # what a server that others use gives up
        "key_file",
        "key_name",
        "machine",
        "maxmemory",  # the same, and how much of it
        "monitoring",  # who hears of what calls cost
        "max_stale",  # how long what a teammate has invalidated may still be served
        "network",  # where the tier may be
        "offline_trust",  # the same while nobody can be asked
        "person",
        "role",  # whether the team hears of what is invalidated
        "run_file",  # what answers first
        "semantic",  # which questions get one answer
        "signing_key_name",
        "size_limit",  # a small one throws away what was paid for
        "verify_challenge",
    }
)
_DECIDING_FAMILIES: Final = ("l2", "key_vault", "cdn")
_WRITE_OF_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_CIRCLE_DIGITS: Final = 32
_VERSION: Final = 1


def decides_trust(name: str) -> bool:
    """Return whether the setting `name`, with underscores, decides who can read answers or give them."""
    return name.partition("__")[0] in _DECIDING or name.startswith(_DECIDING_FAMILIES)


def danger_of(path: Path, status: os.stat_result) -> str:
    """Return why what stands in a file is not the word of the user, with the fix; empty if it is.

    Parameters
    ----------
    status
        Of the open file, where there is one: a name could be given to another file in between.
    """
    quoted = for_shell(path)
    if _is_anothers(status):
        return f"it belongs to another user (id {status.st_uid}): take it over, or run `genai-cache trust {quoted}`"
    if rights_of_others(status) & _WRITE_OF_OTHERS:
        return f"others may write it: run `chmod go-w {quoted}`, or `genai-cache trust {quoted}`"
    for folder in {path.parent, Path(os.path.realpath(path)).parent}:
        try:
            around = folder.stat()
        except OSError:
            continue  # the file was opened: its folder is gone since, or is no folder of ours to look at
        if rights_of_others(around) & _WRITE_OF_OTHERS and not around.st_mode & stat.S_ISVTX:
            return f"others may replace it: run `chmod go-w {for_shell(folder)}`, or `genai-cache trust {quoted}`"
    return ""


def for_shell(path: Path) -> str:
    """Return `path` as it is written in a command, short where it lies in the user's home."""
    home, is_within, rest = tilde(path).partition("~/")
    # A shell knows ``~`` outside of quotes alone.
    return f"~/{shlex.quote(rest)}" if is_within and not home else shlex.quote(str(path))


def _is_anothers(status: os.stat_result) -> bool:
    return is_foreign(status) and status.st_uid != 0  # who is root needs no file of ours


def narrowed(table: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...], bool]:
    """Return what counts of an untrusted project's `table`, the names that don't, and whether rules are confined."""
    kept = {name: value for name, value in table.items() if not decides_trust(name)}
    origins = kept.get("origins")
    names_origins = isinstance(origins, dict) and any(map(_shares, origins.values()))
    if isinstance(origins, dict) and names_origins:
        circle = digest_of(origins)[:_CIRCLE_DIGITS]
        kept["origins"] = {url: {**rule, "circle": circle} if _shares(rule) else rule for url, rule in origins.items()}
    return kept, tuple(sorted(table.keys() - kept.keys())), names_origins


def _shares(rule: object) -> bool:
    return isinstance(rule, dict) and bool(rule.get("alias") or rule.get("models"))


def digest_of(table: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical spelling of `table`, as lowercase hex.

    A date is spelled as a text, which no setting is.
    """
    from genai_cache_magic.core.canonical import dumps_exactly
    from genai_cache_magic.errors import UncacheableRequest

    try:
        spelled = dumps_exactly(table)
    except UncacheableRequest:
        spelled = repr(sorted(table.items())).encode("utf-8", "surrogatepass")
    return hashlib.sha256(spelled).hexdigest()


class TrustedFiles:
    """The project files that the user trusts: by path, and by what they said then."""

    @property
    def path(self) -> Path:
        """Where the list lies: a JSON object, for its owner alone; raises ``ConfigurationError``."""
        return own_directory("config") / "trusted.json"

    def load(self) -> tuple[dict[str, str], str]:
        """Return path -> digest, and why the list is not to be relied on (then nothing is trusted)."""
        try:
            descriptor = open_to_read(self.path)
        except (ConfigurationError, FileNotFoundError, NotADirectoryError):
            return {}, ""
        except OSError as exc:
            return {}, f"it can't be read ({exc.strerror})"
        with os.fdopen(descriptor, "rb") as file:
            danger = danger_of(self.path, os.fstat(file.fileno())).partition(", or `genai-cache trust")[0]
            content = b"" if danger else file.read()
        if danger:
            return {}, danger
        try:
            files = json.loads(content)["files"]
            return {str(path): str(digest) for path, digest in files.items()}, ""
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}, "it is damaged: remove it, and trust your projects anew"

    def trusts(self, path: Path, digest: str) -> bool:
        """Return whether the user trusts what `path` says, as it stands there now."""
        return self.load()[0].get(_name(path)) == digest

    def knows(self, path: Path) -> bool:
        """Return whether the user trusted what `path` said once."""
        return _name(path) in self.load()[0]

    def add(self, path: Path, digest: str) -> None:
        """Trust `path` as long as it says what it says now; raises ``ConfigurationError``."""
        self._save({**self.load()[0], _name(path): digest})

    def remove(self, path: Path) -> bool:
        """Trust `path`, or all in the folder `path`, no longer; return whether any of it was; raises as `add`."""
        known, complaint = self.load()
        folder = f"{_name(path).rstrip(os.sep)}{os.sep}"
        kept = {name: digest for name, digest in known.items() if name != _name(path) and not name.startswith(folder)}
        if len(kept) < len(known) or complaint:
            self._save(kept)
        return len(kept) < len(known)

    def _save(self, files: Mapping[str, str]) -> None:
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.{os.urandom(8).hex()}.new")
        content = json.dumps({"version": _VERSION, "files": files}, indent=1, sort_keys=True)
        try:
            make_private_directories(self.path.parent)
            try:
                with os.fdopen(create_private(draft), "w", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(f"{content}\n")
                    file.flush()
                    os.fsync(file.fileno())
                move(draft, self.path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    draft.unlink()
            flush_directory(self.path.parent)
        except OSError as exc:
            raise ConfigurationError(
                f"the list of trusted projects, {tilde(self.path)}, can't be written ({exc.strerror}): "
                "make its directory yours and writable, or set XDG_CONFIG_HOME to one that is",
            ) from exc


def _name(path: Path) -> str:
    return os.path.realpath(path)
