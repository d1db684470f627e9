"""Findings as SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0), which code hosts show beside the code."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.ops.audit_rules import RULES
from genai_cache_magic.ops.checks import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.ops.audit_rules import Found

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final = {Severity.OK: "note", Severity.WARNING: "warning", Severity.ERROR: "error"}
_NOWHERE: Final = "genai-cache.toml"
"""What is about no file is shown at the file that settings may stand in: code hosts show nothing without one."""


def as_sarif(findings: Iterable[Found], *, version: str) -> dict[str, Any]:
    """Return one run of the audit as a SARIF log."""
    rules = list(RULES.values())
    places = {rule.id: place for place, rule in enumerate(rules)}
    driver = {
        "name": "genai-cache audit",
        "version": version,
        "rules": [
            {
                "id": rule.id,
                "name": rule.name,
                "shortDescription": {"text": rule.title},
                "help": {"text": rule.help},
                "defaultConfiguration": {"level": _LEVELS[rule.severity]},
            }
            for rule in rules
        ],
    }
    seen: Counter[str] = Counter()
    results = [_result(one, places[one.rule.id], seen) for one in findings]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _result(one: Found, place: int, seen: Counter[str]) -> dict[str, Any]:
    # What is found is found of a whole file: code hosts want a line of it all the same.
    physical = {"artifactLocation": {"uri": _uri(one.where)}, "region": {"startLine": 1}}
    location: dict[str, Any] = {"physicalLocation": physical}
    if one.settings:
        location["logicalLocations"] = [{"name": name, "kind": "setting"} for name in one.settings]
    about = "\0".join((one.rule.id, one.where, *one.settings))
    seen[about] += 1
    told = f"{about}\0{seen[about]}"
    mark = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "ruleId": one.rule.id,
        "ruleIndex": place,
        "level": _LEVELS[one.severity],
        "message": {"text": one.says},
        "locations": [location],
        # Of what is found again, though in other numbers, a code host makes no second alert.
        "partialFingerprints": {"genaiCacheFinding/v1": mark},
    }


def _uri(where: str) -> str:
    path = Path(where or _NOWHERE)
    if path.is_absolute():
        return path.as_uri()
    from urllib.parse import quote

    return quote(path.as_posix(), errors="surrogateescape")
