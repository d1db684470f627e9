"""What the audit finds with some settings, and a cache in which something is stored."""

from __future__ import annotations

import pytest
from sessions import session_of

from genai_cache_magic import create_cache
from genai_cache_magic.ops.audit import audit

YEAR_S = 365 * 86_400
DAY_S = 86_400


@pytest.fixture(name="found")
def rules_found(isolated, monkeypatch):
    """What the audit finds with these settings, by the names of its rules."""

    def look(*, project=None, **settings):
        with session_of(monkeypatch, **settings) as session:
            findings = audit(session, longest_key_age_s=YEAR_S, project=project)
        return {one.rule.name: one for one in findings}

    return look


@pytest.fixture(name="used")
def used_cache(isolated):
    """The directory of a cache in which something is stored."""
    with create_cache() as cache:
        cache.set("a", 1)
    return isolated / "cache"
