"""What a doctor looks for, a line each: what is wrong, how bad it is, and what to do about it.

`docs/troubleshooting.md` has the same table, and a test compares the two.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

CONFIGURATION, KEY, L1, L2 = "configuration", "key", "L1", "L2"


class Severity(enum.IntEnum):
    """How bad it is; the exit code of ``genai-cache doctor`` is that of the worst.

    WARNING: the cache works, with less than it could. ERROR: the cache, or the team's tier, can't be used as it is set.
    """

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that may be wrong; a finding says the same of the machine at hand, with its names."""

    part: str
    severity: Severity
    means: str
    fix: str


_OK, _WARNING, _ERROR = Severity

CHECKS: Final = {
    "settings-unread": Check(
        CONFIGURATION, _ERROR, "a setting, or a file of settings, can't be read", "write what the message allows"
    ),
    "part-unseen": Check(
        CONFIGURATION,
        _WARNING,
        "key, L1 and L2 were not looked at, since the settings can't be read",
        "mend the settings, and look again",
    ),
    "setting-ignored": Check(
        CONFIGURATION,
        _WARNING,
        "what a file says of a setting does not count",
        "`genai-cache trust`, or the `chmod` in the message",
    ),
    "encryption-off": Check(
        CONFIGURATION, _WARNING, "answers are stored as plain text", "set `GENAI_CACHE_ENCRYPTION=local`"
    ),
    "sdk-slower": Check(
        CONFIGURATION, _WARNING, "an SDK is built otherwise, so its hits take longer", "use another release of it"
    ),
    "http-answered": Check(
        CONFIGURATION,
        _WARNING,
        "a recorder or a mock answers HTTP calls in this process",
        "take it away where real answers are wanted",
    ),
    "kernel-outdated": Check(
        CONFIGURATION, _WARNING, "a process was started before this package was updated", "restart that kernel"
    ),
    "package-missing": Check(
        CONFIGURATION,
        _WARNING,
        "a setting does nothing, since a package that it needs is not installed",
        "the `pip install` in the message, or take the setting back",
    ),
    "package-outdated": Check(
        CONFIGURATION, _WARNING, "a package is older than this one can use", "`pip install -U` it"
    ),
    "notebook-untrusted": Check(
        CONFIGURATION,
        _OK,
        "Jupyter does not trust this notebook as it is saved, so what stands under its cells is drawn without life",
        "`jupyter trust FILE`",
    ),
    "key-elsewhere": Check(
        KEY, _WARNING, "there is a team, and its key is not on this machine", "`genai-cache keys import`"
    ),
    "key-unusable": Check(
        KEY,
        _ERROR,
        "the key can't be read: others can read it, it is damaged, or the vault or keyring refuses",
        "the `chmod`, the import or the right in the message",
    ),
    "keyset-unusable": Check(
        KEY,
        _ERROR,
        "the keyset was wrapped by another key, is damaged, or older than one that was seen",
        "`genai-cache keys export` on the machine that has the key, `genai-cache keys import --replace` here",
    ),
    "directory-unusable": Check(
        L1,
        _ERROR,
        "the directory is a file, another user's, open to others, or can't be made",
        "what the message says, or set `GENAI_CACHE_DIR` to a directory of your own",
    ),
    "directory-shared": Check(
        L1,
        _ERROR,
        "the directory would lie on a file system that other machines may share",
        "set `GENAI_CACHE_DIR` to a local disk",
    ),
    "directory-read-only": Check(
        L1, _ERROR, "the directory can only be read", "`chmod u+rwx` on it, or another `GENAI_CACHE_DIR`"
    ),
    "answers-closed": Check(
        L1, _WARNING, "answers are there that can't be opened without their key", "`genai-cache keys import`"
    ),
    "something-lost": Check(L1, _WARNING, "a damaged or missing file was made anew", "nothing: the next calls fill it"),
    "cache-full": Check(L1, _WARNING, "`size_limit` is nearly reached", "raise it, or `genai-cache gc`"),
    "cache-fills": Check(L1, _WARNING, "`size_limit` will be reached within two weeks", "raise it"),
    "disk-full": Check(L1, _WARNING, "the disk is nearly full", "make room, or set `GENAI_CACHE_DIR` to another"),
    "tier-address": Check(L2, _ERROR, "`l2` is no address, or a package is missing", "write what the message allows"),
    "tier-away": Check(L2, _ERROR, "the tier does not answer", "is it running, the address right, the network up?"),
    "tier-refuses": Check(L2, _ERROR, "the tier refuses this credential", "the setting in the message"),
    "tier-writes-refused": Check(
        L2, _WARNING, "the tier lets this machine read alone", "`genai-cache access check`; or `role = Cache.Reader`"
    ),
    "tier-stores-nothing": Check(
        L2, _ERROR, "the tier hands out what it holds, and stores nothing new", "what the message says: room, a replica"
    ),
    "tier-keyset": Check(
        L2,
        _ERROR,
        "the team's keyset was wrapped by another key",
        "`genai-cache keys import --replace` with the team's key, and restart the kernel",
    ),
    "tier-newer": Check(
        L2,
        _ERROR,
        "a newer version wrote the tier's record of what is invalid, so nothing of it can be used",
        "update genai-cache-magic, and restart the kernel",
    ),
    "tier-part-away": Check(L2, _WARNING, "of Redis and container only one can be used", "what the message says"),
    "tier-evicts": Check(
        L2,
        _WARNING,
        "the server evicts any key when it is full, the record of what is invalid too",
        "set `eviction_policy` to `volatile-lru`",
    ),
    "tier-full": Check(L2, _WARNING, "the server's `maxmemory` is nearly reached", "raise it, or `genai-cache gc`"),
    "tier-plain": Check(
        L2, _WARNING, "the tier is spoken to without TLS", "write `rediss://`, and the port that speaks it"
    ),
    "tier-certificate": Check(
        L2,
        _WARNING,
        "the tier's certificate expires within 30 days, or is not accepted",
        "let whoever runs it renew it",
    ),
    "edge-idle": Check(L2, _WARNING, "an edge is named, and no container behind it", "add the container to `l2`"),
    "edge-lame": Check(
        L2, _WARNING, "the edge in front of the container hands out nothing, or keeps nothing", "what the message says"
    ),
    "clocks-apart": Check(L2, _WARNING, "this machine's clock and the tier's differ", "set this machine's"),
    "queue-waiting": Check(
        L2, _WARNING, "answers or invalidations wait to be told to the team", "open a kernel with this cache"
    ),
}
