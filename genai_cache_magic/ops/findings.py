"""What a look at a cache has found: a sentence each, with the check that found it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genai_cache_magic.ops.checks import CHECKS, Severity

FULL = 0.95
"""From here on something is nearly full."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, with what to do if it is no good news, and the settings that it is about.

    `check` names the one of `CHECKS` that found it; empty for what is well.
    """

    part: str
    severity: Severity
    says: str
    settings: tuple[str, ...] = field(default=())
    check: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        severity = self.severity.name.lower()
        about = {"part": self.part, "severity": severity, "says": self.says, "settings": list(self.settings)}
        return {**about, "check": self.check, "fix": CHECKS[self.check].fix if self.check else ""}


def found_by(check: str, says: str, settings: tuple[str, ...] = (), *, part: str = "") -> Finding:
    """Return what a check has found."""
    of = CHECKS[check]
    return Finding(part or of.part, of.severity, says, settings, check)


def worst(findings: tuple[Finding, ...]) -> Severity:
    """Return how bad it is."""
    return max((finding.severity for finding in findings), default=Severity.OK)
