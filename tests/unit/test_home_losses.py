"""How often it is said that the record of what was invalidated is lost."""

from __future__ import annotations

from genai_cache_magic.stores.disk.home import Home, Losses


def test_who_empties_a_tier_again_and_again_is_not_told_each_time(tmp_path):
    """The first time, and then ever more rarely, with how often it was and what to look for."""
    told = []
    home = Home(tmp_path / "root", ("v1",), losses=Losses(told.append))
    after = []
    for _ in range(20):
        home.note_lost_record("the record was removed")
        after.append(len(told))
    assert after == [1, 2, 2, *[3] * 4, *[4] * 8, *[5] * 5]
    assert told[0] == "the record was removed"
    assert told[1].startswith("the record was removed (2 times by now: find out what empties it")
    assert "(16 times by now" in told[-1]
