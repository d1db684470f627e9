"""What an audit looks for: a rule each, with an id that stays, and what is found by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from genai_cache_magic.ops.checks import Severity


@dataclass(frozen=True, slots=True)
class Rule:
    """What is looked for. Its id is never given to another rule; `help` says why it matters."""

    id: str
    name: str
    severity: Severity
    title: str
    help: str


_RULES: Final = (
    Rule(
        "GCA001",
        "KeyRotationDue",
        Severity.WARNING,
        "A keyset was not rotated for long",
        "What one key seals, one theft opens: a new epoch bounds it.",
    ),
    Rule(
        "GCA002",
        "KeyExpires",
        Severity.WARNING,
        "A vault's key expires soon",
        "Once it has expired nothing new can be sealed under it.",
    ),
    Rule(
        "GCA003",
        "EncryptionOff",
        Severity.ERROR,
        "Answers are stored as plain text",
        "Who can read the directory, or the tier, reads every question and answer.",
    ),
    Rule(
        "GCA010",
        "RightsTooWide",
        Severity.ERROR,
        "A file or directory can be used by others",
        "Others may read sealed answers or keys, or put their own in the place of them.",
    ),
    Rule(
        "GCA020",
        "UnsealedLeftover",
        Severity.ERROR,
        "Plain answers lie beside sealed ones",
        "They are from when encryption was off, or from who has it off, and anyone can read them.",
    ),
    Rule(
        "GCA021",
        "UnopenableEntry",
        Severity.WARNING,
        "Answers lie there that nobody can open",
        "Their key was revoked, or they were changed: they take room, and some may be evidence.",
    ),
    Rule(
        "GCA022",
        "KeyWithoutTtl",
        Severity.WARNING,
        "Keys in Redis live for ever",
        "What never expires is kept beyond what was agreed on, and fills the server.",
    ),
    Rule(
        "GCA030",
        "TierWithoutTls",
        Severity.ERROR,
        "A team tier is spoken to without TLS",
        "Passwords, and what is looked up when, can be read on the way.",
    ),
    Rule(
        "GCA031",
        "CertificateExpires",
        Severity.WARNING,
        "A server's certificate expires soon",
        "From then on nobody is served by it.",
    ),
    Rule(
        "GCA032",
        "CertificateRefused",
        Severity.ERROR,
        "A server's certificate is not accepted",
        "It may be another server than is meant.",
    ),
    Rule(
        "GCA033",
        "PublicContainer",
        Severity.ERROR,
        "A container can be read without signing in",
        "Anyone may list and copy the sealed answers.",
    ),
    Rule(
        "GCA040",
        "ProjectTrusted",
        Severity.OK,
        "A project's file is trusted",
        "It decides where answers lie and how they are sealed: look whether it still should.",
    ),
    Rule(
        "GCA041",
        "TrustOutdated",
        Severity.WARNING,
        "A trusted project's file is gone or was changed",
        "It is not heard any more, and its place may be taken by another.",
    ),
    Rule(
        "GCA050",
        "PlaintextRunInGit",
        Severity.WARNING,
        "A readable run file is committed",
        "Questions and answers are in the history of the repository, for all who can clone it.",
    ),
    Rule(
        "GCA090",
        "NotLookedAt",
        Severity.WARNING,
        "A part could not be looked at",
        "What is not seen is not known to be well.",
    ),
)
RULES: Final = {rule.name: rule for rule in _RULES}


@dataclass(frozen=True, slots=True)
class Found:
    """One sentence that ends with the fix; `where` is a file, or empty, and `settings` what it is about."""

    rule: Rule
    says: str
    where: str = ""
    settings: tuple[str, ...] = field(default=())
    severity: Severity = Severity.OK

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "rule": self.rule.id,
            "name": self.rule.name,
            "severity": self.severity.name.lower(),
            "says": self.says,
            "where": self.where,
            "settings": list(self.settings),
        }


def found(
    name: str, says: str, *, where: str = "", settings: tuple[str, ...] = (), severity: Severity | None = None
) -> Found:
    """Return what was found by the rule of that name, as bad as it says unless `severity` does."""
    rule = RULES[name]
    return Found(rule, says, where, settings, rule.severity if severity is None else severity)


def answers(count: int) -> str:
    """Return how many answers, in words."""
    return "1 answer" if count == 1 else f"{count:,} answers"
