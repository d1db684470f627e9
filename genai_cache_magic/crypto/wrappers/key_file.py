"""The file that holds a local KEK: one line of text, its owner's alone.

The line is ``genai-cache-key-v1:``, the KEK (32 bytes) as unpadded base64url, ``:`` and a checksum:
the first 8 hex digits of SHA-256 over all before that colon.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genai_cache_magic.crypto.aead import KEY_BYTES
from genai_cache_magic.errors import ConfigurationError, KeyUnavailable
from genai_cache_magic.host import (
    create_private,
    flush_directory,
    is_foreign,
    make_private_directories,
    mode_of,
    open_to_read,
    rights_of_others,
    try_lock,
    user_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = "genai-cache-key-v1:"
_CHECKSUM_DIGITS: Final = 8
_MAX_FILE_BYTES: Final = 256
_DRAFT_END: Final = ".new"
_DRAFT_TRIES: Final = 5


def format_key(kek: bytes) -> str:
    """Return the line that spells `kek` (bytes, shape (32,))."""
    body = _PREFIX + base64.urlsafe_b64encode(kek).rstrip(b"=").decode("ascii")
    return f"{body}:{hashlib.sha256(body.encode()).hexdigest()[:_CHECKSUM_DIGITS]}"


def parse_key(line: str) -> bytes | None:
    """Return the KEK that `line` spells, or None; one spelling per key."""
    encoded = line.removeprefix(_PREFIX).rpartition(":")[0]
    try:
        kek = base64.b64decode(encoded + "=", altchars=b"-_", validate=True)
    except ValueError:
        return None
    return kek if len(kek) == KEY_BYTES and format_key(kek) == line else None


def read_key(path: Path) -> bytes:
    """Return the KEK (bytes, shape (32,)) in the file at `path`.

    Raises
    ------
    KeyUnavailable
        If the file is not a key, or someone else may have written or read it.
    OSError
        From the operating system, FileNotFoundError among them; see `translated`.
    """
    # A FIFO put there can't hang a notebook. A symbolic link is followed, and its target judged.
    descriptor = open_to_read(path, follow_link=True)
    try:
        # SECURITY: what is checked is the open file, not its name, which could change in between.
        _require_private(os.fstat(descriptor), path)
        content = os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)
    kek = parse_key(content.decode("ascii", errors="replace").removesuffix("\n"))
    if kek is None:
        raise KeyUnavailable(
            f"key file {path} is {'damaged' if content else 'empty'}: move it away, then put the key back with "
            "`genai-cache keys import`, or let a new one be made (what the old one sealed is then lost)"
        )
    return kek


def _require_private(status: os.stat_result, path: Path) -> None:
    """Refuse a key file that someone else may have written or read."""
    if not stat.S_ISREG(status.st_mode):
        raise KeyUnavailable(f"key file {path} is not a regular file: set GENAI_CACHE_KEY_FILE to one")
    if is_foreign(status):
        raise KeyUnavailable(
            f"key file {path} belongs to user id {status.st_uid}, not to you ({user_id()}): "
            "set GENAI_CACHE_KEY_FILE to a file of your own"
        )
    if rights_of_others(status):
        raise KeyUnavailable(
            f"key file {path} can be used by others (mode {mode_of(status):04o}): "
            f"run `chmod 600 {shlex.quote(str(path))}`"
        )


def publish_key(path: Path, kek: bytes) -> None:
    """Write `kek` to `path`, whole and durable, unless there is something of that name already.

    A hard link either appears with the complete file behind it, or fails because someone was first.
    Raises OSError from the operating system; see `translated`.
    """
    make_private_directories(path.parent)
    for _ in range(_DRAFT_TRIES - 1):
        # Another process that looks for what killed ones left may find our draft before it is locked.
        with contextlib.suppress(FileNotFoundError):
            return _publish(path, kek)
    return _publish(path, kek)


def replace_key(path: Path, kek: bytes, *, kept: Path) -> None:
    """Put `kek` in the place of the key at `path`, which lies at `kept` then. Nothing is lost, whatever kills us.

    Raises KeyUnavailable if `kept` is another key, and OSError from the operating system; see `translated`.
    """
    path = path.resolve()
    before = read_key(path)
    publish_key(kept, before)
    if not hmac.compare_digest(read_key(kept), before):
        raise KeyUnavailable(f"key file {kept} is another key than {path}: move it away, then import again")
    _publish(path, kek, replaces=True)


def _publish(path: Path, kek: bytes, *, replaces: bool = False) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(8).hex()}{_DRAFT_END}")
    descriptor = create_private(draft)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(OSError):  # without locks there, a draft of ours may be removed: tried again
                try_lock(descriptor)
            file.write(f"{format_key(kek)}\n".encode("ascii"))
            file.flush()
            os.fsync(descriptor)
            if replaces:
                draft.replace(path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    flush_directory(path.parent)


def remove_drafts(path: Path) -> None:
    """Remove what killed processes left of a key that they were about to make: drafts that nobody has locked."""
    try:
        drafts = [entry for entry in os.scandir(path.parent) if _is_draft(entry.name, path.name)]
    except OSError:
        return
    for draft in drafts:
        with contextlib.suppress(OSError):
            descriptor = open_to_read(draft.path)
            try:
                is_left = try_lock(descriptor)
            finally:
                os.close(descriptor)
            if is_left:
                os.unlink(draft.path)  # noqa: PTH108 - a name as `scandir` gives it


def _is_draft(name: str, of: str) -> bool:
    return name.startswith(f".{of}.") and re.fullmatch(r"\d+\.[0-9a-f]{16}\.new", name[len(of) + 2 :]) is not None


def require_outside(path: Path, cache_directory: Path) -> None:
    """Refuse a key file in the cache directory: who copies the cache would copy its key."""
    directory = Path(os.path.realpath(cache_directory))
    if any(_is_same(parent, directory) for parent in Path(os.path.realpath(path)).parents):
        raise ConfigurationError(
            f"key file {path} lies inside the cache directory {cache_directory}, so that a copy of the cache "
            "would carry its key: set GENAI_CACHE_KEY_FILE to a path outside"
        )


def _is_same(first: Path, second: Path) -> bool:
    """Return whether both names are one directory, which may not exist yet."""
    try:
        return first == second or first.samefile(second)  # the latter for letter case and bind mounts
    except OSError:
        return False


@contextlib.contextmanager
def translated(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the body into KeyUnavailable; `action` is a verb for the message."""
    try:
        yield
    except OSError as exc:
        raise KeyUnavailable(
            f"can't {action} key file {path} ({exc.strerror or type(exc).__name__}): "
            "set GENAI_CACHE_KEY_FILE to a file of your own on a local disk, or run `genai-cache keys import`"
        ) from exc
