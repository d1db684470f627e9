"""Files of this machine: what others may do with them, which projects are trusted, and what git shows to all."""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import is_foreign, mode_of, rights_of_others, tilde
from genai_cache_magic.ops.audit_rules import found
from genai_cache_magic.runs.lines import FORMAT, HEAD
from genai_cache_magic.settings.files import read_for_trust, users_file
from genai_cache_magic.settings.trust import TrustedFiles, digest_of, for_shell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.ops.audit_rules import Found
    from genai_cache_magic.settings.model import Settings

_GIT_TIMEOUT_S: Final = 60
_GIT_STAYS_HERE: Final = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
"""Git fetches what a partial clone lacks, by a program that the clone may name; the second is for those before 2.44."""

_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def rights(settings: Settings) -> Iterator[Found]:
    """Tell of what others may use: the key, the cache's directory and all in it, what is trusted, the user's file."""
    yield from _wide([settings.key_file], "the key", ("key_file",))
    yield from _wide([settings.key_file.parent], "the key's directory", ("key_file",), only=_MAY_WRITE)
    yield from _wide(_below(settings.dir), "the cache", ("dir",))
    own = [TrustedFiles().path, users_file()]
    # What they say is no secret, so who may read them may; nobody else may say it.
    yield from _wide([path for path in own if path is not None], "the configuration", (), only=_MAY_WRITE)


def _below(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        return
    yield directory
    for folder, folders, files in os.walk(directory):
        yield from (Path(folder, name) for name in (*folders, *files))


def _wide(paths: Iterable[Path], what: str, settings: tuple[str, ...], *, only: int = -1) -> Iterator[Found]:
    wide, first = 0, None
    for path in paths:
        with suppress(FileNotFoundError):
            status = path.lstat()
            if is_foreign(status) and status.st_uid != 0:
                owner = f"{tilde(path)} belongs to user id {status.st_uid}"
                says = f"{owner}: take it over, or move {what} to a place of yours"
                yield found("RightsTooWide", says, where=str(path), settings=settings)
            elif rights_of_others(status) & only and not stat.S_ISLNK(status.st_mode):
                wide += 1
                first = first or (path, status)
    if first is not None:
        path, status = first
        more = f" (and {wide - 1:,} more of {what})" if wide > 1 else ""
        says = (
            f"{tilde(path)} has mode {mode_of(status):04o}{more}, which lets others use it: "
            f"run `chmod -R go-rwx {for_shell(path)}`"
        )
        yield found("RightsTooWide", says, where=str(path), settings=settings)


def projects() -> Iterator[Found]:
    """Tell which projects' files are trusted, and of those that say something else by now."""
    files, complaint = TrustedFiles().load()
    if complaint:
        yield found(
            "TrustOutdated", f"the list of trusted projects is not heard: {complaint}", where=str(TrustedFiles().path)
        )
    for name, digest in sorted(files.items()):
        path = Path(name)
        try:
            is_same = digest_of(read_for_trust(path)) == digest
        except (OSError, ConfigurationError):
            is_same = False
        end = f"`genai-cache trust --revoke {for_shell(path)}`"
        if is_same:
            says = f"{tilde(path)} decides where answers lie and how they are sealed: {end} ends that"
            yield found("ProjectTrusted", says, where=name)
        else:
            says = f"{tilde(path)} is gone, or says something else than when it was trusted: run {end}"
            yield found("TrustOutdated", says, where=name)


def runs_in_git(project: Path | None) -> Iterator[Found]:
    """Tell of readable run files that git has in the repository of `project`."""
    folder = project or Path.cwd()
    for name in _tracked(folder):
        path = folder / name
        says = (
            f"{name} is a run file that anyone can read, and git has it: if its questions and answers are no secret, "
            "leave it; else export it without --plaintext, and take it out of the history"
        )
        with suppress(OSError), path.open("rb") as file:
            if file.read(len(HEAD)) == HEAD:
                yield found("PlaintextRunInGit", says, where=name)


def _tracked(folder: Path) -> list[str]:
    """Return the files of git's that name our format, relative to `folder`; none where there is no git."""
    # SECURITY: a repository's configuration may name programs; none of them is run by this.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "grep", "--cached", "-lzF"]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            [*command, "--no-textconv", "--no-ext-grep", "-e", f'"format":"{FORMAT}"'],
            cwd=folder,
            env=os.environ | _GIT_STAYS_HERE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name] if done.returncode == 0 else []
