"""What Tab offers behind the magic, and that it offers nothing anywhere else."""

from __future__ import annotations

import pytest

from genai_cache_magic.jupyter.completion import candidates

KNOWN = {"--tag": {"baseline", "beta"}, "--run": {"sweep-3"}, "--model": {"gpt-4.1-mini"}}


@pytest.mark.parametrize(
    ("line", "fragment", "expected"),
    [
        ("%%llm_cache --mo", "--mo", {"--mode"}),
        ("%%llm_cache --mode r", "r", {"refresh", "read", "record", "replay"}),
        ("%%llm_cache --tag b", "b", {"baseline", "beta"}),
        ("%%llm_cache --tag beta --run ", "", {"sweep-3"}),
        ("%%llm_cache --quiet --samples d", "d", {"distinct"}),
        ("%%llm_cache --store ser", "ser", {"server-tools"}),
        ("%llm_cache st", "st", {"status", "stats"}),
        ("x = 1; %llm_cache st", None, None),
        ("%llm_cache on --mode re", "re", {"refresh", "read", "record", "replay"}),
        ("%llm_cache invalidate --older-than 7", "7", {"7d"}),
        ("%llm_cache invalidate --model gpt", "gpt", {"gpt-4.1-mini"}),
        ("%llm_cache clear --y", "--y", {"--yes"}),
        ("%llm_cache stats --", "--", {"--since", "--holdings"}),
        ("%llm_cache config --", "--", set()),
        ("%%llm_cache", None, None),
        ("%%time --mo", None, None),
        ("x --mo", None, None),
    ],
)
def test_candidates_fit_the_place(line, fragment, expected):
    """Options where an option may stand, values behind the option they belong to, commands in a line."""
    found = candidates(line, KNOWN)
    if expected is None:
        assert found is None
    else:
        assert (found[0], set(found[1])) == (fragment, expected)
