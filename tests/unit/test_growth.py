"""How what is kept grows, and when it is full: by what came lately and what goes."""

from __future__ import annotations

import json
import random
import time

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.cli.main import main
from genai_cache_magic.entries.growth import Crop, Growth, growth
from genai_cache_magic.jupyter.shown.insight import growth_note

MB = 1 << 20


def crops(days, *, entries=10, life_days=365):
    """What a machine has that fetched so many a day."""
    return [Crop(age, life_days - age - 1, entries) for age in range(days)]


@pytest.mark.parametrize(
    ("kept", "size_mb", "limit_mb", "daily_mb", "full_in_days"),
    [
        ([], 0, 100, None, None),
        (crops(1), 10, 100, None, None),
        (crops(11), 110, 200, 10, 9),
        (crops(11), 110, 105, 10, 0),
        (crops(29, life_days=30), 290, 1000, 10, None),
        (crops(10, life_days=10), 100, 101, 10, None),
        ([Crop(100, 300, 10)], 10, 100, 0, None),
        ([Crop(100, 300, 10), *crops(14, entries=100)], 1410, 2410, 100, 10),
        ([Crop(11, 2, 100), *crops(11)], 210, 250, 10, 14),
    ],
    ids=["empty", "young", "full in 9 days", "full", "steady", "steady and nearly full", "idle", "lately", "relieved"],
)
def test_a_forecast(kept, size_mb, limit_mb, daily_mb, full_in_days):
    """What comes each day is added, what expires is taken off, and what is too young foretells nothing."""
    found = growth(kept, size_bytes=size_mb * MB, limit_bytes=limit_mb * MB)
    daily = None if found.daily_bytes is None else round(found.daily_bytes / MB)
    assert (daily, found.full_in_days) == (daily_mb, full_in_days)


@pytest.mark.parametrize(
    ("full_in_days", "says"),
    [(9, "full in 9 days"), (1, "full in 1 day,"), (0, "are full"), (None, "a year and more")],
)
def test_in_words(full_in_days, says):
    """A sentence with the amounts and the day; nothing where nothing is known."""
    (sentence,) = growth_note(Growth(MB, 10 * MB, MB, full_in_days))
    assert says in sentence
    assert "1.0 MB" in sentence
    assert growth_note(Growth(MB, 10 * MB, None, None)) == ()


def test_stats_and_the_doctor_tell_it(isolated, capsys, monkeypatch):
    """A cache that fetched answers on several days says when it is full, and the doctor warns in time."""
    monkeypatch.setenv("GENAI_CACHE_SIZE_LIMIT", "1MiB")
    now = time.time()
    with create_cache() as cache:
        for day in range(6, -1, -1):
            cache._entries.judge.clock = lambda day=day: now - day * 86_400
            for number in range(5):
                cache.set(f"{day}-{number}", random.Random(f"{day}-{number}").randbytes(18_000))

    def said(*words):
        with pytest.raises(SystemExit):
            main(words)
        return capsys.readouterr().out

    grown = json.loads(said("stats", "--json"))["growth"]
    assert grown["limit_bytes"] == MB
    assert 0 < grown["full_in_days"] <= 14
    assert f"full in {grown['full_in_days']} days" in said("stats")
    assert f"it is full in {grown['full_in_days']} days" in said("doctor")
